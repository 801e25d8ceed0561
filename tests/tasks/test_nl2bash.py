"""NL2Bash: order, ids, prompts and the policy table."""

from __future__ import annotations

import re

import pytest

from agenttrace.errors import DataError, UsageError
from agenttrace.fixture.build import load
from agenttrace.records import NO_PROCESS, Outcome, Output, Span
from agenttrace.sandbox.reports import CallReport
from agenttrace.tasks import Finished, nl2bash, task_set
from bench.task_sets.references import ENVIRONMENT_FLAGS


def test_the_table_holds_every_task_in_the_curated_order():
    table = nl2bash.policy_table()
    expected = [
        f"{system}.{number}" for system, count in ((2, 53), (1, 60), (4, 27), (3, 60)) for number in range(count)
    ]
    assert [table.task[str(number)].origin for number in range(200)] == expected


def test_the_table_counts_what_is_known_of_the_set():
    policies = nl2bash.policy_table().task.values()
    effects = [policy.effect for policy in policies]
    assert {effect: effects.count(effect) for effect in "RWXIS"} == {"R": 137, "W": 37, "X": 15, "I": 8, "S": 3}
    flags = "".join(policy.flags for policy in policies)
    counts = {"T": 30, "P": 6, "U": 23, "N": 4, "D": 17, "G": 9, "O": 29, "L": 11, "H": 2, "B": 26, "A": 2}
    assert {flag: flags.count(flag) for flag in counts} == counts
    free = [policy for policy in policies if not set(policy.flags) & ENVIRONMENT_FLAGS]
    assert len(free) == 102
    assert not any(policy.skip for policy in free)


def test_every_skipped_aspect_has_a_reason_and_order_is_settled_by_sorting():
    for policy in nl2bash.policy_table().task.values():
        assert set(policy.skip) <= {"exit_status", "stdout", "state"}
        assert all(len(reason.split()) > 3 for reason in policy.skip.values())
        assert (policy.stdout == "sorted") == ("O" in policy.flags and "stdout" not in policy.skip)


def test_the_table_holds_no_text_of_a_task(task_files):
    text = nl2bash.POLICY.read_text()
    for task in task_set("nl2bash").tasks():
        assert task.expect["gold"] not in text
        assert task.prompt.splitlines()[0] not in text


def test_the_clock_stands_shortly_after_the_fixtures_own_time():
    from datetime import UTC, datetime, timedelta

    clock = datetime.fromisoformat(nl2bash.policy_table().clock)
    reference = datetime.fromtimestamp(load("nl2bash").mtime_ns / 1e9, tz=UTC)
    assert clock - reference == timedelta(minutes=30)


def test_prompts_are_made_as_upstream_made_them(task_files):
    tasks = task_set("nl2bash").tasks()
    assert [task.task_id for task in tasks] == list(range(200))
    for task in tasks:
        sentence, empty, hint = task.prompt.split("\n")
        assert (empty, hint) == ("", nl2bash.HINT)
        assert sentence
        assert not re.search(r"(?<![\w/])/(testbed|system|workspace|backup)\b", sentence + task.expect["gold"])
    assert len({task.prompt for task in tasks}) == 200
    assert tasks[138].name == "fs_4.25"


def test_the_run_spec_names_source_digest_and_rule(task_files):
    spec = task_set("nl2bash").spec(offset=9, count=2)
    assert (spec.offset, spec.count, spec.split) == (9, 2, "train")
    assert spec.prompt_sanitization_version == "testdata-path-rewrite-v1"
    with pytest.raises(UsageError, match="tasks 0 to 199"):
        task_set("nl2bash").tasks(offset=200)


def test_a_table_of_other_tasks_is_refused(tmp_path):
    broken = tmp_path / "policy.toml"
    broken.write_text(nl2bash.POLICY.read_text().replace('flags = "O"', 'flags = "Z"', 1))
    with pytest.raises(DataError, match="unknown flags"):
        nl2bash.policy_table(broken)
    broken.write_text("clock = 1")
    with pytest.raises(DataError, match="not a policy table"):
        nl2bash.policy_table(broken)


class StillBench:
    """A bench whose commands change nothing and write what they are told."""

    def __init__(self, written):
        self.written = written

    def before(self):
        return ()

    def pristine(self):
        """Nothing to do: nothing changes."""

    def changes(self):
        return ()

    def call(self, kind, code, *, limit_ms):
        return CallReport(
            exit_code=0, signal=None, status="ok", stdout=self.written, stderr=NOTHING, telemetry=NO_PROCESS,
            start_ns=0, end_ns=1,
        )  # fmt: skip


NOTHING = Output(text="", bytes_total=0, bytes_kept=0)


@pytest.mark.parametrize("cut", ["none", "run", "run's stderr", "reference"])
def test_output_that_was_cut_gets_no_reward(task_files, cut):
    whole = Output(text="word\n", bytes_total=5, bytes_kept=5)
    part = Output(text="word\n", bytes_total=10**9, bytes_kept=5)
    stdout, stderr = part if cut == "run" else whole, part if cut == "run's stderr" else NOTHING
    scores = scores_of(0, stdout, stderr, reference=part if cut == "reference" else whole)
    assert scores == ({"intercode_reward_v2": 1.0} if cut == "none" else {})


@pytest.mark.parametrize(("number", "skipped"), [(64, "state"), (36, "stdout")])
def test_what_is_not_gradable_gets_no_reward_which_would_be_another_at_the_next_run(task_files, number, skipped):
    assert skipped in task_set("nl2bash").policies[number].skip
    whole = Output(text="word\n", bytes_total=5, bytes_kept=5)
    assert scores_of(number, whole, NOTHING, reference=whole) == {}


def scores_of(number, stdout, stderr, *, reference):
    """Return the scores of a run of a task whose one call wrote this, where its reference writes `reference`."""
    span = Span(
        span_id="s", type="TOOL", tool_name="bash", tool_input="{}", tool_output="", start_ns=0, end_ns=1,
        duration_ms=1.0, telemetry=NO_PROCESS, exit_code=0, parent_span_id="p", call_id="c", status="ok",
        stdout=stdout, stderr=stderr,
    )  # fmt: skip
    chosen = task_set("nl2bash")
    finished = Finished(outcome=Outcome(ended="final_answer", changes=()), spans=(span,))
    return chosen.assess(chosen.tasks(offset=number, count=1)[0], finished, StillBench(reference)).scores
