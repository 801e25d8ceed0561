"""The bash-block agent: one block a turn, format errors forgiven, every stop rule told apart."""

import json
import re

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttrace.agents.bash_block import BashBlockAgent, blocks, observe, submitted
from agenttrace.errors import WorkerLostError
from agenttrace.records import NO_PROCESS, BashBlockSpec, Output
from agenttrace.sandbox.reports import CallReport
from agenttrace.serving.model import ContextFullError, Reply, RequestRefusedError, UnparsableReplyError


def spec(**fields):
    return BashBlockSpec(
        **{
            "version": 1, "system_template": "s", "instance_template": "t",
            "observation_template": "swe-zero", "format_error_template": "exactly one block", "max_turns": 6,
            "max_format_errors": 3, "max_output_tokens": 100, "max_total_tokens": 10_000, "reserve_tokens": 16,
            "observation_max_chars": 40, "call_limit_ms": 1000, **fields,
        }
    )  # fmt: skip


def report(stdout="", stderr="", exit_code=0, status="ok"):
    def stream(text):
        return Output(text=text, bytes_total=len(text.encode()), bytes_kept=len(text.encode()))

    return CallReport(
        exit_code=exit_code, signal=None, status=status, stdout=stream(stdout), stderr=stream(stderr),
        telemetry=NO_PROCESS, start_ns=1, end_ns=2,
    )  # fmt: skip


MINI_SWE_AGENT = re.compile(r"```bash\s*\n(.*?)\n```", re.DOTALL)
PIECES = st.sampled_from(
    ["```", "```bash", "`", "bash", "\n", "\n\n", " ", "\t\n", "\x85", "x", "\n```", "```bash\n", "y z"]
)


@settings(max_examples=1000)
@given(st.lists(PIECES, max_size=14).map("".join))
def test_blocks_are_those_of_mini_swe_agents_pattern(content):
    assert blocks(content) == [found.strip() for found in MINI_SWE_AGENT.findall(content)]


def test_a_model_that_repeats_line_feeds_ends():
    assert blocks("```bash" + "\n" * 200_000) == []  # by the pattern above this takes hours
    assert blocks("```bash" + " \n" * 200_000 + "x") == []


class Scripted:
    """Replies in order, and a shell that echoes; counts a token per word."""

    def __init__(self, *replies, shell=None):
        self.replies = list(replies)
        self.commands = []
        self.asked = []
        self.shell = shell or (lambda command: report(f"ran {command}\n"))

    def count(self, messages):
        return sum(len(message["content"].split()) for message in messages)

    def complete(self, messages, *, max_tokens):
        self.asked.append(([dict(message) for message in messages], max_tokens))
        text = self.replies.pop(0)
        if isinstance(text, Exception):
            raise text
        return Reply(
            content=text, reasoning=None, tool_calls=(), finish_reason="stop", input_tokens=1, output_tokens=1,
            timings=None, start_ns=1, end_ns=2, elapsed_ns=1,
        )  # fmt: skip

    def call(self, kind, command, *, limit_ms, keep_bytes):
        assert (kind, limit_ms) == ("bash", 1000)
        self.commands.append(command)
        return self.shell(command)


def run(scripted, **fields):
    return BashBlockAgent(spec(**fields), scripted, scripted).run("trace-1", "task")


def commands(made):
    return [json.loads(span.tool_input)["command"] for span in made.spans]


def block(command):
    return f"THOUGHT: so\n```bash\n{command}\n```"


SUBMIT = block("echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT")


def submitting(command):
    return report("COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT\ndone\n" if "SUBMIT" in command else "seen\n")


def test_a_rollout_reads_acts_and_submits():
    scripted = Scripted(block("ls"), SUBMIT, shell=submitting)
    made = run(scripted)
    assert (made.outcome.ended, made.outcome.final_answer) == ("final_answer", "done\n")
    assert commands(made) == scripted.commands == ["ls", "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"]
    assert [span.parent_span_id for span in made.spans] == [step.step_id for step in made.steps]
    assert [span.call_id for span in made.spans] == [step.tool_calls[0].call_id for step in made.steps]
    assert [step.counted_tokens for step in made.steps] == [2, 9]
    assert made.spans[0].stdout.text == "seen\n"
    assert scripted.asked[1][0][2:] == [
        {"role": "assistant", "content": block("ls")},
        {"role": "user", "content": "Observation: seen\n"},
    ]


def test_the_final_observation_is_kept():
    made = run(Scripted(SUBMIT, shell=submitting), observation_max_chars=1000)
    assert made.spans[-1].tool_output == "Observation: COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT\ndone\n"


def test_several_blocks_or_none_are_answered_and_do_not_end_it():
    scripted = Scripted("no block", block("a") + block("b"), SUBMIT, shell=submitting)
    made = run(scripted)
    assert [(step.blocks, step.tool_calls, step.answered) for step in made.steps[:2]] == [
        (0, None, "exactly one block"),
        (2, None, "exactly one block"),
    ]
    assert made.outcome.ended == "final_answer"
    assert scripted.commands == ["echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"]


def test_only_malformed_replies_in_a_row_end_it():
    made = run(Scripted("x", "x", block("ls"), "x", "x", "x"), max_turns=10)
    assert (made.outcome.ended, len(made.steps)) == ("format_error", 6)


