"""Takes in what an earlier session rescued, when another program had changed a file that it wrote to."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import msgspec

from agenttrace.errors import DataError
from agenttrace.serving.cassette import CassetteLog, cassette_path
from agenttrace.store.append import rescued_path
from agenttrace.store.ids import IdIndex
from agenttrace.store.jsonl import RecordLog
from agenttrace.store.opening import FAILURES, numbered_lines, opened

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from agenttrace.campaign.plan import Plan


class _Metadata(msgspec.Struct):
    run_spec_sha256: str


class _Rescued(msgspec.Struct):
    trace_id: str
    metadata: _Metadata


_decode = msgspec.json.Decoder(_Rescued).decode


def take_in(plan: Plan) -> list[str]:
    """Append what lies in `NAME.rescued.*` to the files of a campaign, remove it, and return what to say of it.

    Replies go before their records, as in a session; a kill in between leaves the rescue, and the next session takes in
    what is lacking then.

    Raises:
        DataError: a rescue is not this campaign's, or is damaged; it is left as it is.
        UsageError: another campaign has a file open.
        StorageError: a file cannot be written.
    """
    said = []
    tape = cassette_path(plan.path)
    if os.path.lexists(rescue := rescued_path(tape)):
        with CassetteLog(tape, run_spec_sha256=plan.spec_sha256, recorded=IdIndex()) as log:
            log.take_in(rescue)
        rescue.unlink()
        said.append(f"took in the replies that {rescue.name} held")
    for path, unique in ((plan.path, True), (plan.path.with_suffix(FAILURES), False)):
        if os.path.lexists(rescue := rescued_path(path)):
            said.append(f"took in {_records(path, rescue, plan.spec_sha256, unique=unique)} records of {rescue.name}")
    return said


def _records(path: Path, rescue: Path, spec_sha256: str, *, unique: bool) -> int:
    found = list(_lines(rescue, spec_sha256))
    count = 0
    with RecordLog(path, unique=unique) as log:
        for trace_id, line in found:
            if not unique or trace_id not in log.ids:
                log.append(trace_id, msgspec.Raw(line))
                count += 1
    rescue.unlink()
    return count


def _lines(rescue: Path, spec_sha256: str) -> Iterator[tuple[str, bytes]]:
    """Yield trace id and record of every whole line."""
    with opened(rescue) as file:
        for number, line in numbered_lines(file, rescue):
            if not line.endswith(b"\n"):
                return  # a kill left it
            try:
                trace = _decode(line)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                raise DataError(f"{rescue}, line {number}: not a trace record ({error}); move the file away") from error
            if trace.metadata.run_spec_sha256 != spec_sha256:
                raise DataError(f"{rescue}, line {number}: a record of another campaign; move the file away")
            yield trace.trace_id, line[:-1]
