"""`agenttrace.inside fetch`: as a person runs it, and as the host does in the fetcher container."""

from __future__ import annotations

import io
import os
import shutil
import signal
import ssl
import subprocess
import sys

import msgspec
import pytest

from agenttrace import inside
from agenttrace.models import pins
from agenttrace.models.hub import HostSettings
from agenttrace.models.reference import find
from agenttrace.records import ModelPin

DEMO = pins.BUNDLED / "agenttrace-demo.gguf"
MODEL = "owner/tiny-GGUF@main:tiny-Q8_0.gguf"


def agenttrace_fetch(*arguments, settings=None, **environ):
    argv = [sys.executable, "-m", "agenttrace.inside", "fetch", *map(str, arguments)]
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("SSL_", "HF_"))}
    env = {**clean, "HF_TOKEN_PATH": "/nonexistent", **environ}
    return subprocess.run(argv, input=settings or b"", capture_output=True, env=env)


def for_the_host(models, **settings):
    """Fetch as the host has it done."""
    ref, given = (msgspec.json.encode(one) for one in (find(MODEL), HostSettings(**{"environment": {}, **settings})))
    return agenttrace_fetch(ref.decode(), "--from-host", "--models-dir", models, settings=given)


@pytest.fixture
def authority(tmp_path):
    """Return key and certificate of a server that nobody trusts yet."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: it makes the certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    subprocess.run([*command.split(), "-keyout", key, "-out", certificate], capture_output=True, check=True)
    return key, certificate


def test_a_person_is_told_where_the_file_lies_and_what_it_is(tmp_path):
    ended = agenttrace_fetch("agenttrace-demo", "--models-dir", tmp_path)
    path, *rest = ended.stdout.decode().splitlines()
    assert path == f"{tmp_path}/ebbc2f0cd9df0608-agenttrace-demo.gguf"
    pin = pins.model_pin("agenttrace-demo")
    assert rest == [
        "model agenttrace-demo",
        f"{pin.bytes} bytes, SHA-256 {pin.sha256} (as pinned by the kit)",
        "licence apache-2.0",
    ]


def test_a_mistake_is_one_message_with_status_2(tmp_path):
    ended = agenttrace_fetch("nobody/none", "--models-dir", tmp_path)
    assert (ended.returncode, ended.stdout) == (2, b"")
    assert ended.stderr.startswith(b"agenttrace: unknown model")


def test_certificates_that_are_not_there_are_no_disk_error(hub, tmp_path):
    ended = agenttrace_fetch(MODEL, "--models-dir", tmp_path, HF_ENDPOINT=hub.url, SSL_CERT_FILE="/nonexistent.pem")
    assert ended.returncode == 2, ended.stderr
    assert b"is SSL_CERT_FILE right?" in ended.stderr
    assert b"Traceback" not in ended.stderr


def test_the_host_gets_the_file_and_its_pin(hub, tmp_path):
    hub.content = DEMO.read_bytes()
    ended = for_the_host(
        tmp_path, environment={"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_verysecret", "PATH": "/nowhere"}
    )
    assert ended.returncode == 0, ended.stderr
    pin = msgspec.json.decode(ended.stdout, type=ModelPin)
    assert (pin.sha256, pin.digest_from, pin.context_length) == (hub.sha256, "hub", 16384)
    assert {headers.get("Authorization") for where, _, _, headers in hub.seen if where == "hub"} == {
        "Bearer hf_verysecret"
    }
    assert b"verysecret" not in ended.stdout + ended.stderr


@pytest.fixture
def refused(monkeypatch, capsys, tmp_path):
    """Fetch in this process what cannot be fetched; returns the status and what was said."""
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments, settings=b""):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(settings)))
        with pytest.raises(SystemExit) as ended:
            inside.main(["fetch", *arguments, "--models-dir", str(tmp_path)])
        return ended.value.code, *capsys.readouterr()

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("settings", [b"", b"{}", b"\xff", b'{"environment": 1}'])
def test_damaged_settings_are_refused(refused, settings):
    code, _, said = refused(msgspec.json.encode(find(MODEL)).decode(), "--from-host", settings=settings)
    assert code == 2
    assert said.startswith("agenttrace: --from-host:")


@pytest.mark.parametrize("model", ["-", "{}", '{"name": "x", "source": "hub"}'])
def test_a_damaged_reference_is_refused(refused, model):
    code, _, said = refused(model, "--from-host", settings=b'{"environment": {}}')
    assert code == 2
    assert said.startswith("agenttrace: --from-host:")


def test_certificates_of_ones_own_are_trusted_when_the_host_hands_them_over(make_hub, authority, tmp_path):
    key, certificate = authority
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with make_hub("127.0.0.1", "localhost", context) as hub:
        hub.content = DEMO.read_bytes()
        settings = {"HF_ENDPOINT": hub.url}
        refused = for_the_host(tmp_path / "models", environment=settings)
        assert refused.returncode == 2
        assert b"a certificate that this machine does not trust; name the bundle" in refused.stderr
        ended = for_the_host(tmp_path / "models", environment=settings, certificates=certificate.read_text())
    assert ended.returncode == 0, ended.stderr
