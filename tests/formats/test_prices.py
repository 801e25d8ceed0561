"""What traces cost: as their file says, else by a table of prices; what nobody knows is unknown and never 0."""

from __future__ import annotations

import json
import re
import tomllib
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from agenttrace.analysis.tables import load
from agenttrace.errors import DataError
from agenttrace.formats.prices import VARIABLE, LongRates, Price, Prices, read_prices, sold
from agenttrace.formats.reading import to_trace, traces
from agenttrace.records import Totals
from agenttrace.report.view import trace_view

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "tests" / "data" / "foreign"
DEMO = ROOT / "tests" / "data" / "records" / "demo.jsonl"
LONG = LongRates(above_tokens=1000, input=2, output=20)
TABLE = Prices(
    lambda: [
        Price(provider="openai", model="gpt-5", input=1, cached_input=0.1, output=10),
        Price(provider="gemini", model="gemini-2.5-pro", input=1, output=10, long=LONG),
    ]
)


def chat(model, *requests):
    """A trace of requests, each of (input, output) tokens."""
    usage = [{"prompt_tokens": given, "completion_tokens": made} for given, made in requests]
    return to_trace(
        {"model": model, "messages": [{"role": "assistant", "content": "x", "usage": one} for one in usage]}
    )


def cached(trace, *counts):
    """The trace with so many tokens of each request from a cache."""
    steps = [
        msgspec.structs.replace(step, timings={"cached_n": count})
        for step, count in zip(trace.llm_steps, counts, strict=True)
    ]
    return msgspec.convert(msgspec.to_builtins(msgspec.structs.replace(trace, llm_steps=tuple(steps))), type(trace))


def test_a_cost_is_the_sum_over_requests_of_input_cached_input_and_output():
    trace = cached(chat("gpt-5", (1_000_000, 100_000), (2_000_000, 0)), 0, 1_500_000)
    assert TABLE.bill(trace, None) == (pytest.approx(1 + 1 + 0.5 + 0.15), "computed")


@pytest.mark.parametrize(
    ("name", "key"), [("octo__repo-1.traj", "instance_cost"), ("openhands-output.jsonl", "accumulated_cost")]
)
def test_a_cost_of_nothing_of_kits_that_write_it_where_they_know_no_price_is_not_known(name, key, tmp_path):
    text, changed = re.subn(rf'("{key}"): [0-9.]+', r"\1: 0.0", (SAMPLES / name).read_text())
    (tmp_path / name).write_text(text)
    assert changed
    assert {trace.totals.cost_usd for _, trace in traces(tmp_path / name) if trace.totals} == {None}


@pytest.mark.parametrize(("costs", "cost"), [((0.5, 0.25), 0.75), ((0.5, None), None), ((None, None), None)])
def test_a_cost_of_some_steps_is_not_that_of_the_run(costs, cost):
    steps = [{"source": "agent", "message": "x", "metrics": {"prompt_tokens": 1, "cost_usd": one}} for one in costs]
    agent = {"name": "a", "version": "1"}
    trace = to_trace({"schema_version": "ATIF-v1.7", "session_id": "s", "agent": agent, "steps": steps})
    assert (trace.totals.cost_usd if trace.totals else None) == cost


def test_more_cached_than_was_given_is_all_of_it_and_no_price_of_a_cache_is_that_of_input():
    assert TABLE.bill(cached(chat("gpt-5", (1_000_000, 0)), 2**40), None).usd == pytest.approx(0.1)
    assert TABLE.bill(cached(chat("gemini-2.5-pro", (1000, 0)), 1000), None).usd == pytest.approx(0.001)


def test_a_long_request_costs_what_long_requests_cost():
    assert TABLE.bill(chat("gemini-2.5-pro", (1000, 1), (1001, 1)), None).usd == pytest.approx((1010 + 2002 + 20) / 1e6)


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("gpt-5", True), ("openai/gpt-5", True), ("GPT-5-2025-08-07", True), ("gpt-5@20250807", True),
        ("google/gemini-2.5-pro", True), ("azure/gpt-5", False), ("openrouter/openai/gpt-5", False),
        ("anthropic/gpt-5", False), ("gpt-5-mini", False), ("unknown", False), ("", False), ("/", False),
    ],
)  # fmt: skip
def test_a_model_is_known_by_its_name_alone_or_with_its_provider_and_day(name, known):
    assert (TABLE.bill(chat(name, (1, 1)), None).usd is not None) == known


def test_what_is_not_known_is_not_0():
    assert TABLE.bill(chat("who-knows", (1, 1)), None) == (None, None)
    assert TABLE.bill(chat("gpt-5"), None) == (None, None)
    some = chat("gpt-5", (1, 1), (1, None))
    assert TABLE.bill(some, None) == (None, None)
    whole = msgspec.structs.replace(some, totals=Totals(input_tokens=1_000_000, output_tokens=0, cached_tokens=500_000))
    assert TABLE.bill(whole, None) == (pytest.approx(0.55), "computed")
    of_long = msgspec.structs.replace(whole, model="gemini-2.5-pro")
    assert TABLE.bill(of_long, None) == (None, None)


def test_what_the_file_says_comes_first_0_included():
    trace = msgspec.structs.replace(chat("gpt-5", (1, 1)), totals=Totals(cost_usd=0.0))
    assert TABLE.bill(trace, None) == (0.0, "given")


