"""A release holds everything that a stranger needs, tells every damage by name, and is not made of unfit campaigns."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from datetime import UTC, datetime

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from agenttrace import __version__
from agenttrace.campaign.options import Options
from agenttrace.campaign.plan import make_plan, request_part
from agenttrace.errors import DataError, UsageError
from agenttrace.publish.folder import PublishSettings
from agenttrace.publish.release import release, verify
from agenttrace.publish.sums import files, sums
from agenttrace.serving.cassette import CassetteLog, Exchange, cassette_path
from agenttrace.store.ids import IdIndex
from agenttrace.store.read import run_spec_path
from agenttrace.validate.leaks import word
from tests.validate.test_bash_block import LINES, SPEC, as_collected


@pytest.fixture
def plan(tmp_path):
    """The plan of a campaign of one task, of which there is a record."""
    (tmp_path / "own").mkdir()
    return make_plan(
        Options(output="demo.jsonl", run_id="one-task", count=1),
        images={"sandbox": "5" * 64},
        folder=tmp_path / "own",
        now=datetime(2026, 11, 2, tzinfo=UTC),
    )


def turns(row, spec):
    """Return the replies that a record says there were, each to a request of no interest here."""
    fixed = request_part(spec)
    for step in row["llm_steps"]:
        result = {
            "content": step["model_output"],
            "reasoning": step["reasoning_content"],
            "output_tokens": step["output_tokens"],
        }
        asked = ({"role": "user", "content": f"{row['prompt']} {step['step_number']}"},)
        yield Exchange(fixed=fixed, messages=asked, kind="reply", result=result)


def with_cassette(path, rows, spec):
    with CassetteLog(cassette_path(path), run_spec_sha256=spec.digest, recorded=IdIndex()) as log:
        for row in rows:
            log.append(row["trace_id"], turns(row, spec))
    return path


@pytest.fixture
def campaign(rows, record_file, plan):
    return with_cassette(record_file(rows), rows, plan.spec)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Where the release is that `folder` gives each test a copy of."""
    return tmp_path_factory.mktemp("made") / "out"


@pytest.fixture
def folder(campaign, tmp_path, made):
    if not made.exists():
        release([campaign], made, PublishSettings(title="One task"))
    return shutil.copytree(made, tmp_path / "out")


FILES = (
    "README.md", "SHA256SUMS", "croissant.json", "data/agenttrace-0.3/train-00000-of-00001.parquet",
    "data/runs/train-00000-of-00001.parquet", "data/sessions/train-00000-of-00001.parquet",
    "data/spans/train-00000-of-00001.parquet",
    "data/steps/train-00000-of-00001.parquet", "data/trajectories/train-00000-of-00001.parquet",
    "manifest.json", "records/demo.cassette.zst", "records/demo.jsonl",
    "records/demo.run.json", "ro-crate-metadata.json", "schema/run-spec-1.2.0.json", "schema/trace-1.2.0.json",
    "sessions/567f3349-ea2e-508a-be93-e907f8b2dac7.jsonl", "verdicts/demo.jsonl",
)  # fmt: skip


def test_a_release_holds_all_its_files_and_is_whole(folder, campaign, plan):
    assert tuple(sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())) == FILES
    assert list(verify(folder)) == []
    body = json.loads((folder / "manifest.json").read_bytes())
    assert body["format"] == "agenttrace-release-1"
    assert tuple(sorted([*body["files"], "manifest.json"])) == FILES
    (known,) = (json.loads(line)["metadata"] for line in campaign.read_text(encoding="utf-8").splitlines())
    canonical = json.dumps(known, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"
    assert body["metadata_sha256"] == {"demo.jsonl": hashlib.sha256(canonical.encode()).hexdigest()}
    (one,) = body["campaigns"]
    assert (one["run_id"], one["model"], one["demo"]) == ("one-task", plan.spec.model.name, True)
    assert (one["records"], one["solved"]["solved"], one["tasks"]) == (1, 1, 1)
    verdict = json.loads((folder / "verdicts/demo.jsonl").read_bytes())
    assert (verdict["task_id"], verdict["solved"]) == (0, True)
    assert {one["verdict"] for one in verdict["verdicts"]} == {"passed"}
    ended = subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=folder, capture_output=True)
    assert ended.returncode == 0
    assert "manifest.json" in (folder / "README.md").read_text()


