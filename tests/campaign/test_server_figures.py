"""Whole campaigns on scripted vLLM and SGLang: what the server says arrives in the record, and nothing else does."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from msgspec import UNSET

from agenttrace.analysis.sections import sections
from agenttrace.analysis.summary import report
from agenttrace.analysis.tables import load
from agenttrace.campaign.options import Options
from agenttrace.campaign.replay.run import Replay
from agenttrace.campaign.server_load import SERVER_LOAD
from agenttrace.records import Timings, prompt_ids
from agenttrace.store.read import read_run_spec, read_traces, run_spec_path
from agenttrace.testing import ScriptedServer, answers, says
from agenttrace.validate import Validation
from tests.campaign.conftest import FIX, SUBMIT, Source, block, command

if TYPE_CHECKING:
    from pathlib import Path

METRICS = b'vllm:num_requests_running{engine="0"} 3\nvllm:num_requests_waiting 2\nvllm:kv_cache_usage_perc 0.5\n'


def spoken(messages):
    reply = says(block(("cat calc.py", FIX, SUBMIT)[len(messages) // 2 - 1]))
    del reply["timings"]
    return reply, len(messages)


def vllm(messages):
    """A vLLM with `--enable-per-request-metrics`, asked for tokens."""
    reply, size = spoken(messages)
    reply["usage"] |= {
        "prompt_tokens_details": {"cached_tokens": size}, "completion_tokens_details": {"reasoning_tokens": 1},
    }  # fmt: skip
    reply["metrics"] = {
        "time_to_first_token_ms": 4.5, "generation_time_ms": 9.5, "queue_time_ms": 2.25, "mean_itl_ms": 0.5,
        "tokens_per_second": 80.0,
    }  # fmt: skip
    reply["prompt_token_ids"] = list(range(size))
    reply["choices"][0] |= {
        "token_ids": [size, 7],
        "logprobs": {"content": [{"token": t, "bytes": [1], "logprob": -0.5, "top_logprobs": []} for t in "ab"]},
    }  # fmt: skip
    return reply


def sglang(messages):
    """An SGLang that was asked for its own figures."""
    reply, size = spoken(messages)
    reply["usage"]["reasoning_tokens"] = 2
    reply["choices"][0]["meta_info"] = {
        "queue_time": 0.002, "e2e_latency": 0.02, "decode_throughput": 50.0, "cached_tokens": size,
    }  # fmt: skip
    return reply


SAID = {
    vllm: Timings(
        predicted_ms=9.5, queue_ms=2.25, first_token_ms=4.5, mean_itl_ms=0.5, tokens_per_second=80.0, reasoning_n=1,
        sources=("metrics", "usage"),
    ),
    sglang: Timings(
        queue_ms=2.0, server_ms=20.0, decode_tokens_per_second=50.0, reasoning_n=2, sources=("meta_info", "usage")
    ),
}  # fmt: skip


class Made(NamedTuple):
    """A campaign that was made: by which server, its records, what was asked, and what it worked on."""

    script: Any
    path: Path
    requests: list
    source: Source
    sandbox: Any


@pytest.fixture(scope="module", params=[vllm, sglang], ids=lambda script: script.__name__)
def campaign(request, tmp_path_factory, make_sandbox):
    """A session in a process of its own against that server; what it left is only read here."""
    source, sandbox = Source(tmp_path_factory.mktemp("tasks")), make_sandbox()
    source.prepare()
    sandbox.start(policy="execution_free", trees=source.trees)
    with ScriptedServer(request.param) as server:
        server.pages["/metrics"] = answers(METRICS)
        words = command(source, sandbox, server.base_url, reply_details=("figures", "token-ids", "logprobs"))
        ended = subprocess.run(words, capture_output=True, text=True, timeout=120)
        assert ended.returncode == 0, ended.stderr
    return Made(request.param, source.data / "run.jsonl", server.requests, source, sandbox)


def test_all_figures_of_the_server_arrive_and_none_is_made_up(campaign):
    script, path, requests = campaign[:3]
    traces = list(read_traces(path))
    steps = [step for trace in traces for step in trace.llm_steps]
    assert len(steps) == len(requests) == 6
    for step in steps:
        said = SAID[script]
        for name in Timings.__struct_fields__:
            if name != "cached_n":
                assert getattr(step.timings, name) == getattr(said, name), name
    assert {step.timings.cached_n for step in steps} == {2, 4, 6}
    assert all(request["return_meta_info"] and request["logprobs"] for request in requests)
    assert list(Validation(path)) == []


def test_tokens_arrive_where_the_server_says_them(campaign):
    script, path = campaign[:2]
    for trace in read_traces(path):
        if script is sglang:
            assert all(step.tokens is UNSET for step in trace.llm_steps)
            continue
        assert list(prompt_ids(trace.llm_steps)) == [tuple(range(size)) for size in (2, 4, 6)]
        assert [step.tokens.output_ids for step in trace.llm_steps] == [(2, 7), (4, 7), (6, 7)]
        assert [step.tokens.prompt_shared for step in trace.llm_steps] == [0, 3, 5]


def test_metadata_knows_nothing_of_it_and_the_run_spec_what_was_asked(campaign):
    path = campaign.path
    spec = read_run_spec(run_spec_path(path))
    assert spec.sampler.details == ("figures", "token-ids", "logprobs")
    for trace in read_traces(path):
        text = repr(trace.metadata)
        assert trace.metadata["run_spec_sha256"] == spec.digest
        assert not any(word in text for word in ("queue", "load", "energy", "tokens_per"))


def test_what_a_task_ran_under_is_in_its_environment_and_beside_the_records(campaign):
    path = campaign.path
    head, *rows = path.with_suffix(SERVER_LOAD).read_text().splitlines()
    assert head == "session_utc,seconds,running,waiting,kv_used"
    assert rows[0].endswith(",3,2,0.5")
    last = list(read_traces(path))[-1]
    assert last.environment["server_load"]["waiting"] == {"mean": 2.0, "max": 2.0}
    assert last.environment["host_load"]["load_1m"][1] >= 0


def test_a_replay_takes_all_of_it_from_the_cassette(campaign, display):
    path = campaign.path
    found = Replay(path, trees=campaign.source.trees).run(campaign.sandbox.connect, display, workers=1, repeats=1)
    assert found.findings == ()
    assert (found.replayed, found.identical) == (2, 2)


def test_tables_and_analysis_have_the_parts_of_a_request(campaign):
    script, path = campaign[:2]
    tables = load([path])
    said = SAID[script]
    assert set(tables.steps["queue_ms"]) == {said.queue_ms}
    assert set(tables.runs["server_waiting"].dropna()) <= {2.0}
    assert set(tables.runs["evaluated_tokens"]) == {(10 - 2) + (10 - 4) + (10 - 6)}
    (group,) = report(tables).groups
    figures = {one.name: one.values for one in group.server}
    assert figures["queue"].median == said.queue_ms
    assert ("queue and prefill: time to first token" in figures) is (script is vllm)
    assert any(row[0] == "queue" for one in sections(report(tables)) for row in one.rows)


def test_options_of_a_run_spec_ask_for_the_same_again(campaign):
    from agenttrace.campaign.options import like

    path = campaign.path
    options = like(read_run_spec(run_spec_path(path)))
    assert isinstance(options, Options)
    assert options.reply_details == ("figures", "token-ids", "logprobs")