def test_a_model_served_here_has_no_price_but_one_of_the_user(tmp_path):
    trace = chat("gpt-5", (1_000_000, 0))
    assert TABLE.bill(trace, "llama.cpp") == (None, None)
    assert TABLE.bill(trace, "external").source == "computed"
    (tmp_path / "prices.toml").write_text('[[price]]\nmodel = "gpt-5"\ninput = 7\noutput = 8\n')
    own = read_prices(tmp_path / "prices.toml")
    assert own.bill(trace, "llama.cpp").usd == own.bill(trace, None).usd == pytest.approx(7)
    assert own.bill(chat("openai/gpt-5", (1_000_000, 0)), "llama.cpp").usd == pytest.approx(7)
    assert own.price("claude-sonnet-4-5", local=False) == sold().price("claude-sonnet-4-5", local=False)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("price = 1", r"Expected `array`"), ("[[price]]\nmodel = 'a'\n", "missing required field `input`"),
        ("[[price]]\nmodel = 'a'\ninput = -1\noutput = 1\n", r">= 0.*price\[0\]\.input"),
        ("[[price]]\nmodel = 'a'\ninput = nan\noutput = 1\n", "input"), ("[[price]", "no table of prices"),
        ("[[price]]\nmodel = 'a'\ninput = 1\noutput = 1\ncash = 1\n", "unknown field `cash`"), ("\udcff", "utf-8"),
        ("price = " + "[" * 5000, "no table of prices"),
    ],
)  # fmt: skip
def test_what_is_no_table_of_prices_is_one_message(text, said, tmp_path):
    (tmp_path / "prices.toml").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=rf"(?s)prices\.toml: no table of prices: .*{said}|prices\.toml: {said}"):
        read_prices(tmp_path / "prices.toml")


def test_every_price_of_the_package_has_its_day_and_its_source():
    text = (ROOT / "agenttrace" / "formats" / "prices.toml").read_text(encoding="utf-8")
    prices = tomllib.loads(text)["price"]
    assert all(one["dated"].year >= 2025 and one["source"].startswith("https://") for one in prices)
    assert not [name for name, count in Counter(one["model"].lower() for one in prices).items() if count > 1]
    assert all(sold().price(f"{one['provider']}/{one['model']}", local=False) for one in prices)
    assert all(one.get("cached_input", 0) <= one["input"] <= one["output"] for one in prices)


def test_tables_have_the_cost_and_where_it_is_from(tmp_path):
    runs = load([SAMPLES / "claude-code.jsonl", SAMPLES / "mini-swe-agent-2.traj.json", DEMO]).runs
    assert runs["cost_source"].astype(object).where(runs["cost_source"].notna(), None).tolist() == [
        "computed", "computed", "given", *[None] * 4
    ]  # fmt: skip
    assert runs["cost_usd"].notna().tolist() == [True, True, True, *[False] * 4]
    assert runs["cost_usd"][2] == pytest.approx(0.03)


VERBS = {
    "analyze": (["analyze", "IN"], "US dollars"),
    "stats": (["stats", "IN", "--no-diversity"], "all rollouts"),
    "compare": (["compare", "IN", "IN", "--no-diversity"], "US dollars (mean)"),
}


@pytest.mark.parametrize("how", ["option", "variable"])
@pytest.mark.parametrize("verb", VERBS)
def test_a_table_of_the_user_prices_what_was_served_here(verb, how, tmp_path, agenttrace, monkeypatch):
    (tmp_path / "prices.toml").write_text('[[price]]\nmodel = "agenttrace-demo"\ninput = 1000\noutput = 1000\n')
    words, name = VERBS[verb]
    words = [str(DEMO) if word == "IN" else word for word in words]
    plain = [line for line in agenttrace(*words).stdout.splitlines() if line.startswith(name)]
    if how == "variable":
        monkeypatch.setenv(VARIABLE, str(tmp_path / "prices.toml"))
    option = ["--prices", str(tmp_path / "prices.toml")] if how == "option" else []
    said = [line for line in agenttrace(*words, *option).stdout.splitlines() if line.startswith(name)]
    assert ("not known" in plain[0], "not known" in said[0]) == (True, False)


def test_a_report_has_the_cost_by_a_table_of_the_user(tmp_path, agenttrace):
    (tmp_path / "prices.toml").write_text('[[price]]\nmodel = "agenttrace-demo"\ninput = 1000\noutput = 1000\n')
    assert agenttrace("report", DEMO, "-o", tmp_path / "a.html", "--prices", tmp_path / "prices.toml").returncode == 0
    assert agenttrace("report", DEMO, "-o", tmp_path / "b.html").returncode == 0
    assert (tmp_path / "a.html").read_bytes() != (tmp_path / "b.html").read_bytes()
    (_, first), *_ = traces(DEMO)
    totals = trace_view(first, read_prices(tmp_path / "prices.toml")).facts["totals"]
    assert (totals["cost_source"], totals["cost_usd"] > 0) == ("computed", True)


def test_the_view_of_a_report_has_the_cost():
    (_, first), _ = traces(SAMPLES / "claude-code.jsonl")
    totals = trace_view(first).facts["totals"]
    assert (totals["cost_source"], totals["cost_usd"] > 0) == ("computed", True)
    assert "cost_usd" not in json.dumps(trace_view(msgspec.structs.replace(first, model="x")).facts["totals"])
