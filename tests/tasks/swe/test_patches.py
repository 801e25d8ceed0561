"""A patch gives exactly the tree that it was made of, whatever the files are, and is text where they are."""

from __future__ import annotations

import os
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agenttrace.formats.commands import patch_size
from agenttrace.sandbox.reports import Changed, Changes
from agenttrace.tasks.swe import patches

LATIN = "gr\u00fcn\nmore\n".encode("latin-1")
NAMES = st.sampled_from(
    [b"a.py", b"a b", b"caf\xe9", b"caf\xc3\xa9", b"tab\there", b'quo"te', b"back\\slash", b"line\nfeed",
     b"-dash", b"[glob]*?", b" lead", b"trail ", b"deep/er/x", b"deep/y", b"diff --git a", b"\x01",
     b"\xf0\x9f\x98\x80", b"dev/null"]
)  # fmt: skip
LINES = st.sampled_from(
    [b"one\n", b"two\r\n", b"--- a/x\n", b"+++ b/x\n", b"diff --git a/x b/x\n", b"@@ -1 +1 @@\n", b"-- \n", b"\n",
     b"\r", b" \t\n", "gr\u00fcn\n".encode(), "\u2028\x85\x0c\n".encode(), b"\\ No newline at end of file\n", b"last",
     b"GIT binary patch\n"]
)  # fmt: skip
OTHERS = st.sampled_from([LATIN, b"\0" * 9, b"\xff\xfea\0", bytes(range(256)), b"x\xc3", b""])
CONTENTS = st.lists(LINES, max_size=9).map(b"".join) | OTHERS
FILES = st.tuples(st.sampled_from(["100644", "100755", "120000"]), CONTENTS.filter(lambda data: b"\0" not in data)) | (
    st.tuples(st.sampled_from(["100644", "100755"]), CONTENTS)
)
TREES = st.dictionaries(NAMES, FILES, max_size=6).filter(
    lambda tree: all(data for mode, data in tree.values() if mode == "120000")
)


