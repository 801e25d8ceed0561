"""A campaign in which no task makes a call says so while it runs, with what to try."""

from __future__ import annotations

import io
from pathlib import Path

import msgspec
import pytest
from rich.console import Console

from agenttrace.agents import AgentOptions, agent_kind
from agenttrace.campaign.display import CampaignDisplay
from agenttrace.records import Outcome
from agenttrace.sandbox.policies import policies
from agenttrace.store.read import read_traces
from agenttrace.tasks import task_set

DEMO = next(Path(__file__).parents[2].glob("datasets/agenttrace-demo/**/*demo*.jsonl*"))
TASK = task_set("demo").tasks()[0]


def spec(agent, constrained):
    options = AgentOptions(constrained=constrained)
    return agent_kind(agent).spec(options, policy=policies()["shell"], context_length=8192, checkout=False)


def shown(agent, *ends):
    """Return what a session without a terminal prints of tasks that ended so."""
    made = next(read_traces(DEMO))
    without = msgspec.structs.replace(made, spans=(), outcome=Outcome(ended="format_error", repeating_steps=2))
    kinds = {"format_error": without, "final_answer": made}
    file = io.StringIO()
    display = CampaignDisplay(Console(file=file, width=2000), total=9, done=0, agent=agent)
    for end in ends:
        display.finished(TASK, kinds[end])
    return file.getvalue()


@pytest.mark.parametrize(
    ("agent", "constrained", "tried"),
    [
        ("tool_calling", "off", ["does not write calls", "--constrained on", "--agent bash_block"]),
        ("bash_block", "off", ["does not write one bash block", "--constrained on"]),
        ("tool_calling", "on", ["replies were cut off", "--max-tokens"]),
        ("bash_block", "on", ["replies were cut off", "--max-tokens"]),
    ],
)
def test_the_first_tasks_without_a_call_are_told_of_once_with_what_to_try(agent, constrained, tried):
    text = shown(spec(agent, constrained), *["format_error"] * 7)
    assert text.count("the first 3 tasks all ended as format_error without a single call") == 1
    assert all(part in text for part in tried)
    assert "format_error (2 repeating)" in text


@pytest.mark.parametrize(
    "ends", [["format_error"] * 2, ["format_error", "final_answer", *["format_error"] * 5], ["final_answer"] * 3]
)
def test_a_campaign_with_a_call_among_its_first_tasks_gets_no_advice(ends):
    assert "without a single call" not in shown(spec("tool_calling", "off"), *ends)
