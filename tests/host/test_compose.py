"""What is said of the checkout that collects."""

from __future__ import annotations

import subprocess
from types import SimpleNamespace

import pytest

from agenttrace.host.compose import git_state, terminal_variables


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"TERM": "xterm"}, "90x30"),
        ({"TERM": "xterm", "NO_COLOR": ""}, "90x30"),
        ({"TERM": "xterm", "NO_COLOR": "1"}, ""),
        ({"TERM": "dumb"}, ""),
    ],
)
def test_containers_hear_of_a_terminal_that_may_be_drawn_on(settings, expected, monkeypatch):
    for name in ("NO_COLOR", "AGENTTRACE_QUIET"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**settings, "COLUMNS": "90", "LINES": "30"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("sys.stderr", SimpleNamespace(isatty=lambda: True))
    assert terminal_variables() == {"AGENTTRACE_TERMINAL": expected, "AGENTTRACE_QUIET": ""}
    monkeypatch.setattr("sys.stderr", SimpleNamespace(isatty=lambda: False))
    assert terminal_variables()["AGENTTRACE_TERMINAL"] == ""


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
