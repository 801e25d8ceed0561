"""Records as requests of a workload: lengths, gaps and the blocks that prompts share."""

from __future__ import annotations

import json
from itertools import pairwise

import msgspec
import pytest

from agenttrace.errors import DataError
from agenttrace.formats.convert import convert
from agenttrace.formats.mooncake import BLOCK, requests
from tests.formats.hostile import OURS, hostile, spec, traces


def long(trace_id, prompt, counts, *, said=("reply",) * 9):
    """A record whose requests have so many tokens, each reply 100."""
    known = traces()[0]
    steps = tuple(
        msgspec.structs.replace(
            known.llm_steps[0],
            step_id=f"s{n}",
            step_number=n,
            model_output=said[n - 1] * 400,
            reasoning_content=None,
            tool_calls=None,
            input_tokens=count,
            output_tokens=100,
            start_ns=n * 10**9,
            end_ns=n * 10**9 + 4 * 10**8,
        )
        for n, count in enumerate(counts, start=1)
    )
    return msgspec.structs.replace(known, trace_id=trace_id, prompt=prompt * 1000, llm_steps=steps, spans=())


def test_a_prompt_that_goes_on_keeps_its_full_blocks():
    found = requests(long("a", "What is it? ", (3000, 3700, 5000)), spec())
    assert [len(one.hash_ids) for one in found] == [-(-count // BLOCK) for count in (3000, 3700, 5000)]
    for before, after in pairwise(found):
        full = before.input_length // BLOCK
        assert after.hash_ids[:full] == before.hash_ids[:full]
        assert not set(after.hash_ids[full:]) & set(before.hash_ids)


def test_rollouts_of_a_task_share_its_prompt_and_part_where_they_do():
    one = requests(long("a", "What is it? ", (3000, 5000)), spec())
    two = requests(long("b", "What is it? ", (3000, 5000), said=("other",) * 2), spec())
    assert one[0].hash_ids == two[0].hash_ids
    shared = 3000 // BLOCK
    assert one[1].hash_ids[:shared] == two[1].hash_ids[:shared]
    assert not set(one[1].hash_ids[shared:]) & set(two[1].hash_ids)


def test_tasks_share_what_every_prompt_begins_with_and_models_share_nothing():
    run = spec()
    agent = msgspec.structs.replace(run.agent, system_prompt=run.agent.system_prompt * 40)
    run = msgspec.structs.replace(run, agent=agent)
    one, two = (requests(long("a", prompt, (6000,)), run)[0].hash_ids for prompt in ("One. ", "Something longer. "))
    same = [left == right for left, right in zip(one, two, strict=True)]
    assert same[:5] == [True] * 5
    assert not any(same[-3:])
    other = msgspec.structs.replace(long("a", "One. ", (6000,)), model="another")
    assert not set(requests(other, run)[0].hash_ids) & set(one)


def test_a_shrunk_prompt_and_unknown_tokens_are_taken_as_they_are():
    record = long("a", "What? ", (3000, 1000, 4000))
    assert [len(one.hash_ids) for one in requests(record, spec())] == [6, 2, 8]
    steps = [*record.llm_steps]
    steps[1] = msgspec.structs.replace(steps[1], input_tokens=None)
    found = requests(msgspec.structs.replace(record, llm_steps=tuple(steps)), spec())
    assert [one.input_length for one in found] == [3000, 4000]
    assert found[1].new_length == 900


@pytest.mark.parametrize(("count", "said"), [(None, "no generation whose tokens"), (1 << 30, "longer than any model")])
def test_what_is_no_workload_is_one_message(count, said):
    with pytest.raises(DataError, match=said):
        requests(long("a", "What? ", (count,)), spec())
    with pytest.raises(DataError, match="no generation whose tokens"):
        requests(hostile(), spec())


def test_mooncake_begins_at_zero_in_the_order_of_time_and_aiperf_has_what_tools_took(tmp_path):
    assert convert([OURS], "mooncake", tmp_path / "m.jsonl") == {
        "m.jsonl": sum(len(trace.llm_steps) for trace in traces())
    }
    rows = [json.loads(line) for line in (tmp_path / "m.jsonl").read_text().splitlines()]
    assert [set(row) for row in rows] == [{"timestamp", "input_length", "output_length", "hash_ids"}] * len(rows)
    times = [row["timestamp"] for row in rows]
    assert times == sorted(times)
    assert times[0] == 0
    convert([OURS], "aiperf", tmp_path / "a.jsonl")
    turns = [json.loads(line) for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    for trace in traces():
        own = [turn for turn in turns if turn["session_id"] == trace.trace_id]
        assert ["timestamp" in turn for turn in own] == [True] + [False] * (len(own) - 1)
        context = 0
        for turn, step in zip(own, trace.llm_steps, strict=True):
            assert context + turn["input_length"] == step.input_tokens
            context = step.input_tokens + turn["output_length"]
        gap = (trace.llm_steps[1].start_ns - trace.llm_steps[0].end_ns) / 1e6
        assert own[1]["delay"] == pytest.approx(gap)
