"""An installed package builds the same images as the checkout that it was made of."""

import shutil
import tomllib
from pathlib import Path

import pytest

from agenttrace.errors import UsageError
from agenttrace.host import compose, images, place

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package as the wheel has it, and the user's cache."""
    settings = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    package = tmp_path / "site/agenttrace"
    shutil.copytree(CHECKOUT / "agenttrace", package)
    for source, target in settings["force-include"].items():
        copy = shutil.copytree if (CHECKOUT / source).is_dir() else shutil.copy
        Path(tmp_path, "site", target).parent.mkdir(parents=True, exist_ok=True)
        copy(CHECKOUT / source, tmp_path / "site" / target)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(place, "_PACKAGE", package)
    monkeypatch.setattr(place, "_BROUGHT", package / "_context")
    monkeypatch.setattr(place, "IS_CHECKOUT", False)
    monkeypatch.setattr(place, "ROOT", place._root())
    return place.ROOT


def test_its_images_are_those_of_the_checkout(installed):
    place.unfold()
    assert installed.parent.name == "agenttrace"
    for target in images.ALL_TARGETS:
        assert images.fingerprint(target, installed) == images.fingerprint(target, CHECKOUT), target
    for name in (".dockerignore", "docker-compose.yml", "requirements/host.txt"):
        assert (installed / name).read_bytes() == (CHECKOUT / name).read_bytes()
    assert not [path for path in installed.rglob("*") if path.name in {"_context", "__pycache__"}]
    assert compose.git_state(installed) == {"git_commit": None, "git_dirty": None}


def test_it_is_unfolded_once_and_whole(installed, monkeypatch):
    place.unfold()
    before = (installed / "Dockerfile").stat().st_ino
    monkeypatch.setattr(place.shutil, "copytree", None)
    place.unfold()
    assert (installed / "Dockerfile").stat().st_ino == before
    assert [path.name for path in installed.parent.iterdir()] == [installed.name]


def test_a_cache_that_cannot_be_written_is_a_message(installed):
    installed.parent.parent.write_text("a file")
    with pytest.raises(UsageError, match="XDG_CACHE_HOME names another folder"):
        place.unfold()


def test_records_go_to_the_working_directory_and_the_release_that_came_along_is_the_last_resort(installed, monkeypatch):
    monkeypatch.chdir(installed.parents[2])
    place.unfold()
    assert place.datasets() == Path("datasets")
    assert place.releases() == installed / "datasets"
    mine = Path("datasets/mine")
    mine.mkdir(parents=True)
    (mine / "manifest.json").touch()
    assert place.releases() == Path("datasets")
