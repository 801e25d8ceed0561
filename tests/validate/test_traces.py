"""Every rule finds what breaks it, and nothing in a file as it was collected."""

from __future__ import annotations

import copy
import gzip
import json
import shutil
import tracemalloc

import msgspec
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agenttrace.records import OtherAgentSpec, digest
from agenttrace.store.read import TOO_LONG
from agenttrace.validate import MOST_PER_LINE, Validation


def findings(path):
    return list(Validation(path))


def test_a_file_as_collected_has_no_findings(rows, record_file):
    validation = Validation(record_file(rows))
    assert list(validation) == []
    assert validation.records == len(rows) == 4
    assert validation.notes == ["4 of the 32 tasks of the run spec have a record"]


def test_records_of_schema_1_0_have_no_findings_and_no_fields_of_later_ones(released, tmp_path):
    validation = Validation(released)
    assert (list(validation), validation.notes, validation.records) == ([], [], 32)
    shutil.copy(released.with_suffix(".run.json"), tmp_path / "demo.run.json")
    row = json.loads(released.read_bytes().splitlines()[0])
    row["prepare_ms"] = 1.0
    row["spans"][0]["cut_chars"] = 0
    path = tmp_path / "demo.jsonl"
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    assert [(one.rule, one.where) for one in findings(path)] == [
        ("schema", "spans[0].cut_chars"),
        ("schema", "prepare_ms"),
    ]


