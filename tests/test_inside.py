"""`agenttrace.inside`: what the host has containers do is what they understand."""

from __future__ import annotations

import shutil
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest

from agenttrace import inside
from agenttrace.campaign.options import ROLLOUTS, Options
from agenttrace.campaign.replay.divergence import Divergence, TaskVerdict
from agenttrace.cli import main
from agenttrace.host import campaign, checkouts, compose, determinism, guard, weights
from agenttrace.host.checkouts import Places
from agenttrace.models import pins
from agenttrace.models.hub import HostSettings
from agenttrace.models.reference import ModelRef, find
from agenttrace.serving import endpoint
from agenttrace.serving.cassette import cassette_path
from agenttrace.store.read import run_spec_path
from agenttrace.tasks.swe.prepare import SweOptions

RECORDS = Path(__file__).parent / "data" / "records"
RUN = RECORDS / "1.0.0" / "rollouts.jsonl"
DEMO = next(Path(__file__).parents[1].glob("datasets/agenttrace-demo/records/*.jsonl"))


DIFFERENT = TaskVerdict(
    trace_id="t", task_id=0, name="a", verdict="other reply", runs=2, equal_runs=1,
    divergence=Divergence(run=2, where="step 1", field="reply", character=0, token=None, first="a", other="b"),
)  # fmt: skip


class Services:
    """Takes what would be started, and parses it as the container does.

    Attributes:
        calls: of every container the service, its arguments as they were parsed, and what it reads.
    """

    def __init__(self, answer="[]"):
        self.calls = []
        self.up_with = []
        self.answer = answer

    def _note(self, service, words, data=None):
        self.calls.append((service, inside._parser().parse_args(words), data))

    def up(self, *services):
        self.up_with = [*self.up_with, *services]

    def ask(self, service, *words):
        self._note(service, words)
        return self.answer

    def converse(self, service, *words, data, otherwise):
        self._note(service, words, data)
        return self.answer.encode()

    def start(self, name, service, *words, output=None, data=None):
        self._note(service, words, data)

    @property
    def only(self):
        (call,) = self.calls
        return call


@pytest.fixture
def services(monkeypatch):
    """Let the host side start nothing: its containers are noted."""
    made = Services("{}")
    monkeypatch.setattr(compose, "Services", lambda *_: made)
    monkeypatch.setattr(compose, "ensure_volumes", lambda _: None)
    monkeypatch.setattr(campaign, "collector_variables", lambda *_: {})
    at = guard.Engine(sdk=None, project="p", info=SimpleNamespace(rootless=False), built=SimpleNamespace(ids={}))
    monkeypatch.setattr(guard, "guarded", lambda **_: nullcontext(at))
    monkeypatch.setattr(guard, "follow", lambda *_: 0)
    return made


def run(*words):
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in words])
    return ended.value.code


@pytest.mark.parametrize("options", [Options(count=3), ROLLOUTS], ids=["collect", "rollouts"])
@pytest.mark.parametrize("base_url", [None, "http://localhost:8000/v1"])
@pytest.mark.parametrize("key", [None, "sk-1"])
def test_a_campaign_is_run_with_the_options_that_were_asked_for(tmp_path, monkeypatch, options, base_url, key):
    for name in endpoint.KEY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    if key is not None:
        monkeypatch.setenv("OPENAI_API_KEY", key)
    services = Services()
    request = campaign.Request(options=(options,), folder=tmp_path, workers=3, base_url=base_url)
    campaign.start_collector(services, "name", request, options, "--report", "/data/x.json")
    service, arguments, data = services.only
    assert (arguments.verb, arguments.workers, arguments.report) == ("collect", 3, Path("/data/x.json"))
    assert msgspec.json.decode(arguments.options, type=tuple[Options, ...]) == (options,)
    if base_url is None:
        assert (service, arguments.base_url) == ("collector", "http://server:8080/v1")
    else:
        assert (service, arguments.base_url) == ("collector-endpoint", "http://host.docker.internal:8000/v1")
    assert arguments.key_from_stdin is (data is not None) is (base_url is not None and key is not None)


def test_campaigns_are_planned_together():
    services = Services()
    every = (Options(), Options(dataset="mbpp"))
    request = campaign.Request(options=every, folder=Path(), base_url="http://x/v1")
    assert campaign._planned(request, services) == ([], None)
    service, arguments, _ = services.only
    assert (service, arguments.verb, arguments.folder) == ("collector", "plan", Path("/data"))
    assert msgspec.json.decode(arguments.options, type=tuple[Options, ...]) == every


def test_weights_are_ordered_on_standard_input():
    pin = pins.model_pin(pins.DEFAULT_MODEL)
    services = Services(msgspec.json.encode(pin).decode())
    assert weights.fetch(services, find("agenttrace-demo")) == pin
    service, arguments, settings = services.only
    assert (service, arguments.verb, arguments.mirror, arguments.from_host) == ("fetcher", "fetch", None, True)
    assert msgspec.json.decode(arguments.model, type=ModelRef) == find("agenttrace-demo")
    assert msgspec.json.decode(settings, type=HostSettings)