def test_the_same_campaign_gives_the_same_bytes(folder, campaign, tmp_path):
    release([campaign], tmp_path / "again", PublishSettings(title="One task"))
    assert (tmp_path / "again/manifest.json").read_bytes() == (folder / "manifest.json").read_bytes()


@pytest.mark.parametrize("name", FILES)
def test_a_flipped_byte_in_any_file_is_told_with_its_name(folder, name):
    path = folder / name
    data = path.read_bytes()
    for at in (0, len(data) // 3, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
        found = list(verify(folder))
        # A manifest that lists another name or digest differs from the file it lists: that one may be told.
        assert any(line.startswith(name) or name == "manifest.json" for line in found), (at, found)
    path.write_bytes(data)
    assert list(verify(folder)) == []


@pytest.mark.parametrize("name", FILES)
def test_a_removed_file_is_told_with_its_name(folder, name):
    (folder / name).unlink()
    assert any(line.startswith(f"{name}: is missing") for line in verify(folder))


@pytest.mark.parametrize("name", ["more.txt", "records/.hidden", "data/new/x.parquet", "records/other.jsonl"])
def test_an_added_file_is_told_with_its_name(folder, name):
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("{}\n")
    assert f"{name}: is not in the manifest" in list(verify(folder))


def test_a_link_is_told_and_not_followed(folder, tmp_path):
    outside = tmp_path / "outside.jsonl"
    shutil.move(folder / "records/demo.jsonl", outside)
    (folder / "records/demo.jsonl").symlink_to(outside)
    assert list(verify(folder)) == ["records/demo.jsonl: is neither a file nor a folder"]


@pytest.mark.parametrize("name", [b"data/\xff.txt", b"data/a\nb", b"data/\x1b[2J"])
def test_a_file_whose_name_no_list_can_hold_is_told(folder, name):
    (folder / os.fsdecode(name)).write_bytes(b"x")
    (found,) = verify(folder)
    assert found.isprintable()
    assert found.endswith("has a name that no list of digests can hold")


def adjusted(folder, name):
    """Make the manifest agree with a changed file, as somebody would who wants it to pass."""
    path = folder / "manifest.json"
    body = json.loads(path.read_bytes())
    body["files"][name] = {"bytes": files(folder)[name].bytes, "sha256": files(folder)[name].sha256}
    path.write_text(json.dumps(body, indent=2) + "\n")


@pytest.mark.parametrize(
    ("name", "was", "is_", "told"),
    [
        ("verdicts/demo.jsonl", '"solved":true', '"solved":false', "verdicts/demo.jsonl: is not what the records say"),
        ("records/demo.jsonl", '"task_name": "', '"task_name": "x', "metadata.task_name"),
        ("records/demo.run.json", '"seed": ', '"seed": 1', "records/demo.cassette.zst: is of another run spec"),
        ("records/demo.jsonl", '"reasoning_content": "', '"reasoning_content": "No. ', "not those of its record"),
    ],
)
def test_a_change_that_the_manifest_agrees_with_is_told(folder, name, was, is_, told):
    text = (folder / name).read_text()
    assert was in text
    (folder / name).write_text(text.replace(was, is_, 1))
    adjusted(folder, name)
    found = list(verify(folder))
    assert not any(": its SHA-256" in line or "bytes, released" in line for line in found)
    assert any(told in line for line in found), found


SPANS = "data/spans/train-00000-of-00001.parquet"
RUNS = "data/runs/train-00000-of-00001.parquet"


def refitted(folder, **said):
    """Make the lists of digests agree with the files as they are, as somebody would who wants it to pass."""
    for name, entries, unit in (("croissant.json", "distribution", " B"), ("ro-crate-metadata.json", "@graph", "")):
        body = json.loads((folder / name).read_bytes())
        for entry in body[entries]:
            if file := files(folder).get(entry["@id"]):
                entry.update({"sha256": file.sha256, "contentSize": f"{file.bytes}{unit}"} if "sha256" in entry else {})
        (folder / name).write_text(json.dumps(body, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "SHA256SUMS").write_text(sums(files(folder)))
    path = folder / "manifest.json"
    body = {**json.loads(path.read_bytes()), **said}
    body["files"] = {name: {"bytes": file.bytes, "sha256": file.sha256} for name, file in files(folder).items()}
    path.write_text(json.dumps({name: value for name, value in body.items() if value is not None}, indent=2) + "\n")


def rewritten(path, change):
    pq.write_table(change(pq.read_table(path)), path, compression="zstd")


def other_text(table):
    at = table.column_names.index("tool_output")
    return table.set_column(at, "tool_output", [["something else"] * table.num_rows])


def sentence(folder):
    (folder / "README.md").write_text((folder / "README.md").read_text() + "\n<script>x</script>\n")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (sentence, "README.md: is not what the records give"),
        (lambda folder: (folder / "README.md").unlink(), "README.md: is missing"),
        (lambda folder: shutil.copy(folder / SPANS, folder / RUNS), f"{RUNS}: is not what the records give"),
        (lambda folder: rewritten(folder / SPANS, other_text), f"{SPANS}: is not what the records give"),
        (lambda folder: rewritten(folder / SPANS, lambda table: table.slice(1)), f"{SPANS}: is not what"),
        (lambda folder: (folder / SPANS).write_bytes(b"PAR1"), f"{SPANS}: cannot be read"),
        (lambda folder: shutil.rmtree(folder / "data/spans"), f"{SPANS}: is missing"),
        (lambda folder: shutil.copy(folder / SPANS, folder / "data/x.parquet"), "data/x.parquet: is not what"),
        (lambda folder: (folder / "schema/trace-1.2.0.json").write_text("{}"), "schema/trace-1.2.0.json: is not what"),
    ],
)
def test_what_the_records_do_not_give_is_refused_though_every_digest_fits(folder, change, told):
    change(folder)
    refitted(folder)
    (line,) = (line for line in verify(folder) if not line.startswith(("croissant.json", "ro-crate")))
    assert line.startswith(told)


