"""What is said of the checkout that collects."""

from __future__ import annotations

import subprocess

import pytest

from agenttrace.errors import AgentTraceError
from agenttrace.host import compose
from agenttrace.host.compose import git_state


@pytest.fixture
def checkout(tmp_path):
    def git(*words):
        who = ("-c", "user.name=a", "-c", "user.email=a@example.org", "-c", "commit.gpgsign=false")
        subprocess.run(["git", "-C", tmp_path, *who, *words], check=True, capture_output=True)

    (tmp_path / "agenttrace").mkdir()
    (tmp_path / "agenttrace/a.py").touch()
    (tmp_path / "README.md").touch()
    git("init")
    git("add", ".")
    git("commit", "-m", "first")
    return tmp_path


def test_records_beside_the_checkout_are_no_change_of_it(checkout):
    assert git_state(checkout)["git_dirty"] is False
    for name in ("mine.jsonl", "mine.run.json", "my folder.txt"):
        (checkout / name).touch()
    assert git_state(checkout)["git_dirty"] is False
    assert len(git_state(checkout)["git_commit"]) == 40


@pytest.mark.parametrize("name", ["agenttrace/b.py", "agenttrace/my file.py", "docker/x.sh", "requirements/x.txt"])
def test_a_new_file_that_images_are_built_from_is_one(checkout, name):
    (checkout / name).parent.mkdir(exist_ok=True)
    (checkout / name).touch()
    assert git_state(checkout)["git_dirty"] is True


def test_so_is_any_known_file_that_differs(checkout):
    (checkout / "README.md").write_text("x")
    assert git_state(checkout)["git_dirty"] is True


@pytest.fixture
def client(tmp_path, monkeypatch):
    """Return a function that puts a script in the place of the engine's client."""

    def make(script):
        (tmp_path / "docker").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "docker").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")

    return make


def test_an_engine_that_goes_away_is_one_message(client):
    client("echo 'Cannot connect to the Docker daemon' >&2; exit 1")
    with pytest.raises(AgentTraceError, match=r"refuses, or went away: .*Cannot connect.*; what was finished is kept"):
        compose.sweep("project")


def test_what_cannot_be_removed_for_long_is_told_and_what_goes_meanwhile_is_waited_for(client, monkeypatch, tmp_path):
    client(f"case $1 in ps) cat {tmp_path}/there ;; rm) echo 'device is busy' >&2; exit 1 ;; esac")
    (tmp_path / "there").write_text("0123 worker running project\n")
    monkeypatch.setattr(compose, "_SWEEPING_S", 0.5)
    with pytest.raises(AgentTraceError, match="device is busy"):
        compose.sweep_for_good("project")
    client(f"case $1 in ps) cat {tmp_path}/there ;; rm) : >{tmp_path}/there; echo 'in progress' >&2; exit 1 ;; esac")
    compose.sweep_for_good("project")
    assert compose.sweep("project") == 0


def test_clean_spares_what_another_checkout_runs_and_says_what_stays(client):
    own = compose.project_name()
    client(f"""case "$*" in
    "ps "*) echo "1 own running {own}"; echo "2 other running agenttrace-0"; echo "3 old exited agenttrace-0" ;;
    "volume ls "*) echo "used used"; echo "gone gone" ;;
    "rm "*2*) exit 9 ;;
    *used) echo "volume is in use" >&2; exit 1 ;;
    *gone) echo "no such volume" >&2; exit 1 ;;
    esac""")
    said = []
    assert not compose.clean(said.append, images=False)
    assert said == [
        "removed container own",
        "removed container old",
        "left alone: container other (another checkout's campaign runs; -- --all removes it)",
        "left alone: volume used (volume is in use)",
    ]
