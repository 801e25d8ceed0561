"""What runs just now is told: tokens so far and their rate, on a terminal and without one."""

from __future__ import annotations

import io
import json
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from agenttrace.agents.tool_calling import agent_spec
from agenttrace.campaign.display import CampaignDisplay
from agenttrace.campaign.live import Generating, Live, read_slots
from agenttrace.testing import ScriptedServer

SLOT = {"id": 0, "id_task": 7, "is_processing": True}


def page(tokens, **more):
    return [{**SLOT, "next_token": [{"n_decoded": tokens}], **more}]


def test_the_tokens_of_busy_slots_are_read_of_every_build():
    assert read_slots(json.dumps(page(5)).encode()) == {(0, 7): 5}
    assert read_slots(json.dumps([{**SLOT, "next_token": {"n_decoded": 6}}]).encode()) == {(0, 7): 6}
    assert read_slots(json.dumps([{**SLOT, "n_decoded": 8}]).encode()) == {(0, 7): 8}
    assert read_slots(json.dumps(page(5, is_processing=False)).encode()) == {}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda one: (
        st.lists(one) | st.dictionaries(st.sampled_from(["id", "next_token", "is_processing", "n_decoded"]), one)
    ),
)


@given(JSON.map(lambda value: json.dumps(value).encode()) | st.binary())
def test_any_page_is_read(data):
    assert all(done >= 0 for done in read_slots(data).values())


def sent(rows):
    return {"_raw": json.dumps(rows).encode()}


def followed(pages, *, looks):
    """Return what is shown of a server whose page of slots changes with every look."""
    shown, enough = [], threading.Event()

    def show(now):
        shown.append(now)
        server.pages["/slots"] = sent(pages[min(len(shown), len(pages) - 1)])
        if len(shown) >= looks:
            enough.set()

    with ScriptedServer([]) as server:
        server.pages["/slots"] = sent(pages[0])
        with Live(server.base_url, show, every_s=0.02):
            assert enough.wait(20)
    return shown[:looks]


def test_the_rate_is_that_between_two_looks_and_a_new_request_begins_anew():
    first, second, third, fourth = followed(
        [page(10), page(30), page(4, id_task=8), page(4, is_processing=False)], looks=4
    )
    assert first == Generating(1, 10, None)
    assert second.tokens == 30
    assert second.per_s > 0
    assert third == Generating(1, 4, None)
    assert fourth is None
    assert str(Generating(1, 812, 23.4)) == "generating 812 tokens so far at 23 tok/s"
    assert str(Generating(2, 1812, None)) == "generating 2 replies, 1,812 tokens so far"


def test_a_server_without_slots_is_left_alone():
    with ScriptedServer([]) as server, Live(server.base_url, pytest.fail, every_s=0.01) as live:
        live._thread.join(10)
        assert not live._thread.is_alive()


def display(file, **console):
    return CampaignDisplay(Console(file=file, width=200, **console), total=9, done=2, agent=agent_spec())


def test_without_a_terminal_a_line_comes_now_and_then(monkeypatch):
    file, clock = io.StringIO(), [1000.0]
    monkeypatch.setattr("agenttrace.campaign.display.time.monotonic", lambda: clock[0])
    shown = display(file)
    for seconds in (1, 20, 31, 32, 50, 62, 70):
        clock[0] = 1000.0 + seconds
        shown.generating(Generating(1, seconds * 10, 10.0))
        shown.generating(None)
    assert file.getvalue().splitlines() == [
        "[2/9] generating 310 tokens so far at 10 tok/s",
        "[2/9] generating 620 tokens so far at 10 tok/s",
    ]


def test_on_a_terminal_it_stands_in_the_bar():
    file = io.StringIO()
    shown = display(file, force_terminal=True)
    with shown.bar:
        shown.generating(Generating(1, 512, 20.0))
        shown.bar.refresh()
    assert "512 tokens so far at 20 tok/s" in file.getvalue()