def test_what_a_croissant_file_says_is_what_the_records_give(folder):
    path = folder / "croissant.json"
    path.write_text(path.read_text(encoding="utf-8").replace("demonstration model", "good model"), encoding="utf-8")
    refitted(folder)
    assert next(verify(folder)) == "croissant.json: is not what the records give"


def test_a_list_of_digests_that_leaves_a_file_out_is_refused(folder):
    lines = (folder / "SHA256SUMS").read_text().splitlines(keepends=True)
    (folder / "SHA256SUMS").write_text("".join(line for line in lines if "README.md" not in line))
    adjusted(folder, "SHA256SUMS")
    assert "SHA256SUMS: is not the list of the files" in list(verify(folder))


def test_another_writer_of_parquet_may_have_other_bytes_for_the_same_rows(folder):
    path = folder / SPANS
    data = path.read_bytes()
    version = f"version {pa.__version__}".encode()
    assert version in data
    path.write_bytes(data.replace(version, version[:-1] + b"x"))
    refitted(folder)
    assert list(verify(folder)) == []
    rewritten(path, other_text)
    path.write_bytes(path.read_bytes().replace(version, version[:-1] + b"x"))
    refitted(folder)
    assert list(verify(folder)) == [f"{SPANS}: column tool_output is not what the records give"]


