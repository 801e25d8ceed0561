"""How a campaign looks on a terminal, by what the user has set: through the real containers."""

from __future__ import annotations

import os
import pty
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.docker

ROOT = Path(__file__).parents[2]


def on_terminal(argv, env):
    """What a command writes to a terminal of its own."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, cwd=ROOT, env=env) as process:
        os.close(theirs)
        shown = b""
        try:
            while part := os.read(ours, 1 << 16):
                shown += part
        except OSError:  # the last of them has hung up
            pass
        os.close(ours)
    assert process.returncode == 0, shown
    return shown.decode()


def plain(env, **more):
    """The environment without what would say how to show things, and `more`."""
    return {name: value for name, value in env.items() if name not in {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}} | more


@pytest.mark.parametrize("settings", [{"NO_COLOR": "1", "TERM": "xterm-256color"}, {"TERM": "dumb"}])
def test_who_wants_no_escape_codes_gets_lines(instance, settings):
    shown = on_terminal(instance.argv("-n", "1"), plain(instance.env, **settings))
    assert "\x1b" not in shown
    assert "[1/1] demo/0" in shown
    assert "tokens in / out" in shown


def test_others_get_colours_and_a_bar(instance):
    shown = on_terminal(instance.argv("-n", "1"), plain(instance.env, TERM="xterm-256color"))
    assert "\x1b[" in shown
    assert "[1/1] demo/0" not in shown


def test_who_wants_it_quiet_gets_nothing(instance):
    assert on_terminal(instance.argv("-n", "1", "--quiet"), plain(instance.env, TERM="xterm-256color")) == ""
