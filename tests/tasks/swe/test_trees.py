"""A tree is the exact files of a commit, the same bytes every time, whatever the repository tries."""

import os
import subprocess
from pathlib import Path

import msgspec
import pytest

from agenttrace.errors import DataError, UsageError
from agenttrace.sandbox.reports import Changed, Changes
from agenttrace.tasks.swe import git, patches, repositories, trees
from agenttrace.tasks.swe.rows import SweTask


class Upstream:
    """A repository as somebody might have it, made with plain git."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str, stdin: bytes = b"") -> str:
        env = {
            **os.environ,
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b",
        }  # fmt: skip
        return (
            subprocess.run(["git", *arguments], cwd=self.folder, env=env, input=stdin, check=True, capture_output=True)
            .stdout.decode()
            .strip()
        )

    def commit(self, files: dict[str, bytes]) -> str:
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        self.git("add", "-A")
        self.git("commit", "-q", "-m", "work")
        return self.git("rev-parse", "HEAD")

    def raw_tree(self, *lines) -> str:
        """A commit over a tree that `git add` would refuse to make: (mode, name, content)."""
        listed = b""
        for mode, name, content in lines:
            kind = "tree" if mode == "40000" else "commit" if mode == "160000" else "blob"
            oid = content.decode() if kind != "blob" else self.git("hash-object", "-w", "--stdin", stdin=content)
            listed += f"{mode} {kind} {oid}\t{name}".encode() + b"\0"
        tree = self.git("mktree", "-z", "--missing", stdin=listed)
        return self.git("commit-tree", tree, "-m", "odd")


@pytest.fixture
def upstream(tmp_path):
    return Upstream(tmp_path / "up" / "octo" / "cat")


def task(commit, **fields):
    return SweTask(
        **{"instance_id": "octo__cat-1", "repo": "octo/cat", "base_commit": commit, "language": None, "patch": "",
           "problem_statement": "It breaks.", "interface": None, "test_patch": "", **fields}
    )  # fmt: skip


@pytest.fixture
def made(tmp_path, upstream):
    def make(commit, *, place="trees", hidden_tests=False, **fields):
        folder = tmp_path / place
        folder.mkdir(exist_ok=True)
        source = repositories.source_of("octo/cat", str(tmp_path / "up"))
        bare = repositories.ensure(tmp_path / f"cache-{place}", "octo/cat", commit, source=source)
        tree = trees.make(bare, task(commit, **fields), folder, hidden_tests=hidden_tests)
        return tree, folder / tree.name

    return make


def test_files_are_those_of_the_commit_and_history_is_gone(upstream, made):
    first = upstream.commit({"a.py": b"print(1)\n", "run.sh": b"\n"})
    (upstream.folder / "run.sh").chmod(0o755)
    upstream.commit({"a.py": b"the fix\n", "secret-of-the-future": b"x"})
    tree, folder = made(first)
    assert (folder / "a.py").read_bytes() == b"print(1)\n"
    assert not (folder / "secret-of-the-future").exists()
    assert tree.files == 2
    assert tree.language == "python"
    objects = git.run(folder / ".git", ["cat-file", "--batch-all-objects", "--batch-check"]).decode()
    assert sorted(line.split()[1] for line in objects.splitlines()) == ["blob", "blob", "commit", "tree"]
    assert git.run(folder / ".git", ["for-each-ref", "--format=%(refname)"]).decode().split() == ["refs/heads/main"]
    assert git.run(folder / ".git", ["rev-list", "--all", "--count"]).strip() == b"1"
    assert b"remote" not in (folder / ".git" / "config").read_bytes()


def test_git_inside_finds_a_clean_tree(upstream, made):
    commit = upstream.commit({"a b/c": b"1\n", "d": b"2\n"})
    _, folder = made(commit)
    status = subprocess.run(
        ["git", "-c", "safe.directory=*", "status", "--porcelain"], cwd=folder, capture_output=True, check=True
    )
    assert status.stdout == b""


def test_two_builds_from_two_caches_are_equal_to_the_byte(upstream, made):
    upstream.commit({f"src/{n}.go": b"package p\n" * n for n in range(40)})
    commit = upstream.commit({"more": os.urandom(5000)})
    upstream.git("repack", "-adfq")
    one, first = made(commit, place="one")
    two, second = made(commit, place="two")
    assert one == two
    content = [
        sorted(
            (p.relative_to(folder).as_posix(), p.read_bytes(), p.stat().st_mode, p.stat().st_mtime_ns) for p in files
        )
        for folder in (first, second)
        for files in [[path for path in folder.rglob("*") if path.is_file()]]
    ]
    assert content[0] == content[1]
    assert {p.lstat().st_mtime for p in first.rglob("*")} == {git.FIXED_TIME_S}


def test_filters_attributes_and_line_ends_of_the_repository_do_nothing(upstream, made):
    body = b"$Id$\r\nline\r\n"
    commit = upstream.raw_tree(
        ("100644", ".gitattributes", b"* text eol=crlf ident filter=evil export-ignore\n"), ("100644", "f.txt", body)
    )
    upstream.git("update-ref", "refs/heads/main", commit)
    upstream.git("config", "filter.evil.smudge", "touch /tmp/agenttrace-evil-ran; cat")
    _, folder = made(commit)
    assert (folder / "f.txt").read_bytes() == body
    assert not Path("/tmp/agenttrace-evil-ran").exists()


def test_links_submodules_pointers_and_odd_names_are_kept_as_they_are(upstream, made, tmp_path):
    (tmp_path / "outside").write_text("untouched")
    commit = _odd(upstream)
    tree, folder = made(commit)
    assert str((folder / "out").readlink()) == "../../outside"
    assert str((folder / "abs").readlink()) == "/etc/passwd"
    assert (tmp_path / "outside").read_text() == "untouched"
    assert list((folder / "vendored").iterdir()) == []
    assert (folder / "tool").stat().st_mode & 0o777 == 0o755
    assert b"bad\xff\n name" in {os.fsencode(path.name) for path in folder.iterdir()}
    assert (tree.submodules, tree.lfs_pointers) == (1, 1)


def _odd(upstream):
    lines = [
        (b"120000", b"out", b"../../outside"),
        (b"120000", b"abs", b"/etc/passwd"),
        (b"100644", b"bad\xff\n name", b"x"),
        (b"100644", b"-rf", b"y"),
        (b"100755", b"tool", b"#!/bin/sh\n"),
        (b"100644", b"big.bin", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"),
    ]
    listed = b"160000 commit " + b"1" * 40 + b"\tvendored\0"
    for mode, name, content in lines:
        oid = upstream.git("hash-object", "-w", "--stdin", stdin=content)
        listed += mode + b" blob " + oid.encode() + b"\t" + name + b"\0"
    commit = upstream.git("commit-tree", upstream.git("mktree", "-z", "--missing", stdin=listed), "-m", "odd")
    upstream.git("update-ref", "refs/heads/main", commit)
    return commit


@pytest.mark.parametrize("name", [".git", ".GIT", "..", "."])
def test_a_tree_that_would_write_into_a_repository_or_out_of_itself_is_refused(upstream, made, name):
    oid = upstream.git("hash-object", "-w", "--stdin", stdin=b"evil")
    raw = b"100644 " + name.encode() + b"\0" + bytes.fromhex(oid)
    tree = upstream.git("hash-object", "-w", "-t", "tree", "--stdin", "--literally", stdin=raw)
    commit = upstream.git("commit-tree", tree, "-m", "evil")
    upstream.git("update-ref", "refs/heads/main", commit)
    with pytest.raises(DataError, match="no checkout may hold"):
        made(commit)


def test_a_link_and_a_folder_of_one_name_cannot_lead_out(upstream, made, tmp_path):
    (tmp_path / "target").mkdir()
    blob = upstream.git("hash-object", "-w", "--stdin", stdin=b"planted")
    link = upstream.git("hash-object", "-w", "--stdin", stdin=str(tmp_path / "target").encode())
    inner = upstream.git("mktree", stdin=f"100644 blob {blob}\tplanted\n".encode())
    raw = b"120000 a\0" + bytes.fromhex(link) + b"40000 a\0" + bytes.fromhex(inner)
    tree = upstream.git("hash-object", "-w", "-t", "tree", "--stdin", "--literally", stdin=raw)
    commit = upstream.git("commit-tree", tree, "-m", "evil")
    upstream.git("update-ref", "refs/heads/main", commit)
    with pytest.raises(DataError, match=r"at once|no checkout"):
        made(commit)
    assert list((tmp_path / "target").iterdir()) == []


def test_hidden_tests_are_laid_in_whole_or_not_at_all_and_it_is_said(upstream, made):
    commit = upstream.commit({"a.py": b"1\n"})
    good = "diff --git a/t.py b/t.py\nnew file mode 100644\n--- /dev/null\n+++ b/t.py\n@@ -0,0 +1 @@\n+assert 1\n"
    tree, folder = made(commit, hidden_tests=True, test_patch=good)
    assert tree.hidden_tests.applied
    assert (folder / "t.py").read_text() == "assert 1\n"
    without, plain = made(commit, test_patch=good)
    assert without.name != tree.name
    assert not (plain / "t.py").exists()
    bad = good + "diff --git a/a.py b/a.py\n--- a/a.py\n+++ b/a.py\n@@ -1 +1 @@\n-2\n+3\n"
    tree, folder = made(commit, hidden_tests=True, test_patch=bad)
    assert not tree.hidden_tests.applied
    assert "a.py" in tree.hidden_tests.reason
    assert folder == plain
    assert made(commit, hidden_tests=True)[0].hidden_tests.reason == "the row has no test_patch"
    outside = good.replace("b/t.py", "b/../../t.py")
    assert not made(commit, hidden_tests=True, test_patch=outside)[0].hidden_tests.applied


def test_too_large_is_an_error_that_names_the_commit(upstream, made, monkeypatch):
    commit = upstream.commit({"a": b"x" * 100, "b": b"y"})
    monkeypatch.setattr(trees, "MAX_FILE_BYTES", 99)
    with pytest.raises(DataError, match=f"octo/cat at {commit[:12]}: over"):
        made(commit)
    monkeypatch.setattr(trees, "MAX_PATHS", 1)
    with pytest.raises(DataError, match="2 files"):
        made(commit)


@pytest.mark.parametrize("leaf", [b"", b"100644 blob"])
def test_a_tree_of_few_objects_that_unpacks_to_millions_of_paths_is_refused(upstream, made, monkeypatch, leaf):
    monkeypatch.setattr(trees, "_MOST_LISTED", 2**20)
    commit = _bomb(upstream, leaf)
    for hidden_tests in (False, True):
        with pytest.raises(DataError, match="files; a tree may have 50000, their names 1 MiB"):
            made(commit, hidden_tests=hidden_tests, test_patch="diff --git a/x b/x\n")


def _bomb(upstream, leaf):
    """A commit of ten objects and a billion folders, each of the last ones with a file or empty."""
    blob = upstream.git("hash-object", "-w", "--stdin", stdin=b"x")
    inner = upstream.git("mktree", "-z", stdin=leaf and leaf + b" " + blob.encode() + b"\tf\0")
    for _ in range(9):
        lines = b"".join(b"040000 tree " + inner.encode() + b"\td%d\0" % n for n in range(10))
        inner = upstream.git("mktree", "-z", stdin=lines)
    commit = upstream.git("commit-tree", inner, "-m", "bomb")
    upstream.git("update-ref", "refs/heads/main", commit)
    return commit


def test_folders_do_not_count_as_files(upstream, made, monkeypatch):
    commit = upstream.commit({"a/b/c/d": b"1", "e": b"2"})
    monkeypatch.setattr(trees, "MAX_PATHS", 2)
    assert made(commit)[0].files == 2


def test_git_that_prints_too_long_or_too_late_is_stopped(upstream):
    commit = upstream.commit({"a": b"x" * 100_000})
    folder = upstream.folder / ".git"
    assert len(git.read(folder, ["cat-file", "blob", f"{commit}:a"], most_bytes=1000)) == 1001
    assert git.read(folder, ["rev-parse", commit], most_bytes=1000).decode().strip() == commit
    with pytest.raises(git.GitError, match="cat-file failed"):
        git.read(folder, ["cat-file", "blob", "nothing"], most_bytes=1000)
    bomb = _bomb(upstream, b"")
    with pytest.raises(git.GitError, match="took more than 0 s"):  # without -t nothing is printed of empty folders
        git.read(folder, ["ls-tree", "-r", f"{bomb}^{{tree}}"], most_bytes=1000, timeout_s=0.3)


def test_a_missing_commit_repository_and_source_are_told_apart(upstream, made, tmp_path):
    upstream.commit({"a": b"1"})
    with pytest.raises(repositories.CommitMissingError, match="has no commit 1111"):
        made("1" * 40)
    with pytest.raises(repositories.RepositoryMissingError, match=r"has no repository octo/dog"):
        repositories.source_of("octo/dog", str(tmp_path / "up"))
    with pytest.raises(UsageError, match="nowhere: expected a folder of repositories"):
        repositories.source_of("octo/cat", str(tmp_path / "nowhere"))
    with pytest.raises(UsageError, match=r"expected \{repo\}"):
        repositories.source_of("octo/dog", "https://example.org/x")
    with pytest.raises(git.GitError, match="fetch"):
        repositories.ensure(tmp_path / "c", "octo/cat", "1" * 40, source="ext::sh -c 'touch /tmp/agenttrace-ext-ran'")
    assert not Path("/tmp/agenttrace-ext-ran").exists()


def test_a_bundle_is_a_source(upstream, tmp_path):
    commit = upstream.commit({"a": b"1"})
    upstream.git("bundle", "create", "-q", str(tmp_path / "octo__cat.bundle"), "--all")
    source = repositories.source_of("octo/cat", str(tmp_path))
    bare = repositories.ensure(tmp_path / "cache", "octo/cat", commit, source=source)
    assert git.run(bare, ["cat-file", "-t", commit]).strip() == b"commit"


def test_a_kept_commit_needs_no_source_any_more(upstream, made, tmp_path):
    commit = upstream.commit({"a": b"1"})
    made(commit)
    bare = repositories.ensure(tmp_path / "cache-trees", "octo/cat", commit, source="/nowhere")
    assert bare.exists()


def change(path, content=b"", kind="file", mode="0644"):
    return Changed(path=path, type=kind, mode=mode, content=content)


def test_the_patch_applied_to_the_pristine_tree_gives_the_final_one(upstream, made, tmp_path):
    commit = upstream.commit({"edit": b"1\n2\n3\n", "gone": b"x\n", "deep/er": b"y", "mode": b"m\n", "swap": b"file\n"})
    _, folder = made(commit)
    entries = (
        change(b"edit", b"1\ntwo\n3\n"),
        change(b"gone", None, "absent", None),
        change(b"mode", b"m\n", mode="0755"),
        change(b'new name \xc3\xa9\t"', b"fresh"),
        change(b"link", b"/etc/passwd", "symlink", "0777"),
        change(b"swap", None, "dir", "0755"),
        change(b"swap/inner", b"now a folder\n"),
        change(b"zero", bytes(range(256))),
    )
    patch, note = patches.diff(folder, Changes(entries=entries, truncated=False))
    assert note is None
    assert patch.startswith("diff --git a/edit b/edit\n")
    again = Upstream(tmp_path / "again")
    again.commit({"edit": b"1\n2\n3\n", "gone": b"x\n", "deep/er": b"y", "mode": b"m\n", "swap": b"file\n"})
    again.git("apply", "--index", "-", stdin=patch.encode())
    assert (again.folder / "edit").read_bytes() == b"1\ntwo\n3\n"
    assert not (again.folder / "gone").exists()
    assert (again.folder / "mode").stat().st_mode & 0o111
    assert (again.folder / 'new name \u00e9\t"').read_bytes() == b"fresh"
    assert str((again.folder / "link").readlink()) == "/etc/passwd"
    assert (again.folder / "swap" / "inner").read_bytes() == b"now a folder\n"
    assert (again.folder / "zero").read_bytes() == bytes(range(256))


def test_the_same_content_again_is_no_patch(upstream, made):
    commit = upstream.commit({"a": b"1\n"})
    _, folder = made(commit)
    assert patches.diff(folder, Changes(entries=(change(b"a", b"1\n"),), truncated=False)) == ("", None)
    assert patches.diff(folder, Changes(entries=(), truncated=False)) == ("", None)


def test_text_in_another_encoding_still_gives_a_patch_that_applies(upstream, made, tmp_path):
    commit = upstream.commit({"latin": "gr\u00fcn\n".encode("latin-1")})
    _, folder = made(commit)
    changed = Changes(entries=(change(b"latin", "gr\u00fcner\n".encode("latin-1")),), truncated=False)
    patch, note = patches.diff(folder, changed)
    assert "binary hunks" in note
    again = Upstream(tmp_path / "again")
    again.commit({"latin": "gr\u00fcn\n".encode("latin-1")})
    again.git("apply", "-", stdin=patch.encode())
    assert (again.folder / "latin").read_bytes() == "gr\u00fcner\n".encode("latin-1")


def test_attributes_of_the_tree_do_not_hide_what_a_patch_changes(upstream, made):
    rules = b"*.py -diff\n*.lock binary\n*.txt diff=evil\n"
    commit = upstream.commit({".gitattributes": rules, "sub/.gitattributes": b"* -diff\n", "a.py": b"1\n"})
    _, folder = made(commit)
    entries = tuple(change(name, b"2\n") for name in (b"a.py", b"b.lock", b"c.txt", b"sub/d"))
    patch, note = patches.diff(folder, Changes(entries=entries, truncated=False))
    assert patch.count("+2\n") == len(entries)
    assert note is None


def test_what_a_patch_leaves_out_is_said(upstream, made):
    commit = upstream.commit({"a": b"1\n"})
    _, folder = made(commit)
    entries = (change(b"sub/.git/hooks/post-checkout", b"evil"), change(b"huge", None), change(b"b", b"2\n"))
    patch, note = patches.diff(folder, Changes(entries=entries, truncated=True))
    assert "hooks" not in patch
    assert "+2" in patch
    assert "huge" in note
    assert "more changed" in note
    assert "part of a repository" in note


def test_a_repository_of_sha256_ids_works_the_same(tmp_path):
    upstream = Upstream(tmp_path / "x")
    subprocess.run(["rm", "-rf", upstream.folder / ".git"], check=True)
    upstream.git("init", "-q", "-b", "main", "--object-format=sha256")
    commit = upstream.commit({"a": b"1\n"})
    bare = repositories.ensure(tmp_path / "cache", "octo/cat", commit, source=str(upstream.folder))
    (tmp_path / "trees").mkdir()
    tree = trees.make(bare, task(commit), tmp_path / "trees", hidden_tests=False)
    changed = Changes(entries=(change(b"a", b"2\n"),), truncated=False)
    assert "+2" in patches.diff(tmp_path / "trees" / tree.name, changed)[0]


def test_language_comes_from_the_bytes_of_own_files():
    files = [(b"a.go", 10), (b"vendor/big.py", 900), (b"b.PY", 9), (b"README.md", 500)]
    assert trees.language_of(files) == "go"
    assert trees.language_of([(b"x.py", 5), (b"y.rs", 5)]) == "python"
    assert trees.language_of([(b"Makefile", 5)]) == trees.OTHER


def test_the_language_of_a_tree_is_that_of_its_files_whatever_a_row_says(upstream, made):
    commit = upstream.commit({"a.py": b"1"})
    assert made(commit, language="cobol")[0].language == "python"
    assert made(commit)[0].language == "python"


def test_trees_are_made_once(upstream, made, tmp_path):
    commit = upstream.commit({"a": b"1"})
    tree, folder = made(commit)
    (folder / "a").write_bytes(b"other")
    assert made(commit)[0] == tree
    assert (folder / "a").read_bytes() == b"other"
    assert (
        msgspec.json.decode((tmp_path / "trees" / f".{tree.name}.json").read_bytes(), type=trees.PristineTree) == tree
    )
