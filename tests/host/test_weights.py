"""What the host finds out, and hands over, before a fetcher runs."""

from __future__ import annotations

import os
import socket

import pytest

from agenttrace.errors import UsageError
from agenttrace.host import weights
from agenttrace.models.hub import FetchError
from agenttrace.models.reference import find

QWEN = "Qwen/Qwen3-0.6B"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch, tmp_path):
    for name in ("HF_TOKEN", "HF_HOME", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "AGENTTRACE_MODELS_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(weights, "_in_volume", lambda _: False)


@pytest.mark.parametrize("refuse", [None, (401, {}), (503, {}), (302, {"Location": "/again"})])
def test_whatever_answers_is_reached(hub, refuse):
    hub.refuse = refuse
    assert weights.unreachable(hub.url) is None
    assert all("Authorization" not in headers for _, _, _, headers in hub.seen)


def test_what_does_not_answer_is_told_with_the_reason():
    assert "refused" in weights.unreachable("http://127.0.0.1:9")
    assert weights.unreachable("ftp://host") == "not an http address"
    assert weights.unreachable("host") is not None
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "timed out" in weights.unreachable(f"http://127.0.0.1:{silent.getsockname()[1]}", timeout_s=0.2)


def test_a_hanging_resolver_does_not_hold_up_the_user(monkeypatch):
    monkeypatch.setattr(weights, "_PROBE_S", 0.1)
    monkeypatch.setattr(weights, "_asked", lambda *_: __import__("time").sleep(1))
    assert "no answer within" in weights.unreachable("http://host")


def test_without_a_network_the_way_out_is_said(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(FetchError, match=r"cannot reach http://127\.0\.0\.1:9 .*refused.*AGENTTRACE_MODELS_MIRROR"):
        weights.check(find(QWEN))
    monkeypatch.setattr(weights, "_in_volume", lambda _: True)
    weights.check(find(QWEN))


def test_offline_needs_the_file_in_the_volume(monkeypatch, hub):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(FetchError, match="HF_HUB_OFFLINE forbids it"):
        weights.check(find(QWEN))
    assert hub.seen == []


def test_a_mirror_folder_is_looked_into_before_anything_starts(monkeypatch, tmp_path):
    monkeypatch.setenv("AGENTTRACE_MODELS_MIRROR", str(tmp_path))
    with pytest.raises(UsageError, match=r"does not hold Qwen3-0\.6B-Q8_0"):
        weights.check(find(QWEN))
    (tmp_path / "blob").write_text("x")
    (tmp_path / "Qwen3-0.6B-Q8_0.gguf").symlink_to("blob")
    weights.check(find(QWEN))
    assert weights.variables(find(QWEN)) == {
        "AGENTTRACE_WEIGHTS": str(tmp_path / "blob"),
        "AGENTTRACE_WEIGHTS_TARGET": "/mirror/Qwen3-0.6B-Q8_0.gguf",
    }
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    monkeypatch.setenv("AGENTTRACE_MODELS_MIRROR", f"~/{tmp_path.name}")
    weights.check(find(QWEN))
    monkeypatch.setenv("AGENTTRACE_MODELS_MIRROR", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="which is no folder"):
        weights.check(find(QWEN))


def test_the_bundled_model_needs_nothing(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    weights.check(find("agenttrace-demo"))
    assert weights.variables(find("agenttrace-demo")) == {}


def test_only_what_a_download_needs_is_handed_over(tmp_path):
    environ = {"HF_ENDPOINT": "http://hub", "https_proxy": "http://p", "AWS_SECRET": "no", "HF_TOKEN": ""}
    given = {"HF_ENDPOINT": "http://hub", "https_proxy": "http://p"}
    assert weights.user_settings(environ | {"HF_TOKEN_PATH": str(tmp_path / "none")}) == given
    (tmp_path / "token").write_text("hf_stored\n")
    for place in ({"HF_TOKEN_PATH": str(tmp_path / "token")}, {"HF_HOME": str(tmp_path)}):
        assert weights.user_settings(environ | place) == given | {"HF_TOKEN": "hf_stored"}
    assert "AWS_SECRET" not in weights.user_settings(os.environ | environ)


@pytest.mark.parametrize("variable", ["HF_TOKEN_PATH", "HF_HOME", "XDG_CACHE_HOME"])
def test_a_home_that_nobody_has_holds_no_token(variable):
    assert weights.user_settings({variable: "~nosuch/x"}) == {}
