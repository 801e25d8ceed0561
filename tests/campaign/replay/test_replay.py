"""A replay is identical, or says where it is not."""

from __future__ import annotations

import json

import msgspec
import pytest

from agenttrace.campaign.replay import findings
from agenttrace.campaign.replay.run import Replay
from agenttrace.errors import DataError, UsageError
from agenttrace.records import digest
from agenttrace.records.compare import Difference
from agenttrace.serving.cassette import cassette_path
from agenttrace.serving.frames import compress, scan
from agenttrace.store.read import read_traces, run_spec_path
from agenttrace.tasks.demo import DemoTasks


@pytest.fixture
def replayed(make_sandbox, display):
    def run(path, prepare=lambda _: None, *, workers=1, repeats=1):
        sandbox = make_sandbox()
        prepare(sandbox)
        return Replay(path).run(sandbox.connect, display, workers=workers, repeats=repeats)

    return run


def places(found):
    return {(one.where, one.field) for one in found.findings}


def test_a_replay_of_the_same_inputs_is_identical(recorded, replayed):
    found = replayed(recorded, repeats=2)
    assert found.findings == ()
    assert (found.traces, found.replayed, found.identical) == (3, 3, 3)
    assert found.passed
    assert json.loads(findings.as_json(found))["passed"] is True


def test_a_changed_fixture_file_is_named_and_shows_in_the_spans(recorded, replayed):
    def change(sandbox):
        tree = sandbox.base / "fixtures" / "demo"
        victim = next(path for path in sorted(tree.rglob("*")) if path.is_file())
        change.path = victim.relative_to(tree).as_posix()
        with victim.open("a") as file:
            file.write("one byte more: x\n")

    found = replayed(recorded, change)
    assert not found.passed
    assert ("inputs", f"fixture file {change.path}") in places(found)
    assert ("inputs", "the fixture (sandbox.fixture_version)") in places(found)
    spans = [one for one in found.findings if one.where == "span 2 (bash)" and one.field == "tool_output"]
    assert len(spans) == 3
    assert found.identical == 0


def test_a_changed_tool_shows_in_the_spans_that_used_it(recorded, replayed):
    def change(sandbox):
        tool = sandbox.base / "tools" / "uname"
        tool.write_text("#!/bin/sh\necho Minix\n")
        tool.chmod(0o755)

    found = replayed(recorded, change)
    assert found.identical == 0
    first = next(one for one in found.findings if one.trace_id is not None)
    assert (first.where, first.field) == ("span 2 (bash)", "tool_output")
    assert "Linux" in first.recorded
    assert "Minix" in first.found
    assert "Minix" in findings.as_text(first)
    assert not any("request" in one.field for one in found.findings)
    assert not any(one.where == "span 1 (bash)" for one in found.findings)


def test_a_changed_prompt_is_named_with_the_request_it_stands_in(recorded, replayed, monkeypatch, tmp_path):
    from agenttrace.tasks import demo

    changed = tmp_path / "demo.toml"
    changed.write_bytes(demo.DATA.read_bytes().replace(b'prompt = "', b'prompt = "Please: ', 1))
    monkeypatch.setattr("agenttrace.tasks.demo.DemoTasks.__init__.__defaults__", (changed,))
    found = replayed(recorded)
    assert ("step 1", "request.messages[1].content") in places(found)
    assert ("trace", "prompt") in places(found)
    assert ("inputs", "the task file (dataset.sha256)") in places(found)
    assert found.identical == 2


def test_a_changed_system_prompt_is_named(recorded, replayed, monkeypatch):
    from agenttrace.agents import tool_calling

    real = tool_calling.agent_spec

    def other(**limits):
        spec = real(**limits)
        return msgspec.structs.replace(spec, system_prompt=spec.system_prompt + " Hurry.")

    monkeypatch.setattr(tool_calling, "agent_spec", other)
    found = replayed(recorded)
    assert places(found) == {("step 1", "request.messages[0].content")}
    assert any("agent.system_prompt" in note for note in found.notes)
    assert found.identical == 0