def test_a_byte_order_mark_is_a_finding_and_the_record_behind_it_is_checked(rows, record_file):
    rows[0]["model"] = "another"
    path = record_file(rows)
    rest = findings(path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    first, *others = findings(path)
    assert (first.line, first.rule, "byte order mark" in first.message) == (1, "json", True)
    assert others == rest != []


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_compressed_files_are_checked_as_they_are(rows, record_file, suffix):
    rows[1]["model"] = "another"
    path = record_file(rows)
    packed = path.with_name(path.name + suffix)
    whole = (gzip if suffix == ".gz" else zstandard).compress(path.read_bytes())
    packed.write_bytes(whole)
    assert findings(packed) == findings(path) != []
    packed.write_bytes(whole[:-9])
    assert (findings(packed)[-1].rule, "cut off" in findings(packed)[-1].message) == ("file", True)
    assert str(packed) not in findings(packed)[-1].message  # the verb names the file in front of every finding


@pytest.mark.slow
def test_memory_stays_small_however_many_records_there_are(rows, record_file):
    row = json.dumps(rows[0])
    lines = (row.replace(rows[0]["trace_id"], f"{number:036}") for number in range(2000))
    path = record_file([])
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    validation = Validation(path)
    tracemalloc.start()
    for _ in validation:
        pass
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert validation.records == 2000
    assert held < 2 * 2**20


def span(row):
    return row["spans"][0]


def step(row):
    return row["llm_steps"][0]


BREAKS = {
    "schema: wrong type": ("schema", lambda r: span(r).update(exit_code="0")),
    "schema: missing": ("schema", lambda r: r.pop("outcome")),
    "schema: unknown value": ("schema", lambda r: span(r).update(status="fine")),
    "schema: unknown key": ("schema", lambda r: span(r)["telemetry"].update(extra=1)),
    "schema: version of another run spec": ("schema", lambda r: r["metadata"].update(schema_version="1.0.0")),
    "schema: no text": ("schema", lambda r: span(r)["stdout"].update(text=None)),
    "schema: other version": ("schema", lambda r: r["metadata"].update(schema_version="9.0.0")),
    "ids: trace": ("ids", lambda r: r.update(trace_id="69294d1d-ff0b-5b6e-8287-ab4e037fbaed")),
    "ids: step": ("ids", lambda r: step(r).update(step_id="x")),
    "ids: span": ("ids", lambda r: span(r).update(span_id="x")),
    "ids: call": ("ids", lambda r: step(r)["tool_calls"][0].update(call_id="call_9_9")),
    "ids: no task": ("ids", lambda r: r["metadata"].pop("task_id")),
    "counts: a run beyond every measure": ("counts", lambda r: r.update(total_duration_ms=1e308)),
    "counts: tokens beyond every measure": ("counts", lambda r: step(r).update(input_tokens=2**41)),
    "counts: timings beyond every measure": ("counts", lambda r: step(r)["timings"].update(prompt_ms=1e300)),
    "counts: more margins than tokens": (
        "counts",
        lambda r: step(r).update(tokens={"output_ids": [1], "margins": [0, 1]}),
    ),
    "counts: more ids than log-probabilities of a prompt": (
        "counts",
        lambda r: step(r).update(tokens={"prompt_ids": [1, 2], "prompt_logprobs": [None]}),
    ),
    "order: numbers": ("order", lambda r: step(r).update(step_number=2)),
    "order: steps swapped": ("order", lambda r: r["llm_steps"].reverse()),
    "order: time": ("order", lambda r: span(r).update(end_ns=span(r)["start_ns"] - 2_000_000_000)),
    "order: span before its step": ("order", lambda r: span(r).update(start_ns=5, end_ns=6)),
    "order: no offset": ("order", lambda r: r.update(timestamp_utc=r["timestamp_utc"].replace("+00:00", ""))),
    "order: no time": ("order", lambda r: r.update(timestamp_utc="yesterday")),
    "order: total": ("order", lambda r: r.update(total_duration_ms=1.0)),
    "order: negative": ("order", lambda r: span(r).update(duration_ms=-1.0)),
    "joins: parent": ("joins", lambda r: span(r).update(parent_span_id=r["llm_steps"][-1]["step_id"])),
    "joins: unknown call": ("joins", lambda r: span(r).update(call_id="call_7_1")),
    "joins: no call": ("joins", lambda r: span(r).update(call_id=None)),
    "joins: name": ("joins", lambda r: span(r).update(tool_name="python_interpreter")),
    "joins: input": ("joins", lambda r: span(r).update(tool_input='{"command":"rm -r /"}')),
    "joins: span missing": ("joins", lambda r: r["spans"].pop(0)),
    "joins: span twice": ("joins", lambda r: r["spans"].insert(0, copy.deepcopy(span(r)))),
    "joins: spans swapped": ("joins", lambda r: r["spans"].reverse()),
    "counts: kept": ("counts", lambda r: span(r)["stdout"].update(bytes_kept=10**6)),
    "counts: total": ("counts", lambda r: span(r)["stdout"].update(bytes_total=10**6)),
    "counts: text": ("counts", lambda r: span(r)["stdout"].update(text="changed afterwards")),
    "counts: signal": ("counts", lambda r: span(r).update(signal=9)),
    "counts: not executed": ("counts", lambda r: span(r).update(status="not_executed", exit_code=3)),
    "counts: cost without process": ("counts", lambda r: r["spans"][-1]["telemetry"].update(max_rss_bytes=1)),
    "counts: cost not measured": ("counts", lambda r: span(r)["telemetry"].update(method="not-measured")),
    "counts: seconds": ("counts", lambda r: span(r)["telemetry"].update(user_time_s=3.0)),
    "counts: negative cost": ("counts", lambda r: span(r)["telemetry"].update(read_bytes=-1)),
    "counts: negative tokens": ("counts", lambda r: step(r).update(output_tokens=-1)),
    "counts: steps": ("counts", lambda r: r["metadata"].update(max_steps=1)),
    "outcome: answer": ("outcome", lambda r: r["outcome"].update(final_answer="another")),
    "outcome: answer without end": ("outcome", lambda r: r["outcome"].update(ended="max_steps")),
    "outcome: solved": ("outcome", lambda r: r["outcome"].update(solved=not r["outcome"]["solved"])),
    "outcome: no verdict": ("outcome", lambda r: r["outcome"].update(verdicts=[], solved=True)),
    "outcome: spoilt": ("outcome", lambda r: r["outcome"].update(ended="model_error")),
    "plan: no such rollout": ("plan", lambda r: r["metadata"].update(rollout_index=1)),
    "plan: model": ("plan", lambda r: r.update(model="another")),
    "metadata: value": ("metadata", lambda r: r["metadata"].update(seed=1)),
    "metadata: number type": ("metadata", lambda r: r["metadata"].update(temperature=0)),
    "metadata: extra": ("metadata", lambda r: r["metadata"].update(host="x")),
    "metadata: missing": ("metadata", lambda r: r["metadata"].pop("seed")),
    "schema: no preparation": ("schema", lambda r: r.pop("prepare_ms")),
    "plan: no such task": ("plan", lambda r: r["metadata"].update(task_id=99)),
    "plan: prompt": ("plan", lambda r: r.update(prompt="Another task.")),
    "leak": ("leak", lambda r: span(r).update(tool_output="hf_" + "aB3" * 12)),
}


@pytest.mark.parametrize("name", BREAKS)
def test_each_rule_names_the_line_that_breaks_it(rows, record_file, name):
    rule, change = BREAKS[name]
    change(rows[2])
    found = findings(record_file(rows))
    assert rule in {finding.rule for finding in found}
    assert {finding.line for finding in found} == {3}


def test_a_trace_that_stands_twice_is_named_with_both_lines(rows, record_file):
    found = findings(record_file([*rows, rows[1]]))
    assert [(finding.line, finding.rule, finding.message) for finding in found] == [
        (5, "ids", "stands in line 2 already; keep one of the two lines")
    ]


def test_spoilt_attempts_may_stand_several_times_in_their_own_file(rows, record_file):
    row = rows[0]
    row["outcome"] |= {"ended": "sandbox_error", "final_answer": None, "verdicts": [], "solved": None, "changes": None}
    assert findings(record_file([row, row], "demo.failures.jsonl")) == []
    row["outcome"]["ended"] = "max_steps"
    assert [finding.where for finding in findings(record_file([row], "demo.failures.jsonl"))] == ["outcome.ended"]


def test_bad_lines_do_not_stop_it(rows, record_file):
    path = record_file(rows)
    good = path.read_bytes().splitlines(keepends=True)
    bad = [
        b"\n",
        b"{\n",
        b"[1]\n",
        b'{"a": NaN}\n',
        b"\xff\xfe\n",
        b"[" * 100_000 + b"\n",
        b'{"trace_id":1,"spans":2}\n',
    ]
    path.write_bytes(b"".join([good[0], *bad, good[1], good[2].rstrip(b"\n")]))
    found = findings(path)
    assert {finding.line for finding in found} == {*range(2, 2 + len(bad)), 3 + len(bad)}
    assert "cut off" in found[-1].message


def test_a_key_given_twice_is_found_and_hides_nothing(rows, record_file):
    path = record_file(rows[:1])
    line = path.read_text(encoding="utf-8")
    path.write_text(line.replace('"model":', '"model": "AKIA' + "A1B2" * 4 + '", "model":', 1), encoding="utf-8")
    assert {finding.rule for finding in findings(path)} == {"json", "schema", "leak", "plan"}


@pytest.mark.slow
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=200)
@given(data=st.data())
def test_no_value_anywhere_stops_it(rows, record_file, hurt, data):
    row = hurt(data, copy.deepcopy(rows[0]))
    path = record_file([row, rows[1]])
    assert {finding.line for finding in findings(path)} <= {1}


