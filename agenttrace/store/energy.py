"""What the sessions of a campaign consumed: a small file beside its records."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from agenttrace.errors import AgentTraceError
from agenttrace.records import Record
from agenttrace.store.jsonl import write_whole
from agenttrace.store.opening import beside, content, is_failures

if TYPE_CHECKING:
    from pathlib import Path

ENERGY = ".energy.json"
_MOST_BYTES = 1 << 22
_MOST_J = 1e15
"""Of one counter and session: more than any machine consumes."""


class SessionEnergy(Record, frozen=True, kw_only=True):
    """One session of a campaign, its failed attempts and whatever else the machine did meanwhile included.

    Attributes:
        start_utc: ISO 8601; `None` of sessions before the first that is known.
        end_utc: likewise; `None` while it runs, and for ever of one that was killed.
        joules: counter (`rapl:package-0`, `nvml:0`) → what it grew by; `None` where that is not known.
        unknown: why not.
    """

    start_utc: str | None
    end_utc: str | None
    joules: dict[str, float] | None
    unknown: str | None = None


class EnergyFile(Record, frozen=True, kw_only=True):
    """The file: its sessions in order, those included of which nothing is known."""

    sessions: tuple[SessionEnergy, ...] = ()


def energy_path(records: Path) -> Path:
    """Return where the energy of a record file's sessions stands: beside it, `.energy.json` for `.jsonl`."""
    return beside(records, ENERGY)


def begin_energy(records: Path, session: SessionEnergy, *, measures: bool) -> None:
    """Note a session that begins, so that one that is killed is not taken for none; `append_energy` ends it.

    Args:
        records: its record file, which may have records of earlier sessions.
        session: as far as it is known.
        measures: a counter is there; without one no file is made, but a file of earlier sessions is told of it.

    Raises:
        StorageError: it cannot be written.
    """
    path = energy_path(records)
    there = os.path.lexists(path)
    if not path.parent.is_dir() or not (there or measures):
        return
    kept = _read(path)
    earlier = () if kept is None else kept.sessions
    if kept is None and there:
        earlier = (SessionEnergy(start_utc=None, end_utc=None, joules=None, unknown="the file could not be read"),)
    elif kept is None and _holds(records):
        earlier = (SessionEnergy(start_utc=None, end_utc=None, joules=None, unknown="not measured from the start"),)
    _write(path, (*earlier, session))


def append_energy(records: Path, session: SessionEnergy) -> None:
    """Add a session to the file beside a record file, in the place of its beginning where that is noted.

    Of a session of which nothing is known no file is made.

    Raises:
        StorageError: it cannot be written.
    """
    path = energy_path(records)
    kept = _read(path)
    if kept is None and session.joules is None:
        return
    earlier = () if kept is None else kept.sessions
    if earlier and earlier[-1].end_utc is None and earlier[-1].start_utc == session.start_utc:
        earlier = earlier[:-1]
    _write(path, (*earlier, session))


def _holds(records: Path) -> bool:
    try:
        return records.stat().st_size > 0
    except OSError:
        return False


def _write(path: Path, sessions: tuple[SessionEnergy, ...]) -> None:
    write_whole(path, msgspec.json.format(msgspec.json.encode(EnergyFile(sessions=sessions)), indent=2) + b"\n")


def energy_joules(records: Path) -> float | None:
    """Return the energy of all sessions of a record file; `None` unless all were measured, by the same counters."""
    if is_failures(records):
        return None
    found = _read(energy_path(records))
    if found is None or not found.sessions:
        return None
    every = [session.joules or {} for session in found.sessions]
    if not every[0] or any(one.keys() != every[0].keys() for one in every):
        return None
    grown = [joules for one in every for joules in one.values()]
    return sum(grown) if all(0 <= one < _MOST_J for one in grown) else None


def _read(path: Path) -> EnergyFile | None:
    if not os.path.lexists(path):
        return None
    try:
        return msgspec.json.decode(content(path, most=_MOST_BYTES), type=EnergyFile)
    except (AgentTraceError, msgspec.MsgspecError, RecursionError):
        return None
