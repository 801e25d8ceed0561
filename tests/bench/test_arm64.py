"""What is compared between two architectures, and what is said of it."""

import pytest

from agenttrace.errors import UsageError
from agenttrace.host import base, images
from bench import arm64


def test_images_of_the_other_architecture_have_names_of_their_own(monkeypatch):
    monkeypatch.setattr(base, "engine_arch", lambda: "amd64")
    own = images.name("server")
    with arm64.emulating("arm64"):
        assert images.name("server") == f"{own}-arm64"
    with arm64.emulating("amd64"):
        assert images.name("server") == own
    assert images.name("server") == own
    with arm64.emulating("sparc"), pytest.raises(UsageError, match="AGENTTRACE_ARCH"):
        images.name("server")


def test_a_check_that_does_not_exist_is_refused():
    with pytest.raises(UsageError, match="environment, fixture, call, telemetry, metadata, replay"):
        arm64.check(only=["nothing"])


def test_a_check_that_finds_something_fails_and_says_what(monkeypatch):
    monkeypatch.setitem(arm64.CHECKS, "call", lambda _pair: iter(["helper: 'c' / 'python'"]))
    shown = []
    pair = arm64.Pair(own=None, other=None, other_arch="arm64")
    assert not arm64._passes("call", pair, shown.append, print)
    assert shown == ["call: NOT equal", "    helper: 'c' / 'python'"]


def test_a_check_with_nothing_to_check_is_not_called_equal(monkeypatch, tmp_path):
    (tmp_path / "datasets").mkdir()
    monkeypatch.setattr(arm64, "ROOT", tmp_path)
    shown = []
    pair = arm64.Pair(own=None, other=None, other_arch="arm64")
    assert arm64._passes("replay", pair, shown.append, print)
    assert shown[0].startswith("replay: NOT checked: no released data set")
