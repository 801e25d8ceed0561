"""Every rule on the bash-block agent finds what breaks it, in traces and in rollouts of schema 1.0.0."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agenttrace.agents import agent_kind
from agenttrace.campaign.plan import metadata
from agenttrace.records import SCHEMA_VERSION, RunSpec, derived_id, rollout_1_0
from agenttrace.store.compact import compact
from agenttrace.tasks.swe.rows import SweTask, load
from agenttrace.tasks.swe.task_set import task_of
from agenttrace.validate import Validation
from agenttrace.validate.checkouts import OF_THE_TASK

KEPT = Path(__file__).parents[1] / "data" / "records" / "1.0.0"
LINES = (KEPT / "every-stop.jsonl").read_bytes().splitlines(keepends=True)
OLD_SPEC = (KEPT / "every-stop.run.json").read_bytes()
_READ_SPEC = rollout_1_0.decode_spec(OLD_SPEC)
SPEC = RunSpec(
    **{name: getattr(_READ_SPEC, name) for name in RunSpec.__struct_fields__} | {"schema_version": SCHEMA_VERSION}
)
# One of each stop rule, in this order.
SUBMITTED, TURNS, TOKENS, FORMAT = range(4)


def as_collected(line, spec=SPEC, row=None):
    """Return a rollout of schema 1.0.0 as the trace that a campaign of this run spec would have written."""
    trace = json.loads(msgspec.json.encode(rollout_1_0.decode(line)))
    facts = {name: trace["metadata"][name] for name in OF_THE_TASK}
    if row is None:
        words = {name: facts[name] for name in ("repo", "base_commit", "language")}
        row = SweTask(
            instance_id=trace["metadata"]["task_id"],
            problem_statement="",
            interface=None,
            test_patch="",
            patch="",
            **words,
        )
    else:
        facts |= {"repo": row.repo, "base_commit": row.base_commit}
    task = msgspec.structs.replace(
        task_of(row, facts["language"]), facts=facts, rollout=trace["metadata"]["rollout_index"]
    )
    trace["metadata"] = json.loads(msgspec.json.encode(metadata(spec, task, spec_sha256=spec.digest)))
    if row.problem_statement:
        trace["prompt"] = agent_kind("bash_block").prompt(spec.agent, task)
    for span in trace["spans"]:  # a campaign keeps the texts
        text = span["tool_output"].removeprefix("Observation: ")
        for output in (span["stdout"], span["stderr"]):
            output["text"] = text if output["bytes_total"] else ""
    found = trace["metadata"]
    key = (found["run_id"], found["dataset_name"], found["task_id"], found["rollout_index"])
    trace["trace_id"] = derived_id("trace", *key)
    for step in trace["llm_steps"]:
        step["step_id"] = derived_id(trace["trace_id"], "step", step["step_number"])
    for span in trace["spans"]:
        span["span_id"] = derived_id(trace["trace_id"], span["call_id"])
        span["parent_span_id"] = derived_id(trace["trace_id"], "step", int(span["call_id"].split("_")[1]))
    return trace


@pytest.fixture
def rows():
    return [as_collected(line) for line in LINES]


@pytest.fixture
def old_rows():
    return [json.loads(line) for line in LINES]


@pytest.fixture
def record_file(tmp_path):
    """Return a function that writes rows as a record file with the run spec of their schema."""

    def write(rows, name="run.jsonl", spec=None):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        if spec is None:
            spec = OLD_SPEC if "rollout_id" in rows[0] else msgspec.json.encode(SPEC)
        (tmp_path / "run.run.json").write_bytes(spec)
        return path

    return write


def findings(path):
    return list(Validation(path))


@pytest.mark.parametrize("schema", ["rows", "old_rows"])
def test_a_run_as_it_was_made_has_no_findings(request, record_file, schema):
    rows = request.getfixturevalue(schema)
    validation = Validation(record_file(rows))
    assert list(validation) == []
    assert validation.records == len(rows) == 10
    assert validation.notes == ["the tasks of bundled are not here: problem statements were not compared"]


@pytest.mark.parametrize("name", ["rollouts.jsonl", "rollouts-compacted.jsonl.zst"])
def test_rollouts_that_were_collected_with_schema_1_0_have_no_findings(name):
    validation = Validation(KEPT / name)
    assert list(validation) == []
    assert validation.notes == ["6 of the 16 rollouts of the run spec have a record"]


def test_a_run_that_is_not_finished_says_so(rows, record_file):
    validation = Validation(record_file(rows[:3]))
    assert list(validation) == []
    assert validation.notes[-1] == "3 of the 10 rollouts of the run spec have a record"


def calls(row):
    """The first step with a command that printed something and did not fail, and its span."""
    for step in row["llm_steps"]:
        for span in row["spans"]:
            if span["parent_span_id"] == step["step_id"] and span["stdout"]["bytes_total"]:
                return step, span
    raise AssertionError("nothing printed")


def call(row):
    return calls(row)[1]


def hidden(row):
    return row["metadata"]["hidden_tests"]


def again(row, index, number):
    """Append a step and its span once more, under another number, as if the run had gone on."""
    step, span = copy.deepcopy(row["llm_steps"][index]), copy.deepcopy(row["spans"][index])
    step |= {"step_number": number, "step_id": derived_id(row["trace_id"], "step", number)}
    step["tool_calls"][0]["call_id"] = span["call_id"] = f"call_{number}_1"
    span |= {"parent_span_id": step["step_id"], "span_id": derived_id(row["trace_id"], span["call_id"])}
    row["llm_steps"].append(step)
    row["spans"].append(span)


BREAKS = {
    "schema: type": ("schema", SUBMITTED, lambda r: r["metadata"].update(seed="7")),
    "schema: no patch": ("schema", SUBMITTED, lambda r: r["outcome"].pop("patch")),
    "schema: no count": ("schema", SUBMITTED, lambda r: r["llm_steps"][0].pop("counted_tokens")),
    "schema: no cut": ("schema", SUBMITTED, lambda r: call(r).pop("cut_chars")),
    "schema: no text": ("schema", SUBMITTED, lambda r: call(r)["stdout"].update(text=None)),
    "schema: no note": ("schema", SUBMITTED, lambda r: r["outcome"].pop("patch_note")),
    "schema: no preparation": ("schema", SUBMITTED, lambda r: r.pop("prepare_ms")),
    "schema: unknown end": ("schema", SUBMITTED, lambda r: r["outcome"].update(ended="bored")),
    "schema: unknown key": ("schema", SUBMITTED, lambda r: r["llm_steps"][0].update(extra=1)),
    "schema: tests": ("schema", SUBMITTED, lambda r: hidden(r).update(extra=1)),
    "schema: version": ("schema", SUBMITTED, lambda r: r["metadata"].update(schema_version="9.0.0")),
    "schema: version of another run spec": ("schema", TURNS, lambda r: r["metadata"].update(schema_version="1.0.0")),
    "ids: id": ("ids", SUBMITTED, lambda r: r.update(trace_id="69294d1d-ff0b-5b6e-8287-ab4e037fbaed")),
    "ids: index": ("ids", SUBMITTED, lambda r: r["metadata"].update(rollout_index=4)),
    "ids: no run": ("ids", SUBMITTED, lambda r: r["metadata"].pop("run_id")),
    "plan: task": ("plan", SUBMITTED, lambda r: r["metadata"].update(task_id="octo__repo-9")),
    "plan: index": ("plan", SUBMITTED, lambda r: r["metadata"].update(rollout_index=5)),
    "plan: model": ("plan", SUBMITTED, lambda r: r.update(model="another")),
    "metadata: seed": ("metadata", SUBMITTED, lambda r: r["metadata"].update(seed=8)),
    "plan: hidden tests": ("plan", SUBMITTED, lambda r: hidden(r).update(asked=True, applied=True)),
    "plan: tree": ("plan", TURNS, lambda r: r["metadata"].update(tree_digest="c" * 64)),
    "plan: commit": ("plan", TURNS, lambda r: r["metadata"].update(base_commit="c" * 40)),
    "plan: prompt": ("plan", TURNS, lambda r: r.update(prompt="Fix another thing.")),
    "order: turns": ("order", SUBMITTED, lambda r: r["llm_steps"].reverse()),
    "order: number": ("order", SUBMITTED, lambda r: r["llm_steps"][0].update(step_number=2)),
    "order: time": ("order", SUBMITTED, lambda r: call(r).update(start_ns=5)),
    "order: step before the command": (
        "order",
        TURNS,
        lambda r: r["spans"][-2].update(start_ns=2**62, end_ns=2**62),
    ),
    "order: no time": ("order", SUBMITTED, lambda r: r.update(timestamp_utc="yesterday")),
    "order: local time": ("order", SUBMITTED, lambda r: r.update(timestamp_utc="2026-01-01T00:00:00")),
    "order: total": ("order", SUBMITTED, lambda r: r.update(total_duration_ms=1.0)),
    "order: negative": ("order", SUBMITTED, lambda r: r.update(prepare_ms=-1.0)),
    "joins: blocks": ("joins", SUBMITTED, lambda r: r["llm_steps"][0].update(blocks=2)),
    "joins: command": ("joins", SUBMITTED, lambda r: call(r).update(tool_input='{"command":"rm -r ."}')),
    "joins: tool": ("joins", SUBMITTED, lambda r: [c.update(name="sh") for c in calls(r)[0]["tool_calls"]]),
    "joins: reply": ("joins", SUBMITTED, lambda r: calls(r)[0].update(model_output="no block")),
    "joins: no call": ("joins", SUBMITTED, lambda r: r["llm_steps"][0].update(tool_calls=None)),
    "joins: no span": ("joins", SUBMITTED, lambda r: r["spans"].pop(0)),
    "joins: no observation": ("joins", SUBMITTED, lambda r: call(r).update(tool_output="")),
    "joins: form": ("joins", SUBMITTED, lambda r: call(r).update(tool_output="something")),
    "joins: emptied": ("joins", SUBMITTED, lambda r: call(r).update(tool_output="Observation: ")),
    "joins: cut": ("joins", SUBMITTED, lambda r: call(r).update(cut_chars=3)),
    "joins: format answer": ("joins", FORMAT, lambda r: r["llm_steps"][-1].update(answered="Observation: ")),
    "joins: two answers": ("joins", SUBMITTED, lambda r: r["llm_steps"][0].update(answered="Give one block.")),
    "counts: bytes": ("counts", SUBMITTED, lambda r: call(r)["stdout"].update(bytes_kept=10**6)),
    "counts: negative": ("counts", SUBMITTED, lambda r: call(r)["stdout"].update(bytes_total=-1)),
    "counts: no bytes": ("counts", SUBMITTED, lambda r: call(r).update(stderr=None)),
    "counts: negative cut": ("counts", SUBMITTED, lambda r: call(r).update(cut_chars=-1)),
    "counts: cost": ("counts", SUBMITTED, lambda r: call(r)["telemetry"].update(read_bytes=-1)),
    "counts: tokens": ("counts", SUBMITTED, lambda r: r["llm_steps"][0].update(input_tokens=-1)),
    "counts: counted": ("counts", SUBMITTED, lambda r: r["llm_steps"][0].update(counted_tokens=-1)),
    "counts: reply": ("counts", SUBMITTED, lambda r: r["llm_steps"][0].update(output_tokens=1025)),
    "counts: budget": ("counts", SUBMITTED, lambda r: r["llm_steps"][0].update(input_tokens=32_760)),
    "counts: lost": ("counts", SUBMITTED, lambda r: call(r).update(status="lost")),
    "counts: turns": ("counts", TURNS, lambda r: again(r, -1, 9)),
    "outcome: no marker": ("outcome", TOKENS, lambda r: r["outcome"].update(ended="final_answer", final_answer="")),
    "outcome: marker": ("outcome", SUBMITTED, lambda r: r["outcome"].update(ended="token_budget", final_answer=None)),
    "outcome: goes on": ("outcome", SUBMITTED, lambda r: again(r, 0, len(r["llm_steps"]) + 1)),
    "outcome: turns": ("outcome", TURNS, lambda r: (r["llm_steps"].pop(), r["spans"].pop())),
    "outcome: format": ("outcome", FORMAT, lambda r: r["llm_steps"].pop()),
    "outcome: format unnoticed": ("outcome", FORMAT, lambda r: r["outcome"].update(ended="token_budget")),
    "outcome: submission": ("outcome", SUBMITTED, lambda r: r["outcome"].update(final_answer=None)),
    "outcome: submission of nothing": ("outcome", TURNS, lambda r: r["outcome"].update(final_answer="x")),
    "outcome: no patch": ("outcome", SUBMITTED, lambda r: r["outcome"].update(patch=None)),
    "outcome: passed": ("outcome", TURNS, lambda r: r["outcome"]["verdicts"][0].update(verdict="passed")),
    "outcome: solved": ("outcome", TURNS, lambda r: r["outcome"].update(solved=True)),
    "outcome: tests": ("outcome", SUBMITTED, lambda r: hidden(r).update(reason="no reason")),
    "outcome: error": ("outcome", SUBMITTED, lambda r: r["outcome"].update(ended="sandbox_error")),
    "metadata: value": ("metadata", SUBMITTED, lambda r: r["metadata"].update(temperature=0.5)),
    "metadata: missing": ("metadata", SUBMITTED, lambda r: r["metadata"].pop("images")),
    "metadata: more": ("metadata", SUBMITTED, lambda r: r["metadata"].update(host="x")),
    "metadata: other run spec": ("metadata", SUBMITTED, lambda r: r["metadata"].update(run_spec_sha256="0" * 64)),
    "leak": ("leak", SUBMITTED, lambda r: call(r).update(tool_output="Observation: hf_" + "aB3" * 12)),
}


def ran(row):
    """The first turn with a command that printed something and did not fail."""
    return next(t for t in row["turns"] if t["execution"] and t["execution"]["stdout_bytes"])


OLD_BREAKS = {
    "schema: type": ("schema", SUBMITTED, lambda r: r.update(seed="7")),
    "schema: missing": ("schema", SUBMITTED, lambda r: r.pop("patch")),
    "schema: unknown stop": ("schema", SUBMITTED, lambda r: r.update(stop="bored")),
    "schema: unknown key": ("schema", SUBMITTED, lambda r: r["turns"][0].update(extra=1)),
    "schema: version": ("schema", SUBMITTED, lambda r: r["metadata"].update(schema_version="9.0.0")),
    "schema: later version": ("schema", SUBMITTED, lambda r: r["metadata"].update(schema_version="1.1.0")),
    "schema: tests": ("schema", SUBMITTED, lambda r: r["hidden_tests"].update(asked="no")),
    "ids: id": ("ids", SUBMITTED, lambda r: r.update(rollout_id="69294d1d-ff0b-5b6e-8287-ab4e037fbaed")),
    "ids: index": ("ids", SUBMITTED, lambda r: r["metadata"].update(rollout_index=4)),
    "ids: no run": ("ids", SUBMITTED, lambda r: r["metadata"].pop("run_id")),
    "plan: task": ("plan", SUBMITTED, lambda r: r.update(instance_id="octo__repo-9")),
    "plan: index": ("plan", SUBMITTED, lambda r: r.update(rollout_index=5)),
    "plan: model": ("plan", SUBMITTED, lambda r: r.update(model="another")),
    "plan: seed": ("plan", SUBMITTED, lambda r: r.update(seed=8)),
    "plan: hidden tests": ("plan", SUBMITTED, lambda r: r.update(hidden_tests={"asked": True, "applied": True})),
    "plan: tree": ("plan", TURNS, lambda r: r.update(tree_digest="c" * 64)),
    "plan: commit": ("plan", TURNS, lambda r: r.update(base_commit="c" * 40)),
    "plan: prompt": ("plan", TURNS, lambda r: r.update(prompt="Fix another thing.")),
    "order: turns": ("order", SUBMITTED, lambda r: r["turns"].reverse()),
    "order: number": ("order", SUBMITTED, lambda r: r["turns"][0].update(turn=2)),
    "order: time": ("order", SUBMITTED, lambda r: ran(r)["execution"].update(start_ns=5)),
    "order: no time": ("order", SUBMITTED, lambda r: r.update(timestamp_utc="yesterday")),
    "order: local time": ("order", SUBMITTED, lambda r: r.update(timestamp_utc="2026-01-01T00:00:00")),
    "order: total": ("order", SUBMITTED, lambda r: r.update(duration_ms=1.0)),
    "order: negative": ("order", SUBMITTED, lambda r: r.update(prepare_ms=-1.0)),
    "joins: blocks": ("joins", SUBMITTED, lambda r: r["turns"][0].update(blocks=2)),
    "joins: command": ("joins", SUBMITTED, lambda r: ran(r)["execution"].update(command="rm -r .")),
    "joins: reply": ("joins", SUBMITTED, lambda r: ran(r).update(content="no block")),
    "joins: no execution": ("joins", SUBMITTED, lambda r: r["turns"][0].update(execution=None)),
    "joins: no observation": ("joins", SUBMITTED, lambda r: ran(r).update(observation=None)),
    "joins: form": ("joins", SUBMITTED, lambda r: ran(r).update(observation="something")),
    "joins: emptied": ("joins", SUBMITTED, lambda r: ran(r).update(observation="Observation: ")),
    "joins: cut": ("joins", SUBMITTED, lambda r: ran(r)["execution"].update(cut_chars=3)),
    "joins: format answer": ("joins", FORMAT, lambda r: r["turns"][-1].update(observation="Observation: ")),
    "counts: bytes": ("counts", SUBMITTED, lambda r: ran(r)["execution"].update(lost_bytes=10**6)),
    "counts: negative": ("counts", SUBMITTED, lambda r: ran(r)["execution"].update(stdout_bytes=-1)),
    "counts: cost": ("counts", SUBMITTED, lambda r: ran(r)["execution"]["telemetry"].update(read_bytes=-1)),
    "counts: tokens": ("counts", SUBMITTED, lambda r: r["turns"][0].update(input_tokens=-1)),
    "counts: reply": ("counts", SUBMITTED, lambda r: r["turns"][0].update(output_tokens=1025)),
    "counts: budget": ("counts", SUBMITTED, lambda r: r["turns"][0].update(input_tokens=32_760)),
    "counts: lost": ("counts", SUBMITTED, lambda r: ran(r)["execution"].update(status="lost")),
    "counts: sizes of a lost call": (
        "counts",
        SUBMITTED,
        lambda r: ran(r)["execution"].update(status="lost", exit_code=-1, stdout_bytes=-1),
    ),
    "counts: turns": ("counts", TURNS, lambda r: r["turns"].append({**r["turns"][-1], "turn": 9})),
    "outcome: no marker": ("outcome", TOKENS, lambda r: r.update(stop="submitted", submission="")),
    "outcome: marker": ("outcome", SUBMITTED, lambda r: r.update(stop="tokens", submission=None)),
    "outcome: goes on": ("outcome", SUBMITTED, lambda r: r["turns"].append({**r["turns"][0], "turn": 9})),
    "outcome: turns": ("outcome", TURNS, lambda r: r["turns"].pop()),
    "outcome: format": ("outcome", FORMAT, lambda r: r["turns"].pop()),
    "outcome: format unnoticed": ("outcome", FORMAT, lambda r: r.update(stop="tokens")),
    "outcome: submission": ("outcome", SUBMITTED, lambda r: r.update(submission=None)),
    "outcome: submission of nothing": ("outcome", TURNS, lambda r: r.update(submission="x")),
    "outcome: no patch": ("outcome", SUBMITTED, lambda r: r.update(patch=None)),
    "outcome: passed": ("outcome", TURNS, lambda r: r["verdicts"][0].update(verdict="passed")),
    "outcome: tests": ("outcome", SUBMITTED, lambda r: r["hidden_tests"].update(reason="no reason")),
    "outcome: error": ("outcome", SUBMITTED, lambda r: r.update(stop="error")),
    "metadata: value": ("metadata", SUBMITTED, lambda r: r["metadata"].update(temperature=0.5)),
    "metadata: missing": ("metadata", SUBMITTED, lambda r: r["metadata"].pop("images")),
    "metadata: more": ("metadata", SUBMITTED, lambda r: r["metadata"].update(host="x")),
    "metadata: other run spec": ("metadata", SUBMITTED, lambda r: r["metadata"].update(run_spec_sha256="0" * 64)),
    "leak": ("leak", SUBMITTED, lambda r: ran(r).update(observation="Observation: hf_" + "aB3" * 12)),
}


@pytest.mark.parametrize("name", BREAKS)
def test_each_rule_names_the_line_that_breaks_it(rows, record_file, name):
    _check_break(BREAKS[name], rows, record_file)


@pytest.mark.parametrize("name", OLD_BREAKS)
def test_each_rule_is_kept_for_rollouts_of_schema_1_0(old_rows, record_file, name):
    _check_break(OLD_BREAKS[name], old_rows, record_file)


def _check_break(case, rows, record_file):
    rule, number, change = case
    row = rows.pop(number)  # at the end, so that the first rollout of the task is another one
    change(row)
    found = findings(record_file([*rows, row]))
    assert rule in {finding.rule for finding in found}, found
    assert {finding.line for finding in found} == {10}


@pytest.mark.parametrize("schema", ["rows", "old_rows"])
def test_a_rollout_that_stands_twice_is_named_with_both_lines(request, record_file, schema):
    rows = request.getfixturevalue(schema)
    found = findings(record_file([*rows, rows[1]]))
    assert [(one.line, one.rule, one.message) for one in found] == [
        (11, "ids", "stands in line 2 already; keep one of the two lines")
    ]


def test_a_rollout_unlike_the_others_of_its_task_is_named_with_the_first_of_them(rows, record_file):
    rows[7]["metadata"]["language"] = "cobol"
    found = findings(record_file(rows))
    assert [(one.line, one.rule) for one in found] == [(8, "plan")]
    assert "language" in found[0].message
    assert "line 6, a rollout of the same task" in found[0].message


def test_spoilt_attempts_may_stand_several_times_in_their_own_file(rows, old_rows, record_file):
    row = rows[0]
    row["outcome"] |= {"ended": "sandbox_error", "verdicts": [], "solved": None, "patch": None, "patch_note": None}
    old = old_rows[0] | {"stop": "error", "detail": "the worker died", "verdicts": [], "patch": None}
    for spoilt, whole in ((row, rows[1]), (old, old_rows[1])):
        assert findings(record_file([spoilt, spoilt], "run.failures.jsonl")) == []
        assert [one.where for one in findings(record_file([whole], "run.failures.jsonl"))] == ["outcome.ended"]


def test_bundled_tasks_are_compared_with_their_rows(record_file):
    source, tasks = load("bundled")
    task = tasks[0]
    sampling = msgspec.structs.replace(SPEC.dataset.sampling, task_ids=tuple(task.instance_id for task in tasks))
    dataset = msgspec.structs.replace(SPEC.dataset, name=source.name, source=source.source, sha256=source.sha256)
    spec = msgspec.structs.replace(SPEC, dataset=msgspec.structs.replace(dataset, sampling=sampling))
    row = as_collected(LINES[0], spec, task)
    beside = msgspec.json.encode(spec)
    assert findings(record_file([row], spec=beside)) == []
    found = findings(record_file([{**row, "prompt": row["prompt"] + "!"}], spec=beside))
    assert [(one.rule, one.where) for one in found] == [("plan", "prompt")]
    found = findings(record_file([{**row, "metadata": {**row["metadata"], "base_commit": "f" * 40}}], spec=beside))
    assert [(one.rule, one.where) for one in found] == [("metadata", "metadata.base_commit")]


@pytest.mark.parametrize("field", ["prompt", "repo", "base_commit"])
def test_bundled_tasks_of_rollouts_of_schema_1_0_are_compared_with_their_rows(record_file, field):
    row = json.loads((KEPT / "rollouts.jsonl").read_bytes().splitlines()[0])
    row[field] += "0"
    found = findings(record_file([row], spec=(KEPT / "rollouts.run.json").read_bytes()))
    assert "plan" in {one.rule for one in found}
    assert field in {one.where.removeprefix("metadata.") for one in found}


@pytest.mark.parametrize("schema", ["rows", "old_rows"])
def test_the_run_spec_is_checked_too(request, record_file, schema):
    path = record_file(request.getfixturevalue(schema))
    beside = path.with_suffix(".run.json")
    spec = json.loads(beside.read_text(encoding="utf-8"))
    if schema == "old_rows":
        spec["sampling"]["instance_ids"] *= 2
    else:
        spec["dataset"]["sampling"]["task_ids"] *= 2
    beside.write_text(json.dumps({**spec, "more": 1, "collector_version": "/home/alice/run"}), encoding="utf-8")
    found = [one for one in findings(path) if one.line == 0]
    assert {(one.rule, one.where) for one in found} == {
        ("schema", "more"), ("leak", "collector_version"), ("plan", "dataset.sampling.task_ids"),
    }  # fmt: skip
    beside.write_text("{}", encoding="utf-8")
    assert "not a run spec" in findings(path)[0].message
    beside.unlink()
    validation = Validation(path)
    assert list(validation) == []
    assert "plan and metadata were not checked" in validation.notes[0]


def test_without_its_run_spec_a_record_is_known_by_its_metadata(rows, record_file):
    rows[0]["llm_steps"][0]["blocks"] = 2
    path = record_file(rows)
    path.with_suffix(".run.json").unlink()
    assert [(one.line, one.rule, one.where) for one in findings(path)] == [(1, "joins", "llm_steps[0].blocks")]


@pytest.mark.parametrize("schema", ["rows", "old_rows"])
def test_compacted_files_are_checked_as_they_are(request, record_file, tmp_path, schema):
    rows = request.getfixturevalue(schema)
    rows[3]["model"] = "another"
    path = record_file(rows)
    packed = tmp_path / "run.jsonl.zst"
    compact(path, packed)
    assert [one[1:] for one in findings(packed)] == [one[1:] for one in findings(path)] != []
    data = packed.read_bytes()
    packed.write_bytes(data[:40] + b"x" + data[41:])
    assert findings(packed)[-1].rule == "file"
    packed.write_bytes(data[:-1])
    assert "cut off" in findings(packed)[-1].message


def test_a_seek_table_that_is_not_of_the_file_is_found(rows, record_file, tmp_path):
    packed = tmp_path / "run.jsonl.zst"
    compact(record_file(rows), packed)
    data = bytearray(packed.read_bytes())
    data[-9 - 3 * 8 + 4] ^= 1  # the size of the first frame of two and the index
    packed.write_bytes(data)
    (found,) = findings(packed)
    assert (found.line, found.rule) == (0, "file")
    assert "frame 0 has" in found.message


@pytest.mark.parametrize("schema", ["rows", "old_rows"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@given(data=st.data())
def test_no_value_anywhere_stops_it(request, record_file, hurt, data, schema):
    rows = request.getfixturevalue(schema)
    row = hurt(data, copy.deepcopy(rows[0]))
    assert {one.line for one in findings(record_file([*rows[5:6], row]))} <= {2}


def test_the_command_takes_rollouts(old_rows, record_file):
    old_rows[1]["seed"] = 8
    path = record_file(old_rows)
    ended = subprocess.run([sys.executable, "-m", "agenttrace", "validate", path], capture_output=True, text=True)
    assert ended.returncode == 1
    assert f"{path}:2: plan: metadata.seed: is 8, must be" in ended.stdout