def test_an_endless_line_is_counted_not_held(rows, record_file, monkeypatch):
    path = record_file(rows[:2])
    path.write_bytes(b"x" * 5_000_000 + b"\n" + path.read_bytes())
    monkeypatch.setattr("agenttrace.store.opening.LONGEST_LINE", 1_000_000)
    found = findings(path)
    assert [(finding.line, finding.rule, finding.message) for finding in found] == [
        (1, "json", f"{TOO_LONG}: not checked")
    ]


def test_findings_of_one_line_are_limited(rows, record_file):
    rows[0]["environment"] = {f"k{number}": f"/home/person{number}/x" for number in range(1000)}
    found = findings(record_file(rows))
    assert len(found) == MOST_PER_LINE + 1
    assert found[-1].rule == "more"


def test_without_a_run_spec_it_says_what_was_not_checked(rows, record_file):
    path = record_file(rows)
    path.with_suffix(".run.json").unlink()
    validation = Validation(path)
    assert list(validation) == []
    assert "plan and metadata were not checked" in validation.notes[0]


def test_the_run_spec_is_checked_too(rows, record_file):
    path = record_file(rows)
    beside = path.with_suffix(".run.json")
    spec = json.loads(beside.read_text(encoding="utf-8"))
    beside.write_text(json.dumps({**spec, "more": 1, "run_id": "/home/alice/run"}), encoding="utf-8")
    found = [finding for finding in findings(path) if finding.line == 0]
    assert {(finding.rule, finding.where) for finding in found} == {("schema", "more"), ("leak", "run_id")}
    assert "metadata.run_spec_sha256" in {finding.where for finding in findings(path)}
    beside.write_text("{}", encoding="utf-8")
    assert "not a run spec of this version" in findings(path)[0].message


