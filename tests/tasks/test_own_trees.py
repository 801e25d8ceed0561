"""Files of an own set: fixtures, archives, what is packed beside the records, and what of them is hostile."""

from __future__ import annotations

import io
import json
import os
import tarfile
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttrace.errors import UsageError
from agenttrace.sandbox.runner.restore import PackedFixture
from agenttrace.tasks.own import tree
from agenttrace.tasks.own.example import write
from agenttrace.tasks.own.loading import load, unpacked
from agenttrace.tasks.own.tree import OwnEntry, OwnTree, UnusableTreeError

ANSWER = '[[task.check]]\nkind = "answer"\nequals = "1"\n'
TASK = f'[[task]]\nid = "a"\nprompt = "How many?"\n{ANSWER}'


def test_a_set_has_one_digest_in_every_form(tmp_path):
    folder = tmp_path / "chores"
    write(folder)
    found = load(folder)
    assert found.name == "chores"
    for path in folder.rglob("*"):  # other modes and times, as another machine's checkout has them
        os.utime(path, (10**9, 10**9))
        path.chmod(0o700 if path.is_dir() else 0o600)
    (folder / "files" / ".DS_Store").write_text("macOS")
    assert load(folder).sha256 == found.sha256
    packed = tmp_path / "run.tasks.tar"
    packed.write_bytes(found.packed())
    assert load(packed).sha256 == found.sha256
    assert load(packed).packed() == packed.read_bytes()
    for suffix, data in archives(folder).items():
        other = tmp_path / f"other{suffix}"
        other.write_bytes(data)
        assert load(other).sha256 == found.sha256
    with tarfile.open(packed) as tar:
        tar.extractall(tmp_path / "unpacked", filter="data")
    assert load(tmp_path / "unpacked").sha256 == found.sha256
    (folder / "files" / "words.txt").chmod(0o755)
    assert load(folder).sha256 != found.sha256


def archives(folder):
    """A folder as the archives that people make of it."""
    found = {}
    for suffix, mode in ((".tar", "w"), (".tar.gz", "w:gz")):
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode=mode) as tar:
            tar.add(folder, ".")
        found[suffix] = buffer.getvalue()
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*")):
            archive.write(path, path.relative_to(folder))
    found[".zip"] = buffer.getvalue()
    return found


def tar_of(*members, packed=""):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=f"w:{packed}") as tar:
        for name, fields in members:
            member = tarfile.TarInfo(name)
            data = fields.pop("data", b"")
            member.size = len(data)
            for field, value in fields.items():
                setattr(member, field, value)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


def zip_of(name, *, mode=0o100644, data=b"", flag=0, method=None):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        archive.writestr(info, data)
    packed = bytearray(buffer.getvalue())
    if flag:
        for magic, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            packed[packed.index(magic) + at] |= flag
    if method is not None:
        for magic, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
            packed[packed.index(magic) + at] = method
    return bytes(packed)


LINK, HARD, PIPE, DEVICE = tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE


def bomb():
    return b"\0" * (tree.MAX_BYTES + 1)


