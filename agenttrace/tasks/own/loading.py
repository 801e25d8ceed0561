"""Reads a task set of the user's: a folder or a file on disk, or the packed form that travels with records.

The packed form is a tar file that is a set itself: `tasks.jsonl` in one canonical spelling, which names each tree by
its digest, and the trees below `fixtures/`. The digest of that `tasks.jsonl` is the digest of the set, wherever and
however it was written.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import tarfile
import tomllib
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from agenttrace.errors import DataError, UsageError, command
from agenttrace.records import Record
from agenttrace.store.opening import content, stem
from agenttrace.tasks import OWN, TASK_SETS
from agenttrace.tasks.own import format as own_format
from agenttrace.tasks.own import parsing, positions, tree
from agenttrace.tasks.own.format import OwnTask  # noqa: TC001 - msgspec reads it
from agenttrace.tasks.own.tree import Bounds, OwnTree, UnusableTreeError, shown

if TYPE_CHECKING:
    from agenttrace.tasks.own.format import Complain

FILES = ("tasks.toml", "tasks.jsonl")
SIDECAR = ".tasks.tar"
MAX_TASKS_BYTES = 16 * 2**20
MOST_PATHS = 50_000
"""In all trees of a set together."""
_TREES = "fixtures"
MAX_SET = Bounds(
    paths=MOST_PATHS + own_format.MOST_TASKS + 3,  # the folder of each tree, of all, and of the set; the tasks
    bytes=128 * 2**20,
    longest=tree.LONGEST_PATH + len(f"{_TREES}/{'0' * 64}/"),
)
"""Of all trees of a set together, and its tasks, packed."""
_MOST_TOLD = 50
_TOML_LINE = re.compile(r" \(at line (\d+), column \d+\)")


class OwnSet(Record, frozen=True, kw_only=True):
    """A task set that was read and found right.

    Attributes:
        name: of the set.
        tasks: in order; `fixture` of each is the digest of a tree.
        trees: digest → tree.
        fixture: digest of the tree of tasks without one of their own; `None` is an empty folder.
        clock: instant at which the clock of the tools stands; `None` is the real clock.
    """

    name: str
    tasks: tuple[OwnTask, ...]
    trees: dict[str, OwnTree]
    fixture: str | None = None
    clock: str | None = None

    @property
    def canonical(self) -> bytes:
        """`tasks.jsonl` in the one spelling that the digest is of."""
        head = {"name": self.name, "fixture": self.fixture and f"{_TREES}/{self.fixture}", "clock": self.clock}
        lines: list[dict[str, Any]] = [{"set": _given(head)}]
        for task in self.tasks:
            fixture = task.fixture and f"{_TREES}/{task.fixture}"
            lines.append(_given({**msgspec.structs.asdict(task), "fixture": fixture}))
        return b"".join(msgspec.json.encode(line) + b"\n" for line in lines)

    @property
    def sha256(self) -> str:
        """Digest of tasks, checks and trees."""
        return hashlib.sha256(self.canonical).hexdigest()

    def packed(self) -> bytes:
        """Return the packed form."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
            _add(tar, FILES[1], tarfile.REGTYPE, self.canonical)
            for digest, one in sorted(self.trees.items()):
                _add(tar, f"{_TREES}/{digest}", tarfile.DIRTYPE, mode=0o755)
                for entry in one.entries:
                    kind = {"file": tarfile.REGTYPE, "dir": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE}[entry.type]
                    path = f"{_TREES}/{digest}/{entry.path}"
                    _add(tar, path, kind, entry.content, mode=entry.mode, target=entry.target)
        return buffer.getvalue()


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _add(
    tar: tarfile.TarFile, path: str, kind: bytes, data: bytes = b"", *, mode: int = 0o644, target: str = ""
) -> None:
    member = tarfile.TarInfo(path)
    member.type, member.size, member.mode, member.linkname = kind, len(data), mode, target
    member.mtime = tree.MTIME_NS // 10**9
    tar.addfile(member, io.BytesIO(data))


