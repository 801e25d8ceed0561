"""Logs that Inspect itself writes, of a real evaluation, are read: with as many messages, calls and tokens."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("inspect_ai", reason="scripts/nox -s formats-check installs Inspect")

from inspect_ai import Task
from inspect_ai import eval as evaluate
from inspect_ai.dataset import Sample
from inspect_ai.log import read_eval_log, write_eval_log
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessageAssistant,
    ContentReasoning,
    ContentText,
    ModelOutput,
    ModelUsage,
    get_model,
)
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, system_message, use_tools
from inspect_ai.tool import ToolCall, tool

from agenttrace.formats.convert import convert, read
from agenttrace.formats.reading import traces as traces_of
from tests.formats.hostile import traces

pytestmark = pytest.mark.filterwarnings("ignore")  # of Inspect itself
CALLS = (("a", 1), ("b", -1))


@tool
def add():
    """A tool that works, but for negative numbers."""

    async def execute(x: int, y: int):
        """Add two numbers.

        Args:
            x: the first.
            y: the second.
        """
        if x < 0:
            raise TimeoutError
        return x + y

    return execute


def replies():
    """What the model says: two calls at once, one that fails, then an answer; the last sample ends with an error."""
    for number in range(4):
        calls = [ToolCall(id=f"{name}{number}", function="add", arguments={"x": x, "y": 2}) for name, x in CALLS]
        said = [ContentReasoning(reasoning="two at once"), ContentText(text="I add.")]
        cached = {"input_tokens_cache_read": 60, "reasoning_tokens": 7}
        yield reply(said, calls, input_tokens=100, output_tokens=20, total_tokens=180, **cached)
        if number == 3:
            raise RuntimeError("the server is gone")
        yield reply("The sum is 3.", None, input_tokens=150, output_tokens=6, total_tokens=156)


def reply(content, calls, **usage):
    message = ChatMessageAssistant(content=content, tool_calls=calls, model="mockllm/model", source="generate")
    choice = ChatCompletionChoice(message=message, stop_reason="tool_calls" if calls else "stop")
    return ModelOutput(model="mockllm/model", choices=[choice], usage=ModelUsage(**usage))


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """Format → the file of an evaluation of two samples in two epochs."""
    folder = tmp_path_factory.mktemp("logs")
    task = Task(
        dataset=[Sample(input="What is 1 + 2?", target="3", id="sum"), Sample(input="long " * 99, target="5", id=2)],
        solver=[system_message("You add."), use_tools(add()), generate()], scorer=includes(), epochs=2, name="sums",
    )  # fmt: skip
    model = get_model("mockllm/model", custom_outputs=replies())
    (log,) = evaluate(task, model=model, log_dir=str(folder), display="none", max_samples=1, fail_on_error=False)
    assert log.status == "success"
    again = folder / "again.json"
    write_eval_log(read_eval_log(log.location), str(again))
    return {"eval": next(folder.glob("*.eval")), "json": again}


def counted(log):
    """Of each sample, as Inspect reads it: messages, calls, results, tokens, how it ended."""
    found = {}
    for sample in read_eval_log(str(log)).samples:
        calls = [call for message in sample.messages for call in getattr(message, "tool_calls", None) or ()]
        used = sample.model_usage["mockllm/model"]
        roles = [message.role for message in sample.messages]
        cached = used.input_tokens_cache_read or 0
        found[str(sample.id), sample.epoch] = (
            roles.count("assistant"), len(calls), roles.count("tool"), used.input_tokens + cached, used.output_tokens,
            cached, sample.scores["includes"].value if sample.scores else None, sample.error is not None,
        )  # fmt: skip
    return found


@pytest.mark.parametrize("form", ["eval", "json"])
def test_a_log_of_inspect_has_as_many_messages_calls_and_tokens_here(form, logs):
    found = {}
    for _, trace in traces_of(logs[form]):
        steps = trace.llm_steps
        known = trace.metadata
        cached = sum(step.timings.cached_n for step in steps if step.timings)
        solved = {True: "C", False: "I", None: None}[trace.outcome.solved]
        found[known["task_name"], known["rollout_index"] + 1] = (
            len(steps), sum(len(step.tool_calls or ()) for step in steps), len(trace.spans),
            sum(step.input_tokens for step in steps), sum(step.output_tokens for step in steps), cached, solved,
            trace.outcome.ended == "model_error",
        )  # fmt: skip
        counts = (trace.totals.input_tokens, trace.totals.output_tokens, trace.totals.cached_tokens)
        assert counts == found[known["task_name"], known["rollout_index"] + 1][3:6]
        assert [span.status for span in trace.spans] == ["ok", "timeout"]
        assert all(one.duration_ms is not None for one in (*steps, *trace.spans))
        assert trace.environment["imported"]["system_prompt"] == "You add."
    assert found == counted(logs[form])
    assert len(found) == 4
    assert [one[-1] for one in found.values()].count(True) == 1


def test_what_inspect_makes_of_our_log_is_read_as_it_was(tmp_path):
    from tests.formats.hostile import OURS

    convert([OURS], "inspect", tmp_path / "o.eval")
    write_eval_log(read_eval_log(str(tmp_path / "o.eval")), str(tmp_path / "o.json"))
    for theirs, ours in zip(read(tmp_path / "o.json"), traces(), strict=True):
        one = theirs.trace
        assert (one.trace_id, one.prompt, one.model, one.outcome.verdicts) == (
            ours.trace_id, ours.prompt, ours.model, ours.outcome.verdicts
        )  # fmt: skip
        said = [(step.model_output, step.input_tokens, step.start_ns, step.timings) for step in one.llm_steps]
        assert said == [(step.model_output, step.input_tokens, step.start_ns, step.timings) for step in ours.llm_steps]
        assert [(span.tool_output, span.telemetry, span.exit_code) for span in one.spans] == [
            (span.tool_output, span.telemetry, span.exit_code) for span in ours.spans
        ]
    assert json.loads((tmp_path / "o.json").read_bytes())["version"] == 2
