"""A record and where it came from, as the tables take it: what its metadata and environment say, and what it cost."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from msgspec import Meta

from agenttrace.formats.foreign import fitting
from agenttrace.formats.prices import UNKNOWN, Bill, sold
from agenttrace.records import LONGEST_DURATION, MOST_TOKENS

if TYPE_CHECKING:
    from agenttrace.records import Trace

Int = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
"""An integer that fits a column; readers take no other."""
Count = Annotated[int, Meta(ge=0, le=MOST_TOKENS)]
"""A number of tokens; the sum over any line fits a column."""
Duration = Annotated[float, Meta(ge=0, le=LONGEST_DURATION)]
"""Milliseconds or seconds; the sum over any line is finite."""


class Hardware(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The machine, where it was recorded."""

    cpu: str | None = None


class ImportSource(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a record was read from: the format, the file, its digest, the licence of what is in it."""

    format: str | None = None
    file: str | None = None
    sha256: str | None = None
    license: str | None = None


_OURS = ImportSource()


class WorkerLimits(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a sandbox worker was limited to."""

    cpus: float | None = None


class ReportedWorker(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a sandbox worker said of itself."""

    limits: WorkerLimits | None = None


class Host(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The machine, as `Trace.environment` has it, and the metadata of AgentTrace 0.3.0."""

    platform: str | None = None
    hardware: Hardware | None = None


class Machine(Host, frozen=True, kw_only=True, gc=False):
    """What `Trace.environment` says of the machine and of where the record is from."""

    imported: ImportSource | None = None
    host_load: Any = None
    server_load: Any = None
    worker_reported: ReportedWorker | None = None

    @property
    def sandbox_cpus(self) -> float | None:
        """Processors that the sandbox was limited to, where it was."""
        limits = self.worker_reported and self.worker_reported.limits
        return limits.cpus if limits else None

    @property
    def source(self) -> ImportSource:
        """What the record was read from; without any content where it is of ours."""
        return self.imported or _OURS

    def load(self, name: str) -> float | None:
        """Return a figure of what the task ran under: of the machine, or the mean of one of the model server."""
        if name in _OF_SERVER:
            one = self.server_load.get(name) if isinstance(self.server_load, dict) else None
            value = one.get("mean") if isinstance(one, dict) else None
        else:
            one = self.host_load.get(name) if isinstance(self.host_load, dict) else None
            value = one[0] if isinstance(one, list) and one else one
        found: float | None = fitting(value, Duration)
        return found


_OF_SERVER = frozenset({"running", "waiting", "kv_used"})


class Known(Host, frozen=True, kw_only=True, gc=False):
    """What `Trace.metadata` says of a run and its task, as columns."""

    schema_version: str | None = None
    run_id: str | None = None
    dataset_name: str | None = None
    task_id: Int | str | None = None
    task_name: str | None = None
    task_kind: str | None = None
    rollout_index: Int | None = None
    repo: str | None = None
    language: str | None = None
    quantization: str | None = None
    demo: bool | None = None
    synthetic: bool | None = None
    serving_engine: str | None = None
    serving_profile: str | None = None
    seed: Int | None = None
    temperature: float | None = None
    max_steps: Int | None = None


class TableEntry(msgspec.Struct, frozen=True, gc=False):
    """A record and where it came from.

    Attributes:
        run: its number in this reading.
        file: where it stands.
        line: in which line of it, where that is known.
        trace: a `Trace`, or a structure with fields of the same names.
        known: what its metadata says.
        machine: what its environment says.
        bill: what it cost.
    """

    run: int
    file: str
    line: int | None
    trace: Any
    known: Known
    machine: Machine
    bill: Bill = UNKNOWN

    @property
    def task(self) -> str | None:
        """The name by which attempts at one task are known, whoever made them; of a number, with its data set."""
        task, name = self.known.task_id, self.known.task_name
        return f"{self.known.dataset_name} {task}" if isinstance(task, int) else task or name or None


def entry(run: int, file: str, trace: Trace) -> TableEntry:
    """Return a record as an entry; what its metadata holds in another type than its column is unknown there."""
    known = _told(trace.metadata, Known)
    return TableEntry(run, file, None, trace, known, machine(trace), sold().bill(trace, known.serving_engine))


def machine(trace: Trace) -> Machine:
    """Return what a record says of the machine; what is of another type than it should be is unknown."""
    found: Machine = _told(trace.environment, Machine)
    return found


_fields = cache(msgspec.structs.fields)  # which reads the annotations anew each time


def _told(values: dict[str, Any], kind: Any) -> Any:  # noqa: ANN401 - a structure of that kind
    return kind(**{field.name: fitting(values.get(field.name), field.type) for field in _fields(kind)})
