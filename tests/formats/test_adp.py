"""Trajectories by the rules of the Agent Data Protocol's models, written out: there is no package of them to open one.

Source: neulab/agent-data-protocol, `schema/trajectory.py`, `schema/action/*.py`, `schema/observation/*.py`.
"""

from __future__ import annotations

import json

import pytest

from agenttrace.formats import adp
from agenttrace.formats.conversation import messages
from agenttrace.formats.convert import read
from tests.formats.hostile import OLD, hostile, spec, traces

FIELDS = {
    "api_action": ({"function", "kwargs"}, {"description", "reasoning_content", "reward", "tool_call_id"}),
    "code_action": ({"language", "content", "description"}, {"reasoning_content", "reward", "tool_call_id"}),
    "message_action": ({"content"}, {"description", "reasoning_content", "reward"}),
    "text_observation": ({"content", "source"}, {"name", "reward", "tool_call_id"}),
}
"""Class → the fields it must have, and those it may have beside."""


def follow(value):
    """Hold a trajectory against the rules; returns its calls and its results."""
    assert set(value) <= {"id", "content", "available_code_languages", "details"}
    calls, results = {}, {}
    for place, item in enumerate(value["content"]):
        must, may = FIELDS[item["class_"]]
        assert must <= set(item) - {"class_"} <= must | may, item
        if item["class_"] == "text_observation":
            assert item["source"] in {"user", "agent", "environment"}
        linked = item.get("tool_call_id")
        if item["class_"] in {"api_action", "code_action"}:
            assert linked is not None
            assert linked not in calls
            calls[linked] = place
        elif linked is not None:
            assert linked in calls
            assert linked not in results
            results[linked] = place
    assert set(calls) == set(results)
    languages = {item["language"] for item in value["content"] if item["class_"] == "code_action"}
    assert languages == set(value.get("available_code_languages", ()))
    assert languages <= {"bash", "python"}
    return calls, results


EVERY = [*traces(), hostile(), *(record.trace for record in read(OLD))]


@pytest.mark.parametrize("trace", EVERY, ids=lambda trace: trace.trace_id)
@pytest.mark.parametrize("of", [None, spec()], ids=["alone", "with run spec"])
def test_a_trajectory_follows_the_rules_and_no_text_of_it_is_missing(trace, of):
    value = json.loads(json.dumps(adp.from_trace(trace, of), allow_nan=False))
    calls, _ = follow(value)
    texts = json.dumps(value)
    assert all(json.dumps(one.content)[1:-1] in texts for one in messages(trace, of))
    answered = {span.call_id for span in trace.spans}
    proposed = {call.call_id for step in trace.llm_steps for call in step.tool_calls or ()}
    assert set(calls) == answered & proposed
    observed = [item for item in value["content"] if item.get("source") == "environment"]
    assert len(observed) == len(trace.spans)


def test_code_is_code_and_tokens_are_summed():
    value = adp.from_trace(traces()[0], spec())
    assert [item["class_"] for item in value["content"]] == [
        "text_observation", "code_action", "text_observation", "api_action", "text_observation"
    ]  # fmt: skip
    assert value["content"][1]["content"] == "find . -type f | wc -l"
    steps = traces()[0].llm_steps
    assert value["details"]["tokens"] == {
        "input": sum(step.input_tokens for step in steps), "output": sum(step.output_tokens for step in steps)
    }  # fmt: skip
