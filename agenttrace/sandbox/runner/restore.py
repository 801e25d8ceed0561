"""Bring the work tree back to a pristine fixture, touching only what changed.

After a copy, inode, ctime and mode of every path are noted. No tool can set a ctime back, and every change of content,
mode, owner, links or attributes moves it: what still matches is pristine, the rest is copied again. A folder that held
many entries can stay larger than before when they are gone, so it is made anew; the work tree's own is a mount and
stays. Valid only while no tool process lives. Not restored: ctime and atime, under this or any other strategy.

The check at the end lists anew each folder in which the reset did something, and reads what it made. A folder with
nothing to do was found pristine, entry by entry, after the last process had died, and is not looked at twice.
"""

from __future__ import annotations

import contextlib
import os
import stat
import time

from . import apart, frames, libc, removal, tree
from .errors import FatalError, RequestError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from .frames import Message

    Fact = tuple[int, int]
    Mark = tuple[int, int, int]

_SETTLE_NS = 20_000_000
_BLOCK = 4096


class PackedFixture:
    """A pristine tree, in few bytes: whatever the runner holds raises the memory floor of every call.

    Attributes:
        folder: where it lies.
        root: mode and mtime_ns of the folder itself.
        facts: mode and mtime_ns of each path, folders before what they hold.
        hashes: SHA-256 of each file.
        counts: number of entries of each folder that has any, the root's under an empty name.
        digest: tree digest (`tree.digest`).
    """

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.root = _fact(os.lstat(folder))
        self.facts: dict[str, Fact] = {}
        self.hashes: dict[str, str] = {}
        self.counts: dict[str, int] = {}
        entries = []
        for path, info in tree.walk(folder):
            item = tree.entry(folder, path, info)
            if item["type"] == "other":
                raise FatalError("reset_failed", f"fixture {folder} holds {path}, neither file, folder nor link")
            self.facts[path] = _fact(info)
            parent = path.rpartition("/")[0]
            self.counts[parent] = self.counts.get(parent, 0) + 1
            if item["type"] == "file":
                self.hashes[path] = item["sha256"]
            entries.append(item)
        self.digest = tree.digest(entries)


