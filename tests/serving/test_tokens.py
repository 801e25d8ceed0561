"""Token ids and log-probabilities, in the form of each server, over the real protocol; and what becomes of them."""

from __future__ import annotations

import json
import math

import msgspec
import pyarrow.parquet as pq
import pytest

from agenttrace.agents.tool_calling import ToolCallingAgent, agent_spec
from agenttrace.analysis.tables import write_parquet
from agenttrace.campaign.options import Options, check_options, sampler_of
from agenttrace.errors import UsageError
from agenttrace.formats import atif
from agenttrace.formats.columns import kinds
from agenttrace.records import SCHEMA_VERSION, Outcome, Tokens, Trace, prompt_ids
from agenttrace.serving import profiles
from agenttrace.serving.chat import ChatModel, fixed_part
from agenttrace.serving.tape import RecordingModel, ReplayingModel
from agenttrace.store.lean import NOTICE, lean, whole
from agenttrace.testing import ScriptedServer, answers, says

TALK = [{"role": "user", "content": "u"}]
EVERY = ("figures", "token-ids", "logprobs", "prompt-logprobs")
FIXED = fixed_part(model="m", sampler=msgspec.structs.replace(profiles.sampler(), details=EVERY))


def candidate(token, logprob, number=None):
    named = {} if number is None else {"id": number}
    return {**named, "token": token, "bytes": list(token.encode()), "logprob": logprob}


def chosen(token, logprob, other, *, ids=(None, None)):
    """A token of a reply as the protocol has it, with the best other candidate."""
    own = candidate(token, logprob, ids[0])
    return {**own, "top_logprobs": [own, candidate(f"{token}!", other, ids[1])]}


def llama_cpp():
    reply = says("ab")
    reply["choices"][0]["logprobs"] = {
        "content": [chosen("a", -0.25, -1.5, ids=(5, 6)), chosen("b", -0.75, -0.875, ids=(7, 8))]
    }
    return reply


def vllm(prompt=(1, 2), output=(5, 7)):
    reply = says("ab")
    reply["prompt_token_ids"] = list(prompt)
    reply["prompt_logprobs"] = [None, *({str(one): {"logprob": -2.0, "rank": 1}} for one in prompt[1:])]
    reply["choices"][0] |= {
        "token_ids": list(output), "logprobs": {"content": [chosen("a", -0.25, -1.5) for _ in output]},
    }  # fmt: skip
    return reply


def sglang():
    reply = says("ab")
    reply["choices"][0] |= {
        "prompt_token_ids": [1, 2], "meta_info": {"output_token_logprobs": [[-0.25, 5, None], [-0.75, 7, None]]},
    }  # fmt: skip
    return reply


def asked(reply):
    with ScriptedServer([answers(reply) if isinstance(reply, bytes) else reply]) as server:
        model = ChatModel(server.base_url, FIXED)
        try:
            return model.complete(TALK).tokens, server.requests
        finally:
            model.close()


def test_llama_cpp_has_ids_beside_its_log_probabilities():
    found, (request,) = asked(llama_cpp())
    assert found == Tokens(output_ids=(5, 7), output_logprobs=(-0.25, -0.75), margins=(1.25, 0.125))
    assert (request["logprobs"], request["top_logprobs"]) == (True, 2)


def test_vllm_has_the_prompt_too():
    found, (request,) = asked(vllm())
    assert found == Tokens(
        prompt_ids=(1, 2), prompt_logprobs=(None, -2.0), output_ids=(5, 7), output_logprobs=(-0.25, -0.25),
        margins=(1.25, 1.25),
    )  # fmt: skip
    assert (request["return_token_ids"], request["prompt_logprobs"]) == (True, 0)


def test_sglang_has_them_in_its_meta_info():
    found, (request,) = asked(sglang())
    assert found == Tokens(prompt_ids=(1, 2), output_ids=(5, 7), output_logprobs=(-0.25, -0.75))
    assert (request["return_meta_info"], request["return_prompt_token_ids"]) == (True, True)


def test_a_reply_without_any_has_none():
    assert not asked(says("ab"))[0]


def test_nothing_is_asked_for_unless_somebody_wants_it():
    plain = fixed_part(model="m", sampler=profiles.sampler())["extra_body"]
    assert not {"logprobs", "return_token_ids", "return_meta_info", "prompt_logprobs"} & set(plain)


@pytest.mark.parametrize("bad", [None, True, -1, "x", [["y"]], [-1], [1.5], [2**70], {"content": [1, None]}, 1e400])
def test_what_is_no_token_is_not_reported(bad):
    reply = says("ab")
    reply |= {"prompt_token_ids": bad, "prompt_logprobs": bad}
    reply["choices"][0] |= {"token_ids": bad, "logprobs": bad, "meta_info": {"output_token_logprobs": bad}}
    assert not asked(json.dumps(reply).encode())[0]


@pytest.mark.parametrize("bad", [None, True, 0.5, math.inf, -math.inf, math.nan, "x", [1]])
def test_a_log_probability_that_is_none_is_not_known_and_the_others_are(bad):
    reply = llama_cpp()
    reply["choices"][0]["logprobs"]["content"][0]["logprob"] = bad
    found = asked(json.dumps(reply).encode())[0]
    assert (found.output_ids, found.output_logprobs, found.margins) == ((5, 7), (None, -0.75), (None, 0.125))


