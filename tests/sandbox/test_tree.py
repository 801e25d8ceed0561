"""Tree listings and digests: every documented property counts, nothing else does."""

import os
import random

import pytest

from agenttrace.sandbox.runner import removal, tree


@pytest.fixture
def root(tmp_path):
    base = tmp_path / "root"
    (base / "a" / "b").mkdir(parents=True)
    (base / "a" / "file").write_bytes(b"content")
    (base / "a" / "file").chmod(0o640)
    (base / "link").symlink_to("a/file")
    for path in (*base.rglob("*"),):
        os.utime(path, ns=(5, 10**18 + 7), follow_symlinks=False)
    return base


def digest(root):
    entries, truncated = tree.listing(str(root))
    assert not truncated
    return tree.digest(entries)


def test_a_listing_is_sorted_and_complete(root):
    entries, truncated = tree.listing(str(root))
    assert [entry["path"] for entry in entries] == ["a", "a/b", "a/file", "link"]
    assert not truncated
    assert entries[2] == {
        "path": "a/file",
        "type": "file",
        "mode": "0640",
        "size": 7,
        "sha256": "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73",
        "target": None,
        "mtime_ns": 10**18 + 7,
    }
    assert (entries[3]["type"], entries[3]["target"], entries[3]["sha256"]) == ("symlink", "a/file", None)


def test_the_digest_is_pinned():
    entries = [
        {"path": "d", "type": "dir", "mode": "0755", "size": None, "sha256": None, "target": None, "mtime_ns": 1},
        {"path": "é", "type": "symlink", "mode": "0777", "size": None, "sha256": None, "target": "d", "mtime_ns": 2},
    ]
    expected = "7b8c7e8afa7f038607e47b67a7fde0aa5fe56560998f877979f6c902f5b788d2"
    assert tree.digest(entries) == expected
    random.Random(1).shuffle(entries)
    assert tree.digest(entries) == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "a" / "file").chmod(0o600),
        lambda root: (root / "a" / "b").chmod(0o700),
        lambda root: (root / "new").touch(),
        lambda root: os.utime(root / "a" / "file", ns=(5, 10**18 + 8)),
        lambda root: os.utime(root / "a" / "b", ns=(5, 10**18 + 8)),
        lambda root: ((root / "link").unlink(), (root / "link").symlink_to("a/b")),
        lambda root: ((root / "a" / "file").write_bytes(b"CONTENT"), os.utime(root / "a" / "file", ns=(5, 10**18 + 7))),
    ],
)
def test_every_change_shows_in_the_digest(root, change):
    before = digest(root)
    change(root)
    assert digest(root) != before


def test_what_cannot_be_reproduced_does_not_count(root):
    before = digest(root)
    os.utime(root / "a" / "file", ns=(99, 10**18 + 7))
    os.utime(root / "link", ns=(99, 99), follow_symlinks=False)
    assert digest(root) == before


def test_names_that_are_not_text_are_escaped(root):
    (root / os.fsdecode(b"bad\xff")).touch()
    assert "bad\\xff" in [entry["path"] for entry in tree.listing(str(root))[0]]


def test_special_files_are_listed_but_never_opened(root):
    os.mkfifo(root / "pipe")
    entry = next(entry for entry in tree.listing(str(root))[0] if entry["path"] == "pipe")
    assert (entry["type"], entry["size"], entry["sha256"]) == ("other", None, None)


def test_limits_cut_the_listing_and_say_so(root):
    entries, truncated = tree.listing(str(root), max_entries=2)
    assert (len(entries), truncated) == (2, True)
    entries, truncated = tree.listing(str(root), max_hashed_bytes=6)
    assert truncated
    assert entries[2]["sha256"] is None


def test_links_are_not_followed(root):
    (root / "loop").symlink_to(".")
    assert "loop/a" not in [entry["path"] for entry in tree.listing(str(root))[0]]


def test_removal_reaches_any_depth_and_leaves_targets_of_links(root, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "keep").touch()
    (root / "a" / "way out").symlink_to(outside)
    here = os.open(root, os.O_RDONLY)
    for _ in range(3000):  # far longer than a path may be
        os.mkdir("deeper", dir_fd=here)
        below = os.open("deeper", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert tree.listing(str(root))[1]
    assert removal.empty(str(root), lambda: None) == 3
    assert list(root.iterdir()) == []
    assert (outside / "keep").exists()


def test_a_folder_of_many_entries_is_emptied_in_batches(root):
    wide = root / "a" / "wide"
    wide.mkdir()
    for number in range(3 * removal.BATCH):
        (wide / f"{number}").mkdir() if number % 2 else (wide / f"{number}").touch()
    batches = []
    removal.remove(str(root), ["a"], lambda: batches.append(1))
    assert [path.name for path in root.iterdir() if path.name == "a"] == []
    assert len(batches) > 3


def test_what_cannot_be_removed_is_an_error_and_not_tried_for_ever(root, monkeypatch):
    monkeypatch.setattr(os, "unlink", lambda *_, **__: (_ for _ in ()).throw(PermissionError(1, "no")))
    with pytest.raises(PermissionError):
        removal.empty(str(root), lambda: None)
