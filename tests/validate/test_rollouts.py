"""Every rule on rollouts finds what breaks it, and nothing in a run as it was made."""

from __future__ import annotations

import copy
import json
import subprocess
import sys

import msgspec
import pytest
from agenttrace.agents.bash_block_spec import task_message
from agenttrace.rollouts.compact import compact
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agenttrace.rollouts import derived
from agenttrace.tasks.swe.rows import load
from agenttrace.validate import Validation
from bench.synthetic import rollouts as synthetic

CORPUS = synthetic.Corpus(tasks=2, repos=2, rollouts=5, max_turns=8)
SPEC = synthetic.spec(CORPUS)
# One of each stop rule, in this order.
SUBMITTED, TURNS, TOKENS, FORMAT = range(4)


@pytest.fixture
def rows():
    return [json.loads(msgspec.json.encode(one)) for one in synthetic.rollouts(CORPUS)]


@pytest.fixture
def record_file(tmp_path):
    """Return a function that writes rows as a record file with its run spec."""

    def write(rows, name="run.jsonl", spec=SPEC):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        (tmp_path / "run.run.json").write_bytes(msgspec.json.encode(spec))
        return path

    return write


def findings(path):
    return list(Validation(path))


def test_a_run_as_it_was_made_has_no_findings(rows, record_file):
    validation = Validation(record_file(rows))
    assert list(validation) == []
    assert validation.records == len(rows) == 10
    assert validation.notes == ["the tasks of bundled are not here: problem statements were not compared"]


def test_a_run_that_is_not_finished_says_so(rows, record_file):
    validation = Validation(record_file(rows[:3]))
    assert list(validation) == []
    assert validation.notes[-1] == "3 of the 10 rollouts of the run spec have a record"


def ran(row):
    """The first turn with a command that printed something and did not fail."""
    return next(t for t in row["turns"] if t["execution"] and t["execution"]["stdout_bytes"])


def other_spec(row):
    row["metadata"]["run_spec_sha256"] = "0" * 64


BREAKS = {
    "schema: type": ("schema", SUBMITTED, lambda r: r.update(seed="7")),
    "schema: missing": ("schema", SUBMITTED, lambda r: r.pop("patch")),
    "schema: unknown stop": ("schema", SUBMITTED, lambda r: r.update(stop="bored")),
    "schema: unknown key": ("schema", SUBMITTED, lambda r: r["turns"][0].update(extra=1)),
    "schema: version": ("schema", SUBMITTED, lambda r: r["metadata"].update(schema_version="9.0.0")),
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
    "metadata: other run spec": ("metadata", SUBMITTED, other_spec),
    "leak": ("leak", SUBMITTED, lambda r: ran(r).update(observation="Observation: hf_" + "aB3" * 12)),
}


@pytest.mark.parametrize("name", BREAKS)
def test_each_rule_names_the_line_that_breaks_it(rows, record_file, name):
    rule, number, change = BREAKS[name]
    row = rows.pop(number)  # at the end, so that the first rollout of the task is another one
    change(row)
    found = findings(record_file([*rows, row]))
    assert rule in {finding.rule for finding in found}, found
    assert {finding.line for finding in found} == {10}


def test_a_rollout_that_stands_twice_is_named_with_both_lines(rows, record_file):
    found = findings(record_file([*rows, rows[1]]))
    assert [(one.line, one.rule, one.message) for one in found] == [(11, "ids", "stands in line 2 already")]


def test_spoilt_attempts_may_stand_several_times_in_their_own_file(rows, record_file):
    row = rows[0] | {"stop": "error", "detail": "the worker died", "verdicts": [], "patch": None}
    assert findings(record_file([row, row], "run.failures.jsonl")) == []
    assert [one.where for one in findings(record_file([rows[1]], "run.failures.jsonl"))] == ["stop"]