class WorkTree:
    """The folder the tools work in.

    Attributes:
        fixture: name of the fixture it was last reset to; `None` before the first reset.
        ready_ns: monotonic time from which a call may start (see `settle`).
    """

    def __init__(self, root: str, fixtures: str, owner: tuple[int, int] | None, trees: str | None = None) -> None:
        self.root = root
        self.fixture: str | None = None
        self.ready_ns = 0
        self._owner = owner
        self._fixtures_dir = fixtures
        self._fixtures: dict[str, PackedFixture] = {}
        self._trees_dir = trees
        self._tree: tuple[str, PackedFixture] | None = None
        self._marks: dict[str, Mark] = {}
        self._sizes: dict[str, int] = {}  # of folders, as the reset left them
        self._apart_helps = True  # until the file system says otherwise

    def digests(self) -> dict[str, str]:
        """Name and tree digest of every fixture; empty when there is no fixtures folder."""
        try:
            names = sorted(item.name for item in os.scandir(self._fixtures_dir) if item.is_dir(follow_symlinks=False))
        except OSError:
            return {}
        return {name: self._load(name).digest for name in names}

    def _load(self, name: str) -> PackedFixture:
        if name in self._fixtures:
            return self._fixtures[name]
        if self._tree is not None and self._tree[0] == name:
            return self._tree[1]
        plain = name and not name.startswith(".") and "/" not in name and "\0" not in name
        if plain and os.path.isdir(f"{self._fixtures_dir}/{name}"):  # noqa: PTH112 -- pathlib costs memory
            self._fixtures[name] = PackedFixture(f"{self._fixtures_dir}/{name}")
            return self._fixtures[name]
        if plain and self._trees_dir is not None and os.path.isdir(f"{self._trees_dir}/{name}"):  # noqa: PTH112
            self._tree = None  # one at a time: there may be thousands
            self._tree = name, PackedFixture(f"{self._trees_dir}/{name}")
            return self._tree[1]
        raise RequestError("bad_request", f"no fixture {name!r} in {self._fixtures_dir} or {self._trees_dir}")

    def changed(self) -> Iterator[tuple[str, os.stat_result | None]]:
        """Every path that is not what the last reset made of it, with its lstat now; `None` for what is gone.

        Folders count when they came, went or changed their mode, not when something in them changed.

        Raises:
            RequestError: there was no reset yet.
            OSError: a folder cannot be read.
        """
        if self.fixture is None:
            raise RequestError("bad_request", "no reset yet: there is nothing to compare with")
        facts, marks = self._load(self.fixture).facts, self._marks
        missing = set(facts)
        for path, info in tree.walk(self.root):
            missing.discard(path)
            if marks.get(path) == (info.st_ino, info.st_ctime_ns, info.st_mode):
                continue
            known = facts.get(path)
            if known is None or known[0] != info.st_mode or not stat.S_ISDIR(info.st_mode):
                yield path, info
        for path in sorted(missing):
            yield path, None

    def reset(self, name: str, tick: Callable[[], None]) -> Message:
        """Make the work tree equal to fixture `name` and check it; returns digest and what was done.

        Args:
            name: of the fixture.
            tick: called now and then while much is removed.

        Raises:
            RequestError: there is no such fixture.
            FatalError: the tree could not be brought back.
        """
        start_ns = time.monotonic_ns()
        fixture = self._load(name)
        try:
            removed = 0
            if name != self.fixture:
                self.fixture, self._marks, self._sizes = None, {}, {}
                self._open_up(self.root)
                removed = removal.empty(self.root, tick)
            kept, touched, gone = self._sweep(fixture, tick)
            restored = self._refill(fixture, kept, touched)
            self._mend_folders(fixture, touched)
            problem = self._difference(fixture, restored, touched)
        except OSError as error:
            problem, removed, gone, restored = f"{type(error).__name__}: {error}", 0, 0, []
        if problem is not None:
            raise FatalError("reset_failed", f"work tree does not match fixture {name!r}: {problem}")
        self.fixture = name
        self.ready_ns = time.monotonic_ns() + _SETTLE_NS
        return {
            "digest": fixture.digest,
            "restored": len(restored),
            "removed": removed + gone,
            "wall_ns": time.monotonic_ns() - start_ns,
        }

    def settle(self) -> None:
        """Wait until a change made now gets a ctime that differs from the noted one.

        A file's clock may move in ticks of up to 10 ms (always before Linux 6.13, on some file systems still).
        """
        remaining_ns = self.ready_ns - time.monotonic_ns()
        if remaining_ns > 0:
            time.sleep(remaining_ns / 1e9)

    def _sweep(self, fixture: PackedFixture, tick: Callable[[], None]) -> tuple[set[str], dict[str, None], int]:
        """Remove what is unknown or changed; returns the paths kept, the folders to mend and the number removed."""
        self._open_up(self.root)
        kept: set[str] = set()
        touched: dict[str, None] = {"": None}
        stack, gone = [""], 0
        marks, keep = self._marks, kept.add
        while stack:
            folder = stack.pop()
            within = f"{folder}/" if folder else ""
            doomed: list[str] = []
            with os.scandir(f"{self.root}/{folder}") as found:
                for item in found:
                    path = within + item.name
                    mark = marks.get(path)  # of each path that the last reset left
                    if mark is not None:
                        info = item.stat(follow_symlinks=False)
                        is_folder = stat.S_ISDIR(info.st_mode)
                        same = mark == (info.st_ino, info.st_ctime_ns, info.st_mode)
                        if same or (is_folder and self._mendable(fixture, path, info)):
                            keep(path)
                            if not same:
                                touched[path] = None
                                self._open_up(item.path)
                            if is_folder:
                                stack.append(path)
                            continue
                    doomed.append(item.name)
                    if len(doomed) == removal.BATCH:  # in its turn, so that no number of files fills the memory
                        gone += self._remove(folder, doomed, touched, tick)
            gone += self._remove(folder, doomed, touched, tick)
        return kept, touched, gone

    def _mendable(self, fixture: PackedFixture, path: str, folder: os.stat_result) -> bool:
        """Whether a changed folder may stay: it was one, and did not grow."""
        return stat.S_ISDIR(fixture.facts[path][0]) and folder.st_size <= max(_BLOCK, self._sizes.get(path, 0))

    def _remove(self, folder: str, doomed: list[str], touched: dict[str, None], tick: Callable[[], None]) -> int:
        """Remove these entries of a folder and forget them; returns how many there were."""
        if not doomed:
            return 0
        touched[folder] = None
        removal.remove(f"{self.root}/{folder}", doomed, tick)
        count = len(doomed)
        doomed.clear()
        return count

    def _refill(self, fixture: PackedFixture, kept: set[str], touched: dict[str, None]) -> list[str]:
        """Create what is missing; returns its paths and adds folders that need mending to `touched`."""
        created = [path for path in fixture.facts if path not in kept]
        if len(created) < apart.MANY or not self._apart_helps:
            self._create(fixture, created, kept, touched, None)
        else:
            with apart.place(self.root, fixture.facts) as place:
                self._apart_helps = place is not None
                self._create(fixture, created, kept, touched, place)
        for path in created:
            self._marks[path] = _mark(os.lstat(f"{self.root}/{path}"))
        return created

    def _create(
        self,
        fixture: PackedFixture,
        paths: list[str],
        kept: set[str],
        touched: dict[str, None],
        place: apart.Apart | None,
    ) -> None:
        """Create these paths; what belongs into a folder that was kept is made in `place` first, if there is one."""
        for path in paths:
            mode, mtime_ns = fixture.facts[path]
            parent, target = path.rpartition("/")[0], f"{self.root}/{path}"
            made = target
            if place is not None and (not parent or parent in kept):
                made = place.for_folder() if stat.S_ISDIR(mode) else place.for_file()
            if stat.S_ISDIR(mode):
                os.mkdir(made, 0o700)  # noqa: PTH102 -- pathlib costs memory
                touched[path] = None
            elif stat.S_ISLNK(mode):
                os.symlink(os.readlink(f"{fixture.folder}/{path}"), made)  # noqa: PTH115, PTH211
                self._own(made)
                os.utime(made, ns=(mtime_ns, mtime_ns), follow_symlinks=False)
            else:
                self._copy(f"{fixture.folder}/{path}", made, mode, mtime_ns)
            if made is not target:
                os.rename(made, target)  # noqa: PTH104
            touched[parent] = None

    def _open_up(self, folder: str) -> None:
        """Make a folder that stays ready: readable where these are not root's rights, and without attribute flags.

        What is created in a folder inherits its flags, so they go before anything is.
        """
        if self._owner is None:
            os.chmod(folder, 0o700)  # noqa: PTH101 -- pathlib costs memory
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            libc.clear_flags(fd)
        finally:
            os.close(fd)

    def _own(self, path: str) -> None:
        if self._owner is not None:
            os.lchown(path, *self._owner)

    def _copy(self, source: str, target: str, mode: int, mtime_ns: int) -> None:
        writer = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            for chunk in tree.chunks(source):
                frames.write_all(writer, chunk)
            if self._owner is not None:
                os.fchown(writer, *self._owner)
            os.fchmod(writer, stat.S_IMODE(mode))
            os.utime(writer, ns=(mtime_ns, mtime_ns))
        finally:
            os.close(writer)

    def _mend_folders(self, fixture: PackedFixture, touched: dict[str, None]) -> None:
        """Owner, mode, attributes and mtime of every folder in which something happened."""
        for path in touched:
            mode, mtime_ns = fixture.facts[path] if path else fixture.root
            target = f"{self.root}/{path}" if path else self.root
            with contextlib.suppress(OSError, AttributeError):  # file systems and systems without attributes
                for name in os.listxattr(target, follow_symlinks=False):
                    os.removexattr(target, name, follow_symlinks=False)
            self._own(target)
            os.chmod(target, stat.S_IMODE(mode))  # noqa: PTH101 -- pathlib costs memory
            os.utime(target, ns=(mtime_ns, mtime_ns))
        for path in touched:
            info = os.lstat(f"{self.root}/{path}" if path else self.root)
            self._marks[path], self._sizes[path] = _mark(info), info.st_size

    def _difference(self, fixture: PackedFixture, restored: list[str], touched: dict[str, None]) -> str | None:
        """What is still wrong, or `None`: the entries of every touched folder, and all that was made or mended."""
        marks = self._marks
        for folder in touched:
            within, missing = f"{folder}/" if folder else "", fixture.counts.get(folder, 0)
            with os.scandir(f"{self.root}/{folder}") as found:
                for item in found:
                    path, info = within + item.name, item.stat(follow_symlinks=False)
                    missing -= 1
                    if marks.get(path) != _mark(info):
                        what = "changed during the reset" if path in fixture.facts else "is extra"
                        return f"{tree.shown(path)!r} {what}"
            if missing:
                return f"{missing} paths are missing in {tree.shown(folder or '.')!r}"
        for path in (*restored, *touched):
            if self._wrong(fixture, path):
                return f"{tree.shown(path)!r} differs from the fixture"
        return None

    def _wrong(self, fixture: PackedFixture, path: str) -> bool:
        want = fixture.facts[path] if path else fixture.root
        target = f"{self.root}/{path}" if path else self.root
        have = os.lstat(target)
        if _fact(have) != want:
            return True
        if self._owner is not None and (have.st_uid, have.st_gid) != self._owner:
            return True
        if stat.S_ISLNK(want[0]):
            return os.readlink(target) != os.readlink(f"{fixture.folder}/{path}")  # noqa: PTH115
        return stat.S_ISREG(want[0]) and tree.hash_file(target) != fixture.hashes[path]


def _fact(info: os.stat_result) -> Fact:
    return info.st_mode, info.st_mtime_ns


def _mark(info: os.stat_result) -> Mark:
    return info.st_ino, info.st_ctime_ns, info.st_mode