@pytest.mark.parametrize(
    ("old", "new", "where", "field"),
    [
        (b'"exit_code":0', b'"exit_code":1', "span 1 (bash)", "exit_code"),
        (b'"reasoning_content":"hm"', b'"reasoning_content":"hn"', "step 1", "reasoning_content"),
        (b'"collector_version":"', b'"collector_version":"9', "trace", "metadata.collector_version"),
        (b'"final_answer":"7"', b'"final_answer":"8"', "trace", "outcome.final_answer"),
        (b'"method":"python-helper"', b'"method":"c-helper"', "span 1 (bash)", "telemetry.method"),
    ],
)
def test_a_changed_record_is_named(copy, replayed, old, new, where, field):
    copy.write_bytes(copy.read_bytes().replace(old, new, 1))
    found = replayed(copy)
    assert places(found) == {(where, field)}
    assert found.identical == 2


def test_what_processes_of_a_call_wrote_in_another_order_is_counted_by_itself(copy, replayed):
    spans = [span for trace in read_traces(copy) for span in trace.spans if "\nLinux" in span.tool_output]
    assert len(spans) == 3
    lines = copy.read_bytes().splitlines(keepends=True)
    lines[0] = lines[0].replace(rb"\nLinux", rb"L\ninux")  # a message in the middle of another
    lines[1] = lines[1].replace(rb"\nLinux", rb"\nLinuxx")
    copy.write_bytes(b"".join(lines))
    found = replayed(copy)
    assert (found.identical, found.reordered) == (1, 1)
    assert places(found) == {("span 2 (bash)", "tool_output"), ("span 2 (bash)", "stdout.text")}
    assert not found.passed
    copy.write_bytes(b"".join(lines[:1] + lines[2:]))
    found = replayed(copy)
    assert (found.traces, found.identical, found.reordered, found.findings) == (2, 1, 1, ())
    assert found.passed
    said = []
    findings.show(found, said.append)
    assert "1 byte-identical but for the measured fields, 1 more but for the order in which processes" in said[-1]


@pytest.mark.parametrize(
    ("field", "texts", "started", "alone"),
    [
        ("spans[0].stderr.text", ('"ab"', '"ba"'), 2, True),
        ("spans[0].tool_output", ('"ab"', '"ba"'), msgspec.UNSET, True),
        ("spans[0].stderr.text", ('"ab"', '"ba"'), 1, False),
        ("spans[0].stderr.text", ('"ab"', '"bb"'), 2, False),
        ("spans[0].stderr.text", ('"12"', "null"), 2, False),
        ("spans[0].tool_input", ('"ab"', '"ba"'), 2, False),
        ("llm_steps[0].model_output", ('"ab"', '"ba"'), 2, False),
        ("spans[0].stdout.bytes_total", ("12", "21"), 2, False),
    ],
)
def test_order_is_all_that_differs_only_where_several_processes_wrote_the_same(recorded, field, texts, started, alone):
    trace = next(read_traces(recorded))
    cost = msgspec.structs.replace(trace.spans[0].telemetry, processes_started=started)
    trace = msgspec.structs.replace(trace, spans=(msgspec.structs.replace(trace.spans[0], telemetry=cost),))
    difference = Difference(field=field, recorded=texts[0], found=texts[1])
    assert findings.is_order_alone(difference, trace) is alone


def test_measured_values_may_be_anything(copy, replayed):
    text = copy.read_text()
    trace = next(read_traces(copy))
    for value in (trace.spans[0].telemetry.wall_ns, trace.spans[0].start_ns, trace.llm_steps[0].end_ns):
        text = text.replace(str(value), "1")
    copy.write_text(text)
    assert replayed(copy).passed


def test_a_flipped_byte_in_the_cassette_is_named_with_the_trace_it_costs(copy, replayed):
    tape = cassette_path(copy)
    data = bytearray(tape.read_bytes())
    data[-30] ^= 1
    tape.write_bytes(data)
    found = replayed(copy)
    assert (found.replayed, found.identical) == (2, 2)
    assert not found.passed
    last = list(read_traces(copy))[-1].trace_id
    damage, lost = found.findings
    assert damage.where == "cassette"
    assert "are damaged" in damage.found
    assert lost.trace_id == last
    assert "no replies of trace" in lost.found


