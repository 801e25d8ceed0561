"""What the sessions of a campaign consumed: a small file beside its records."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from agenttrace.errors import AgentTraceError
from agenttrace.records import Record
from agenttrace.store.jsonl import write_whole
from agenttrace.store.opening import content, is_failures
from agenttrace.store.read import run_spec_path

if TYPE_CHECKING:
    from pathlib import Path

ENERGY = ".energy.json"
_MOST_BYTES = 1 << 22
_MOST_J = 1e15
"""Of one counter and session: more than any machine consumes."""


class SessionEnergy(Record, frozen=True, kw_only=True):
    """One session of a campaign, its failed attempts and whatever else the machine did meanwhile included.

    Attributes:
        start_utc: ISO 8601.
        end_utc: likewise.
        joules: counter (`rapl:package-0`, `nvml:0`) → what it grew by.
    """

    start_utc: str
    end_utc: str
    joules: dict[str, float]


class EnergyFile(Record, frozen=True, kw_only=True):
    """The file: its sessions in order; one that was killed has none."""

    sessions: tuple[SessionEnergy, ...] = ()


def energy_path(records: Path) -> Path:
    """Return where the energy of a record file's sessions stands: beside it, `.energy.json` for `.jsonl`."""
    beside = run_spec_path(records)
    return beside.with_name(beside.name.removesuffix(".run.json") + ENERGY)


def append_energy(records: Path, session: SessionEnergy | None) -> None:
    """Add a session to the file beside a record file; of none, nothing.

    Raises:
        StorageError: it cannot be written.
    """
    if session is None:
        return
    path = energy_path(records)
    kept = _read(path) or EnergyFile()
    whole = EnergyFile(sessions=(*kept.sessions, session))
    write_whole(path, msgspec.json.format(msgspec.json.encode(whole), indent=2) + b"\n")


def energy_joules(records: Path) -> float | None:
    """Return the energy of all sessions of a record file; `None` where none was measured."""
    if is_failures(records):
        return None
    found = _read(energy_path(records))
    if found is None or not found.sessions:
        return None
    every = [joules for session in found.sessions for joules in session.joules.values()]
    return sum(every) if every and all(0 <= one < _MOST_J for one in every) else None


def _read(path: Path) -> EnergyFile | None:
    if not os.path.lexists(path):
        return None
    try:
        return msgspec.json.decode(content(path, most=_MOST_BYTES), type=EnergyFile)
    except (AgentTraceError, msgspec.MsgspecError, RecursionError):
        return None
