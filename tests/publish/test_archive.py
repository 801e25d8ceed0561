"""What archives take: `CITATION.cff` of the kit and of releases, and a release as one file."""

from __future__ import annotations

import json
import shutil
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from agenttrace.errors import DataError, UsageError
from agenttrace.publish.about import About, Creator
from agenttrace.publish.archive import _creator, _deposit, pack
from agenttrace.publish.described import given_name
from agenttrace.publish.folder import PublishSettings
from agenttrace.publish.manifest import read_manifest
from agenttrace.publish.release import release, verify

ROOT = Path(__file__).parents[2]
RELEASED = ROOT / "datasets" / "agenttrace-demo"
ADA = Creator(name="Ada King Ångström", family="Ångström", affiliation="A lab: of #", orcid="0000-0002-1825-0097")
ABOUT = About(creators=(ADA, Creator(name="- a: lab")), doi="10.5281/zenodo.1", published="2026-11-29")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "my-release"
    release([RELEASED / "records" / "agenttrace-demo.jsonl"], folder, PublishSettings(title="a: b # c", about=ABOUT))
    return folder


def test_the_kit_can_be_cited_at_its_version():
    said = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (said["cff-version"], said["version"], said["license"]) == ("1.2.0", project["version"], project["license"])
    assert set(said["keywords"]) == set(project["keywords"])
    assert said["authors"]


def test_a_release_can_be_cited_with_its_doi(made):
    said = yaml.safe_load((made / "CITATION.cff").read_text(encoding="utf-8"))
    assert (said["title"], said["doi"], said["date-released"]) == ("a: b # c", "10.5281/zenodo.1", "2026-11-29")
    assert (said["type"], said["license"]) == ("dataset", ["Apache-2.0"])
    assert said["authors"][0] == {
        "family-names": "Ångström", "given-names": "Ada King", "affiliation": "A lab: of #",
        "orcid": "https://orcid.org/0000-0002-1825-0097",
    }  # fmt: skip
    assert said["authors"][1] == {"name": "- a: lab"}


@pytest.mark.parametrize(
    ("name", "family", "given", "listed"),
    [
        ("Li Lihua", "Li", "Lihua", "Li, Lihua"),
        ("Anna Annan-Ann Ann", "Ann", "Anna Annan-Ann", "Ann, Anna Annan-Ann"),
        ("Kim Kim", "Kim", "Kim", "Kim, Kim"),
        ("李丽华", "李", "丽华", "李, 丽华"),
        ("Ångström, Ada", "Ångström", "Ada", "Ångström, Ada"),
        ("Ludwig  van Beethoven", "van Beethoven", "Ludwig", "van Beethoven, Ludwig"),
        ("Madonna", "Madonna", "", "Madonna"),
        ("Ada", "Lovelace", "Ada", "Lovelace, Ada"),
    ],
)
def test_a_given_name_is_what_is_left_of_a_name(name, family, given, listed):
    one = Creator(name=name, family=family)
    assert (given_name(one), _creator(one)) == (given, {"name": listed})


def test_without_makers_there_is_no_citation_file(tmp_path):
    release([RELEASED / "records" / "agenttrace-demo.jsonl"], tmp_path / "out")
    assert not (tmp_path / "out" / "CITATION.cff").exists()
    assert list(verify(tmp_path / "out")) == []
    assert pack(tmp_path / "out", tmp_path / "one.zip") == [tmp_path / "one.zip"]


@pytest.mark.parametrize("name", ["CITATION.cff", "ro-crate-metadata.json"])
def test_a_changed_description_is_named(made, name, tmp_path):
    folder = Path(shutil.copytree(made, tmp_path / "out"))
    (folder / name).write_text((folder / name).read_text(encoding="utf-8").replace("Ångström", "Other"))
    assert f"{name}: is not what the records give" in list(verify(folder))


def test_a_packed_release_is_whole_again_and_has_the_same_bytes_every_time(made, tmp_path):
    written = pack(made, tmp_path / "mine.zip")
    assert [path.name for path in written] == ["mine.zip", "mine.zenodo.json"]
    other = Path(shutil.copytree(made, tmp_path / "copy"))
    (tmp_path / "again").mkdir()
    (other / "README.md").touch()
    pack(other, tmp_path / "again" / "mine.zip")
    assert written[0].read_bytes() == (tmp_path / "again" / "mine.zip").read_bytes()
    with zipfile.ZipFile(written[0]) as packed:
        assert packed.testzip() is None
        assert packed.namelist() == sorted(packed.namelist())
        packed.extractall(tmp_path / "un")
    assert list(verify(tmp_path / "un" / "mine")) == []
    said = json.loads(written[1].read_bytes())["metadata"]
    assert said["creators"][0] == {
        "name": "Ångström, Ada King", "affiliation": "A lab: of #", "orcid": "0000-0002-1825-0097",
    }  # fmt: skip
    assert (said["upload_type"], said["doi"], said["license"]) == ("dataset", "10.5281/zenodo.1", "apache-2.0")
    assert "notes" not in said  # nothing of others is in it


def test_a_deposit_says_what_is_of_others_beside_its_one_licence():
    folder = ROOT / "datasets" / "small-models"
    said = _deposit(folder, read_manifest(folder), About())["metadata"]
    assert "mbpp (cc-by-4.0), nl2bash (mit)" in said["notes"]
    assert [one.partition(",")[0] for one in said["references"]] == [
        "Jacob Austin", "John Yang", "Xi Victoria Lin", "Loubna Ben Allal",
    ]  # fmt: skip


def test_a_damaged_release_is_not_packed(made, tmp_path):
    folder = Path(shutil.copytree(made, tmp_path / "out"))
    (folder / "README.md").write_text("x", encoding="utf-8")
    with pytest.raises(DataError, match=r"not packed:\n  README.md: "):
        pack(folder, tmp_path / "mine.zip")
    assert not (tmp_path / "mine.zip").exists()


def test_where_an_archive_cannot_lie(made, tmp_path):
    with pytest.raises(UsageError, match=r"expected the name of a \.zip file"):
        pack(made, tmp_path / "mine.tar")
    with pytest.raises(UsageError, match=r"expected the name of a \.zip file"):
        pack(made, tmp_path / "...zip")  # whose entries would leave the folder that it is unpacked in
    with pytest.raises(UsageError, match="a part of the release itself"):
        pack(made, made / "mine.zip")
    with pytest.raises(UsageError, match="there is no such folder"):
        pack(tmp_path / "none", tmp_path / "mine.zip")


def test_the_command(made, tmp_path, agenttrace):
    ended = agenttrace("release", "--pack", made, "-o", tmp_path / "mine.zip")
    assert (ended.returncode, (tmp_path / "mine.zip").is_file()) == (0, True)
    ended = agenttrace("release", "--pack", made)
    assert ended.returncode == 2
    assert "-o FILE.zip" in ended.stderr
    ended = agenttrace("release", "--verify", made, "--strict")
    assert ended.returncode == 2
    assert "of a release that is made" in ended.stderr