def rewritten(tape, change):
    """Write a cassette anew with other lines, every frame whole."""
    with tape.open("rb") as file:
        lines = [json.loads(frame.data) for frame in scan(file)]
    for line in lines:
        change(line)
    tape.write_bytes(b"".join(compress(json.dumps(line).encode() + b"\n") for line in lines))


@pytest.mark.parametrize("facts", [{"fixture": ["x"], "sandbox": [1]}, {"fixture": {"x": 1}}, {"sandbox": "x"}])
def test_facts_of_another_form_are_a_finding(copy, replayed, facts):
    def change(line):
        if line.get("facts"):
            line["facts"] = {name: digest(value) for name, value in facts.items()}
            line["values"] = {digest(value): value for value in facts.values()}

    rewritten(cassette_path(copy), change)
    found = replayed(copy)
    assert places(found) == {("cassette", "facts")}
    assert found.identical == 3


def test_a_part_of_an_image_of_one_word_is_a_note(copy, replayed):
    def change(line):
        if line.get("facts"):
            line["facts"]["sandbox"] = digest(["x"])
            line["values"][digest(["x"])] = ["x"]

    rewritten(cassette_path(copy), change)
    assert replayed(copy).passed


@pytest.mark.parametrize("where", ["fixed", "messages"])
def test_a_request_of_another_form_costs_its_trace(copy, replayed, where):
    def change(line):
        if line.get("trace_id"):
            line["values"][digest("x")] = "x"
            line["turns"][0][where] = digest("x") if where == "fixed" else [digest("x")]

    rewritten(cassette_path(copy), change)
    found = replayed(copy)
    assert found.replayed == 0
    assert ["is none" in one.found for one in found.findings] == [True] * 3


def test_a_run_spec_of_more_rollouts_than_can_be_is_refused(copy, replayed):
    beside = run_spec_path(copy)
    beside.write_text(beside.read_text().replace('"rollouts": 1', f'"rollouts": {10**12}'))
    with pytest.raises(UsageError, match="more than 1000000000 records"):
        replayed(copy)


def test_a_trace_that_the_run_spec_does_not_make_is_named(copy, replayed):
    trace = next(read_traces(copy))
    copy.write_bytes(copy.read_bytes().replace(trace.trace_id.encode(), b"0" * 36, 1))
    found = replayed(copy)
    assert "no task of the run spec" in found.findings[0].found
    assert found.replayed == 2


def test_the_cassette_of_another_run_spec_is_named(copy, replayed):
    beside = run_spec_path(copy)
    beside.write_text(beside.read_text().replace('"max_steps": 10', '"max_steps": 9'))
    found = replayed(copy)
    assert ("cassette", "run_spec_sha256") in places(found)
    assert ("trace", "metadata.max_steps") in places(found)


def test_more_steps_than_were_recorded_are_told_once_and_end_the_trace(recorded, replayed, monkeypatch):
    from agenttrace.serving.cassette import Cassette

    whole = Cassette.turns
    monkeypatch.setattr(Cassette, "turns", lambda self, trace_id: whole(self, trace_id)[:-1])
    found = replayed(recorded)
    assert ("step 3", "request") in places(found)
    assert ("trace", "outcome.ended") in places(found)
    assert found.replayed == 3


@pytest.mark.parametrize("missing", [cassette_path, run_spec_path])
def test_what_is_missing_is_named(copy, missing):
    missing(copy).unlink()
    with pytest.raises(UsageError, match=missing(copy).name):
        Replay(copy)


@pytest.mark.parametrize("line", [b"{}\n", b"\xff\n", b'{"trace_id": "1"', b"[" * 100_000])
def test_a_line_that_is_no_record_is_named(copy, line):
    with copy.open("ab") as file:
        file.write(line)
    with pytest.raises(DataError, match="line 4"):
        Replay(copy)


def test_the_demo_tasks_of_the_test_are_the_real_ones():
    assert len(DemoTasks().tasks()) >= 20
