"""Signals while a campaign runs."""

from __future__ import annotations

import os
import signal
import time

import pytest

from agenttrace.host.guard import interrupts_held, terminations_interrupt


@pytest.fixture
def handler():
    """Set how SIGHUP is handled, and set it back."""
    before = signal.getsignal(signal.SIGHUP)
    yield lambda found: signal.signal(signal.SIGHUP, found)
    signal.signal(signal.SIGHUP, before)


def test_a_hang_up_ends_a_campaign_as_ctrl_c_does(handler):
    handler(signal.SIG_DFL)
    with pytest.raises(KeyboardInterrupt), terminations_interrupt():
        os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_a_campaign_under_nohup_outlives_the_terminal(handler):
    handler(signal.SIG_IGN)
    with terminations_interrupt():
        os.kill(os.getpid(), signal.SIGHUP)
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def started_while_interrupted(number, started):
    with terminations_interrupt(), interrupts_held():
        os.kill(os.getpid(), number)
        time.sleep(0.01)
        started.append(number)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_while_something_starts_takes_effect_when_it_is_known(number):
    started = []
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            started_while_interrupted(number, started)
    finally:
        signal.signal(signal.SIGINT, before)
    assert started == [number]
