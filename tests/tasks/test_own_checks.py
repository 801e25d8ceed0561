"""The checks of users' tasks, on a real runner of this host over the fixture of the demo tasks."""

from __future__ import annotations

import json

import pytest

from agenttrace.records import NO_PROCESS, Outcome, Span
from agenttrace.tasks import Finished, Task
from agenttrace.tasks.bench import UNRECORDED
from agenttrace.tasks.own import checks


@pytest.fixture
def bench(make_bench):
    made = make_bench("demo")
    made.before()
    return made


def span(command, report=None):
    return Span(
        span_id="s", type="TOOL", tool_name="bash", tool_input=json.dumps({"command": command}), tool_output="",
        start_ns=1, end_ns=2, duration_ms=1.0, telemetry=NO_PROCESS, exit_code=report and report.exit_code,
        parent_span_id=None, call_id="c", status="ok" if report is None else report.status,
        stdout=report and report.stdout, stderr=report and report.stderr,
    )  # fmt: skip


def ran(bench, *commands, answer=None):
    """A run that gave these commands, as the campaign observes it; its tree is still in the bench."""
    bench.pristine()
    spans = tuple(span(one, bench.call("bash", one, limit_ms=10_000)) for one in commands)
    outcome = Outcome(ended="final_answer", final_answer=answer, changes=bench.changes())
    return Finished(outcome=outcome, spans=spans)


def judged(bench, finished, *found, gold=None):
    named = [{"name": f"{one['kind']}_{number}", **one} for number, one in enumerate(found)]
    task = Task(task_id=1, name="1", prompt="p", kind="own", expect={"check": named, "gold": gold, "gold_answer": None})
    return checks.judge(task, finished, bench)


def verdicts(bench, finished, *found, **more):
    return [one.verdict for one in judged(bench, finished, *found, **more)]


def test_answers(bench):
    equal, like = {"kind": "answer", "equals": "20"}, {"kind": "answer", "matches": r"\b20\b"}
    assert verdicts(bench, ran(bench, answer=" **20**\n"), equal, like) == ["passed", "passed"]
    assert verdicts(bench, ran(bench, answer="it is 20"), equal, like) == ["failed", "passed"]
    assert verdicts(bench, ran(bench), equal, like) == ["failed", "failed"]


def test_files(bench):
    left = ran(
        bench,
        "printf 'a\\nb\\n' > new; chmod 600 new; ln -s new link; rm words.txt; printf '\\377' > bytes; mkdir -p d/e",
        "ln -s /etc/hostname out; head -c 2000000 /dev/zero > large",
    )
    for check, said in (
        ({"path": "new", "exists": True, "equals": "a\nb\n", "mode": "0600", "matches": "(?m)^b$"}, None),
        ({"path": "words.txt", "absent": True}, None),
        ({"path": "README.md", "matches": "Nothing in it is real"}, None),
        ({"path": "d/e", "exists": True, "mode": "0755"}, None),
        ({"path": "new", "equals": "a\nb"}, "new has another content (4 bytes, expected are 3)"),
        ({"path": "new", "mode": "0644"}, "new has mode 0600, expected 0644"),
        ({"path": "new", "sha256": "0" * 64}, "new has SHA-256 "),
        ({"path": "new", "matches": "^c"}, "new does not match '^c'"),
        ({"path": "new", "absent": True}, "new is there"),
        ({"path": "words.txt", "exists": True}, "words.txt is not there"),
        ({"path": "link", "equals": "a\nb\n"}, "link is no file (symlink)"),
        ({"path": "out", "matches": "."}, "out is no file (symlink)"),
        ({"path": "d", "sha256": "0" * 64}, "d is no file (dir)"),
        ({"path": "bytes", "matches": "."}, "bytes is not UTF-8"),
        ({"path": "large", "matches": "."}, "large has 2000000 bytes, more than the 1048576 that are compared"),
    ):
        (one,) = judged(bench, left, {"kind": "file", **check})
        assert (one.verdict, one.method) == ("failed" if said else "passed", "file-state-v1"), check
        assert (one.reason or "").startswith(said or ""), check


def test_commands_and_scripts(bench):
    left = ran(bench, "echo 5 > n")
    for check, said in (
        ({"kind": "stdout", "command": "cat n", "equals": "5"}, None),
        ({"kind": "stdout", "command": "cat n; exit 1", "matches": "^5\n$"}, None),
        ({"kind": "stdout", "command": "cat n", "equals": "6"}, "expected '6', got '5'"),
        ({"kind": "stdout", "command": "printf '\\377'", "equals": "6"}, "its output is not UTF-8"),
        ({"kind": "stdout", "command": "sleep 9", "equals": "", "limit_s": 0.2}, "it took longer than 0.2 s"),
        ({"kind": "stdout", "command": "yes | head -c 2000000", "equals": ""}, "its output has 2000000 bytes"),
        ({"kind": "exit_status", "script": "test -s n"}, None),
        ({"kind": "exit_status", "script": "exit 3", "equals": 3}, None),
        ({"kind": "exit_status", "script": "exit 3"}, "exit status 3, expected 0"),
        ({"kind": "exit_status", "script": "if"}, "exit status 2, expected 0"),
    ):
        (one,) = judged(bench, left, check)
        assert one.verdict == ("failed" if said else "passed"), (check, one)
        assert (one.reason or "").startswith(said or ""), check