def test_bundled_tasks_are_compared_with_their_rows(record_file, tmp_path):
    source, tasks = load("bundled")
    sampling = msgspec.structs.replace(SPEC.sampling, instance_ids=tuple(task.instance_id for task in tasks))
    spec = msgspec.structs.replace(SPEC, dataset=source, sampling=sampling)
    first = next(iter(synthetic.rollouts(CORPUS)))
    task = tasks[0]
    metadata = derived.metadata(spec, task.instance_id, 0, spec_sha256=spec.digest)
    rollout = msgspec.structs.replace(
        first, instance_id=task.instance_id, repo=task.repo, base_commit=task.base_commit, metadata=metadata,
        seed=metadata["seed"], rollout_id=derived.rollout_id(spec, task.instance_id, 0),
        prompt=task_message(spec.agent.instance_template, task, first.language),
    )  # fmt: skip
    assert findings(record_file([msgspec.to_builtins(rollout)], spec=spec)) == []
    for change in ({"prompt": rollout.prompt + "!"}, {"base_commit": "f" * 40}):
        found = findings(record_file([msgspec.to_builtins(msgspec.structs.replace(rollout, **change))], spec=spec))
        assert [(one.rule, one.where) for one in found] == [("plan", next(iter(change)))]


def test_the_run_spec_is_checked_too(rows, record_file):
    path = record_file(rows)
    beside = path.with_suffix(".run.json")
    spec = json.loads(beside.read_text(encoding="utf-8"))
    spec["sampling"]["instance_ids"] *= 2
    beside.write_text(json.dumps({**spec, "more": 1, "collector_version": "/home/alice/run"}), encoding="utf-8")
    found = [one for one in findings(path) if one.line == 0]
    assert {(one.rule, one.where) for one in found} == {
        ("schema", "more"), ("leak", "collector_version"), ("plan", "sampling.instance_ids"),
    }  # fmt: skip
    beside.write_text("{}", encoding="utf-8")
    assert "not a run spec of rollouts" in findings(path)[0].message
    beside.unlink()
    validation = Validation(path)
    assert list(validation) == []
    assert "plan and metadata were not checked" in validation.notes[0]


def test_compacted_files_are_checked_as_they_are(rows, record_file, tmp_path):
    rows[3]["model"] = "another"
    path = record_file(rows)
    packed = tmp_path / "run.jsonl.zst"
    compact(path, packed)
    assert [one[1:] for one in findings(packed)] == [one[1:] for one in findings(path)] != []
    data = packed.read_bytes()
    packed.write_bytes(data[:40] + b"x" + data[41:])
    assert [one.rule for one in findings(packed)] == ["file"]
    packed.write_bytes(data[:-1])
    assert "unpack it first" in findings(packed)[0].message


HARD = st.sampled_from(
    [None, True, -1, 2**63, 2**70, 1e308, "", "\ud800", "\x00\x1b[31m", "x" * 10_000, [], {}, [[]], {"a": {}}]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=100)
@given(data=st.data())
def test_no_value_anywhere_stops_it(rows, record_file, data):
    row = copy.deepcopy(rows[0])
    for _ in range(data.draw(st.integers(1, 3))):
        inner = row
        while isinstance(inner, (dict, list)) and inner:
            keys = sorted(inner) if isinstance(inner, dict) else range(len(inner))
            key = data.draw(st.sampled_from(keys))
            if not isinstance(inner[key], (dict, list)) or not inner[key] or data.draw(st.booleans()):
                inner[key] = copy.deepcopy(data.draw(HARD))
                break
            inner = inner[key]
    assert {one.line for one in findings(record_file([*rows[5:6], row]))} <= {2}


def test_the_command_takes_rollouts(rows, record_file):
    rows[1]["seed"] = 8
    path = record_file(rows)
    ended = subprocess.run([sys.executable, "-m", "agenttrace", "validate", path], capture_output=True, text=True)
    assert ended.returncode == 1
    assert f"{path}:2: plan: seed: is 8, the run spec gives" in ended.stdout