def git(folder, *arguments, stdin=b"", **env):
    return subprocess.run(
        ["git", "-c", "core.protectNTFS=false", *arguments], cwd=folder, input=stdin, check=True, capture_output=True,
        env={**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", **env},
    ).stdout  # fmt: skip


def tree_of(folder, files, **env):
    """Write a tree object and return its id."""
    lines = b""
    for name, (mode, data) in files.items():
        oid = git(folder, "hash-object", "-w", "--stdin", stdin=data).strip()
        lines += mode.encode() + b" " + oid + b"\t" + name + b"\0"
    git(folder, "read-tree", "--empty", **env)
    git(folder, "update-index", "-z", "--index-info", stdin=lines, **env)
    return git(folder, "write-tree", **env).decode().strip()


def pristine(folder, files):
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    author = {f"GIT_{who}_{what}": "a" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    commit = git(folder, "commit-tree", tree_of(folder, files), "-m", "x", **author).decode().strip()
    git(folder, "update-ref", "refs/heads/main", commit)
    git(folder, "read-tree", "HEAD")
    return folder


def changed(before, after):
    """Return what the sandbox would say of the change."""
    entries = []
    for name in sorted({*before, *after}):
        if name not in after:
            entries.append(Changed(path=name, type="absent", mode=None, content=None))
        elif before.get(name) != after[name]:
            mode, data = after[name]
            kind = "symlink" if mode == "120000" else "file"
            entries.append(Changed(path=name, type=kind, mode=f"0{mode[3:]}", content=data))
    return Changes(entries=tuple(entries), truncated=False)


def is_text(data):
    try:
        return b"\0" not in data and data.decode() is not None
    except UnicodeDecodeError:
        return False


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(before=TREES, after=TREES, kept=TREES, moved=st.booleans())
def test_a_patch_gives_exactly_the_tree_and_text_where_it_is_text(tmp_path_factory, before, after, kept, moved):
    before, after = {**before, **kept}, {**after, **kept}
    if moved and before:  # what was renamed: the same content under another name
        name = min(before)
        after.pop(name, None)
        after[b"moved to"] = before[name]
    folder = pristine(tmp_path_factory.mktemp("patch") / "tree", before)
    patch, note = patches.diff(folder, changed(before, after))
    assert note in {None, patches.BINARY}
    assert (
        patches.applied(folder, patch) == tree_of(folder, after, GIT_INDEX_FILE="other") if patch else before == after
    )
    others = sum(not is_text(data) for tree in (before, after) for _, data in tree.values())
    assert patch.count("\nGIT binary patch\n") <= others


def test_one_file_in_another_encoding_does_not_change_how_the_others_are_shown(tmp_path):
    before = {b"a.py": ("100644", b"one\ntwo\n"), b"old.txt": ("100644", LATIN), b"z.py": ("100644", b"z\n")}
    after = {
        b"a.py": ("100644", b"one\n2\n"), b"old.txt": ("100644", LATIN.upper()), b"nul": ("100644", b"\0\n"),
        b"\xe9.txt": ("100644", "gr\u00fcn\n".encode()),
    }  # fmt: skip
    folder = pristine(tmp_path / "tree", before)
    patch, note = patches.diff(folder, changed(before, after))
    assert note == patches.BINARY
    sections = {part.partition("\n")[0]: part for part in patch.split("diff --git ") if part}
    assert {name: "GIT binary patch" in part for name, part in sections.items()} == {
        "a/a.py b/a.py": False, "a/nul b/nul": True, "a/old.txt b/old.txt": True, "a/z.py b/z.py": False,
        '"a/\\351.txt" "b/\\351.txt"': False,
    }  # fmt: skip
    assert "-two\n+2\n" in patch
    assert "+gr\u00fcn\n" in patch
    assert patch_size(patch) == (5, 4)
    assert patches.applied(folder, patch) == tree_of(folder, after, GIT_INDEX_FILE="other")


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        (b".git/config", "100644"), (b"x/.GIT/y", "100644"), (b".g\xe2\x80\x8cit", "100644"),
        (b".git\xef\xbb\xbf/x", "100644"),
        (b".gitmodules", "120000"), (b"x/.GitModules", "120000"), (b".gitm\xe2\x80\x8codules", "120000"),
    ],
)  # fmt: skip
def test_what_git_takes_in_no_tree_is_said_to_be_left_out(tmp_path, name, mode):
    folder = pristine(tmp_path / "tree", {b"k": ("100644", b"k\n")})
    patch, note = patches.diff(folder, changed({}, {b"k": ("100644", b"2\n"), name: (mode, b"x")}))
    assert patch.count("diff --git") == 1
    assert note.startswith("left out: ")


@pytest.mark.parametrize(
    "name", [b"git~1/x", b".gitattributes", b".git ", b".git.", b"a\\..\\b", b"C:x", b".gitignore"]
)
def test_names_that_only_look_like_it_are_in(tmp_path, name):
    folder = pristine(tmp_path / "tree", {b"k": ("100644", b"k\n")})
    after = {b"k": ("100644", b"k\n"), name: ("100644", b"x")}
    patch, note = patches.diff(folder, changed({b"k": ("100644", b"k\n")}, after))
    assert note is None
    assert patches.applied(folder, patch) == tree_of(folder, after, GIT_INDEX_FILE="other")


@pytest.mark.parametrize("bad", [b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xf5\x80\x80\x80"])
def test_what_is_no_utf_8_anywhere_in_a_hunk_is_a_binary_one(tmp_path, bad):
    before = {b"x": ("100644", b"a\n" + bad + b"\n")}
    folder = pristine(tmp_path / "tree", before)
    after = {b"x": ("100644", b"b\n" + bad + b"\n"), b"y": ("100644", b"text\n")}
    patch, _ = patches.diff(folder, changed(before, after))
    assert patch.count("GIT binary patch") == 1
    assert "+text\n" in patch
    assert patches.applied(folder, patch) == tree_of(folder, after, GIT_INDEX_FILE="other")
