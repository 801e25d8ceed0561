"""Signals while a campaign runs."""

from __future__ import annotations

import os
import signal

import pytest

from agenttrace.host.follow import terminations_interrupt


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