@pytest.mark.parametrize(
    ("was", "is_", "told"),
    [
        ('"temperature":0.0', '"temperature":0', "demo.run.json: a number lacks its point"),
        ('"repo":null,', "", "or a key that has no value is left out"),
        ('{"run_id":', '{"run_id":"x","run_id":', "demo.run.json: the key is given twice in one object"),
    ],
)
def test_a_run_spec_of_which_readers_could_take_another_digest_is_told(rows, record_file, was, is_, told):
    path = record_file(rows)
    beside = path.with_suffix(".run.json")
    text = beside.read_text(encoding="utf-8")
    assert was in text
    beside.write_text(text.replace(was, is_, 1), encoding="utf-8")
    for row in rows:  # as another writer would who takes it of what stands there
        row["metadata"]["run_spec_sha256"] = digest(json.loads(beside.read_text(encoding="utf-8")))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    (found,) = findings(path)
    assert told in found.message


def test_of_an_agent_that_is_not_here_the_common_rules_are_checked(rows, record_file, spec):
    path = record_file(rows)
    other = msgspec.structs.replace(spec, agent=OtherAgentSpec(name="elsewhere", version=1, settings={}))
    path.with_suffix(".run.json").write_bytes(msgspec.json.encode(other))
    step(rows[1])["step_number"] = 7
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    validation = Validation(path)
    assert {(finding.line, finding.rule) for finding in validation} == {(2, "order"), (2, "ids")}
    assert "unknown agent 'elsewhere'" in validation.notes[0]


def test_records_of_another_format_keep_its_ids_and_the_notes_say_so(rows, record_file):
    rows[0]["environment"]["imported"] = {"format": "x"}
    rows[0]["trace_id"] = "075a0e63-f00a-4b1b-9366-a6882a52e415"
    validation = Validation(record_file(rows))
    assert list(validation) == []
    assert "1 records were read from another format" in validation.notes[0]


def test_a_missing_file_is_a_finding_and_an_empty_one_a_note(tmp_path):
    assert "No such file" in findings(tmp_path / "none.jsonl")[0].message
    (tmp_path / "empty.jsonl").touch()
    validation = Validation(tmp_path / "empty.jsonl")
    assert list(validation) == []
    assert validation.notes == ["the file is empty"]


def test_an_integer_that_no_table_can_hold_is_a_finding(rows, record_file):
    rows[0]["spans"][0]["telemetry"]["max_rss_bytes"] = 10**30
    rows[1]["metadata"]["seed"] = 2**63 - 1
    found = [str(finding) for finding in Validation(record_file(rows)) if finding.rule == "json"]
    assert len(found) == 1
    assert "needs more than 64 bits" in found[0]
