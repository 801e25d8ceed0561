"""What a record file owes its reader after kills: every durable record kept, none twice, none torn."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import msgspec

from agenttrace.records import Trace
from agenttrace.validate import Validation

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

_ANNOUNCED = re.compile(r"^\[(\d+)/\d+\] ", re.MULTILINE)


class Ledger:
    """Follows record files through kills and counts what went wrong.

    Attributes:
        kills: sessions that were killed.
        torn_found: torn last lines that a kill left (the next session cuts them off).
        records: records of the finished files.
        lost: durable or announced records that were not there afterwards, and tasks without a record at the end.
        doubled: records whose trace stands in its file more than once.
        torn: lines of finished files that are no whole record.
        findings: of `validate` in them.
    """

    def __init__(self) -> None:
        self.kills = self.torn_found = self.records = self.lost = self.doubled = self.torn = self.findings = 0
        self._before = b""

    def killed(self, path: Path, said: str) -> None:
        """Note a kill.

        Args:
            path: the record file.
            said: what the killed session printed: what it announced as finished must be there.
        """
        data = path.read_bytes() if path.exists() else b""
        whole = data[: data.rfind(b"\n") + 1]
        self.kills += 1
        self.torn_found += len(whole) < len(data)
        if not whole.startswith(self._before):
            self.lost += 1
        announced = max((int(number) for number in _ANNOUNCED.findall(said)), default=0)
        self.lost += max(0, announced - whole.count(b"\n"))
        self._before = whole

    def finished(self, path: Path, expected: Collection[str]) -> None:
        """Note a file whose campaign ran to its end; `expected` are the trace ids that it must hold."""
        data = path.read_bytes()
        if not data.startswith(self._before):
            self.lost += 1
        decode = msgspec.json.Decoder(Trace).decode
        ids: list[str] = []
        for line in data.split(b"\n")[:-1]:
            try:
                ids.append(decode(line).trace_id)
            except (msgspec.DecodeError, UnicodeDecodeError):
                self.torn += 1
        self.torn += not data.endswith(b"\n")
        self.records += len(ids)
        self.doubled += len(ids) - len(set(ids))
        self.lost += len(set(expected) - set(ids))
        self.findings += sum(1 for _ in Validation(path))
        self._before = b""

    @property
    def clean(self) -> bool:
        """Whether nothing was lost, doubled or torn, and all is valid."""
        return not (self.lost or self.doubled or self.torn or self.findings)

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.records} records: {self.lost} lost, {self.doubled} doubled, {self.torn} torn, "
            f"{self.findings} findings of validate after resume ({self.torn_found} torn last lines cut off)"
        )
