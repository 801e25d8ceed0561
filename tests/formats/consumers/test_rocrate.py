"""The RO-Crate of a release in the format's own library, offline: whole, and each campaign an action with its files."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import pytest

pytest.importorskip("rocrate", reason="scripts/nox -s formats-check installs rocrate")

from rocrate.rocrate import ROCrate

from agenttrace.publish.about import About, Creator
from agenttrace.publish.folder import PublishSettings
from agenttrace.publish.release import release

RECORDS = Path(__file__).parents[3] / "datasets" / "agenttrace-demo" / "records"
PROFILE = "https://w3id.org/ro/wfrun/process/0.5"


@pytest.mark.parametrize("name", ["demo", "a: b#c%20 é"])
def test_a_release_is_a_process_run_crate(name, tmp_path):
    for end in (".jsonl", ".run.json", ".cassette.zst"):
        (tmp_path / "in").mkdir(exist_ok=True)
        shutil.copyfile(RECORDS / f"agenttrace-demo{end}", tmp_path / "in" / f"{name}{end}")
    folder = tmp_path / "out"
    makers = (Creator(name="Ada Ångström", family="Ångström", orcid="0000-0002-1825-0097"), Creator(name="A lab"))
    release([tmp_path / "in" / f"{name}.jsonl"], folder, PublishSettings(about=About(creators=makers)))
    found = ROCrate(folder)
    assert found.root_dataset["conformsTo"].id == PROFILE
    assert {one.type for one in found.root_dataset["author"]} == {"Person", "Organization"}
    listed = {one["name"]: one for one in found.data_entities if one.type == "File"}
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert there - set(listed) == {"ro-crate-metadata.json", "SHA256SUMS", "manifest.json"}
    for path, one in listed.items():
        assert one["sha256"] == hashlib.sha256((folder / path).read_bytes()).hexdigest()
    (action,) = found.root_dataset["mentions"]
    assert action.type == "CreateAction"
    assert action["instrument"].type == "SoftwareApplication"
    assert [one["name"] for one in action["result"]] == [f"records/{name}.jsonl", f"records/{name}.cassette.zst"]
    assert action["object"][0]["name"] == f"records/{name}.run.json"
    assert action["startTime"] < action["endTime"]
    assert found.root_dataset["license"][0].id == "https://spdx.org/licenses/Apache-2.0.html"
    found.write(tmp_path / "again")
    assert ROCrate(tmp_path / "again").root_dataset["name"] == found.root_dataset["name"]
