"""The workflows: valid, every action at a commit, and images with provenance, bill of materials and published digests.

That they run is seen where they run; what they start of ours (`scripts/`, sessions) has tests of its own.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from agenttrace.host.images import ALL_TARGETS
from agenttrace.verbs import VERBS

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
SCRIPT = ROOT / "scripts" / "image-digests.py"
COMMIT = "0123456789" * 4


def read(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def steps(workflow):
    return [step for job in workflow["jobs"].values() for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_workflow_is_valid_and_asks_for_no_right_by_default(path):
    workflow = read(path)
    assert workflow["permissions"] == {"contents": "read"}
    assert workflow[True]  # `on` is a truth value to YAML 1.1
    for job in workflow["jobs"].values():
        assert {"name", "runs-on", "timeout-minutes", "steps"} <= job.keys()
        assert all(("uses" in step) != ("run" in step) for step in job["steps"])


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_action_is_pinned_by_a_commit_with_its_version_beside(path):
    used = [line for line in path.read_text(encoding="utf-8").splitlines() if "uses:" in line]
    assert used
    assert [line for line in used if not re.search(r"uses: [\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+$", line)] == []


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_every_session_and_script_that_a_workflow_runs_is_there(path):
    text = path.read_text(encoding="utf-8")
    noxfile = (ROOT / "noxfile.py").read_text(encoding="utf-8")
    for names in re.findall(r"scripts/nox -s ([a-z0-9 -]+?)(?: --.*)?$", text, re.MULTILINE):
        for name in names.split():
            assert name in VERBS or f'"{name}"' in noxfile or f"\ndef {name}(" in noxfile or name == "format", name
    for script in re.findall(r"scripts/[\w.-]+", text):
        assert (ROOT / script.rstrip(".")).is_file()


@pytest.fixture(scope="module")
def images():
    return read(ROOT / ".github" / "workflows" / "images.yml")


def test_every_image_is_built_with_provenance_and_bill_of_materials(images):
    build = images["jobs"]["build"]
    assert sorted(build["strategy"]["matrix"]["target"]) == sorted(ALL_TARGETS)
    by = {step["uses"].partition("@")[0]: step["with"] for step in build["steps"] if "uses" in step}
    made = by["docker/build-push-action"]
    assert (made["provenance"], made["sbom"], made["no-cache"]) == ("mode=max", True, True)
    attested = by["actions/attest-build-provenance"]
    assert attested["subject-digest"] == "${{ steps.build.outputs.digest }}"
    assert attested["push-to-registry"] is True
    assert {"id-token", "attestations", "packages"} <= build["permissions"].keys()


def test_every_release_in_the_tree_is_checked_packed_and_attested():
    workflow = read(ROOT / ".github" / "workflows" / "releases.yml")
    job = workflow["jobs"]["attest"]
    assert job["strategy"]["matrix"]["release"] == [
        path.parent.name for path in sorted((ROOT / "datasets").glob("*/manifest.json"))
    ]
    (checked,) = [step["run"] for step in job["steps"] if "run" in step]
    assert re.findall(r"-- (--\w+) \"datasets/\$RELEASE\"", checked) == ["--verify", "--pack"]
    (attested,) = [step["with"] for step in job["steps"] if "attest-build-provenance" in step.get("uses", "")]
    assert attested["subject-path"].split("\n")[:2] == [
        "${{ matrix.release }}.zip", "datasets/${{ matrix.release }}/manifest.json",
    ]  # fmt: skip
    assert {"id-token", "attestations"} <= job["permissions"].keys()


def test_what_images_are_built_from_starts_the_workflow(images):
    started = images[True]["push"]["paths"]
    copied = re.findall(r"(?:source=|^COPY )((?:docker|agenttrace|requirements)[\w./-]*)", dockerfile(), re.MULTILINE)
    assert copied
    for path in copied:
        assert path in started or f"{path.split('/')[0]}/**" in started, path


def dockerfile():
    return (ROOT / "Dockerfile").read_text(encoding="utf-8")


def test_the_time_of_the_pinned_archive_is_found(images):
    (step,) = [step for step in steps(images) if "SOURCE_DATE_EPOCH" in step.get("run", "")]
    moment = step["run"].splitlines()[0].partition("$(")[2].removesuffix(")")
    ended = subprocess.run(["sh", "-c", moment], cwd=ROOT, capture_output=True, text=True)
    (pinned,) = {*re.findall(r"^ARG SNAPSHOT=(\S+)$", dockerfile(), re.MULTILINE)}
    assert re.sub(r"[^0-9]", "", ended.stdout) == re.sub(r"[^0-9]", "", pinned)


@pytest.fixture
def publish(tmp_path):
    """Run the script that the workflow runs, on a copy of the page; returns the page's rows and the ended process."""
    page = tmp_path / "images.md"
    page.write_bytes((ROOT / "docs" / "images.md").read_bytes())

    def run(commit=COMMIT, **changed):
        files = []
        for architecture in ("arm64", "amd64"):
            found = {
                "image": "ghcr.io/owner/agenttrace-server", "architecture": architecture,
                "digest": f"sha256:{'a' * 64}", "environment": "b" * 64, **changed,
            }  # fmt: skip
            files.append(tmp_path / f"{architecture}.json")
            files[-1].write_text(json.dumps(found))
        argv = [sys.executable, str(SCRIPT), commit, *map(str, files), "--page", str(page)]
        ended = subprocess.run(argv, capture_output=True, text=True)
        rows = [line for line in page.read_text(encoding="utf-8").splitlines() if line.startswith("| `")]
        return [line for line in rows if "ghcr.io" in line], ended

    return run


def test_digests_of_a_commit_stand_before_those_of_earlier_ones(publish):
    before = (ROOT / "docs" / "images.md").read_text(encoding="utf-8")
    rows, ended = publish()
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [row.split(" | ")[2] for row in rows[:2]] == ["amd64", "arm64"]
    assert publish()[0] == rows  # once more changes nothing
    for number in range(12):
        rows, _ = publish(f"{number:040x}")
    assert rows[0].startswith(f"| `{11:040x}` |")
    assert len(rows) == 2 * 10
    assert "<!-- digests -->" in before


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"digest": "latest"}, "digest is 'latest'"),
        ({"image": "ghcr.io/x | [y](http://z)"}, "image is"),
        ({"environment": ""}, "environment is ''"),
        ({"architecture": "riscv"}, "architecture is 'riscv'"),
    ],
)
def test_what_is_no_digest_is_not_published(publish, changed, message):
    rows, ended = publish(**changed)
    assert ended.returncode == 1
    assert message in ended.stderr
    assert rows == []


def test_what_is_no_commit_is_refused(publish):
    assert "expected the 40 hex digits" in publish("main")[1].stderr
