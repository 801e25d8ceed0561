"""Three verdicts for a shell task: exit status, standard output, final state."""

from __future__ import annotations

import msgspec
import pytest

from agenttrace.errors import UsageError
from agenttrace.records import NO_PROCESS, Output, Span, StateChange, solved
from agenttrace.tasks import Evidence, Finished, gold
from agenttrace.tasks.gold import GradingPolicy, Observed

POLICY = GradingPolicy(origin="2.0", effect="W")
NEW = StateChange(path="n.txt", type="file", mode="0644", size=1, sha256="ab")


def out(text, total=None):
    return Output(text=text, bytes_total=len(text) if total is None else total, bytes_kept=len(text))


def run(text="a\n", status=0, changes=(), **more):
    return Observed(exit_status=status, stdout=out(text), stderr=out(""), changes=tuple(changes), **more)


def judged(ours, gold_run=None, policy=POLICY):
    found = gold.verdicts(policy, ours, gold_run or run())
    assert [verdict.aspect for verdict in found] == ["exit_status", "stdout", "state"]
    assert all(verdict.reason for verdict in found if verdict.verdict != "passed")
    return [verdict.verdict for verdict in found]


def span(name, *, exit_code=0, text="", status="ok"):
    return Span(
        span_id="s", type="TOOL", tool_name=name, tool_input="{}", tool_output="", start_ns=0, end_ns=1,
        duration_ms=1.0, telemetry=NO_PROCESS, exit_code=exit_code, parent_span_id="p", call_id="c", status=status,
        stdout=out(text), stderr=out("e"),
    )  # fmt: skip


def test_the_same_in_all_aspects_passes():
    assert judged(run()) == ["passed"] * 3
    assert judged(run("x\n", 1, [NEW]), run("x\n", 1, [NEW])) == ["passed"] * 3


@pytest.mark.parametrize(
    ("ours", "expected"),
    [
        (run(status=1), ["failed", "passed", "passed"]),
        (run("b\n"), ["passed", "failed", "passed"]),
        (run("a"), ["passed", "failed", "passed"]),
        (run("a\na\n"), ["passed", "failed", "passed"]),
        (run(changes=[NEW]), ["passed", "passed", "failed"]),
        (run(status=143, changes=[NEW]), ["failed", "passed", "failed"]),
        (Observed(exit_status=None, changes=()), ["failed", "failed", "passed"]),
        (msgspec.structs.replace(run(), changes=None), ["passed", "passed", "failed"]),
        (msgspec.structs.replace(run(), stdout=out("a\n", total=99)), ["passed", "failed", "passed"]),
    ],
)
def test_each_aspect_fails_by_itself(ours, expected):
    assert judged(ours) == expected


def test_text_that_only_looks_the_same_fails():
    ours = msgspec.structs.replace(run(), stdout=msgspec.structs.replace(out("\\xff"), encoding="backslashreplace"))
    found = gold.verdicts(POLICY, ours, run("\\xff"))[1]
    assert (found.verdict, found.method) == ("failed", "reference-stdout-v2")


def test_a_stream_that_was_cut_leaves_no_text_to_compare():
    whole, cut = run(), msgspec.structs.replace(run(), stderr=out("a\n", total=99))
    assert (whole.cut, cut.cut, msgspec.structs.replace(cut, status="timeout").cut) == (False, True, False)


@pytest.mark.parametrize("other", [{"mode": "0755"}, {"sha256": "cd"}, {"type": "dir"}, {"path": "m.txt"}])
def test_another_change_than_the_references_fails_the_state(other):
    assert judged(run(changes=[msgspec.structs.replace(NEW, **other)]), run(changes=[NEW]))[2] == "failed"


def test_an_empty_folder_counts():
    empty = StateChange(path="d", type="dir", mode="0755")
    assert judged(run(), run(changes=[empty]))[2] == "failed"
    assert judged(run(changes=[empty]), run(changes=[empty]))[2] == "passed"


def test_sorted_lines_settle_the_order_but_not_the_number():
    policy = msgspec.structs.replace(POLICY, stdout="sorted")
    assert judged(run("a\nb\n"), run("b\na\n"))[1] == "failed"
    assert judged(run("a\nb\n"), run("b\na\n"), policy)[1] == "passed"
    assert judged(run("a\na\nb\n"), run("b\na\n"), policy)[1] == "failed"


def test_ignored_content_still_has_to_be_there():
    policy = msgspec.structs.replace(POLICY, content_ignored=("n.txt",))
    other = msgspec.structs.replace(NEW, sha256="cd", size=9)
    assert judged(run(changes=[other]), run(changes=[NEW]))[2] == "failed"
    assert judged(run(changes=[other]), run(changes=[NEW]), policy)[2] == "passed"
    assert judged(run(), run(changes=[NEW]), policy)[2] == "failed"


def test_a_skipped_aspect_is_not_gradable_and_leaves_the_result_unknown():
    policy = msgspec.structs.replace(POLICY, skip={"stdout": "why"})
    found = gold.verdicts(policy, run("other\n"), run())
    assert [(v.verdict, v.reason) for v in found] == [("passed", None), ("not_gradable", "why"), ("passed", None)]
    assert solved(found) is None
    assert solved(gold.verdicts(policy, run(status=1), run())) is False


def test_a_reference_that_does_not_end_grades_nothing():
    assert judged(run(), Observed(exit_status=143, status="timeout")) == ["not_gradable"] * 3


def test_a_reference_that_writes_too_much_does_not_grade_its_output():
    long = msgspec.structs.replace(run(), stdout=out("a\n", total=10**9))
    assert judged(run(), long) == ["passed", "not_gradable", "passed"]


def test_what_a_run_did_is_its_last_bash_call_that_was_carried_out():
    spans = (
        span("bash", text="first"),
        span("bash", exit_code=3, text="second"),
        span("bash", status="not_executed"),
        span("python_interpreter", text="third"),
        span("final_answer"),
    )
    found = gold.last_call(Finished(answer="x", spans=spans, evidence=Evidence(changes=(NEW,))))
    assert (found.exit_status, found.text, found.changes) == (3, "seconde", (NEW,))
    assert gold.last_call(Finished(answer="x", spans=spans[2:], evidence=Evidence(changes=()))).exit_status is None


def test_a_reference_runs_in_a_pristine_tree(make_bench):
    bench = make_bench("demo")
    bench.before()
    bench.worker.call("bash", "rm -r *; echo x >left", limit_ms=5000)
    found = gold.run_gold(bench, "ls | wc -l; mkdir empty; cat; exit 4")
    assert found.exit_status == 4
    assert int(found.stdout.text) > 1
    assert [(change.path, change.type) for change in found.changes] == [("empty", "dir")]


def test_another_fixture_than_the_specs_is_refused(make_bench):
    bench = make_bench("demo", "0" * 64)
    with pytest.raises(UsageError, match="another tree 'demo'"):
        bench.before()