@pytest.mark.parametrize("version", ["0.0.9", None])
def test_of_another_version_rows_are_compared_and_the_rest_is_named(folder, version, agenttrace):
    by = "another agenttrace" if version is None else f"agenttrace {version}"
    sentence(folder)
    rewritten(folder / RUNS, lambda table: table.rename_columns(["x", *table.column_names[1:]]))
    refitted(folder, agenttrace_version=version)
    unseen = []
    assert list(verify(folder, unseen.append)) == []
    assert unseen == [f"README.md: made by {by}, this is {__version__}", f"{RUNS}: columns x"]
    ended = agenttrace("release", "--verify", folder)
    assert ended.returncode == 4
    assert f"{RUNS}: columns x: not compared" in ended.stdout
    assert "what is not compared may say anything" in ended.stdout
    rewritten(folder / SPANS, other_text)
    refitted(folder, agenttrace_version=version)
    assert list(verify(folder)) == [f"{SPANS}: column tool_output is not what the records give"]


def test_a_manifest_with_other_counts_or_another_metadata_digest_is_told(folder):
    path = folder / "manifest.json"
    body = json.loads(path.read_bytes())
    body["campaigns"][0]["solved"]["solved"] = 99
    body["metadata_sha256"]["demo.jsonl"] = "0" * 64
    path.write_text(json.dumps(body))
    found = list(verify(folder))
    assert any("one-task: solved is {'solved': 99" in line for line in found)
    assert any(line.startswith("manifest.json: metadata_sha256 is") for line in found)


@pytest.mark.parametrize("text", ["", "{}", "[" * 100_000, '{"format":"agenttrace-release-9"}', "\xff"])
def test_a_manifest_that_is_none_is_told_and_the_rest_still_checked(folder, text):
    (folder / "manifest.json").write_bytes(text.encode("latin-1"))
    (folder / "verdicts/demo.jsonl").unlink()
    found = list(verify(folder))
    assert found[0].startswith("manifest.json: ")
    assert found[1:] == ["verdicts/demo.jsonl: is missing"]


@pytest.mark.parametrize("place", ["../../own/demo.jsonl", "records/..", "/etc/passwd"])
def test_a_manifest_that_names_other_places_is_told_and_nothing_is_read_there(folder, place):
    path = folder / "manifest.json"
    body = json.loads(path.read_bytes())
    body["campaigns"][0]["records_file"] = place
    body["files"][place] = {"bytes": 1, "sha256": "0" * 64}
    path.write_text(json.dumps(body))
    found = list(verify(folder))
    assert f"{place}: is missing" in found
    assert any(line.startswith("manifest.json: campaigns are of") for line in found)


def test_a_folder_that_is_not_there_is_one_error(tmp_path):
    with pytest.raises(UsageError, match="no such folder"):
        list(verify(tmp_path / "none"))


@pytest.fixture
def rollouts(tmp_path):
    """A finished run of the bash-block agent."""
    path = tmp_path / "run.jsonl"
    path.write_text("".join(json.dumps(as_collected(line)) + "\n" for line in LINES), encoding="utf-8")
    run_spec_path(path).write_bytes(msgspec.json.encode(SPEC))
    return path


def test_a_run_of_the_bash_block_agent_is_released_with_its_cassette(rollouts, tmp_path):
    with_cassette(rollouts, [as_collected(line) for line in LINES], SPEC)
    made = release([rollouts], tmp_path / "out")
    assert (made.campaigns[0].records, made.campaigns[0].tasks, made.campaigns[0].rollouts) == (10, 2, 5)
    assert list(verify(tmp_path / "out")) == []
    line = json.loads((tmp_path / "out/verdicts/run.jsonl").read_text().splitlines()[1])
    assert (line["task_id"], line["rollout_index"], line["ended"]) == ("octo__repo-0", 1, "max_steps")
    assert "really executed" in (tmp_path / "out/README.md").read_text(encoding="utf-8")