HOSTILE = {
    "an absolute path": (
        "a.tar",
        lambda: tar_of(("/etc/passwd", {})),
        "/etc/passwd leads out of the tree: names are relative",
    ),
    "a way up": ("a.tar", lambda: tar_of(("a/../../b", {})), "a/../../b leads out of the tree"),
    "a link out": (
        "a.tar",
        lambda: tar_of(("a", {"type": LINK, "linkname": "../b"})),
        "a is a link that leads out of the tree (to ../b)",
    ),
    "a link to a place": (
        "a.tar",
        lambda: tar_of(("a", {"type": LINK, "linkname": "/etc"})),
        "a is a link that leads out",
    ),
    "a file in a link": (
        "a.tar",
        lambda: tar_of(("a", {"type": LINK, "linkname": "b"}), ("a/c", {})),
        "a is no folder, and a/c lies in it",
    ),
    "a hard link": ("a.tar", lambda: tar_of(("a", {}), ("b", {"type": HARD, "linkname": "a"})), "b is a hard link"),
    "a device": ("a.tar", lambda: tar_of(("a", {"type": DEVICE})), "a is neither a file, a folder nor a link"),
    "a pipe": ("a.tar", lambda: tar_of(("a", {"type": PIPE})), "a is neither a file"),
    "one path twice": ("a.tar", lambda: tar_of(("a", {"data": b"1"}), ("./a", {"data": b"2"})), "a is in it twice"),
    "a large file": ("a.tar", lambda: tar_of(("a", {"data": bomb()}))[:1024], "it holds more than 64 MiB"),
    "a gzip bomb": ("a.tar.gz", lambda: tar_of(("a", {"data": bomb()}), packed="gz"), "it holds more than 64 MiB"),
    "many files": (
        "a.tgz",
        lambda: tar_of(*((f"f{n}", {}) for n in range(tree.MAX_PATHS + 2)), packed="gz"),
        "it holds more than 10000 paths",
    ),
    "a long header": (
        "a.tgz",
        lambda: tar_of(("a", {"pax_headers": {"comment": "x" * 90_000_000}}), packed="gz"),
        "it unpacks to more",
    ),
    "no archive": ("a.tar", lambda: b"x" * 600, "it cannot be read as an archive"),
    "a torn one": (
        "a.tgz",
        lambda: tar_of(("a", {"data": os.urandom(9_000)}), packed="gz")[:5_000],
        "it cannot be read as an archive",
    ),
    "a long name": ("a.tar", lambda: tar_of(("x" * 300, {})), "a path may have 1000 bytes, a name 255"),
    "a zip with a way up": ("a.zip", lambda: zip_of("../b"), "../b leads out of the tree"),
    "a zip with backslashes": ("a.zip", lambda: zip_of("a\\..\\b"), "leads out of the tree"),
    "a zip with a link out": (
        "a.zip",
        lambda: zip_of("a", mode=0o120777, data=b"../../x"),
        "a is a link that leads out",
    ),
    "a zip with a device": ("a.zip", lambda: zip_of("a", mode=0o020644), "a is neither a file"),
    "a zip bomb": ("a.zip", lambda: zip_of("a", data=bomb()), "it holds more than 64 MiB"),
    "an encrypted zip": ("a.zip", lambda: zip_of("a", data=b"x", flag=1), "a is encrypted"),
    "a zip packed by PPMd": (
        "a.zip",
        lambda: zip_of("a", data=b"x", method=98),
        "it is packed in a way that is not read",
    ),
    "no zip": ("a.zip", lambda: b"x" * 600, "it cannot be read as an archive"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_archive_is_one_line(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    name, made, said = HOSTILE[case]
    (tmp_path / name).write_bytes(made())
    (tmp_path / "tasks.toml").write_text(f'fixture = "{name}"\n{TASK}')
    with pytest.raises(UsageError) as error:
        load(tmp_path)
    first, *more = str(error.value).splitlines()
    assert more == []
    assert first.startswith(f"{tmp_path}/tasks.toml:1: the set: fixture {name}: ")
    assert said in first


def test_a_folder_with_a_pipe_or_a_link_out_is_refused_and_a_link_of_the_set_itself_too(tmp_path):
    folder = tmp_path / "set"
    (folder / "files").mkdir(parents=True)
    (folder / "tasks.toml").write_text(f'fixture = "files"\n{TASK}')
    (tmp_path / "secret").write_text("x")
    os.mkfifo(folder / "files" / "pipe")
    with pytest.raises(UsageError, match="fixture files: pipe is neither a file"):
        load(folder)
    (folder / "files" / "pipe").unlink()
    (folder / "files" / "link").symlink_to("../../secret")
    with pytest.raises(UsageError, match="fixture files: link is a link that leads out"):
        load(folder)
    (folder / "tasks.toml").write_text(f'fixture = "way"\n{TASK}')
    (folder / "way").symlink_to("..")
    with pytest.raises(UsageError, match="fixture way: it leads out of the folder of the set"):
        load(folder)


NAMES = st.text("ab .é\n", min_size=1, max_size=3).filter(
    lambda name: name not in {".", ".."} and not name.startswith("._")
)
FILES = st.dictionaries(NAMES, st.tuples(st.binary(max_size=9), st.booleans()), max_size=5)


@given(FILES, NAMES)
def test_a_tree_on_disk_has_the_digest_that_was_computed_of_it(tmp_path_factory, files, folder):
    entries = [OwnEntry(path=folder, type="dir"), OwnEntry(path=f"{folder}/link", type="symlink", target="../x")]
    entries += [
        OwnEntry(path=f"{folder}/{name}", type="file", content=data, executable=run)
        for name, (data, run) in files.items()
    ]
    made = OwnTree(entries=tuple(sorted(entries, key=lambda entry: entry.path)))
    place = tmp_path_factory.mktemp("tree") / "t"
    made.write(place)
    assert PackedFixture(str(place)).digest == made.digest == tree.of_folder(place).digest


def test_what_is_packed_beside_the_records_may_be_hostile_too():
    with pytest.raises(UsageError, match="x: /etc/passwd leads out of the tree"):
        unpacked(tar_of(("/etc/passwd", {})), "x")
    with pytest.raises(UsageError, match="x: expected one file of tasks at its top, found none"):
        unpacked(tar_of(("a", {})), "x")
    text = json.dumps({"set": {"name": "n", "fixture": "fixtures/a"}}) + "\n"
    text += json.dumps({"id": 1, "prompt": "x", "check": [{"kind": "answer", "equals": "1"}]})
    with pytest.raises(
        UsageError, match=r"x, tasks\.jsonl:1: the set: fixture fixtures/a: there is no such folder or arch"
    ):
        unpacked(tar_of(("tasks.jsonl", {"data": text.encode()})), "x")


@pytest.mark.parametrize("size", [1000, 1001])
def test_a_set_that_is_taken_can_be_read_again_from_its_packed_form(tmp_path, monkeypatch, size):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tasks.toml").write_text(f'fixture = "files"\n{TASK}')
    folders = "/".join(["d" * 200] * 4)
    (tmp_path / "files" / folders).mkdir(parents=True)
    (tmp_path / "files" / folders / ("x" * (size - len(folders) - 1))).write_text("")
    if size > tree.LONGEST_PATH:
        with pytest.raises(UsageError, match="a path may have 1000 bytes"):
            load(tmp_path)
    else:
        found = load(tmp_path)
        assert unpacked(found.packed(), "mine.tasks.tar").sha256 == found.sha256


def test_scripts_count_with_the_tasks_that_name_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.sh").write_text("#" * 99_000)
    script = {"kind": "exit_status", "script_file": "s.sh"}
    lines = [json.dumps({"id": number, "prompt": "?", "check": [script]}) for number in range(180)]
    (tmp_path / "tasks.jsonl").write_text("\n".join(lines))
    with pytest.raises(
        UsageError, match=r"tasks.jsonl: tasks and the scripts that they name have \d+ bytes; at most 16"
    ):
        load(tmp_path)
    (tmp_path / "tasks.jsonl").write_text("\n".join(lines[:160]))
    assert len(unpacked(load(tmp_path).packed(), "mine.tasks.tar").tasks) == 160


def test_a_link_of_a_fixture_into_the_rest_of_an_archive_leads_out_all_the_same():
    tasks = {"id": "a", "prompt": "?", "fixture": "f", "check": [{"kind": "answer", "equals": "1"}]}
    link = ("f/x", {"type": tarfile.SYMTYPE, "linkname": "../tasks.jsonl"})
    with pytest.raises(UsageError, match=r"fixture f: x is a link that leads out of the tree \(to ../tasks.jsonl\)"):
        unpacked(tar_of(("tasks.jsonl", {"data": json.dumps(tasks).encode()}), link), "mine.tar")


@pytest.mark.parametrize("named", ["fixture", "script_file"])
def test_links_in_a_circle_are_a_mistake_like_any_other(tmp_path, named):
    (tmp_path / "loop").symlink_to("loop")
    script = '[[task.check]]\nkind = "exit_status"\nscript_file = "loop"\n'
    (tmp_path / "tasks.toml").write_text(TASK + script if named == "script_file" else f'fixture = "loop"\n{TASK}')
    with pytest.raises(UsageError, match=f"{named} loop: there is no such file or folder"):
        load(tmp_path)


def test_an_entry_of_a_zip_file_without_a_name_is_refused(tmp_path):
    (tmp_path / "a.zip").write_bytes(zip_of("x").replace(b"x", b"\0"))
    with pytest.raises(UnusableTreeError, match="its entry 1 has no name"):
        tree.of_archive((tmp_path / "a.zip").read_bytes(), "a.zip")
