"""Follows record files that are being written: what came since the last look is read, nothing twice.

Held in memory are the traces of one chunk and 8 bytes for each trace; the rest lies in temporary files without a name.
"""

from __future__ import annotations

import os
import secrets
import tempfile
import threading
from array import array
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.analysis.tables import Source
from agenttrace.errors import AgentTraceError, DataError, UsageError
from agenttrace.formats.reading import kind
from agenttrace.report.index import FIELDS, index_row
from agenttrace.report.pack import CHUNK_BYTES, entry, squeezed
from agenttrace.report.sources import read_views, shown_line
from agenttrace.report.write import file_entry
from agenttrace.store.lean import whole
from agenttrace.store.opening import LONGEST_LINE, opened
from agenttrace.store.read import Problem, is_compressed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from agenttrace.formats.prices import Prices
    from agenttrace.report.sources import Shown

ROWS_AT_ONCE = 2000
_REMEMBERED = 64
_encode = msgspec.json.Encoder().encode


class Spool:
    """Byte strings by number, in a temporary file without a name."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the spool
        self._ends = array("Q", [0])

    def append(self, data: bytes) -> None:
        """Add one at the end."""
        self._file.write(data)
        self._ends.append(self._ends[-1] + len(data))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, number: int) -> bytes:
        self._file.flush()
        begin, end = self._ends[number], self._ends[number + 1]
        return os.pread(self._file.fileno(), end - begin, begin)

    def close(self) -> None:
        """Give the room back."""
        self._file.close()


class _Growing:
    """A file of lines of ours to which lines are added; or any other file, which is read once.

    Attributes:
        source: what became of it.
    """

    def __init__(self, path: Path, prices: Prices | None, *, by_line: bool) -> None:
        self.path = path
        self._prices = prices
        self.source = Source(file=str(path), problems=[])
        self.converted = False
        self._by_line = by_line
        self._offset = 0
        self._number = 0
        self._last = b""
        self._seen: tuple[int, ...] = ()

    def replaced(self) -> bool:
        """Whether it no longer begins with what was read of it."""
        try:
            now = self.path.stat()
            seen = (now.st_ino, now.st_size, now.st_mtime_ns)
            if not self._seen or seen == self._seen:
                return False
            if not self._by_line or now.st_ino != self._seen[0] or now.st_size < self._offset:
                return True
            with opened(self.path) as file:
                return os.pread(file.fileno(), len(self._last), self._offset - len(self._last)) != self._last
        except (OSError, UsageError):
            return True

    def came(self, on_problem: Callable[[Problem], object]) -> Iterator[Shown]:
        """Yield what was not read before; of lines only whole ones."""
        now = self.path.stat()
        seen = (now.st_ino, now.st_size, now.st_mtime_ns)
        if seen == self._seen:
            return
        self._seen = seen
        note = self.source.noting(on_problem)
        for shown in self._lines(note) if self._by_line else read_views(self.path, note, self._prices):
            self.source.rows += 1
            self.converted = self.converted or not shown.original
            yield shown

    def _lines(self, note: Callable[[Problem], None]) -> Iterator[Shown]:
        with opened(self.path) as file:
            file.seek(self._offset)
            while (line := file.readline(LONGEST_LINE + 1)).endswith(b"\n"):
                self._offset += len(line)
                self._number += 1
                self._last = line[-_REMEMBERED:]
                if not line.strip():
                    continue
                try:
                    yield shown_line(whole(line), self._prices)
                except (DataError, OverflowError, ValueError) as error:
                    note(Problem(str(self.path), self._number, str(error)))
        if len(line) > LONGEST_LINE:
            raise DataError(f"{self.path}, line {self._number + 1}: has more than {LONGEST_LINE} bytes: not followed")


class Followed:
    """The rows and chunks of record files so far; `look` takes in what came. Use it as a context.

    One thread looks, any may ask for rows and chunks. When a file was replaced or removed, all are read anew, under
    another `generation`.
    """

    def __init__(
        self, find: Callable[[], Sequence[Path]], say: Callable[[str], object], prices: Prices | None = None
    ) -> None:
        """Nothing is read yet.

        Args:
            find: the files to follow, asked again at every look; those that are not there yet are waited for.
            say: called once with what is wrong with a file or line.
            prices: as those of `read_views`.
        """
        self._find = find
        self._prices = prices
        self._say = say
        self._told = set[str]()
        self._lock = threading.Lock()
        self._begin()

    def _begin(self) -> None:
        self.generation = secrets.token_hex(8)
        self._files: dict[Path, _Growing] = {}
        self._rows, self._chunks = Spool(), Spool()
        self._open: list[bytes] = []
        self._open_bytes = 0

    @property
    def traces(self) -> int:
        """How many there are."""
        return len(self._rows)

    def look(self) -> None:
        """Read what came since."""
        paths = list(dict.fromkeys(self._find()))
        if any(path not in paths or growing.replaced() for path, growing in self._files.items()):
            with self._lock:
                self._close()
                self._begin()
        for path in paths:
            if path not in self._files:
                self._meet(path)
        for number, growing in enumerate(self._files.values()):
            try:
                for shown in growing.came(lambda problem: self._tell(str(problem))):
                    self._take(number, shown)
            except (AgentTraceError, OSError) as error:
                self._tell(f"{error}")

    def _meet(self, path: Path) -> None:
        """Take a file in, once it holds something that can be told."""
        head = None
        try:
            with opened(path) as file:
                head = file.peek(1 << 16)
            found = kind(path)
        except (UsageError, DataError) as error:
            # A first line that is not whole yet is no mistake, and a file that is not there is waited for.
            if path.exists() and (head is None or b"\n" in head):
                self._tell(str(error))
            return
        if found is not None:
            with self._lock:
                self._files[path] = _Growing(path, self._prices, by_line=found.is_ours and not is_compressed(head))

    def _take(self, number: int, shown: Shown) -> None:
        part = entry(shown)
        row = index_row(shown.view, file=number, chunk=len(self._chunks), place=len(self._open))
        with self._lock:
            self._rows.append(_encode(row))
            self._open.append(part)
            self._open_bytes += len(part)
            if self._open_bytes >= CHUNK_BYTES:
                self._chunks.append(squeezed(b"".join(self._open)))
                self._open, self._open_bytes = [], 0

    def _tell(self, message: str) -> None:
        if message not in self._told and len(self._told) < ROWS_AT_ONCE:
            self._told.add(message)
            self._say(message)

    def answer(self, generation: str, start: int, files: str) -> bytes:
        """Return JSON with the rows from `start` on, at most `ROWS_AT_ONCE`; of another generation from the first on.

        Args:
            generation: the one that whoever asks has rows of.
            start: how many.
            files: the `version` of the files that it knows; they are told again when that changed.
        """
        with self._lock:
            begin = start if generation == self.generation and 0 <= start <= len(self._rows) else 0
            end = min(begin + ROWS_AT_ONCE, len(self._rows))
            told: dict[str, Any] = {"generation": self.generation, "more": end < len(self._rows), "from": begin}
            version = f"{self.generation}:{[(one.source.missing, one.converted) for one in self._files.values()]}"
            if files != version:
                entries = [file_entry(one.path, one.source, converted=one.converted) for one in self._files.values()]
                told |= {"version": version, "files": entries, "fields": FIELDS}
            rows = b",".join(self._rows[number] for number in range(begin, end))
        return _encode(told)[:-1] + b',"rows":[' + rows + b"]}"

    def chunk(self, generation: str, number: int) -> bytes | None:
        """Return a chunk, compressed; `None` when there is none of that number and generation."""
        with self._lock:
            if generation != self.generation or not 0 <= number <= len(self._chunks):
                return None
            if number < len(self._chunks):
                return self._chunks[number]
            parts = list(self._open)
        return squeezed(b"".join(parts))

    def _close(self) -> None:
        self._rows.close()
        self._chunks.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with suppress(OSError), self._lock:
            self._close()
