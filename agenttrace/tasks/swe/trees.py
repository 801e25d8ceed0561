"""Pristine trees: the exact files of a commit and a `.git` of one commit, the same bytes every time.

Nothing of the repository is obeyed: files are written from its objects, so no filter, end-of-line rule, attribute, hook
or submodule acts, and no link of the tree is followed. The hidden tests are laid in among the objects, before.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter, deque
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agenttrace.errors import DataError
from agenttrace.records.base import Record, digest
from agenttrace.sandbox.runner.restore import PackedFixture
from agenttrace.tasks.swe import git

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from agenttrace.tasks.swe.rows import SweTask

VERSION = 1
"""Raised whenever the same commit would give another tree."""
MAX_PATHS = 50_000
MAX_BYTES = 400 * 2**20
MAX_FILE_BYTES = 100 * 2**20
_BATCH_BYTES = 32 * 2**20
_MOST_LISTED = 64 * 2**20
"""A few objects can make a tree of any size: each folder holds the next one many times."""
_FOLDER = b"040000 "
_LINK, _SUBMODULE, _EXECUTABLE = b"120000", b"160000", b"100755"
_LFS = b"version https://git-lfs.github.com/spec/"
_CONFIG = "[core]\n\trepositoryformatversion = {}\n\tfilemode = true\n\tbare = false\n\tlogallrefupdates = true\n"
_BY_SUFFIX = {
    suffix: language
    for language, suffixes in {
        "c": "c h",
        "clojure": "clj cljs cljc",
        "cpp": "cc cpp cxx hpp hh",
        "csharp": "cs",
        "dart": "dart",
        "elixir": "ex exs",
        "erlang": "erl hrl",
        "go": "go",
        "haskell": "hs",
        "java": "java",
        "js": "js jsx mjs cjs",
        "julia": "jl",
        "kotlin": "kt kts",
        "lua": "lua",
        "ocaml": "ml mli",
        "perl": "pl pm",
        "php": "php",
        "python": "py pyi",
        "r": "r",
        "ruby": "rb",
        "rust": "rs",
        "scala": "scala sc",
        "shell": "sh bash",
        "swift": "swift",
        "ts": "ts tsx",
        "zig": "zig",
    }.items()
    for suffix in suffixes.split()
}
_NOT_OWN = {b"vendor", b"node_modules", b"third_party", b"dist", b"build", b"target"}
OTHER = "other"
"""No file of the tree is in a language of the table."""


class HiddenTests(Record, frozen=True, kw_only=True):
    """Whether the task's hidden tests lie in the tree.

    Attributes:
        asked: the run spec asks for them.
        applied: they lie in it, all of them; else none of them does.
        reason: why they do not, where they were asked for.
    """

    asked: bool
    applied: bool
    reason: str | None = None


class PristineTree(Record, frozen=True, kw_only=True):
    """A pristine tree.

    Attributes:
        name: of its folder, derived from repository, commit and content.
        digest: as the sandbox computes it.
        language: with the most bytes; what the row says stands in the task.
        hidden_tests: whether they lie in it.
        files: how many.
        bytes: in all files.
        submodules: paths that are empty folders here.
        lfs_pointers: files whose content is elsewhere.
    """

    name: str
    digest: str
    language: str
    hidden_tests: HiddenTests
    files: int
    bytes: int
    submodules: int = 0
    lfs_pointers: int = 0


class _Entry(Record, frozen=True, kw_only=True):
    mode: bytes
    oid: bytes
    size: int
    path: bytes


def make(bare: Path, task: SweTask, folder: Path, *, hidden_tests: bool) -> PristineTree:
    """Return the tree of a task below `folder`, made unless it is there already.

    Args:
        bare: repository that holds the commit.
        task: names the commit and brings the hidden tests.
        folder: gets `NAME/` and `.NAME.json`.
        hidden_tests: lay in the tests, all or none; `PristineTree.hidden_tests` says what came of it.

    Raises:
        DataError: the tree is too large, or not one that a file system can hold.
    """
    object_id = git.run(bare, ["rev-parse", f"{task.base_commit}^{{tree}}"]).decode().strip()
    what = f"{task.repo} at {task.base_commit[:12]}"
    tests = HiddenTests(asked=hidden_tests, applied=False)
    if hidden_tests:
        deque(_entries(bare, object_id, what), maxlen=0)  # an index of it must fit in memory
        object_id, tests = _with_tests(bare, object_id, task.test_patch)
    name = f"swe-{digest([task.repo, task.base_commit, object_id, VERSION])[:24]}"
    facts = folder / f".{name}.json"
    if facts.exists():
        found = msgspec.json.decode(facts.read_bytes(), type=PristineTree)
        return msgspec.structs.replace(found, hidden_tests=tests)
    entries = list(_entries(bare, object_id, what))
    building = Path(tempfile.mkdtemp(prefix=".building-", dir=folder))
    try:
        pointers = _write(bare, entries, building)
        _write_git(bare, object_id, task, building / ".git")
        settle(building)
        tree = PristineTree(
            name=name,
            digest=PackedFixture(str(building)).digest,
            language=language_of((entry.path, entry.size) for entry in entries if entry.mode != _SUBMODULE),
            hidden_tests=tests,
            files=sum(entry.mode != _SUBMODULE for entry in entries),
            bytes=sum(entry.size for entry in entries),
            submodules=sum(entry.mode == _SUBMODULE for entry in entries),
            lfs_pointers=pointers,
        )
        shutil.rmtree(folder / name, ignore_errors=True)  # left by a run that was killed before its facts were written
        building.rename(folder / name)
        facts.write_bytes(msgspec.json.encode(tree))
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return tree


def _with_tests(bare: Path, object_id: str, patch: str) -> tuple[str, HiddenTests]:
    """Return the tree with the tests applied, all of them or none."""
    if not patch.strip():
        return object_id, HiddenTests(asked=True, applied=False, reason="the row has no test_patch")
    with tempfile.TemporaryDirectory() as scratch:
        env = {"GIT_INDEX_FILE": f"{scratch}/index"}
        git.run(bare, ["read-tree", object_id], env=env)
        try:
            git.run(bare, ["apply", "--cached", "--whitespace=nowarn", "-"], stdin=patch.encode(), env=env)
        except git.GitError as error:
            return object_id, HiddenTests(asked=True, applied=False, reason=str(error)[:300])
        return git.run(bare, ["write-tree"], env=env).decode().strip(), HiddenTests(asked=True, applied=True)


def _entries(bare: Path, object_id: str, what: str) -> Iterator[_Entry]:
    listed = git.read(bare, ["ls-tree", "-r", "-t", "-z", "-l", "--full-tree", object_id], most_bytes=_MOST_LISTED)
    lines = [line for line in listed.split(b"\0")[:-1] if not line.startswith(_FOLDER)]
    if len(lines) > MAX_PATHS or len(listed) > _MOST_LISTED:
        count = len(lines) if len(listed) <= _MOST_LISTED else f"more than {len(lines)}"
        raise DataError(f"{what}: {count} files; a tree may have {MAX_PATHS}, their names {_MOST_LISTED >> 20} MiB")
    total = 0
    for line in lines:
        facts, _, path = line.partition(b"\t")
        mode, _, oid, size = facts.split()
        entry = _Entry(mode=mode, oid=oid, size=0 if size == b"-" else int(size), path=path)
        total += entry.size
        if entry.size > MAX_FILE_BYTES or total > MAX_BYTES:
            raise DataError(f"{what}: over {MAX_BYTES >> 20} MiB, or a file over {MAX_FILE_BYTES >> 20} MiB")
        for part in path.split(b"/"):
            if part in {b"", b".", b".."} or part.lower() == b".git":
                raise DataError(f"{what}: it holds {os.fsdecode(path)!r}, which no checkout may hold")
        yield entry


def _write(bare: Path, entries: Sequence[_Entry], root: Path) -> int:
    """Write the files; return how many are pointers to Git LFS."""
    made: dict[bytes, bool] = {}  # path → is a folder
    pointers = 0
    for batch in _batches(entries):
        contents = _blobs(bare, [entry.oid for entry in batch if entry.mode != _SUBMODULE])
        for entry in batch:
            folders(os.fsencode(root), entry.path, made)
            full = os.path.join(os.fsencode(root), entry.path)  # noqa: PTH118 - bytes
            if made.setdefault(entry.path, entry.mode == _SUBMODULE) != (entry.mode == _SUBMODULE):
                raise DataError(f"{os.fsdecode(entry.path)!r} is a file and a folder at once")
            if entry.mode == _SUBMODULE:
                os.mkdir(full, 0o755)  # noqa: PTH102 - bytes
            else:
                content = next(contents)
                pointers += content.startswith(_LFS)
                _create(full, content, entry)
    return pointers


def _batches(entries: Sequence[_Entry]) -> Iterator[list[_Entry]]:
    batch: list[_Entry] = []
    size = 0
    for entry in entries:
        if batch and size + entry.size > _BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(entry)
        size += entry.size
    if batch:
        yield batch


def _blobs(bare: Path, oids: Sequence[bytes]) -> Iterator[bytes]:
    """Yield the content of each object, in order."""
    if not oids:
        return
    data = git.run(bare, ["cat-file", "--batch", "--buffer"], stdin=b"\n".join(oids) + b"\n")
    at = 0
    for oid in oids:
        end = data.index(b"\n", at)
        header = data[at:end].split()
        if header[:2] != [oid, b"blob"]:
            raise DataError(f"object {oid.decode()} is missing from {bare.name}")
        at = end + 1 + int(header[2])
        yield data[end + 1 : at]
        at += 1


def folders(root: bytes, path: bytes, made: dict[bytes, bool]) -> None:
    """Make the folders above a path; none of them may be a file or link of the same tree."""
    parts = path.split(b"/")[:-1]
    for count in range(1, len(parts) + 1):
        folder = b"/".join(parts[:count])
        if folder not in made:
            os.mkdir(os.path.join(root, folder), 0o755)  # noqa: PTH102, PTH118 - bytes
            made[folder] = True
        elif not made[folder]:
            raise DataError(f"{os.fsdecode(folder)!r} is a file and a folder at once")


def _create(path: bytes, content: bytes, entry: _Entry) -> None:
    shown = os.fsdecode(entry.path)
    try:
        if entry.mode == _LINK:
            os.symlink(content, path)  # noqa: PTH211 - bytes
            return
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    except (OSError, ValueError) as error:
        raise DataError(f"{shown!r} cannot be written: {error}") from error
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        os.fchmod(fd, 0o755 if entry.mode == _EXECUTABLE else 0o644)


def _write_git(bare: Path, object_id: str, task: SweTask, folder: Path) -> None:
    """Make a repository of one commit: no parent, no remote, no reference but `main`, no object beside."""
    message = f"{task.repo} at {task.base_commit}\n"
    commit = git.run(bare, ["commit-tree", object_id], stdin=message.encode()).decode().strip()
    pack = git.run(
        bare,
        ["pack-objects", "--quiet", "--stdout", "--revs", "--threads=1", "--window=0", "--no-reuse-object"],
        stdin=f"{commit}\n".encode(),
    )
    for name in ("objects/info", "objects/pack", "refs/heads", "refs/tags", "info"):
        (folder / name).mkdir(parents=True)
    wide = len(commit) == 64  # noqa: PLR2004 - digits of a SHA-256
    config = _CONFIG.format(int(wide)) + ("[extensions]\n\tobjectformat = sha256\n" if wide else "")
    (folder / "config").write_text(config, encoding="ascii")
    (folder / "HEAD").write_text("ref: refs/heads/main\n", encoding="ascii")
    (folder / "refs/heads/main").write_text(f"{commit}\n", encoding="ascii")
    git.run(folder, ["index-pack", "--stdin"], stdin=pack)
    git.run(folder, ["read-tree", "HEAD"])


def settle(root: Path) -> None:
    """Give everything its fixed time, and what has none of its own a fixed mode."""
    stamp = (git.FIXED_TIME_S * 10**9,) * 2
    paths: Iterable[Path] = sorted(root.rglob("*"), reverse=True)
    for path in (*paths, root):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
        elif root / ".git" in path.parents:
            path.chmod(0o444 if path.parent.name == "pack" else 0o644)
        os.utime(path, ns=stamp, follow_symlinks=False)


def language_of(files: Iterable[tuple[bytes, int]]) -> str:
    """Return the language with the most bytes; names are those of SWE-rebench V2. Ties go to the first by name.

    Args:
        files: path and size of every regular file; folders of other people's code are left out.
    """
    sizes: Counter[str] = Counter()
    for path, size in files:
        *folders, name = path.split(b"/")
        if _NOT_OWN.isdisjoint(folders):
            suffix = name.rpartition(b".")[2].lower().decode("ascii", "replace") if b"." in name else ""
            if suffix in _BY_SUFFIX:
                sizes[_BY_SUFFIX[suffix]] += size
    return min(sizes, key=lambda language: (-sizes[language], language)) if sizes else OTHER
