"""What the bash-block agent itself leaves behind, on either kind of task, has no findings."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from agenttrace.agents import agent_kind
from agenttrace.agents.bash_block import MARKERS, BashBlockAgent
from agenttrace.campaign.plan import metadata
from agenttrace.errors import WorkerLostError
from agenttrace.records import NO_PROCESS, SCHEMA_VERSION, RunSpec, Trace, derived_id, rollout_1_0, solved
from agenttrace.records.trace import Verdict
from agenttrace.sandbox.reports import CallReport, output
from agenttrace.serving.model import Reply, RequestRefusedError
from agenttrace.tasks import task_set
from agenttrace.tasks.swe.rows import load
from agenttrace.tasks.swe.task_set import task_of
from agenttrace.validate import Validation

KEPT = Path(__file__).parents[1] / "data" / "records" / "1.0.0"
START_NS = 10**18
SUBMIT = f"echo {MARKERS[0]}; cat answer"
PRINTED = {
    "ls": (b"a\nb\n", b"", 0, "ok"),
    "true": (b"", b"", 0, "ok"),
    "python3": (b"", b"bash: python3: command not found\n", 127, "ok"),
    "both": (b"out\n", b"err\n", 1, "ok"),
    "binary": (b"\xff\x00\n", b"", 0, "ok"),
    "yes": (b"y\n" * 60_000, b"", 137, "timeout"),
    "sleep": (b"", b"", 137, "timeout"),
    SUBMIT: (f"{MARKERS[0]}\n42\n".encode(), b"", 0, "ok"),
}
SCRIPTS = {
    "submits": [*PRINTED],
    "reaches the limit of steps": ["ls"] * 8,
    "talks": ["ls", None, None, None],
    "recovers": [None, "ls", None, None, SUBMIT],
    "runs out of tokens": ["yes"] * 7,
    "loses its worker": ["ls", "lost"],
    "is refused": ["ls", RequestRefusedError("no")],
}


def stream(data, keep=65_536):
    head = min(len(data), keep // 2)
    return output(data[:head], data[max(head, len(data) - keep + head) :], len(data))


class Scripted:
    """A model that says what it is told, and a shell that knows its commands; time goes on with each."""

    def __init__(self, script):
        self.script, self.now = list(script), START_NS

    def count(self, messages):
        return sum(len(message["content"]) for message in messages) // 4

    def complete(self, messages, *, max_tokens):
        command = self.script.pop(0)
        if isinstance(command, Exception):
            raise command
        self.now += 1000
        text = "I think." if command is None else f"THOUGHT: so\n```bash\n{command}\n```"
        return Reply(
            content=text, reasoning=None, tool_calls=(), finish_reason="stop", input_tokens=self.count(messages),
            output_tokens=min(20, max_tokens), timings=None, start_ns=self.now, end_ns=self.now + 500, elapsed_ns=500,
        )  # fmt: skip

    def call(self, kind, code, *, limit_ms, keep_bytes=65_536):
        if code == "lost":
            raise WorkerLostError("the worker died")
        out, err, exit_code, status = PRINTED[code]
        self.now += 1000
        return CallReport(
            exit_code=exit_code, signal=exit_code - 128 if exit_code > 128 else None, status=status, stdout=stream(out),
            stderr=stream(err), telemetry=NO_PROCESS, start_ns=self.now, end_ns=self.now + 500,
        )  # fmt: skip


def spec_of(kind, template):
    """Return a run spec and a task of it."""
    read = rollout_1_0.decode_spec((KEPT / "rollouts.run.json").read_bytes())
    spec = RunSpec(
        **{name: getattr(read, name) for name in RunSpec.__struct_fields__} | {"schema_version": SCHEMA_VERSION}
    )
    agent = msgspec.structs.replace(spec.agent, observation_template=template, max_turns=8, max_total_tokens=9000)
    if kind == "checkout":
        row = load("bundled")[1][0]
        facts = {
            "repo": row.repo, "base_commit": row.base_commit, "language": row.language, "language_source": "dataset",
            "tree_digest": "b" * 64, "hidden_tests": {"asked": False, "applied": False, "reason": None},
        }  # fmt: skip
        return msgspec.structs.replace(spec, agent=agent), msgspec.structs.replace(
            task_of(row, row.language), facts=facts
        )
    demo = task_set("demo")
    return msgspec.structs.replace(spec, agent=agent, dataset=demo.spec()), demo.tasks()[3]


@pytest.mark.parametrize("kind", ["checkout", "answer"])
@pytest.mark.parametrize("template", ["swe-zero", "mini-swe-agent"])
@pytest.mark.parametrize("script", SCRIPTS)
def test_what_the_agent_leaves_behind_has_no_findings(tmp_path, script, template, kind):
    spec, task = spec_of(kind, template)
    scripted = Scripted(SCRIPTS[script])
    trace_id = derived_id("trace", spec.run_id, spec.dataset.name, task.task_id, task.rollout)
    prompt = agent_kind("bash_block").prompt(spec.agent, task)
    run = BashBlockAgent(spec.agent, scripted, scripted).run(trace_id, prompt)
    outcome = run.outcome
    spoilt = outcome.ended in {"sandbox_error", "model_error"}
    if not spoilt:
        verdicts = (Verdict(aspect="patch", verdict="failed", method="m", reason="r"),)
        patch = {"patch": "", "patch_note": None} if kind == "checkout" else {}
        outcome = msgspec.structs.replace(outcome, verdicts=verdicts, solved=solved(verdicts), **patch)
    trace = Trace(
        trace_id=trace_id, timestamp_utc=run.timestamp_utc, prompt=prompt, model=spec.model.name, spans=run.spans,
        llm_steps=run.steps, total_duration_ms=1000.0, metadata=metadata(spec, task, spec_sha256=spec.digest),
        environment={}, outcome=outcome, prepare_ms=1.0,
    )  # fmt: skip
    path = tmp_path / ("run.failures.jsonl" if spoilt else "run.jsonl")
    path.write_bytes(msgspec.json.encode(trace) + b"\n")
    (tmp_path / "run.run.json").write_bytes(msgspec.json.encode(spec))
    assert list(Validation(path)) == []
    assert outcome.ended == {
        "submits": "final_answer", "reaches the limit of steps": "max_steps", "talks": "format_error",
        "recovers": "final_answer", "runs out of tokens": "token_budget", "loses its worker": "sandbox_error",
        "is refused": "model_error",
    }[script]  # fmt: skip
