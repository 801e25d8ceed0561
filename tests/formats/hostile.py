"""A record of everything that a model, a repository or another tool may leave in a record."""

from __future__ import annotations

from pathlib import Path

import msgspec

from agenttrace.agents.tool_calling import agent_spec
from agenttrace.records import (
    NOT_MEASURED,
    DatasetSpec,
    LLMStep,
    ModelPin,
    Outcome,
    RunSpec,
    Sampler,
    SandboxSpec,
    ServingSpec,
    Span,
    Timings,
    Tokens,
    ToolCall,
    Trace,
)

DATA = Path(__file__).parents[1] / "data" / "records"
OURS = DATA / "demo.jsonl"
OLD = DATA / "1.0.0" / "every-stop.jsonl"
"""Of the bash-block agent: two tasks, five rollouts each: submitted, turns, tokens, format, submitted."""
RELEASED = DATA / "agenttrace-0.3-composed.jsonl"
NASTY = (
    'nul \0 esc \x1b[2J bidi \u202e line \u2028 end ]]> </script> ```bash\nrm -rf /\n``` "\\u{d800}" \U0001f4a9 '
    + "x" * 300_000
)
ARGUMENTS = ('{"command": "ls"}', '{"command":"a" }', "not json", "[1]", '{"a": 1e999}', '{"n": ' + "9" * 40 + "}", "")


def traces() -> list[Trace]:
    """The records of the test data."""
    return [msgspec.json.decode(line, type=Trace) for line in OURS.read_bytes().splitlines()]


def hostile() -> Trace:
    """One generation without a call, one with calls of every kind, spans of both and of neither."""
    calls = tuple(
        ToolCall(call_id=f"call_2_{number}", name="bash" if number % 2 else NASTY[:80], arguments=text)
        for number, text in enumerate(ARGUMENTS, start=1)
    )
    unknown = {"duration_ms": None, "input_tokens": None, "output_tokens": None, "start_ns": None, "end_ns": None}
    steps = (
        LLMStep(
            step_id="s1", step_number=1, model_output=NASTY, reasoning_content="</think><tool_call>", tool_calls=None,
            timings=Timings(queue_ms=0.0, reasoning_n=0, sources=("usage",)),
            tokens=Tokens(prompt_ids=(0, 2**31 - 1), output_ids=(7,), output_logprobs=(None,), margins=(-0.5,)),
            **unknown,
        ),
        LLMStep(step_id="s2", step_number=2, model_output=None, reasoning_content="", tool_calls=calls, **unknown),
    )  # fmt: skip
    spans = [_span("x", None, None), _span("x", "nowhere", "call_9_9")]
    spans += [_span(f"span {call.call_id}", "s2", call.call_id) for call in calls]
    return msgspec.structs.replace(
        traces()[0], trace_id="hostile-1", prompt=NASTY, spans=tuple(spans), llm_steps=steps, model=NASTY[:40],
        metadata={"task_id": NASTY[:99], "huge": 2**70, "nested": {"a": [None, True, 1.5]}},
        environment={}, outcome=Outcome(ended="unknown", detail=NASTY), timestamp_utc="no time",
    )  # fmt: skip


def _span(span_id: str, parent: str | None, call_id: str | None) -> Span:
    return Span(
        span_id=span_id, type="TOOL", tool_name="bash", tool_input="{", tool_output=NASTY, start_ns=None, end_ns=None,
        duration_ms=1.5, telemetry=NOT_MEASURED, exit_code=-1, parent_span_id=parent, call_id=call_id, status="lost",
    )  # fmt: skip


def spec() -> RunSpec:
    """A run spec with the agent's real prompt and tools."""
    return RunSpec(
        run_id="run", collector_version="0.1.0", images={}, agent=agent_spec(),
        dataset=DatasetSpec(name="demo", split="demo", source="bundled", sha256="0" * 64, offset=0, count=4),
        model=ModelPin(
            name="m", size="1", artifact="m.gguf", source="file", bytes=1, sha256="0" * 64, quantization="Q8_0",
            chat_template_sha256="0" * 64, context_length=1024, threads=1,
        ),
        serving=ServingSpec(
            engine="llama.cpp", engine_version="1", profile="p", args=(), cache_prompt=False, slots=1,
            reproducible=True,
        ),
        sampler=Sampler(name="greedy", temperature=0.0, top_p=1.0, top_k=1, min_p=0.0, seed=1, max_tokens=100),
        sandbox=SandboxSpec(
            policy="shell", fixture="demo", fixture_version="0" * 64, memory_bytes=1, pids=1, cpus=1.0
        ),
    )  # fmt: skip
