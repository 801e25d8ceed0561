"""What the host finds out, and hands over, before a fetcher runs."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess

import pytest

from agenttrace.errors import UsageError
from agenttrace.host import compose, engine, weights
from agenttrace.models.reference import find

QWEN = "Qwen/Qwen3-0.6B"


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch, tmp_path):
    for name in ("HF_TOKEN", "HF_HOME", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "AGENTTRACE_MODELS_MIRROR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setattr(compose, "has_models_volume", lambda: True)


def test_the_one_file_of_a_mirror_folder_is_handed_over(monkeypatch, tmp_path):
    monkeypatch.setenv("AGENTTRACE_MODELS_MIRROR", str(tmp_path))
    assert weights.variables(find(QWEN)) == {}  # it may have been fetched before: the fetcher finds out
    (tmp_path / "blob").write_text("x")
    (tmp_path / "Qwen3-0.6B-Q8_0.gguf").symlink_to("blob")
    handed_over = {
        "AGENTTRACE_WEIGHTS": str(tmp_path / "blob"),
        "AGENTTRACE_WEIGHTS_TARGET": "/mirror/Qwen3-0.6B-Q8_0.gguf",
    }
    assert weights.variables(find(QWEN)) == handed_over
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    monkeypatch.setenv("AGENTTRACE_MODELS_MIRROR", f"~/{tmp_path.name}")
    assert weights.variables(find(QWEN)) == handed_over
    monkeypatch.setenv("AGENTTRACE_MODELS_MIRROR", str(tmp_path / "none"))
    with pytest.raises(UsageError, match="which is no folder"):
        weights.variables(find(QWEN))


def test_a_mirror_folder_without_the_file_is_told_at_once_where_nothing_was_ever_fetched(monkeypatch, tmp_path):
    monkeypatch.setattr(compose, "has_models_volume", lambda: False)
    monkeypatch.setenv("AGENTTRACE_MODELS_MIRROR", str(tmp_path))
    with pytest.raises(UsageError, match=r"does not hold Qwen3-0\.6B-Q8_0"):
        weights.variables(find(QWEN))


@pytest.mark.parametrize(
    ("code", "said", "expected"),
    [(0, "", True), (1, "Error response from daemon: get x: no such volume", False), (1, "Cannot connect", True)],
)
def test_a_volume_is_missing_only_where_the_engine_says_so(monkeypatch, code, said, expected):
    monkeypatch.undo()
    ended = subprocess.CompletedProcess([], code, stdout="", stderr=said)
    monkeypatch.setattr(engine, "run", lambda *_, **__: ended)
    assert compose.has_models_volume() is expected


def test_the_bundled_model_needs_nothing(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert weights.variables(find("agenttrace-demo")) == {}


def test_a_file_of_a_table_that_is_not_there_is_refused(monkeypatch, tmp_path):
    (tmp_path / "models.toml").write_text('[model."mine"]\nsource = "file"\npath = "none.gguf"\n')
    monkeypatch.setenv("AGENTTRACE_MODELS", str(tmp_path / "models.toml"))
    with pytest.raises(UsageError, match="does not exist or is no file"):
        weights.variables(find("mine"))


def test_only_what_a_download_needs_is_handed_over(tmp_path):
    environ = {"HF_ENDPOINT": "http://hub", "https_proxy": "http://p", "AWS_SECRET": "no", "HF_TOKEN": ""}
    given = {"HF_ENDPOINT": "http://hub", "https_proxy": "http://p"}
    assert weights.user_settings(environ | {"HF_TOKEN_PATH": str(tmp_path / "none")}) == given
    (tmp_path / "token").write_text("hf_stored\n")
    for place in ({"HF_TOKEN_PATH": str(tmp_path / "token")}, {"HF_HOME": str(tmp_path)}):
        assert weights.user_settings(environ | place) == given | {"HF_TOKEN": "hf_stored"}
    assert "AWS_SECRET" not in weights.user_settings(os.environ | environ)


@pytest.fixture
def pip_says(monkeypatch):
    """Return what a pip of this machine says of its files; a test sets its text."""
    said = {"text": ""}

    def run(argv, **_):
        assert argv[-2:] == ["config", "list"]
        return subprocess.CompletedProcess(argv, 0, stdout=said["text"], stderr="")

    weights._pip_files.cache_clear()
    monkeypatch.setattr(engine, "run", run)
    for name in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX", "PIP_CERT", "PIP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    yield said
    weights._pip_files.cache_clear()


def test_what_pip_is_set_to_reaches_the_fetcher_of_wheels_alone(pip_says, monkeypatch, tmp_path):
    (tmp_path / "ca.pem").write_text("certificates")
    pip_says["text"] = (
        f"global.cert='{tmp_path}/ca.pem'\nglobal.find-links='/nowhere\\nhttps://links.example/'\n"
        "global.index-url='https://one.example/simple'\ninstall.index-url='https://two.example/simple'\n"
        "global.proxy='http://proxy:1'\nfreeze.timeout='10'\nodd\n:env:.index-url='x'\n"
    )
    for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    given = weights.host_settings(wheels=True)
    assert given.certificates == "certificates"
    assert given.environment["PIP_INDEX_URL"] == "https://two.example/simple"
    assert given.environment["PIP_FIND_LINKS"] == "/mirror/links https://links.example/"
    assert given.environment["HTTPS_PROXY"] == "http://proxy:1"
    assert "PIP_INDEX_URL" not in weights.host_settings().environment
    monkeypatch.setenv("PIP_INDEX_URL", "https://mine.example/simple")
    monkeypatch.setenv("HTTPS_PROXY", "http://other:1")
    given = weights.host_settings(wheels=True).environment
    assert (given["PIP_INDEX_URL"], given["HTTPS_PROXY"]) == ("https://mine.example/simple", "http://other:1")


def test_a_folder_that_pip_knows_is_handed_over_when_all_wheels_are_in_it(pip_says, monkeypatch, tmp_path):
    smol, gemma = find("HuggingFaceTB/SmolLM2-135M-Instruct"), find("google/gemma-3-270m")
    pip_says["text"] = f"global.find-links='{tmp_path}'\n"
    assert weights.variables(smol) == {}
    (tmp_path / smol.wheels[0].file).write_text("x")
    (tmp_path / gemma.wheels[0].file).write_text("x")
    assert weights.variables(smol) == {
        "AGENTTRACE_WEIGHTS": str(tmp_path / smol.wheels[0].file),
        "AGENTTRACE_WEIGHTS_TARGET": f"/mirror/links/{smol.wheels[0].file}",
    }
    assert weights.variables(gemma) == {}
    for wheel in gemma.wheels:
        (tmp_path / wheel.file).write_text("x")
    tmp_path.chmod(0o700)
    with pytest.raises(UsageError, match="not readable for everybody"):
        weights.variables(gemma)
    tmp_path.chmod(0o755)
    mounted = {"AGENTTRACE_WEIGHTS": str(tmp_path), "AGENTTRACE_WEIGHTS_TARGET": "/mirror/links"}
    assert weights.variables(gemma) == mounted
    (tmp_path / smol.artifact).write_text("x")
    monkeypatch.setenv("AGENTTRACE_MODELS_MIRROR", str(tmp_path))
    assert weights.variables(smol)["AGENTTRACE_WEIGHTS"] == str(tmp_path / smol.artifact)


def test_terms_are_asked_for_at_a_terminal_and_else_refused_in_one_line(monkeypatch):
    gemma = find("google/gemma-3-270m")
    with pytest.raises(UsageError, match="--accept-terms") as refused:
        weights.ask_terms(gemma, accepted=False)
    assert "\n" not in str(refused.value)
    weights.ask_terms(gemma, accepted=True)
    for answer, agreed in (("y\n", True), ("\n", False)):
        asked = io.StringIO(answer)
        asked.isatty = lambda: True
        monkeypatch.setattr("sys.stdin", asked)
        monkeypatch.setattr("sys.stderr.isatty", lambda: True)
        with contextlib.nullcontext() if agreed else pytest.raises(UsageError, match="gemma/terms"):
            weights.ask_terms(gemma, accepted=False)


@pytest.mark.parametrize("variable", ["HF_TOKEN_PATH", "HF_HOME", "XDG_CACHE_HOME"])
def test_a_home_that_nobody_has_holds_no_token(variable):
    assert weights.user_settings({variable: "~nosuch/x"}) == {}


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        ("http://hub.example", True),
        ("https://hub.example", False),
        ("http://127.0.0.1:8", False),
        ("http://[", False),
        ("", False),
    ],
)
def test_a_token_that_goes_in_clear_text_is_told(monkeypatch, capsys, endpoint, told):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    weights.host_settings()
    assert capsys.readouterr().err == ""  # without a token
    monkeypatch.setenv("HF_TOKEN", "hf_x")
    weights.host_settings()
    assert ("HF_TOKEN crosses the network in clear text" in capsys.readouterr().err) is told