def test_each_command_finds_the_tree_that_the_run_left(bench):
    look = {"kind": "stdout", "command": "cat n; rm -f n; echo more >> words.txt", "equals": "5"}
    assert verdicts(bench, ran(bench, "echo 5 > n"), look, look, look) == ["passed"] * 3


def test_a_tree_that_no_call_could_make_again_is_put_back_after_a_check_that_changed_it(bench):
    left = ran(
        bench, "date +%s%N > junk; mkdir -m 700 d; ln -s junk d/link; printf '\\377' > d/bytes; chmod 500 d/bytes"
    )
    look = {"kind": "exit_status", "script": "test -s junk && test -L d/link && rm -rf junk d && touch new words.txt"}
    assert verdicts(bench, left, look, look, {**look, "script": "test -e absent"}) == ["passed", "passed", "failed"]


def test_what_a_run_left_beside_its_tree_counts_for_nothing(bench, worker):
    temporary = f"/tmp/agenttrace-test-{worker.info.tool_uid}"
    left = ran(
        bench,
        f"echo forged > {temporary}; echo 'def length: 99;' > .jq; (sleep 30; echo late > late.txt) & ",
        "mkdir -p .local; echo 'export X=forged' > .bashrc",
    )
    found = (
        {"kind": "stdout", "command": f"cat {temporary} 2>/dev/null; echo $HOME $X", "equals": "/nonexistent"},
        {"kind": "stdout", "command": "ps -u $(id -u) -o comm= | grep -c sleep", "equals": "0"},
    )
    assert verdicts(bench, left, *found) == ["passed", "passed"]


def test_a_recorded_run_is_judged_by_its_calls_made_again(bench):
    left = ran(bench, "echo 5 > n", "echo 6 >> n")
    look = {"kind": "stdout", "command": "cat n", "equals": "5\n6"}
    bench.pristine()
    assert verdicts(bench, left, look) == ["passed"]


SHUT = (
    "chmod 0 words.txt",
    "mkdir -p a/b/c; echo 1 > a/b/c/f; chmod 0 a/b/c/f a/b/c a/b a",
    "mkfifo p; chmod 0 p; ln -s words.txt l; chmod 200 words.txt; mkdir d; chmod 300 d",
    "mkdir 'a  b'; touch $'a  b/x\\n y'; chmod 0 'a  b'/* 'a  b'; touch -- -n; chmod 0 -- -n",
    "chmod 0 $PWD",
)


@pytest.mark.parametrize("command", SHUT)
def test_a_tree_that_its_owner_cannot_read_is_put_back_after_a_check(bench, command):
    left = ran(bench, "date +%N > now", command)
    changing = {
        "kind": "exit_status",
        "script": "chmod -R u+rwx $PWD; rm -rf ./*; echo more > more; mkdir z; touch z/z; chmod 0 z",
    }
    look = {"kind": "stdout", "command": "stat -c %a $PWD; chmod 700 $PWD; wc -l < now"}
    mode = "0" if command == SHUT[-1] else "755"
    assert verdicts(bench, left, changing, changing, {**look, "equals": f"{mode}\n1"}) == ["passed"] * 3
    assert bench.changes() == left.outcome.changes


def test_what_cannot_be_made_again_is_not_gradable_and_the_rest_is_judged(bench):
    left = ran(bench, "date +%N > now; echo 5 > n")
    bench.pristine()
    of_file = {"kind": "file", "path": "n"}
    look = {"kind": "stdout", "command": "cat n", "equals": "5"}
    found = judged(bench, left, look, {**of_file, "equals": "5\n"}, {**of_file, "matches": "5"})
    assert [one.verdict for one in found] == ["not_gradable", "passed", "not_gradable"]
    assert found[0].reason == f"{checks.NOT_AGAIN}: another now"


def test_a_state_too_different_to_be_recorded_failed(bench):
    left = Finished(outcome=Outcome(ended="final_answer", changes=None), spans=())
    found = judged(
        bench, left, {"kind": "file", "path": "n", "exists": True}, {"kind": "exit_status", "script": "true"},
        {"kind": "stdout", "command": "true", "equals": ""},
    )  # fmt: skip
    assert {(one.verdict, one.reason) for one in found} == {("failed", UNRECORDED)}


def test_the_gold_command_is_compared_by_what_it_leaves_prints_and_ends_with(bench):
    gold = "sort -u words.txt | tee sorted.txt; false"
    every = {"kind": "gold", "name": "gold", "compare": ["state", "stdout", "exit_status"], "sorted": True}
    look = {"kind": "stdout", "command": "head -n 1 sorted.txt", "equals": "cloud"}
    same = ran(bench, "sort -u words.txt > sorted.txt; sort -ur words.txt; false")
    found = judged(bench, same, every, look, gold=gold)  # in the order of the checks, whichever was first
    assert [(one.aspect, one.verdict) for one in found] == [
        ("gold_state", "passed"), ("gold_stdout", "passed"), ("gold_exit_status", "passed"), ("stdout_1", "passed"),
    ]  # fmt: skip
    other = ran(bench, "echo cloud > sorted.txt")
    assert verdicts(bench, other, every, gold=gold) == ["failed"] * 3
    ignoring = {"kind": "gold", "ignore_content": ["sorted.txt"]}
    assert verdicts(bench, other, ignoring, gold=gold) == ["passed"]
    assert verdicts(bench, ran(bench, "echo cloud > sorted.txt; touch x"), ignoring, gold=gold) == ["failed"]