def is_path(name: str) -> bool:
    """Return whether what was given as a task set is a place on disk and no name of one."""
    if not name or name in TASK_SETS or name.startswith(f"{OWN}:"):  # `Path("")` is the current folder
        return False
    named = Path(name).suffix in {".toml", ".jsonl"} or tree.is_archive(name)
    return named or "/" in name or os.sep in name or Path(name).exists()


def sidecar(records: Path) -> Path:
    """Return where the packed task set of a record file, or of a run spec, lies: beside it."""
    name = stem(records).removesuffix(".run.json").removesuffix(".failures")
    return records.with_name(f"{name}{SIDECAR}")


def load(path: Path) -> OwnSet:
    """Return the task set in a folder or file: `tasks.toml`, `tasks.jsonl`, or an archive that holds one.

    Raises:
        UsageError: it is none; the message names every mistake with file and line.
    """
    if not path.exists():
        raise UsageError(f"{path}: there is no such folder or file of tasks; {_example()}")
    if tree.is_archive(path.name):
        return unpacked(content(path, most=MAX_SET.bytes * 2), str(path))
    if path.is_dir():
        there = [name for name in FILES if (path / name).is_file()]
        if len(there) != 1:
            found = f"both {' and '.join(there)}" if there else f"neither {' nor '.join(FILES)}"
            raise UsageError(f"{path}: expected one file of tasks, found {found}; {_example()}")
        path /= there[0]
    if path.suffix not in {".toml", ".jsonl"}:
        raise UsageError(f"{path}: a task set is a folder with tasks.toml or tasks.jsonl, or such a file")
    name = path.resolve().parent.name if path.name in FILES else path.stem
    return _Reading(_OnDisk(path.parent), path.name, str(path), name).result()


def _example() -> str:
    return f"{command('tasks', 'new', 'NAME')} writes an example"


def unpacked(data: bytes, where: str) -> OwnSet:
    """Return the task set in an archive.

    Args:
        data: the archive, a tar file or, by the name, another one.
        where: its path, for messages.

    Raises:
        UsageError: it holds none; the message names every mistake with file and line.
    """
    try:
        inner = tree.of_archive(data, where, MAX_SET)
    except UnusableTreeError as error:
        raise UsageError(f"{where}: {error}") from None
    there = [name for name in FILES if inner.find(name) is not None]
    if len(there) != 1:
        raise UsageError(f"{where}: expected one file of tasks at its top, found {' and '.join(there) or 'none'}")
    name = re.sub(r"(\.tasks)?\.[a-z]+(\.gz)?$", "", Path(where).name)
    return _Reading(_Packed(inner), there[0], f"{where}, {there[0]}", name).result()


class _Place(Protocol):
    """Where the files of a set lie; both methods raise `DataError` or `UsageError`."""

    def text(self, path: str, most: int) -> bytes: ...

    def tree(self, path: str) -> OwnTree: ...


class _OnDisk:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _inside(self, path: str) -> Path:
        """Return a path of the set; none that a link leads out of it, be it on purpose or not."""
        found = self._folder / path
        if not Path(os.path.realpath(found)).is_relative_to(
            os.path.realpath(self._folder)
        ):  # `resolve` gives up on loops
            raise DataError("it leads out of the folder of the set")
        if not os.path.exists(found):  # noqa: PTH110 - likewise
            raise DataError("there is no such file or folder")
        return found

    def text(self, path: str, most: int) -> bytes:
        return content(self._inside(path), most=most)

    def tree(self, path: str) -> OwnTree:
        found = self._inside(path)
        if found.is_dir():
            return tree.of_folder(found)
        if not tree.is_archive(found.name):
            raise DataError("it is neither a folder nor a .tar, .tar.gz, .tgz or .zip archive")
        return tree.of_archive(content(found, most=tree.MAX_BYTES * 2), found.name)


