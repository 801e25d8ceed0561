"""The table of `docs/formats.md` that says what comes back of a record: each of its cells is measured."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from agenttrace.formats import FORMATS
from agenttrace.formats.convert import convert, read

ROOT = Path(__file__).parents[2]
RECORDS = ROOT / "datasets" / "agenttrace-demo" / "records" / "agenttrace-demo.jsonl"
DOCUMENT = ROOT / "docs" / "formats.md"
CARRIED, CHANGED, LOST = "yes", "changed", "no"
FIELDS = {
    "trace_id, prompt, model": ("trace_id", "prompt", "model"),
    "timestamp_utc": ("timestamp_utc",),
    "total_duration_ms": ("total_duration_ms",),
    "metadata": ("metadata",),
    "environment": ("environment.host", "environment.hardware", "environment.platform"),
    "outcome: ended, final_answer": ("outcome.ended", "outcome.final_answer"),
    "outcome: verdicts, solved, scores": ("outcome.verdicts", "outcome.solved", "outcome.scores"),
    "outcome: changes": ("outcome.changes",),
    "step: model_output": ("llm_steps.model_output",),
    "step: reasoning_content": ("llm_steps.reasoning_content",),
    "step: calls": ("llm_steps.tool_calls.call_id", "llm_steps.tool_calls.name"),
    "step: arguments, as they were spelled": ("llm_steps.tool_calls.arguments",),
    "step: input_tokens, output_tokens": ("llm_steps.input_tokens", "llm_steps.output_tokens"),
    "step: finish_reason": ("llm_steps.finish_reason",),
    "step: start_ns, end_ns, duration_ms": ("llm_steps.start_ns", "llm_steps.end_ns", "llm_steps.duration_ms"),
    "step: cached tokens": ("llm_steps.timings.cached_n",),
    "step: other timings": ("llm_steps.timings.prompt_ms", "llm_steps.timings.predicted_ms"),
    "call: tool_name": ("spans.tool_name",),
    "call: tool_input": ("spans.tool_input",),
    "call: tool_output": ("spans.tool_output",),
    "call: exit_code": ("spans.exit_code",),
    "call: status, signal": ("spans.status", "spans.signal"),
    "call: start_ns, end_ns": ("spans.start_ns", "spans.end_ns"),
    "call: duration_ms": ("spans.duration_ms",),
    "call: telemetry, all figures": ("spans.telemetry",),
    "call: max_rss_bytes, user_time_s": ("spans.telemetry.max_rss_bytes", "spans.telemetry.user_time_s"),
    "call: stdout, stderr apart": ("spans.stdout.text", "spans.stderr.text"),
    "call: call_id, parent_span_id": ("spans.call_id", "spans.parent_span_id"),
}
"""Row of the table → the fields of a record that it is of."""


def at(value, path):
    """What stands at a path: of lists, of each of their members."""
    for number, name in enumerate(path):
        if isinstance(value, (tuple, list)):
            return tuple(at(one, path[number:]) for one in value)
        value = value.get(name) if isinstance(value, dict) else getattr(value, name, None)
    return value


def empty(value):
    if isinstance(value, (tuple, list)):
        return all(map(empty, value))
    return value is None or value in ("", {}, "unknown")


@cache
def table():
    """The table of the document: (row, format) → cell."""
    text = DOCUMENT.read_text(encoding="utf-8")
    lines = text[text.index("| of a record |") :].split("\n\n")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    formats = [re.sub("`", "", one) for one in cells[0][1:]]
    return {
        (row[0].replace("`", ""), name): cell for row in cells[2:] for name, cell in zip(formats, row[1:], strict=True)
    }


def columns():
    return list(dict.fromkeys(name for _, name in table()))


def came_back(name, folder):
    """(record, what is read of it when it was written in a format), for every record of the release."""
    found = FORMATS[name]
    output = folder / f"o{found.suffix if found.layout != 'files' else ''}"
    convert([RECORDS], name, output)
    files = [output] if output.is_file() else sorted(output.iterdir())
    theirs = {one.trace.prompt: one.trace for path in files for one in read(path)}
    ours = [one.trace for one in read(RECORDS)]
    assert len(theirs) == len(ours) == 32
    return [(trace, theirs[trace.prompt]) for trace in ours]


def measured(pairs, paths):
    before = [at(trace, path.split(".")) for trace, _ in pairs for path in paths]
    after = [at(trace, path.split(".")) for _, trace in pairs for path in paths]
    if before == after:
        return CARRIED
    return LOST if all(map(empty, after)) else CHANGED


@pytest.mark.parametrize("name", columns())
def test_what_the_table_says_of_a_format_is_so(name, tmp_path):
    pairs = came_back(name, tmp_path)
    found = {row: measured(pairs, paths) for row, paths in FIELDS.items()}
    assert found == {row: cell for (row, column), cell in table().items() if column == name}


def test_every_format_that_is_written_and_read_has_a_column():
    readable = {name for name, found in FORMATS.items() if hasattr(found.load(), "to_trace")}
    readable |= {"session-traces", "otlp", "inspect"}  # read by modules of their own
    own = {"agenttrace-1.0", "records-parquet"}
    views = {"agenttrace-0.3-parquet", "session-traces-parquet", "mini-swe-agent-1.1-parquet"}
    published = {"swe-zero-1k-32k", "swe-zero-12m"}  # hold conversations of the other agent alone
    assert set(columns()) == (readable | {"mini-swe-agent", "mini-swe-agent-1.1"}) - own - views - published
