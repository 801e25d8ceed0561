"""How much of what a campaign planned has a record: what stands beside every rate that its records give."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agenttrace.errors import AgentTraceError
from agenttrace.records import Record
from agenttrace.store.jsonl import known_ids
from agenttrace.store.opening import FAILURES, beside, is_failures
from agenttrace.store.read import read_run_spec, run_spec_path

if TYPE_CHECKING:
    from pathlib import Path

    from agenttrace.records import RunSpec
    from agenttrace.store.ids import IdIndex


class Coverage(Record, frozen=True, kw_only=True):
    """Runs of a campaign.

    Attributes:
        planned: by the run spec, tasks times rollouts.
        recorded: with a record.
        given_up: without one, after attempts that ended in an infrastructure failure.
    """

    planned: int
    recorded: int
    given_up: int

    def __add__(self, other: Coverage) -> Coverage:
        return Coverage(
            planned=self.planned + other.planned,
            recorded=self.recorded + other.recorded,
            given_up=self.given_up + other.given_up,
        )

    def __str__(self) -> str:
        rest = self.planned - self.recorded - self.given_up
        return f"{self.given_up:,} of {self.planned:,}" + (f", and {rest:,} more have no record" if rest > 0 else "")


def coverage(records: Path, recorded: IdIndex) -> Coverage | None:
    """Return how much of its campaign a record file has; `None` where the files beside it do not say.

    They do not without a run spec, with a file of failures that cannot be read, or when there are more runs than the
    campaign planned: then the files are not of one campaign.

    Args:
        records: the file; it is not read.
        recorded: ids of its records.
    """
    if is_failures(records):
        return None
    failures = beside(records, FAILURES)
    try:
        planned = planned_runs(read_run_spec(run_spec_path(records)))
        given_up = len(known_ids(failures, unique=False, without=recorded)) if failures.exists() else 0
    except AgentTraceError:  # whoever reads those files tells what is wrong with them
        return None
    if len(recorded) + given_up > planned:
        return None
    return Coverage(planned=planned, recorded=len(recorded), given_up=given_up)


def planned_runs(spec: RunSpec) -> int:
    """Return how many records a campaign has in the end; tasks whose tree could not be had count as well."""
    return spec.dataset.count * spec.dataset.rollouts
