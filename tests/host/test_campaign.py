"""What the host side makes of a request, before any container is started."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import docker.errors
import msgspec
import pytest
import requests

from agenttrace.campaign.options import ROLLOUTS, Options
from agenttrace.cli import main
from agenttrace.errors import UsageError
from agenttrace.host import campaign, compose, engine
from agenttrace.host.checkouts import Places
from agenttrace.serving import endpoint
from agenttrace.tasks import sources


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://localhost:8000/v1", "http://host.docker.internal:8000/v1"),
        ("http://127.0.0.1/v1", "http://host.docker.internal/v1"),
        ("http://[::1]:80/v1", "http://host.docker.internal:80/v1"),
        ("https://gpu.example:8000/v1", "https://gpu.example:8000/v1"),
    ],
)
def test_an_endpoint_on_this_machine_is_reached_by_the_name_that_containers_know(url, expected):
    assert campaign.inside(url) == expected


def collect(tmp_path, *datasets, workers=None, base_url=None, **options):
    every = tuple(Options(dataset=name, **options) for name in datasets or ("demo",))
    campaign._check(campaign.Request(options=every, folder=tmp_path, workers=workers, base_url=base_url))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "Qwen/Qwen9"}, "unknown model"),
        ({"workers": 0}, "--workers 0: expected 1 to 256"),
        ({"workers": 257}, "--workers 257: expected 1 to 256"),
        ({"rollouts": -1}, "--rollouts"),
        ({"agent": "planner"}, "unknown agent 'planner'; known: tool_calling, bash_block"),
        ({"temperature": 2.1}, "--temperature: 2.1 is outside 0 to 2"),
        ({"sampler": "hot"}, "unknown sampler"),
        ({"profile": "fast"}, "known: reproducible, throughput"),
        ({"base_url": "localhost"}, "expected an address such as"),
        ({"run_id": "../x"}, "run id"),
        ({"output": "x"}, r"--output x: the name of a record file ends in \.jsonl"),
        ({"output": "x.failures.jsonl"}, r"and not in \.failures\.jsonl"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_built(tmp_path, arguments, message):
    with pytest.raises(UsageError, match=message):
        collect(tmp_path, **arguments)


def test_more_records_than_can_be_are_refused_before_anything_is_built(tmp_path, monkeypatch):
    monkeypatch.setattr("agenttrace.campaign.options._MOST_RECORDS", 100)
    collect(tmp_path, rollouts=3)
    with pytest.raises(UsageError, match="32 tasks with 4 rollouts: more than 100 records"):
        collect(tmp_path, rollouts=4)


def test_several_sets_go_into_files_of_their_own(tmp_path):
    with pytest.raises(UsageError, match="--output names one file"):
        collect(tmp_path, "demo", "mbpp", output="x.jsonl")
    with pytest.raises(UsageError, match="each may be named once"):
        collect(tmp_path, "demo", "demo")
    with pytest.raises(UsageError, match="--dataset swe has images of its own: give it alone"):
        collect(tmp_path, "demo", "swe")


@pytest.mark.parametrize("names", [("no",), ("demo", "no"), ("swe", "no")])
def test_a_set_that_does_not_exist_is_refused_before_anything_is_built(tmp_path, names):
    with pytest.raises(UsageError, match="unknown task set 'no'; known: demo, mbpp, nl2bash, swe"):
        collect(tmp_path, *names)


@pytest.mark.parametrize(
    ("places", "message"),
    [
        ({"source": Path("none.jsonl")}, "--source none.jsonl: there is no such file or folder"),
        ({"source": Path(__file__)}, f"{__file__}: expected a .jsonl or .parquet file, or a folder of them"),
        ({"repositories": "none"}, "--repositories none: there is no such file or folder"),
        ({"repositories": "https://example.org/x"}, r"expected \{repo\} in the URL"),
    ],
)
def test_tasks_over_checkouts_need_places_that_are_there(tmp_path, monkeypatch, places, message):
    monkeypatch.chdir(tmp_path)
    asked = campaign.Request(options=(ROLLOUTS,), folder=tmp_path)
    campaign._check(asked)
    with pytest.raises(UsageError, match=message):
        campaign._check(msgspec.structs.replace(asked, places=Places(**places)))


def test_digest_and_size_are_of_weights_that_are_fetched(tmp_path):
    url = "http://localhost/v1"
    asked = campaign.Request(options=(Options(external=True),), folder=tmp_path, base_url=url, size=1)
    with pytest.raises(UsageError, match="give them without --base-url"):
        campaign._check(asked)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["demo"]),
        (["agenttrace-demo", "--dataset", "demo", "mbpp"], ["demo", "mbpp"]),
        (["--dataset", "mbpp", "--dataset", "nl2bash"], ["mbpp", "nl2bash"]),
        (["Qwen/Qwen3-0.6B", "--base-url", "http://x/v1"], ["mbpp", "nl2bash"]),
    ],
)
def test_the_bundled_model_runs_demo_and_any_other_both_released_sets(monkeypatch, arguments, expected):
    seen = []
    monkeypatch.setattr(campaign, "collect", lambda request: seen.append(request) or campaign.CampaignsEnd(0, ()))
    with pytest.raises(SystemExit):
        main(["collect", *arguments])
    assert [options.dataset for options in seen[0].options] == expected


class _Started:
    """Takes what would be started."""

    def __init__(self):
        self.calls = []

    def start(self, name, service, *arguments, output=None, data=None):
        self.calls.append((service, arguments, data))


def test_the_key_reaches_the_collector_of_an_endpoint_on_its_input_alone(monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
    url = "http://localhost/v1"
    there = campaign.Request(options=(Options(external=True),), folder=tmp_path, base_url=url)
    here = campaign.Request(options=(Options(),), folder=tmp_path)
    services = _Started()
    for request in (there, here):
        campaign.start_collector(services, "name", request, request.options[0])
    (endpoint, words, data), (ours, other_words, nothing) = services.calls
    assert (endpoint, data, "--key-from-stdin" in words) == ("collector-endpoint", b"sk-1\n", True)
    assert (ours, nothing) == ("collector", None)
    assert "sk-1" not in f"{words}{other_words}"


def test_without_a_key_nothing_is_waited_for(monkeypatch, tmp_path):
    for name in endpoint.KEY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    services = _Started()
    request = campaign.Request(options=(Options(external=True),), folder=tmp_path, base_url="http://localhost/v1")
    campaign.start_collector(services, "name", request, request.options[0])
    assert "--key-from-stdin" not in services.calls[0][1]
    assert services.calls[0][2] is None


def test_what_a_container_reads_is_in_no_argument_and_no_variable(monkeypatch, tmp_path):
    program = tmp_path / "docker"
    program.write_text('#!/bin/sh\nread -r line; echo "read $line"; echo "arguments $*"; env\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    process = compose.Services("p", {}).start("name", "collector", "collect", output=subprocess.PIPE, data=b"sk-1\n")
    output = process.stdout.read().decode()
    process.stdout.close()
    assert process.wait() == 0
    assert output.startswith("read sk-1\n")
    assert output.count("sk-1") == 1


@pytest.mark.parametrize("named", ["~no-such-user/x", "/nowhere/at/all"])
def test_a_set_without_files_does_not_ask_where_they_would_be(monkeypatch, named):
    monkeypatch.delenv(sources.MIRROR, raising=False)
    monkeypatch.setenv(sources.CACHE, named)
    assert campaign._task_files() == str(compose.ROOT / "agenttrace" / "tasks")


def test_the_folder_that_is_there_is_handed_over_by_its_real_path(monkeypatch, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    monkeypatch.setenv(sources.MIRROR, str(tmp_path / "link"))
    assert campaign._task_files() == str(tmp_path / "real")


@pytest.mark.parametrize("value", ["abc", "inf", "nan"])
def test_seconds_are_a_number(capsys, value):
    with pytest.raises(SystemExit):
        main(["collect", "--call-limit", value])
    assert f"{value!r}: expected a number of seconds" in capsys.readouterr().err


def test_where_findings_cannot_go_is_said_before_the_work(tmp_path, capsys):
    for place in (tmp_path, tmp_path / "no" / "x.json"):
        with pytest.raises(SystemExit) as ended:
            main(["replay", __file__, f"--json={place}"])
        assert ended.value.code == 2
        assert f"--json {place}" in capsys.readouterr().err


@pytest.mark.parametrize("argv", [["collect", "a" * 300], ["collect", f"{'a' * 300}.gguf"], ["judge", "a" * 300]])
def test_a_name_that_is_too_long_is_one_message(argv, capsys):
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2
    assert "File name too long" in capsys.readouterr().err


def test_a_fault_of_the_kit_keeps_its_traceback(monkeypatch):
    def fault(_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("agenttrace.verbs.clean.run", fault)
    with pytest.raises(OSError, match="Input/output"):
        main(["clean"])


@pytest.mark.parametrize(
    "error",
    [
        docker.errors.APIError("400", explanation="no such name"),
        requests.exceptions.ConnectionError("gone: no such name"),
    ],
)
def test_an_engine_that_refuses_or_goes_away_is_one_message(monkeypatch, capsys, error):
    def ask(_):
        raise error

    monkeypatch.setattr("agenttrace.verbs.clean.run", ask)
    with pytest.raises(SystemExit) as ended:
        main(["clean"])
    assert ended.value.code == 1
    assert "the Docker engine refuses, or went away:" in (said := capsys.readouterr().err)
    assert "no such name; what was finished is kept" in said


@pytest.mark.parametrize(("words", "kept"), [([], {"agenttrace-models"}), (["--yes"], set())])
def test_clean_keeps_fetched_weights_where_nobody_can_be_asked(monkeypatch, capsys, words, kept):
    seen = []
    monkeypatch.setattr(compose, "client", lambda: None)
    monkeypatch.setattr(engine, "check", lambda: None)
    monkeypatch.setattr(compose, "caches", lambda _: {"agenttrace-models": 2_000_000_000})
    monkeypatch.setattr(compose, "clean", lambda *_, keep, **__: seen.append(keep) or True)
    with pytest.raises(SystemExit) as ended:
        main(["clean", *words])
    assert (ended.value.code, seen) == (0, [kept])
    told = "kept: volume agenttrace-models (2.0 GB); --yes removes it, too" in capsys.readouterr().err
    assert told is bool(kept)
