"""Rows are those that the run spec plans, or the first other field is named."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import msgspec
import pytest

from agenttrace.campaign.environment import changed_parts, input_differences, refuse_other_inputs
from agenttrace.campaign.options import like
from agenttrace.campaign.plan import make_plan
from agenttrace.campaign.replay.rows import compare_rows, metadata_digest
from agenttrace.errors import UsageError
from agenttrace.host.replay import released
from agenttrace.store.read import read_run_spec, run_spec_path


@pytest.fixture
def plan(copy, tmp_path_factory):
    spec = read_run_spec(run_spec_path(copy))
    return make_plan(
        like(spec),
        images=spec.images,
        folder=tmp_path_factory.mktemp("elsewhere"),
        now=datetime(2031, 1, 1, tzinfo=UTC),
    )


def test_a_run_spec_plans_itself_again(copy, plan):
    assert plan.spec == read_run_spec(run_spec_path(copy))
    rows = compare_rows(copy, plan)
    assert (rows.rows, rows.identical, rows.findings) == (3, 3, ())
    assert rows.line == f"metadata: 3 of 3 rows identical, sha256 {metadata_digest(copy)}"


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        (b'"seed":', b'"seed":1', "metadata"),
        (b'"metadata":{', b'"metadata":{ ', "metadata"),
        (b'"prompt":"', b'"prompt":"X', "prompt"),
        (b'"trace_id":"', b'"trace_id":"0', "trace_id"),
    ],
)
def test_a_changed_row_is_named(copy, plan, old, new, field):
    copy.write_bytes(copy.read_bytes().replace(old, new, 1))
    rows = compare_rows(copy, plan)
    assert rows.identical == 2
    assert rows.findings[0].field == field


def test_the_first_row_out_of_order_is_named(copy, plan):
    lines = copy.read_bytes().splitlines(keepends=True)
    copy.write_bytes(lines[0] + lines[2] + lines[1])
    (finding,) = compare_rows(copy, plan).findings
    assert (finding.where, finding.field) == ("row 2", "order")


def test_a_missing_row_is_named(copy, plan):
    copy.write_bytes(b"".join(copy.read_bytes().splitlines(keepends=True)[:2]))
    (finding,) = compare_rows(copy, plan).findings
    assert finding.found == "planned"


def test_the_digest_depends_on_every_row_and_nothing_else(copy):
    before = metadata_digest(copy)
    copy.write_bytes(copy.read_bytes().replace(b'"exit_code":0', b'"exit_code":1'))
    assert metadata_digest(copy) == before
    copy.write_bytes(copy.read_bytes().replace(b'"task_id":2', b'"task_id":3', 1))
    assert metadata_digest(copy) != before


@pytest.mark.parametrize(
    ("part", "field", "name"),
    [
        ("images", "server", "the image of the model server"),
        ("images", "sandbox", "the image of the sandbox"),
        ("images", "collector", "the image of the collector"),
        ("model", "sha256", "the weights"),
        ("model", "chat_template_sha256", "the chat template"),
        ("dataset", "sha256", "the task file"),
        ("sandbox", "fixture_version", "the fixture"),
    ],
)
def test_every_input_with_another_digest_is_refused_by_name(plan, part, field, name):
    spec = msgspec.structs.replace(plan.spec, images={"server": "1", "sandbox": "2", "collector": "3"})
    value = getattr(spec, part)
    other = {**value, field: "0"} if isinstance(value, dict) else msgspec.structs.replace(value, **{field: "0"})
    here = msgspec.structs.replace(spec, **{part: other})
    assert not input_differences(spec, msgspec.structs.replace(spec, run_id="another"))
    refuse_other_inputs(spec, spec, what="x.jsonl")
    with pytest.raises(UsageError, match=rf"x\.jsonl.*\n  {name} \({part}\.{field}\): ") as refusal:
        refuse_other_inputs(spec, here, what="x.jsonl")
    assert '"0"' in str(refusal.value)


def test_parts_of_an_image_that_differ_are_named():
    was = ["deb bash 5.3-1 native", f"file {'a' * 64} /opt/x y", "deb gone 1 all"]
    now = ["deb bash 5.3-2 native", f"file {'b' * 64} /opt/x y"]
    assert changed_parts(was, now) == [
        "deb bash: 5.3-1 native / 5.3-2 native",
        "deb gone: 1 all / not there",
        f"file /opt/x y: {'a' * 12} / {'b' * 12}",
    ]


def test_parts_that_one_side_does_not_know_are_one_line():
    assert changed_parts([], ["deb a 1 x", "deb b 1 x"]) == ["its packages and files: not recorded, so not compared"]
    assert changed_parts(["deb a 1 x"], []) == ["its packages and files: not known here, so not compared"]
    assert changed_parts([], []) == []


def test_the_newest_release_is_taken(tmp_path, copy):
    with pytest.raises(UsageError, match="no released data set"):
        released(tmp_path / "none")
    for number, name in enumerate(("old", "new")):
        folder = tmp_path / "datasets" / name
        folder.mkdir(parents=True)
        (folder / "demo.jsonl").write_bytes(copy.read_bytes())
        (folder / "demo.run.json").write_bytes(run_spec_path(copy).read_bytes())
        (folder / "manifest.json").write_text(json.dumps({}))
        import os

        os.utime(folder / "manifest.json", (number + 1, number + 1))
    assert released(tmp_path / "datasets") == [tmp_path / "datasets" / "new" / "demo.jsonl"]
