"""The verbs that read records, as sessions in the analysis image, over the campaigns of both agents."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from agenttrace.store.read import read_traces

pytestmark = pytest.mark.docker
CAMPAIGNS = ("finished", "rolled")


@pytest.fixture(params=CAMPAIGNS, ids=["collect", "rollouts"])
def campaign(request):
    """One of the two campaigns: what runs sessions, its record file, its traces."""
    instance, _ = request.getfixturevalue(request.param)
    return instance, instance.records, list(read_traces(instance.records))


@pytest.fixture
def both(finished, rolled):
    return finished[0], finished[0].records, rolled[0].records


def done(ended):
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_show_prints_any_trace(campaign):
    instance, records, traces = campaign
    text = done(instance.run("show", records, traces[-1].trace_id))
    assert traces[-1].trace_id in text
    assert traces[-1].spans[0].tool_name in text


def test_validate_finds_nothing(campaign):
    instance, records, traces = campaign
    assert f"{len(traces)} lines, no findings" in done(instance.run("validate", records))


def test_one_page_and_one_analysis_hold_both(both, tmp_path):
    instance, one, other = both
    count = sum(1 for path in (one, other) for _ in read_traces(path))
    text = done(instance.run("report", one, other, "-o", tmp_path / "page" / "r.html"))
    assert f"{count} traces" in text
    assert (tmp_path / "page" / "r.html").read_text(encoding="utf-8").startswith("<!")
    groups = json.loads(done(instance.run("analyze", one, other, "--format", "json")))["groups"]
    assert sum(group["traces"] for group in groups) == count


def test_stats_and_compare(campaign, both):
    instance, records, traces = campaign
    values = json.loads(done(instance.run("stats", records, "--json")))
    assert sum(values["statistics"]["stops"].values()) == len(traces)
    assert values["diversity"]["rollouts"] == len(traces)
    other = both[2] if records == both[1] else both[1]
    table = done(instance.run("compare", records, other, "--no-diversity"))
    assert "95 % interval" in table
    assert "turns that gave: timeout" in table


def test_convert_to_one_file_and_to_a_file_each(campaign, tmp_path):
    instance, records, traces = campaign
    done(instance.run("convert", records, "--to", "sharegpt", "-o", tmp_path / "conversations.jsonl"))
    assert (tmp_path / "conversations.jsonl").read_bytes().count(b"\n") == len(traces)
    done(instance.run("convert", records, "--to", "atif", "-o", tmp_path / "atif"))
    assert {path.stem for path in (tmp_path / "atif").iterdir()} == {trace.trace_id for trace in traces}


def test_compact_keeps_every_byte(campaign, tmp_path):
    instance, records, traces = campaign
    packed = tmp_path / "packed.jsonl.zst"
    done(instance.run("compact", records, packed))
    assert packed.stat().st_size < records.stat().st_size / 2
    assert list(read_traces(packed)) == traces
    assert traces[-1].trace_id in done(instance.run("show", packed, traces[-1].trace_id))


def test_publish_makes_a_folder_with_a_card(campaign, tmp_path):
    instance, records, traces = campaign
    text = done(instance.run("publish", records, "-o", tmp_path / "out"))
    assert re.search(rf"/data\S*: {len(traces)} rows", text)
    assert (tmp_path / "out" / "README.md").read_text(encoding="utf-8").startswith("---")
    assert list((tmp_path / "out" / "data").rglob("*.parquet"))


def test_a_release_is_made_and_found_whole_until_a_byte_of_it_differs(campaign, tmp_path):
    instance, records, traces = campaign
    assert f"{len(traces)} records of " in done(instance.run("release", records, "-o", tmp_path / "out"))
    whole = done(instance.run("release", "--verify", tmp_path / "out"))
    assert "whole: files, records, run spec, cassette, verdicts" in whole
    assert "NOT" not in whole
    (cassette,) = (tmp_path / "out" / "records").glob("*.cassette.zst")
    cassette.write_bytes(cassette.read_bytes()[:-1] + b"?")
    wrong = instance.run("release", "--verify", tmp_path / "out")
    assert wrong.returncode == 1
    assert "NOT whole" in wrong.stdout


def test_what_reads_records_leaves_nothing_on_the_engine(both):
    instance, *_ = both
    shown = ("ps", "-aq", "--filter", f"name={instance.project}")
    assert subprocess.run(["docker", *shown], capture_output=True, text=True, check=True).stdout == ""
