"""A tree goes into an archive and comes out as the same tree; what is no such archive leaves nothing outside."""

from __future__ import annotations

import io
import os
import tarfile

import pytest
import zstandard

from agenttrace.errors import DataError
from agenttrace.sandbox.runner.restore import PackedFixture
from agenttrace.tasks.swe import packed, trees

REGULAR, FOLDER, LINK, HARD, FIFO, DEVICE = (
    tarfile.REGTYPE, tarfile.DIRTYPE, tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE,
)  # fmt: skip


@pytest.fixture
def tree(tmp_path):
    """Return a tree with what trees have: odd names, links to anywhere, an empty folder, `.git`."""
    root = tmp_path / "tree"
    (root / ".git" / "objects" / "pack").mkdir(parents=True)
    (root / ".git" / "HEAD").write_text("ref: refs/heads/main\n")
    (root / ".git" / "objects" / "pack" / "p.pack").write_bytes(os.urandom(3000))
    (root / "submodule").mkdir()
    deep = root / "/".join(["d" * 100] * 4)
    deep.mkdir(parents=True)
    (deep / "ü.txt").write_text("ä\n")
    (root / os.fsdecode(b"odd\xff\n name")).write_bytes(b"\0" * 70_000)
    (root / "run.sh").write_text("#!/bin/sh\n")
    (root / "run.sh").chmod(0o755)
    (root / "a").write_bytes(b"")
    (root / "outside").symlink_to("/etc/passwd")
    (root / "up").symlink_to("../" * 60 + "x" * 150)
    trees.settle(root)
    return root


def test_a_tree_comes_out_as_it_went_in_and_its_archive_has_the_same_bytes_every_time(tree, tmp_path):
    data = packed.pack(tree)
    there = tmp_path / "there"
    there.mkdir(0o700)
    packed.unpack(data, there)
    assert PackedFixture(str(there)).digest == PackedFixture(str(tree)).digest
    assert (there.stat().st_mode, there.stat().st_mtime_ns) == (tree.stat().st_mode, tree.stat().st_mtime_ns)
    assert packed.pack(there) == data


def archive(*members):
    """Return an archive of (name, kind, content or target)."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as made:
        for name, kind, content in members:
            one = tarfile.TarInfo(name)
            one.type = kind
            if kind == REGULAR:
                one.size = len(content)
                made.addfile(one, io.BytesIO(content))
            else:
                one.linkname = content.decode()
                made.addfile(one)
    return zstandard.compress(data.getvalue())


HOSTILE = {
    "an absolute path": (archive(("/x", REGULAR, b"x")), "the path '/x'"),
    "a path that leaves": (archive(("../x", REGULAR, b"x")), "the path '../x'"),
    "a path that leaves later": (archive(("a/../../x", REGULAR, b"x")), "the path"),
    "the folder itself": (archive((".", FOLDER, b"")), "the path '.'"),
    "a path through a link": (archive(("d", LINK, b".."), ("d/x", REGULAR, b"x")), "a file and a folder at once"),
    "a folder that is a link": (archive(("d", LINK, b".."), ("d", FOLDER, b"")), "a file and a folder at once"),
    "a file over a link": (archive(("d", LINK, b"../x"), ("d", REGULAR, b"x")), "is there twice"),
    "a file twice": (archive(("d", REGULAR, b""), ("d", REGULAR, b"x")), "is there twice"),
    "a hard link": (archive(("d", HARD, b"/etc/passwd")), "is neither file, folder nor link"),
    "a pipe": (archive(("d", FIFO, b"")), "is neither file, folder nor link"),
    "a device": (archive(("d", DEVICE, b"")), "is neither file, folder nor link"),
    "no archive": (b"x" * 1000, "not an archive"),
    "another archive": (zstandard.compress(os.urandom(3000)), "not an archive"),
    "half of one": (archive(("d", REGULAR, os.urandom(50_000)))[:20_000], "not an archive"),
    "too much": (archive(("d", REGULAR, b"\0" * 3_000_000)), "unpacks to more than 2 MiB"),
    "too many": (archive(*((f"{number}", REGULAR, b"") for number in range(101))), "more than 100 paths"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_what_is_no_tree_is_refused_and_leaves_nothing_outside(what, tmp_path, monkeypatch):
    monkeypatch.setattr(packed, "_MOST_BYTES", 2 << 20)
    monkeypatch.setattr(packed, "MOST_PATHS", 100)
    data, said = HOSTILE[what]
    root = tmp_path / "within" / "root"
    root.mkdir(parents=True)
    with pytest.raises(DataError, match=said):
        packed.unpack(data, root)
    assert [*(tmp_path / "within").iterdir()] == [root]
    assert [*tmp_path.iterdir()] == [tmp_path / "within"]