def test_turns_and_tokens_are_told_apart():
    assert run(Scripted(*[block("ls")] * 6)).outcome.ended == "max_steps"
    wordy = Scripted(block("ls"), shell=lambda _: report("w " * 30))
    made = run(wordy, max_total_tokens=100, observation_max_chars=99)
    assert (made.outcome.ended, len(made.steps)) == ("token_budget", 1)


def test_a_reply_never_gets_more_than_what_is_left():
    scripted = Scripted(SUBMIT, shell=submitting)
    run(scripted, max_total_tokens=100)
    assert scripted.asked[0][1] == 100 - 16 - 2


def test_infrastructure_ends_as_error_with_what_was_done_kept():
    def lost(_command):
        raise WorkerLostError("gone")

    made = run(Scripted(block("ls"), shell=lost))
    assert (made.outcome.ended, made.outcome.detail) == ("sandbox_error", "gone")
    assert made.spans[0].status == "lost"
    refused = run(Scripted(block("ls"), RequestRefusedError("too long")))
    assert (refused.outcome.ended, len(refused.steps)) == ("model_error", 1)


def unparsable(*replies):
    return Scripted(*(UnparsableReplyError("broken UTF-8") if reply is None else reply for reply in replies))


def test_a_reply_that_the_server_cannot_parse_is_a_malformed_turn():
    scripted = unparsable(block("ls"), None, block("ls"), None, None, None)
    made = run(scripted, max_turns=9)
    assert (made.outcome.ended, len(made.steps)) == ("format_error", 6)
    assert [step.finish_reason == "unparsable" for step in made.steps] == [False, True, False, True, True, True]
    assert (made.steps[1].blocks, made.steps[1].answered) == (0, "exactly one block")
    assert made.steps[1].failed_tries == ("broken UTF-8",)
    assert scripted.asked[2][0][-2:] == [
        {"role": "assistant", "content": ""},
        {"role": "user", "content": "exactly one block"},
    ]


def test_a_context_that_is_full_ends_the_token_budget():
    made = run(Scripted(block("ls"), ContextFullError("4200 > 4096")))
    assert (made.outcome.ended, made.outcome.detail, len(made.steps)) == ("token_budget", "4200 > 4096", 1)


@pytest.mark.parametrize(
    ("template", "text"),
    [("swe-zero", "Observation: {}"), ("mini-swe-agent", "<returncode>-1</returncode>\n<output>\n{}</output>")],
)
def test_a_command_with_a_nul_is_not_executed_and_the_model_reads_why(template, text):
    scripted = Scripted(block("printf 'a\0b'"), SUBMIT, shell=submitting)
    made = run(scripted, observation_template=template)
    read = text.format("Error: not executed: there is a NUL character in it, at position 9.")
    assert (made.spans[0].status, made.spans[0].tool_output) == ("not_executed", read)
    assert scripted.asked[1][0][-1] == {"role": "user", "content": read}
    assert len(scripted.commands) == 1


def test_a_submission_is_recorded_as_it_was_printed_or_not_at_all():
    cut = msgspec.structs.replace(submitting("SUBMIT").stdout, bytes_total=2_000_000)
    other = msgspec.structs.replace(submitting("SUBMIT").stdout, encoding="backslashreplace")
    for stdout, why in ((cut, "of its 2000000 bytes 43 were kept"), (other, "is not UTF-8")):
        made = run(
            Scripted(SUBMIT, shell=lambda _, out=stdout: msgspec.structs.replace(submitting("SUBMIT"), stdout=out))
        )
        assert (made.outcome.ended, made.outcome.final_answer) == ("final_answer", None)
        assert why in made.outcome.detail


@pytest.mark.parametrize(
    ("stdout", "exit_code", "text"),
    [
        ("COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT\nrest", 0, "rest"),
        ("\n  MINI_SWE_AGENT_FINAL_OUTPUT  \n", 0, ""),
        ("COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT\n", 1, None),
        ("edited\nCOMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT\n", 0, None),
        ("COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT extra\n", 0, None),
    ],
)
def test_only_a_successful_command_whose_output_starts_with_the_marker_submits(stdout, exit_code, text):
    assert submitted(report(stdout, exit_code=exit_code)) == text


def test_blocks_follow_the_pattern_of_mini_swe_agent():
    assert blocks("```bash\nls\n```") == ["ls"]
    assert blocks("```bash \n\n a\nb \n```\ntext\n```sh\nno\n```") == ["a\nb"]
    assert blocks("```bash\nnever closed") == []


@pytest.mark.parametrize(
    ("seen", "text", "cut"),
    [
        (report("out\n", "err\n"), "Observation: out\n\nerr\n", 0),
        (report(), "Observation: ", 0),
        (report("", "err"), "Observation: err", 0),
        (report("a" * 30 + "b" * 30), f"Observation: {'a' * 20}\n[... 20 characters elided ...]\n{'b' * 20}", 20),
        (report("x", status="timeout"), "Observation: x\n[command timed out]", 0),
    ],
)
def test_an_observation_is_both_streams_cut_in_the_middle(seen, text, cut):
    assert observe(seen, spec()) == (text, cut)


def test_the_other_format_has_the_return_code():
    mini = spec(observation_template="mini-swe-agent")
    assert observe(report("hi\n", exit_code=2), mini)[0] == "<returncode>2</returncode>\n<output>\nhi\n</output>"
    text, cut = observe(report("a" * 30 + "b" * 31), mini)
    assert cut == 21
    assert f"<output_head>\n{'a' * 20}\n</output_head>" in text
    assert f"<output_tail>\n{'b' * 20}\n</output_tail>" in text
