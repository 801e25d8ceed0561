"""What is published of the schema is what the types say, and a published shape never changes."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Annotated, get_args

import msgspec
import pytest

from agenttrace.errors import DataError
from agenttrace.formats import otlp
from agenttrace.records import END_CLASSES, EndClass, Ended, Record, Telemetry, Trace
from agenttrace.records.schema import VERSIONS
from bench import schema
from bench.schema import __main__ as command

DATA = Path(__file__).parents[1] / "data" / "records"


@pytest.mark.parametrize("kind", schema.KINDS)
def test_the_published_file_of_this_version_has_the_shape_of_the_types(kind):
    schema.check_published(kind)


def test_every_generated_file_is_up_to_date(capsys):
    assert command.main(["--check"]) == 0, capsys.readouterr().out


@pytest.mark.parametrize("kind", schema.KINDS)
def test_every_field_has_a_meaning(kind):
    assert schema.undescribed(kind) == []


def test_notes_name_fields_that_exist():
    assert schema.stale_notes() == []


def test_every_measured_figure_of_a_call_has_a_method():
    fields = schema.document("trace")["$defs"]["Telemetry"]["properties"]
    assert [field for field, value in fields.items() if "x-method" not in value] == ["method"]


def _changed(change):
    document = copy.deepcopy(schema.document("trace"))
    change(document["$defs"]["Span"])
    return document


@pytest.mark.parametrize(
    "change",
    [
        lambda span: span["properties"].pop("signal"),
        lambda span: span["properties"].update(title={"type": "string"}),
        lambda span: span["required"].remove("status"),
        lambda span: span["properties"]["exit_code"].update(type="string"),
        lambda span: span["properties"]["status"]["enum"].append("new"),
    ],
)
def test_another_shape_of_the_same_version_is_refused(tmp_path, change):
    path = tmp_path / schema.name("trace")
    path.write_bytes(msgspec.json.encode(_changed(change)))
    with pytest.raises(DataError, match="raise SCHEMA_VERSION"):
        schema.check_published("trace", tmp_path)


def test_another_wording_or_mark_is_no_other_shape(tmp_path):
    def reword(span):
        span["description"] = "Other words."
        span["properties"]["signal"] |= {"description": "Other words.", "x-measured": True}

    (tmp_path / schema.name("trace")).write_bytes(msgspec.json.encode(_changed(reword)))
    schema.check_published("trace", tmp_path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"trace-.*\.json does not exist"):
        schema.check_published("trace", tmp_path)


class Marked(Record, frozen=True, kw_only=True):
    """A record.

    Attributes:
        wall_ns: how long it took; may
            go on below.
    """

    wall_ns: Annotated[int | None, msgspec.Meta(extra_json_schema={"x-measured": True})] = None


def test_marks_units_and_meanings_are_carried_through(monkeypatch):
    monkeypatch.setitem(schema.KINDS, "marked", Marked)
    document = schema.document("marked")["$defs"]["Marked"]
    assert document["description"] == "A record."
    assert document["properties"]["wall_ns"] == {
        "anyOf": [{"type": "integer"}, {"type": "null"}],
        "default": None,
        "x-measured": True,
        "description": "how long it took; may go on below.",
        "x-unit": "ns",
        "x-since": schema.SCHEMA_VERSION,
    }


def test_the_version_in_which_a_field_came_is_read_from_the_published_files(monkeypatch, tmp_path):
    monkeypatch.setattr(schema, "SCHEMA_VERSION", "1.10.0")
    fields = schema.document("trace")["$defs"]["Span"]["properties"]
    assert fields["exit_code"]["x-since"] == "0.3.0"
    assert fields["stdout"]["x-since"] == "1.0.0"
    assert fields["cut_chars"]["x-since"] == "1.1.0"
    agents = schema.document("run-spec")["$defs"]
    assert agents["ToolCallingSpec"]["properties"]["tools"]["x-since"] == "1.0.0"  # of a class with another name then
    assert agents["BashBlockSpec"]["properties"]["max_turns"]["x-since"] == "1.0.0"


def test_fields_that_not_every_agent_has_may_be_absent_and_null():
    trace = schema.document("trace")["$defs"]
    later = {
        f"{struct}.{field}"
        for struct, body in trace.items()
        for field, value in body["properties"].items()
        if value["x-since"] == "1.1.0"
    }
    assert later == {
        "Trace.prepare_ms", "Span.cut_chars", "LLMStep.counted_tokens", "LLMStep.blocks", "LLMStep.answered",
            "LLMStep.failed_tries", "LLMStep.ignored_calls",
        "Outcome.patch", "Outcome.patch_note", "Trace.totals", "Totals.input_tokens", "Totals.output_tokens",
        "Totals.cached_tokens", "Totals.cost_usd",
    }  # fmt: skip
    assert not [field for field in later if field.split(".")[1] in trace[field.split(".")[0]]["required"]]
    row = msgspec.json.decode((DATA / "demo.jsonl").read_bytes().splitlines()[0])
    row["totals"] = {}
    for field in sorted(later):  # as a tool writes them that fills missing columns
        struct, _, name = field.partition(".")
        places = {
            "Trace": [row],
            "Span": row["spans"],
            "LLMStep": row["llm_steps"],
            "Outcome": [row["outcome"]],
            "Totals": [row["totals"]],
        }
        for place in places[struct]:
            place[name] = None if name != "totals" else row["totals"]
    assert msgspec.convert(row, Trace).llm_steps[0].blocks is None


def test_every_end_has_a_class_but_the_unknown():
    assert {*get_args(Ended)} - {*END_CLASSES} == {"unknown"}
    assert {*END_CLASSES.values()} == {*get_args(EndClass)}
    said = (Path(schema.__file__).parent / "agents.md").read_text(encoding="utf-8")
    assert [end for end, kind in END_CLASSES.items() if f"| `{end}` | {kind} |" not in said] == []


@pytest.mark.parametrize(
    "name", ["trace-1.0.0", "run-spec-1.0.0", "rollout-1.0.0", "rollout-spec-1.0.0", "trace-1.1.0", "run-spec-1.1.0"]
)
def test_what_was_published_of_an_earlier_version_stays(name):
    version = name.rpartition("-")[2]
    assert version in VERSIONS
    assert msgspec.json.decode((schema.FOLDER / f"{name}.json").read_bytes())["title"].endswith(version)


def test_the_proposal_to_opentelemetry_names_what_the_export_writes_each_with_a_unit():
    rows = [line.split(" | ") for line in command.semconv().splitlines() if line.startswith("| `agenttrace.")]
    known = {row[0].strip("| `").rpartition(".")[2]: row[1:3] for row in rows}
    assert list(known) == list(Telemetry.__struct_fields__)
    assert [name for name, (kind, unit) in known.items() if kind in {"int", "double"} and not unit] == []
    figures = {name: 1 for name, (kind, _) in known.items() if kind == "int"}
    asked = {"tree_rss_series": ((20, 4096), (40, 8192)), "counters_reason": "no", "pressure_scope": "machine"}
    trace = msgspec.json.decode((DATA / "demo.jsonl").read_bytes().splitlines()[0], type=Trace)
    cost = msgspec.structs.replace(trace.spans[0].telemetry, **figures, **asked, leftover_names=("a",))
    spans = (msgspec.structs.replace(trace.spans[0], telemetry=cost), *trace.spans[1:])
    value = otlp.from_trace(msgspec.structs.replace(trace, spans=spans), None)
    written = {name for name in known if f'"agenttrace.telemetry.{name}"' in json.dumps(value)}
    assert written == {*known}
