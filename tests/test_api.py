"""The Python interface: what it takes, gives and refuses. The examples of docs/api.md run in tests/documents."""

from __future__ import annotations

import gzip
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import get_type_hints

import pytest

import agenttrace
from agenttrace.analysis.tables import load
from agenttrace.api import CampaignOptions
from agenttrace.campaign.options import Options

ROOT = Path(__file__).parents[1]
RELEASE = ROOT / "datasets" / "agenttrace-demo"
RECORDS = RELEASE / "records" / "agenttrace-demo.jsonl"
OF_OPTIONS_ONLY = {"model", "pin", "dataset", "external", "output", "stamp", "cpus", "profile_version"}
OF_THE_MACHINE = {"workers", "base_url", "size", "sha256", "accept_terms", "repositories"}


def ids(paths, **more):
    return [trace.trace_id for trace in agenttrace.read(paths, **more)]


@pytest.fixture
def runs(tmp_path):
    """A folder with a plain file, a compressed one, and one of failed attempts."""
    lines = RECORDS.read_bytes().splitlines(keepends=True)
    (tmp_path / "a.jsonl").write_bytes(b"".join(lines[:3]))
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(b"".join(lines[3:5])))
    (tmp_path / "a.failures.jsonl").write_bytes(lines[5])
    return tmp_path


def test_importing_it_loads_nothing_but_itself():
    code = (
        "import sys, agenttrace; print([n for n in sys.modules if n.startswith(('agenttrace.', 'msgspec', 'pandas'))])"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True).stdout
    assert said == "[]\n"


def test_every_name_is_there_and_no_other():
    assert all(getattr(agenttrace, name) is not None for name in agenttrace.__all__)
    assert set(agenttrace.__all__) <= set(dir(agenttrace))
    with pytest.raises(AttributeError, match=r"no attribute 'raed'; it has .*read"):
        agenttrace.raed  # noqa: B018


def test_a_release_is_read_once_although_its_tables_say_the_same():
    traces = list(agenttrace.read(RELEASE))
    assert len(traces) == 32
    assert {type(trace) for trace in traces} == {agenttrace.Trace}


def test_a_file_a_folder_a_pattern_and_a_list_of_them_are_read(runs):
    first, second = runs / "a.jsonl", runs / "b.jsonl.gz"
    assert ids(first) == ids(str(first)) == ids([first]) == ids((str(first),)) == ids(iter([first]))
    assert ids(runs) == ids([first, str(second)]) == ids(f"{runs}/*.jsonl*") == ids(runs / "**" / "?.jsonl*")
    assert len(ids(runs)) == 5
    assert len(ids(runs / "a.failures.jsonl")) == 1


@pytest.mark.parametrize(
    ("paths", "said"),
    [
        ([], "no file of traces was given"),
        ("", "an empty name of a file"),
        ("none/*.jsonl", "none/*.jsonl: no file fits this pattern"),
    ],
)
def test_what_cannot_be_read_is_said_at_once(paths, said):
    with pytest.raises(agenttrace.AgentTraceError, match="^" + said.replace("*", r"\*")):
        agenttrace.read(paths)


def test_a_bad_line_stops_unless_somebody_hears_of_it(runs):
    path = runs / "a.jsonl"
    path.write_bytes(b"{}\n".join(path.read_bytes().splitlines(keepends=True)))
    for reader in (list, agenttrace.tables):
        with pytest.raises(agenttrace.AgentTraceError, match=r"a\.jsonl, line 2: "):
            reader(agenttrace.read(path) if reader is list else path)
    heard = []
    assert len(ids(path, on_problem=heard.append)) == 3
    assert len(agenttrace.tables(path, on_problem=heard.append).runs) == 3
    assert [problem.line for problem in heard] == [2, 4, 2, 4]


def test_tables_take_what_read_takes(runs):
    found = agenttrace.tables(str(runs))
    assert [*found.runs["trace_id"]] == ids(runs)
    assert [source.rows for source in found.sources] == [3, 2]
    assert len(load(str(RECORDS)).runs) == len(load(RECORDS).runs) == 32


def test_traces_are_converted_and_nothing_is_overwritten(runs):
    assert agenttrace.convert(runs, "sharegpt", runs / "new.jsonl") == {"new.jsonl": 5}
    with pytest.raises(agenttrace.AgentTraceError, match="is there already"):
        agenttrace.convert(runs / "a.jsonl", "sharegpt", str(runs / "new.jsonl"))
    with pytest.raises(agenttrace.AgentTraceError, match="no-such"):
        agenttrace.convert(runs / "a.jsonl", "no-such", runs / "x")


def test_the_options_of_a_campaign_are_those_of_the_kit():
    ours, theirs = get_type_hints(CampaignOptions), get_type_hints(Options)
    assert set(ours) == set(theirs) - OF_OPTIONS_ONLY | OF_THE_MACHINE
    assert {name: kind for name, kind in ours.items() if name in theirs and kind != theirs[name]} == {
        "source": str | None
    }


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sead": 1}, r"collect has no option 'sead' \(did you mean seed\?\); it has .*seed"),
        ({"datset": "demo"}, r"\(did you mean dataset\?\)"),
        ({"dataset": ["demo"]}, "one task set, by name or path, not list: call it once for each"),
        ({"seed": "1"}, r"collect: Expected `int \| null`, got `str` - at `\$\.seed`"),
        ({"languages": "go"}, r"collect: Expected `array`, got `str` - at `\$\.languages`"),
        ({"observation": "other"}, r"collect: Invalid enum value 'other' - at `\$\.observation`"),
        ({"max_steps": 0}, "--max-steps: 0 is outside 1 to 1000"),
        ({"dataset": "nlbash"}, "unknown task set 'nlbash'"),
        ({"output": "here/x.jsonl"}, "the folder for records here does not exist"),
    ],
)
def test_a_campaign_that_cannot_work_is_refused_before_an_engine_is_asked(options, said, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(agenttrace.AgentTraceError, match=said) as refused:
        agenttrace.collect(**options)
    assert refused.value.exit_code == 2


def test_a_campaign_is_refused_where_signals_cannot_be_handled():
    said = []

    def call():
        with pytest.raises(agenttrace.AgentTraceError) as refused:
            agenttrace.collect()
        said.append(str(refused.value))

    thread = threading.Thread(target=call)
    thread.start()
    thread.join()
    assert said == ["collect handles signals while it runs: call it from the main thread"]


def test_without_an_engine_a_campaign_says_so(monkeypatch, tmp_path):
    for name in ("git", "sh"):
        (tmp_path / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(agenttrace.AgentTraceError, match=r"(?i)docker") as refused:
        agenttrace.collect(count=1, output=tmp_path / "x.jsonl")
    assert refused.value.exit_code == 2


@pytest.mark.parametrize("paths", [None, 5, True, b"x", [None], [["a.jsonl"]], "a\0b", "x" * 5000])
def test_what_is_no_name_of_a_file_is_refused_as_any_mistake_is(paths):
    for call in (agenttrace.read, agenttrace.tables):
        with pytest.raises(agenttrace.AgentTraceError):
            call(paths)


@pytest.mark.parametrize("output", [None, 5, b"x.jsonl", "", "a\0.jsonl", f"{'x' * 300}.jsonl"])
def test_so_is_what_is_no_name_of_a_result(output):
    with pytest.raises(agenttrace.AgentTraceError):
        agenttrace.convert(RELEASE, "sharegpt", output)
    if output is not None and len(str(output)) < 100:  # a name that could be one is looked at by the engine
        with pytest.raises(agenttrace.AgentTraceError):
            agenttrace.collect(output=output)
