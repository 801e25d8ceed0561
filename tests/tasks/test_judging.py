"""Judging again: verdicts are computed anew, no other byte of a record changes."""

from __future__ import annotations

import msgspec
import pytest

from agenttrace.errors import DataError, UsageError
from agenttrace.records import DatasetSpec, Outcome, StateChange, Trace, Verdict, solved
from agenttrace.tasks import Finished, Judgement, judging, task_set
from agenttrace.tasks.bench import Bench

CHANGES = (StateChange(path="extra", type="dir", mode="0755"),)


def line(task, outcome):
    trace = Trace(
        trace_id="t", timestamp_utc="now", prompt=task.prompt, model="m", spans=(), llm_steps=(),
        total_duration_ms=1.25, metadata={"task_id": task.task_id, "ü": "ä\n"}, environment={}, outcome=outcome,
    )  # fmt: skip
    return msgspec.json.encode(trace) + b"\n"


@pytest.fixture
def demo():
    chosen = task_set("demo")
    tasks = {task.task_id: task for task in chosen.tasks()}
    return chosen, tasks, next(task for task in tasks.values() if not task.expect.get("changes"))


@pytest.fixture
def judged(demo, make_bench):
    chosen, tasks, task = demo
    return lambda outcome: judging.rejudged(line(task, outcome), chosen, tasks, make_bench("demo"))


def test_wrong_verdicts_are_put_right_and_nothing_else(demo, judged):
    task = demo[2]
    wrong = (Verdict(aspect="answer", verdict="failed", method="x"),)
    old = Outcome(ended="max_steps", detail="d", final_answer=task.expect["answer"], verdicts=wrong, changes=())
    found = judged(old)
    assert found.differs
    assert [v.verdict for v in found.after.verdicts] == ["passed", "passed"]
    assert (found.after.solved, found.after.ended, found.after.detail) == (True, "max_steps", "d")
    start, end = line(task, old).split(b'"outcome":')[0], b'"outcome":' + msgspec.json.encode(found.after) + b"}\n"
    assert found.line == start + end


def test_the_recorded_state_is_what_is_judged(demo, judged):
    answer = demo[2].expect["answer"]
    found = judged(Outcome(ended="final_answer", final_answer=answer, changes=CHANGES))
    assert [v.verdict for v in found.after.verdicts] == ["passed", "failed"]
    assert "extra" in found.after.verdicts[1].reason
    again = judged(found.after)
    assert not again.differs
    assert again.line == line(demo[2], found.after)


def test_nothing_is_judged_in_a_worker_that_is_worn(demo, worker):
    chosen, _, task = demo
    seen = []

    class Looking(type(chosen)):
        def assess(self, task, finished, bench):
            seen.append((bench.worn, bench.worker is worker))
            return Judgement(verdicts=())

    def connect():
        assert worker.closed
        return "another"

    bench = Bench(worker, None, connect=connect)
    bench.worn = True
    judging.assessed(Looking(), task, Finished(outcome=Outcome(ended="final_answer"), spans=()), bench)
    assert seen == [(False, False)]


def verdict(word, method, aspect="a", reason=None):
    return Verdict(aspect=aspect, verdict=word, method=method, reason=reason)


def outcome(*verdicts, **more):
    return Outcome(ended="max_steps", verdicts=verdicts, **{"solved": solved(verdicts), **more})


OLD, NEW = verdict("passed", "rule-v1"), verdict("failed", "rule-v2", reason="r")


@pytest.mark.parametrize(
    ("before", "after", "differs", "dated"),
    [
        (outcome(OLD), outcome(OLD), False, 0),
        (outcome(OLD), outcome(NEW), False, 1),
        (outcome(NEW), outcome(OLD), False, 1),
        (outcome(OLD), outcome(verdict("failed", "rule-v1")), True, 0),
        (outcome(OLD), outcome(verdict("passed", "other-v1")), True, 0),
        (outcome(OLD, solved=False), outcome(NEW), True, 1),
        (outcome(OLD, solved=False), outcome(OLD), True, 0),
        (outcome(OLD, verdict("passed", "x-v1", "b")), outcome(NEW, verdict("failed", "x-v1", "b")), True, 1),
        (outcome(OLD), outcome(NEW, verdict("passed", "x-v1", "b")), True, 1),
        (outcome(scores={"f": 1.0}), outcome(scores={"f_v2": 0.5}), False, 0),
        (outcome(scores={"f_v2": 1.0}), outcome(scores={"f_v2": 0.5}), True, 0),
        (outcome(scores={"f": 1.0}), outcome(), True, 0),
    ],
)
def test_another_version_of_a_method_is_no_difference(before, after, differs, dated):
    found = judging.Rejudged(trace_id="t", task_id=1, before=before, after=after, line=b"")
    assert found.differs == differs
    assert len(found.dated) == dated


@pytest.mark.parametrize(
    "outcome", [Outcome(ended="final_answer", final_answer="x"), Outcome(ended="sandbox_error", changes=())]
)
def test_what_cannot_be_judged_stays_as_it_is(demo, judged, outcome):
    found = judged(outcome)
    assert not found.differs
    assert found.line == line(demo[2], outcome)


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda _: b"{}\n", "not a trace record"),
        (lambda good: good[:-9], "not a trace record.*the line is cut off"),
        (lambda _: b"[" * 10**5 + b"\n", "not a trace record"),
        (lambda _: b"\xff\xfe\n", "not a trace record"),
        (lambda good: good.replace(b'"task_id":', b'"task_id":77'), "task_id is '77.*no such task"),
        (lambda good: good.replace(b'"task_id":', b'"task":'), "task_id is 'None'.*no such task"),
        (lambda good: good.replace(b'"task_id":', b'"task_id":[],"x":'), r"task_id is '\[\]'.*no such task"),
    ],
)
def test_a_line_that_is_no_record_is_named(demo, damage, says):
    line_of = line(demo[2], Outcome(ended="max_steps", changes=()))
    assert judging.recorded(line_of, demo[1], "x.jsonl, line 7")[1] is demo[2]
    with pytest.raises(DataError, match=rf"^x\.jsonl, line 7: .*{says}"):
        judging.recorded(damage(line_of), demo[1], "x.jsonl, line 7")


def test_fields_keep_their_bytes_whatever_their_form():
    given = b'{"a": [1.50, {"x":"\\u00e9"}], "outcome":{}, "z" : 1e3}\n'
    found = judging.with_outcome(given, Outcome(ended="max_steps"))
    assert found.startswith(b'{"a":[1.50, {"x":"\\u00e9"}],"outcome":{"ended":"max_steps"')
    assert found.endswith(b',"z":1e3}\n')


def test_records_of_another_task_set_are_refused(demo):
    spec = DatasetSpec(name="demo", split="demo", source="s", sha256="0" * 64, offset=0, count=1)

    class Spec:
        dataset = spec

    with pytest.raises(UsageError, match="made from another demo"):
        judging.matching_set(demo[0], Spec)
