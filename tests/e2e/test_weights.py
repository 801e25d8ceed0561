"""Weights through the real fetcher container: from a mirror folder, from a Hub, and not at all."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import threading

import pytest

from agenttrace.models import pins
from agenttrace.store.read import read_run_spec, read_traces, run_spec_path

pytestmark = pytest.mark.docker

DEMO = pins.BUNDLED / "agenttrace-demo.gguf"
COMMIT = "c" * 40
MODEL = f"owner/tiny-GGUF@{COMMIT}:tiny-Q8_0.gguf"


@pytest.fixture
def settings(instance, tmp_path):
    """Return the environment of an instance that cannot reach any Hub."""
    instance.env |= {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_TOKEN_PATH": str(tmp_path / "none")}
    for name in ("HF_TOKEN", "HF_HUB_OFFLINE", "HTTP_PROXY", "http_proxy"):
        instance.env.pop(name, None)
    return instance.env


def host(env, *arguments):
    argv = [sys.executable, "-m", "agenttrace.host", *arguments]
    return subprocess.run(argv, capture_output=True, text=True, env=env, timeout=120)


def spec_of(instance):
    return read_run_spec(run_spec_path(instance.records))


def test_a_registered_model_from_a_mirror_folder_runs_a_campaign_to_its_end(instance, settings, tmp_path):
    mirror = tmp_path / "mirror"
    cached = mirror / "models--me--mine" / "snapshots" / COMMIT
    cached.mkdir(parents=True)
    (mirror / "blob").write_bytes(DEMO.read_bytes())
    (cached / "renamed-Q8_0.gguf").symlink_to("../../../blob")
    demo = pins.model_pin(pins.DEFAULT_MODEL)
    (tmp_path / "models.toml").write_text(
        f'[model."me/renamed"]\nsource = "hub"\nrepo = "me/mine"\nrevision = "{COMMIT}"\nfile = "renamed-Q8_0.gguf"\n'
        f'bytes = {demo.bytes}\nsha256 = "{demo.sha256}"\nlicence = "apache-2.0"\nthreads = 1\n'
    )
    settings |= {"AGENTTRACE_MODELS": str(tmp_path / "models.toml"), "AGENTTRACE_MODELS_MIRROR": str(mirror)}
    ended = instance.collect("me/renamed", "--dataset", "demo", "-n", "2")
    assert ended.returncode == 0, ended.stderr
    assert re.search(r"renamed-Q8_0\.gguf: 100 %, 1\.0/1\.0 MB", ended.stderr)
    pin = spec_of(instance).model
    assert (pin.name, pin.repo, pin.revision, pin.digest_from) == ("me/renamed", "me/mine", COMMIT, "given")
    assert (pin.quantization, pin.chat_template_sha256) == (demo.quantization, demo.chat_template_sha256)
    traces = list(read_traces(instance.records))
    assert [trace.model for trace in traces] == ["me/renamed"] * 2
    assert all(trace.outcome.solved and not trace.metadata["demo"] for trace in traces)
    assert str(tmp_path) not in run_spec_path(instance.records).read_text() + instance.records.read_text()
    again = instance.collect("me/renamed", "--dataset", "demo", "-n", "2")
    assert "nothing to do" in again.stderr, again.stderr


def test_a_file_of_ones_own_runs_too_and_the_record_has_its_computed_digest(instance, settings, tmp_path):
    copy = tmp_path / "my own.gguf"
    copy.write_bytes(DEMO.read_bytes())
    ended = instance.collect(str(copy), "--dataset", "demo", "-n", "1")
    assert ended.returncode == 0, ended.stderr
    pin = spec_of(instance).model
    assert (pin.name, pin.source, pin.digest_from) == ("my_own.gguf", "file", "computed")
    assert pin.sha256 == pins.model_pin(pins.DEFAULT_MODEL).sha256


def test_without_a_network_collect_ends_at_once_and_says_what_to_do(instance, settings):
    ended = instance.collect("Qwen/Qwen3-0.6B", "--dataset", "demo")
    assert ended.returncode == 2
    assert "cannot reach http://127.0.0.1:9" in ended.stderr
    assert "AGENTTRACE_MODELS_MIRROR" in ended.stderr
    assert pins.model_pin("Qwen/Qwen3-0.6B").sha256 in ended.stderr
    assert "building" not in ended.stderr
    assert list(instance.folder.iterdir()) == []


def test_the_fetcher_brings_a_file_of_a_hub_with_the_users_token_and_shows_it_nowhere(
    instance, settings, make_hub, volume_shell
):
    gateway = json.loads(instance.docker("network", "inspect", "bridge"))[0]["IPAM"]["Config"][0]["Gateway"]
    with make_hub("0.0.0.0", gateway) as hub:
        hub.content = DEMO.read_bytes()
        hub.cuts, hub.hold = [500_000], threading.Event()
        settings |= {"HF_ENDPOINT": hub.url, "HF_TOKEN": "hf_verysecret"}
        done = []
        fetching = threading.Thread(target=lambda: done.append(host(settings, "fetch", MODEL.replace(COMMIT, "main"))))
        fetching.start()
        assert hub.half_sent.wait(100)
        name = f"name={instance.project}-fetch-"
        ids = instance.docker("ps", "-q", "--filter", name).split()
        inspected = instance.docker("inspect", *ids)
        running = instance.docker("top", ids[0], "-o", "pid,args")
        hub.hold.set()
        fetching.join()
        (ended,) = done
        assert "agenttrace" in running
        assert "hf_verysecret" not in inspected + running
        assert ended.returncode == 0, ended.stderr
        assert hub.ranges_asked() == [None, "bytes=500000-"]
        sent = {(where, headers.get("Authorization")) for where, _, _, headers in hub.seen}
        assert ("hub", "Bearer hf_verysecret") in sent
        assert {token for where, token in sent if where == "cdn"} == {None}
    assert f"model {MODEL}\n" in ended.stdout
    assert "as the Hub states it now, not pinned" in ended.stdout
    assert "hf_verysecret" not in ended.stdout + ended.stderr
    volume_shell(f"test -f /models/{hub.sha256[:16]}-tiny-Q8_0.gguf && ! grep -r hf_verysecret /models")


def test_the_fetchers_own_refusal_is_shown_and_its_status_kept(instance, settings, make_hub):
    gateway = json.loads(instance.docker("network", "inspect", "bridge"))[0]["IPAM"]["Config"][0]["Gateway"]
    with make_hub("0.0.0.0", gateway) as hub:
        hub.refuse = (403, {"X-Error-Code": "GatedRepo"})
        settings["HF_ENDPOINT"] = hub.url
        ended = instance.collect(MODEL, "--dataset", "demo")
    assert ended.returncode == 2
    assert f"{hub.url}/owner/tiny-GGUF is gated (no HF_TOKEN is set)" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert list(instance.folder.iterdir()) == []