def test_without_its_cassette_or_a_rollout_it_is_refused_by_name(rollouts, tmp_path):
    refused(rollouts, tmp_path, "run.cassette.zst: is missing; without the replies nobody can replay the records")
    kept = rollouts.read_bytes().splitlines(keepends=True)
    rollouts.write_bytes(b"".join(kept[:-1]))
    refused(rollouts, tmp_path, r"1 of 10 tasks of the run spec have no record \(task octo__repo-1\)")


def refused(campaign, tmp_path, match, **more):
    with pytest.raises(DataError, match=match) as told:
        release([campaign], tmp_path / "out", **more)
    assert not (tmp_path / "out").exists()
    return str(told.value)


def test_a_dirty_checkout_is_refused(rows, record_file, plan, tmp_path):
    rows[0]["environment"]["host"]["git_dirty"] = True
    path = with_cassette(record_file(rows), rows, plan.spec)
    refused(path, tmp_path, r"1 records were collected from a checkout with uncommitted changes \(commit 2f6a40")


def test_what_does_not_validate_and_private_words_are_refused(rows, campaign, tmp_path):
    refused(campaign, tmp_path, r"demo.jsonl, line 1: leak: prompt", words=[word("host name", "regular")])
    rows[0]["spans"][0]["exit_code"] = "0"
    campaign.write_text(json.dumps(rows[0]) + "\n")
    refused(campaign, tmp_path, r"demo.jsonl, line 1: schema: spans\[0\].exit_code")


def test_torn_ends_are_refused(campaign, tmp_path):
    tape = cassette_path(campaign)
    whole = tape.read_bytes()
    tape.write_bytes(whole + whole[:9])
    refused(campaign, tmp_path, "the last 9 bytes are no whole frame")
    tape.write_bytes(whole)
    campaign.write_bytes(campaign.read_bytes()[:-1])
    refused(campaign, tmp_path, "the line is cut off")


def test_missing_companions_and_replies_are_refused(campaign, plan, tmp_path):
    tape, beside = cassette_path(campaign), run_spec_path(campaign)
    kept = tape.read_bytes()
    tape.unlink()
    refused(campaign, tmp_path, "demo.cassette.zst: is missing")
    with CassetteLog(tape, run_spec_sha256=plan.spec.digest, recorded=IdIndex()) as log:
        log.append("another", ())
    text = refused(campaign, tmp_path, "no replies of trace")
    assert "holds replies of 1 traces without a record (another)" in text
    tape.write_bytes(kept)
    beside.unlink()
    refused(campaign, tmp_path, "demo.run.json: is missing")


def test_tasks_without_a_record_are_refused_by_name(campaign, plan, tmp_path):
    beside = run_spec_path(campaign)
    body = json.loads(beside.read_text())
    body["dataset"]["count"] = 3
    beside.write_text(json.dumps(body))
    assert "2 of 3 tasks of the run spec have no record (task 1 " in refused(
        campaign, tmp_path, "collect the rest first"
    )
    campaign.write_text("")
    refused(campaign, tmp_path, "holds no record")


@pytest.mark.timeout(30)
@pytest.mark.parametrize("rollouts", [3_000_000, 10**15])
def test_a_run_spec_of_any_number_of_rollouts_ends_the_check_soon(folder, rollouts):
    path = folder / "records/demo.run.json"
    path.write_text(path.read_text().replace('"rollouts": 1', f'"rollouts": {rollouts}'))
    assert any(f"{rollouts - 1} of {rollouts} tasks of the run spec have no record" in line for line in verify(folder))


@pytest.mark.timeout(30)
def test_a_file_of_verdicts_beyond_measure_is_not_read(folder):
    with (folder / "verdicts/demo.jsonl").open("r+b") as file:
        file.truncate(1 << 33)  # sparse: no disk is used
    (folder / "manifest.json").unlink()
    assert "verdicts/demo.jsonl: is not what the records say" in list(verify(folder))