def test_a_file_of_this_machine_comes_from_the_one_mount_without_any_setting(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    (tmp_path / "my own.gguf").touch()
    services = Services(msgspec.json.encode(pins.model_pin(pins.DEFAULT_MODEL)).decode())
    weights.fetch(services, find(str(tmp_path / "my own.gguf")))
    _, arguments, settings = services.only
    assert arguments.mirror == Path("/mirror")
    assert msgspec.json.decode(arguments.model)["path"] == "my_own.gguf"
    assert msgspec.json.decode(settings) == {"environment": {}, "certificates": None}


@pytest.mark.parametrize(
    ("places", "source", "repositories"),
    [
        (None, "bundled", None),
        (Places(source=RUN), f"/source/{RUN.name}", None),
        (Places(repositories="https://example.org/{repo}"), "bundled", "https://example.org/{repo}"),
        (Places(source=RUN, repositories=str(RECORDS)), f"/source/{RUN.name}", "/mirror"),
    ],
)
def test_trees_are_made_from_where_the_container_has_rows_and_repositories(places, source, repositories):
    services = Services()
    checkouts.prepare(services, SweOptions(repos=2), places)
    service, arguments, settings = services.only
    assert (service, arguments.verb, arguments.from_host) == ("trees", "prepare", True)
    assert msgspec.json.decode(arguments.options, type=SweOptions) == SweOptions(repos=2, source=source)
    assert arguments.repositories == repositories
    assert msgspec.json.decode(settings)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("replay",), {"verb": "replay", "repeat": 1}),
        (("replay", "--repeat", "4", "--workers", "2"), {"verb": "replay", "repeat": 4, "workers": 2}),
        (("reproduce", "--workers", "2"), {"verb": "reproduce", "rows_only": False, "anyway": False, "workers": 2}),
        (("reproduce", "--anyway"), {"verb": "reproduce", "anyway": True}),
        (("judge",), {"verb": "judge", "check": False}),
        (("judge", "--check"), {"verb": "judge", "check": True}),
    ],
)
@pytest.mark.parametrize("file", [DEMO, RUN], ids=["collect", "rollouts"])
def test_a_record_file_is_worked_on_beside_sandboxes_of_its_policy(services, tmp_path, words, expected, file):
    if file == RUN:  # today's records are not told apart from a rollout's by anything but their run spec
        (tmp_path / "records").mkdir()
        records = tmp_path / "records" / "rollouts.jsonl"
        shutil.copy(DEMO, records)
        shutil.copy(run_spec_path(RUN), run_spec_path(records))
        shutil.copy(cassette_path(DEMO), cassette_path(records))
    link = tmp_path / "link.jsonl"
    link.symlink_to(records if file == RUN else DEMO)
    assert run(*words, link) == 0
    *before, (service, arguments, data) = services.calls
    assert (service, arguments.file, data) == ("collector", Path("/data") / file.name, None)
    assert {name: getattr(arguments, name) for name in expected} == expected
    assert services.up_with == ["sandbox" if file == DEMO else "sandbox-execution-free"]
    assert [(service, arguments.verb) for service, arguments, _ in before] == [("trees", "prepare")] * (file == RUN)


def test_a_live_reproduction_compares_rows_and_starts_no_sandbox_for_that(services, monkeypatch):
    monkeypatch.setattr("agenttrace.host.replay._live", lambda *_: (0, []))
    assert run("reproduce", "--live", DEMO) == 0
    _, arguments, _ = services.only
    assert arguments.rows_only is True
    assert services.up_with == []


def test_runs_are_compared_beside_a_server_that_has_their_model(tmp_path, monkeypatch, services):
    services.answer = "[]"
    served = []
    monkeypatch.setattr(determinism, "compare_runs", lambda *_: [DIFFERENT])
    monkeypatch.setattr(campaign, "server_variables", lambda _, pin: served.append(pin.name) or {})
    request = determinism.DeterminismRequest(
        each=campaign.Request(options=(Options(),), folder=tmp_path), against=DEMO, repeats=1
    )
    determinism._report(request, tmp_path, [DEMO, DEMO])
    service, arguments, _ = services.only
    assert (service, arguments.verb, arguments.base_url) == ("collector", "compare-runs", "http://server:8080/v1")
    assert arguments.files == [Path(f"/data/against_{DEMO.name}")] * 2
    assert (services.up_with, served) == (["server"], ["agenttrace-demo"])


def test_bad_options_are_a_message(tmp_path):
    for verb, text in (("plan", '{"model": 1}'), ("collect", "{"), ("prepare", "[]")):
        words = [sys.executable, "-m", "agenttrace.inside", verb, "--options", text]
        more = [] if verb == "prepare" else ["--folder", tmp_path]
        ended = subprocess.run([*words, *more], capture_output=True, text=True)
        assert ended.returncode == 2
        assert ended.stderr.startswith("agenttrace: --options: ")
        assert len(ended.stderr.splitlines()) == 1