class _Packed:
    def __init__(self, inner: OwnTree) -> None:
        self._inner = inner

    def text(self, path: str, most: int) -> bytes:
        found = self._inner.find(path)
        if found is None or found.type != "file":
            raise DataError("there is no such file")
        if len(found.content) > most:
            raise DataError(f"has more than {most} bytes; not read")
        return found.content

    def tree(self, path: str) -> OwnTree:
        found = self._inner.find(path)
        if found is not None and found.type == "dir":
            return self._inner.below(path)
        if found is None or not tree.is_archive(path):
            raise DataError("there is no such folder or archive")
        return tree.of_archive(found.content, path)


class _Reading:
    """One reading of a set: its files, and what is wrong with them, by line."""

    def __init__(self, place: _Place, file: str, where: str, name: str) -> None:
        self._place, self._file, self._where, self._name = place, file, where, name
        self._wrong: list[tuple[int, str]] = []
        self._trees: dict[str, OwnTree] = {}
        self._digests: dict[str, str] = {}
        self._paths = self._bytes = 0
        self._head: dict[str, Any] = {}
        self._tasks: list[OwnTask] = []
        self._lines: dict[str, int] = {}

    def result(self) -> OwnSet:
        """Return the set, or raise with everything that is wrong."""
        try:
            data = self._place.text(self._file, MAX_TASKS_BYTES)
            text = data.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise UsageError(f"{self._where}:{data.count(10, 0, error.start) + 1}: not UTF-8") from None
        except DataError as error:
            raise UsageError(f"{self._where}: {str(error).removeprefix(f'{self._where}: ')}") from None
        (self._toml if self._file.endswith(".toml") else self._json_lines)(text)
        if not self._tasks and not self._wrong:
            self._wrong.append((1, "there is no task in it"))
        if len(self._tasks) > own_format.MOST_TASKS:
            self._wrong.append((1, f"{len(self._tasks)} tasks; a set may have {own_format.MOST_TASKS}"))
        if self._wrong:
            raise UsageError(self._said())
        name = self._head.get("name") or _as_name(self._name)
        if name in TASK_SETS:
            raise UsageError(f"{self._where}:1: the set is called {name}, as one of the kit is: give it another name")
        made = OwnSet(
            name=name,
            tasks=tuple(self._tasks),
            trees=self._trees,
            fixture=self._head.get("fixture"),
            clock=self._head.get("clock"),
        )
        if (size := len(made.canonical)) > MAX_TASKS_BYTES:
            most = f"{MAX_TASKS_BYTES >> 20} MiB"
            raise UsageError(f"{self._where}: tasks and the scripts that they name have {size} bytes; at most {most}")
        return made

    def _said(self) -> str:
        found = sorted(dict.fromkeys(self._wrong))
        lines = [f"{self._where}:{line}: {message}" for line, message in found[:_MOST_TOLD]]
        if len(found) > _MOST_TOLD:
            lines.append(f"and {len(found) - _MOST_TOLD} more")
        if len(lines) == 1:
            return lines[0]
        return "\n  ".join([f"{self._where}: {len(found)} mistakes; nothing was started:", *lines])

    def _toml(self, text: str) -> None:
        if (long := positions.too_dotted(text)) is not None:
            self._wrong.append((long, f"a key of more than {positions.MOST_PARTS} parts"))
            return
        try:
            found = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
            at = _TOML_LINE.search(str(error))
            line = int(at[1]) if at else text.count("\n") + 1
            self._wrong.append((line, f"not valid TOML: {_TOML_LINE.sub('', parsing.plain(error))}"))
            return
        lines = positions.lines(text)

        def complain(path: positions.Path, message: str) -> None:
            self._wrong.append((positions.nearest(lines, path), message))

        tasks = found.pop("task", [])
        self._set(found, (), complain)
        if not isinstance(tasks, list):
            complain(("task",), "expected [[task]] with two brackets: there can be several")
            return
        for number, one in enumerate(tasks):
            path = ("task", number)
            self._task(one, path, complain, positions.nearest(lines, path))

    def _json_lines(self, text: str) -> None:
        for number, line in enumerate(text.split("\n"), start=1):
            if not line.strip():
                continue

            def complain(_: positions.Path, message: str, number: int = number) -> None:
                self._wrong.append((number, message))

            repeated: list[str] = []
            try:
                found = json.loads(line, object_pairs_hook=partial(parsing.noted, repeated))
            except (ValueError, RecursionError) as error:
                if number == 1 and parsing.is_json(text):
                    complain((), "one JSON text over several lines; here each line is one task, whole")
                    return
                said = parsing.plain(error).replace(": line 1 column ", " at character ").partition(" (char")[0]
                complain((), f"not valid JSON: {said}")
                continue
            for name in repeated:
                complain((), f"the key {name[:60]!a} is given twice in one object")
            if isinstance(found, dict) and "set" in found and "id" not in found:
                if number != 1 or len(found) > 1 or not isinstance(found["set"], dict):
                    complain(
                        (),
                        'what holds for the whole set is the first line: {"set": {"name": ..., "fixture": ...}}',
                    )
                else:
                    self._set(found["set"], (), complain)
            elif isinstance(found, list) and found:
                complain((), "a list; here each line is one task, without brackets around all")
            else:
                self._task(found, (), complain, number)

    def _set(self, found: dict[str, Any], path: positions.Path, complain: Complain) -> None:
        own_format.head(found, path, complain)
        self._head = dict(found)
        if own_format.is_path(found.get("fixture")):
            self._head["fixture"] = self._tree(found["fixture"], (*path, "fixture"), "the set", complain)

    def _task(self, found: Any, path: positions.Path, complain: Complain, line: int) -> None:  # noqa: ANN401
        """Take in one task, the files that it names included."""
        made = own_format.task(found, path, complain)
        name = str(found.get("id")) if isinstance(found, dict) and "id" in found else None
        if name is not None and (first := self._lines.setdefault(name, line)) != line:
            complain((*path, "id"), f"id {ascii(name)[:60]} is that of the task in line {first}, too")
        if made is None:
            return
        what = f"task {made.id!r}"
        if made.fixture is not None:
            digest = self._tree(made.fixture, (*path, "fixture"), what, complain)
            made = msgspec.structs.replace(made, fixture=digest)
        check = tuple(self._with_script(one, (*path, "check", n), what, complain) for n, one in enumerate(made.check))
        self._tasks.append(msgspec.structs.replace(made, check=check))

    def _tree(self, named: str, path: positions.Path, what: str, complain: Complain) -> str | None:
        """Return the digest of a tree that is named, or `None` after a complaint."""
        if named not in self._digests:
            try:
                found = self._place.tree(named)
            except (DataError, UsageError) as error:
                complain(path, f"{what}: fixture {shown(named)}: {error}")
                return None
            self._digests[named] = digest = found.digest
            if digest not in self._trees:
                self._trees[digest] = found
                self._paths, self._bytes = self._paths + len(found.entries), self._bytes + found.bytes
            if self._paths > MOST_PATHS or self._bytes > MAX_SET.bytes - MAX_TASKS_BYTES:
                most = f"{MOST_PATHS} paths and {MAX_SET.bytes - MAX_TASKS_BYTES >> 20} MiB"
                complain(path, f"{what}: fixture {shown(named)}: all fixtures together may have {most}")
        return self._digests[named]

    def _with_script(self, one: dict[str, Any], path: positions.Path, what: str, complain: Complain) -> dict[str, Any]:
        """Return a check with the text of the script that it names."""
        if "script_file" not in one:
            return one
        try:
            text = self._place.text(one["script_file"], own_format.LONGEST_TEXT).decode()
        except (DataError, UsageError, UnicodeDecodeError) as error:
            said = "not UTF-8" if isinstance(error, UnicodeDecodeError) else error
            complain((*path, "script_file"), f"{what}: script_file {shown(one['script_file'])}: {said}")
            return one
        if not own_format.COMMAND.holds(text):
            expected = own_format.COMMAND.expected
            complain((*path, "script_file"), f"{what}: script_file {shown(one['script_file'])}: expected {expected}")
        kept = {name: value for name, value in one.items() if name != "script_file"}
        return {"kind": kept.pop("kind"), "name": kept.pop("name"), "script": text, **kept}


def _as_name(text: str) -> str:
    """Return a text as the name of a set may be."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:100] or "tasks"
