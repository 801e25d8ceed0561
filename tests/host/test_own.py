"""Where the host side finds a task set of the user's own, and which one it refuses."""

from __future__ import annotations

import msgspec
import pytest

from agenttrace.campaign.options import Options, like
from agenttrace.campaign.plan import write_run_spec
from agenttrace.errors import UsageError
from agenttrace.host import own
from agenttrace.host.checkouts import Places
from agenttrace.host.compose import ROOT
from agenttrace.store.read import read_run_spec
from agenttrace.tasks.own.example import write
from agenttrace.tasks.own.loading import load, sidecar

DEMO = ROOT / "datasets" / "agenttrace-demo" / "records" / "agenttrace-demo.jsonl"


@pytest.fixture
def chores(tmp_path):
    write(tmp_path / "chores")
    return load(tmp_path / "chores")


@pytest.fixture
def records(tmp_path, chores):
    """A record file's name with a run spec of that set beside it."""
    spec = read_run_spec(DEMO.with_name("agenttrace-demo.run.json"))
    dataset = msgspec.structs.replace(spec.dataset, name="chores", source="own", split="own", sha256=chores.sha256)
    write_run_spec(msgspec.structs.replace(spec, dataset=dataset), tmp_path / "run.jsonl")
    return tmp_path / "run.jsonl"


def test_a_path_becomes_the_digest_of_its_set_and_a_name_stays(tmp_path, chores, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo").mkdir()  # a folder never hides a set of the kit
    names = ("demo", "chores", str(tmp_path / "chores" / "tasks.toml"))
    options, sets = own.named([Options(dataset=name) for name in names])
    assert [one.dataset for one in options] == ["demo", f"own:{chores.sha256}", f"own:{chores.sha256}"]
    assert [one.sha256 for one in sets] == [chores.sha256] * 2
    with pytest.raises(UsageError, match="nothing: there is no such folder"):
        own.named([Options(dataset="./nothing")])


def test_the_set_of_records_lies_beside_them_or_is_named(tmp_path, records, chores):
    with pytest.raises(
        UsageError, match=r"run\.tasks\.tar does not lie beside it; put it there, or name the set: --tasks"
    ):
        own.of_records(records)
    assert own.of_records(records, Places(tasks=tmp_path / "chores")) == (chores,)
    sidecar(records).write_bytes(chores.packed())
    assert own.of_records(records) == (chores,)
    assert like(read_run_spec(tmp_path / "run.run.json")).dataset == f"own:{chores.sha256}"


def test_another_set_is_refused_and_so_is_one_for_records_of_the_kit(tmp_path, records):
    write(tmp_path / "other")
    with pytest.raises(UsageError, match="other: another task set"):
        own.of_records(records, Places(tasks=tmp_path / "other"))
    with pytest.raises(UsageError, match="are those of demo, a set of the kit"):
        own.of_records(DEMO, Places(tasks=tmp_path / "other"))
    assert own.of_records(DEMO) == ()