def test_figures_of_more_or_fewer_tokens_than_there_are_belong_to_none():
    reply = llama_cpp()
    reply["choices"][0]["token_ids"] = [5, 7, 9]
    assert asked(reply)[0] == Tokens(output_ids=(5, 7, 9))


def test_more_tokens_than_a_record_takes_are_none():
    reply = says("ab")
    reply["choices"][0]["token_ids"] = [1] * (2**18 + 1)
    assert not asked(json.dumps(reply).encode())[0]


class NoShell:
    """Is never asked."""


def generated():
    """A run of three generations on a scripted vLLM, its tape, and the run of a replay."""
    spec = agent_spec(max_steps=5)
    fixed = {**FIXED, "tools": list(spec.tools)}
    script = [vllm((1, 2), (5, 7)), vllm((1, 2, 5, 7, 9), (4,)), vllm((1, 2, 5, 8), (3,))]
    with ScriptedServer(script) as server:
        model = ChatModel(server.base_url, fixed)
        tape = RecordingModel(model, fixed)
        live = ToolCallingAgent(spec, tape, NoShell()).run("trace-1", "do it")
        model.close()
    replay = ReplayingModel(tuple(tape.turns), fixed, lambda *found: pytest.fail(str(found)))
    return live, ToolCallingAgent(spec, replay, NoShell()).run("trace-1", "do it")


def test_a_step_has_only_what_is_new_of_its_prompt_and_the_whole_comes_back():
    live, replayed = generated()
    tokens = [step.tokens for step in live.steps]
    assert [(one.prompt_shared, one.prompt_ids) for one in tokens] == [(0, (1, 2)), (4, (9,)), (3, (8,))]
    assert [one.prompt_logprobs for one in tokens] == [(None, -2.0), (-2.0,), (-2.0,)]
    assert list(prompt_ids(live.steps)) == [(1, 2), (1, 2, 5, 7, 9), (1, 2, 5, 8)]
    assert [step.tokens for step in replayed.steps] == tokens
    assert [step.timings for step in replayed.steps] == [step.timings for step in live.steps]


def record(live):
    return Trace(
        trace_id="trace-1", timestamp_utc=live.timestamp_utc, prompt="do it", model="m", spans=live.spans,
        llm_steps=live.steps, total_duration_ms=1.0, metadata={"schema_version": SCHEMA_VERSION}, environment={},
        outcome=Outcome(ended="max_steps"),
    )  # fmt: skip


def test_a_trajectory_has_them_in_its_own_fields_and_gives_them_back():
    trace = record(generated()[0])
    written = msgspec.json.decode(msgspec.json.encode(atif.from_trace(trace)))
    metrics = [step["metrics"] for step in written["steps"] if step["source"] == "agent"]
    assert [one["prompt_token_ids"] for one in metrics] == [[1, 2], [1, 2, 5, 7, 9], [1, 2, 5, 8]]
    assert [one["completion_token_ids"] for one in metrics] == [[5, 7], [4], [3]]
    assert metrics[0]["logprobs"] == [-0.25, -0.25]
    again = atif.to_trace(written)
    assert [step.tokens for step in again.llm_steps] == [step.tokens for step in trace.llm_steps]


def test_tokens_of_a_foreign_trajectory_are_read_and_written_as_they_were():
    written = msgspec.json.decode(msgspec.json.encode(atif.from_trace(record(generated()[0]))))
    del written["extra"]
    for step in written["steps"]:
        step.pop("extra", None)
    written["steps"][-1].setdefault("metrics", {})["prompt_token_ids"] = "not a list"
    read = atif.to_trace(written)
    assert list(prompt_ids(read.llm_steps))[:2] == [(1, 2), (1, 2, 5, 7, 9)]
    assert atif.from_trace(read) == written


def test_a_compacted_record_gives_them_back():
    line = msgspec.json.encode(record(generated()[0])) + b"\n"
    made = lean(line)
    assert made.startswith(NOTICE)
    assert whole(made) == line


def test_tables_have_them_as_columns_of_their_own(tmp_path):
    (tmp_path / "run.jsonl").write_bytes(msgspec.json.encode(record(generated()[0])) + b"\n")
    (source,) = write_parquet([tmp_path / "run.jsonl"], tmp_path / "tables")
    assert (source.rows, source.bad_lines) == (1, 0)
    steps = pq.read_table(tmp_path / "tables/steps.parquet").to_pylist()
    assert [(one["output_ids_json"], one["margins_json"]) for one in steps[:2]] == [
        ("[5,7]", "[1.25,1.25]"),
        ("[4]", "[1.25]"),
    ]
    assert steps[0]["prompt_logprobs_json"] == "[null,-2.0]"
    assert {"prompt_shared", "prompt_ids_json", "output_ids_json", "margins_json"} <= set(kinds("steps"))
    assert {"queue_ms", "first_token_ms", "reasoning_n"} <= set(kinds("steps", texts=False))
    assert "output_ids_json" not in kinds("steps", texts=False)


def test_what_is_asked_for_is_in_the_run_spec_once_and_in_order():
    options = Options(model="m", external=True, reply_details=("logprobs", "figures", "logprobs"))
    check_options(options)
    assert sampler_of(options).details == ("figures", "logprobs")
    with pytest.raises(UsageError, match=r"--reply-details colours: expected some of figures"):
        check_options(msgspec.structs.replace(options, reply_details=("colours",)))
