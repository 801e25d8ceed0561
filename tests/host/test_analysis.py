"""Folders and files of the user's machine, as a container gets them."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from agenttrace.errors import AgentTraceError, UsageError
from agenttrace.host import analysis, compose, engine, images

DOCKER = """#!/bin/sh
case $1 in
    run) echo $$ >"$STATE/pid"; exec sleep 100 ;;
    kill) echo "$@" >>"$STATE/asked"; kill "$(cat "$STATE/pid")" ;;
esac
"""


@pytest.mark.parametrize("char", [",", '"', "\n", "\r"])
def test_a_path_that_the_engine_would_read_as_options_is_refused(tmp_path, char):
    path = tmp_path / f"a{char}readonly=false"
    path.mkdir()
    link = tmp_path / "plain"
    link.symlink_to(path)
    for named in (path, link):
        with pytest.raises(UsageError, match="a comma, quote or line end in a path"):
            analysis._bind(named)


def test_a_path_with_blanks_is_given_as_it_is(tmp_path):
    path = tmp_path / "my data"
    path.mkdir()
    assert analysis._bind(path) == f"type=bind,source={path.resolve()},target={path}"


@pytest.fixture
def docker(tmp_path, monkeypatch):
    """Put a stand-in for the engine's client on the PATH; returns the folder with what it was asked."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/docker").write_text(DOCKER)
    (tmp_path / "bin/docker").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("STATE", str(tmp_path))
    monkeypatch.setattr(engine, "check", lambda: SimpleNamespace(rootless=False))
    monkeypatch.setattr(images, "build", lambda **_: SimpleNamespace(ids={"analysis": "image"}))
    return tmp_path


def test_a_container_gets_the_settings_of_the_terminal_and_no_label(docker, engine_info, monkeypatch):
    monkeypatch.setattr(engine, "check", engine_info)
    (docker / "bin/docker").write_text('#!/bin/sh\nprintf "%s\\n" "$@" >"$STATE/words"\n')
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    assert analysis.run("analyze", ["--quiet"], read=[docker], written=[]) == 0
    words = (docker / "words").read_text().splitlines()
    given = [words[at + 1] for at, word in enumerate(words) if word == "--env"]
    assert {"NO_COLOR", "TERM"} <= {*given}
    assert "FORCE_COLOR" not in given
    assert "label=disable" in words  # else SELinux, where it runs, keeps the user's files from it
    assert not any(option in mount for mount in words for option in (":z", ":Z", "relabel"))


def test_a_result_that_never_came_here_is_said(docker, engine_info, monkeypatch):
    monkeypatch.setattr(engine, "check", engine_info)
    (docker / "bin/docker").write_text("#!/bin/sh\nexit 0\n")
    page = docker / "page.html"
    with pytest.raises(UsageError, match=r"page\.html was written, and not here: the engine runs in"):
        analysis.run("report", ["-o", str(page)], read=[], written=[page])
    page.touch()
    assert analysis.run("report", ["-o", str(page)], read=[], written=[page]) == 0


def test_a_verb_that_wrote_nothing_leaves_no_folder(docker, engine_info, monkeypatch):
    monkeypatch.setattr(engine, "check", engine_info)
    (docker / "bin/docker").write_text("#!/bin/sh\nexit 2\n")
    assert analysis.run("publish", [], read=[], written=[docker / "mine"]) == 2
    assert not (docker / "mine").exists()
    (docker / "kept").mkdir()
    assert analysis.run("publish", [], read=[], written=[docker / "kept"]) == 2
    assert (docker / "kept").is_dir()


def test_an_engine_elsewhere_that_finds_no_folder_is_explained(docker, engine_info, monkeypatch):
    (docker / "bin/docker").write_text("#!/bin/sh\nexit 125\n")
    monkeypatch.setattr(engine, "check", lambda: engine_info(kernel=platform.release()))
    with pytest.raises(AgentTraceError, match="could not start the container"):
        analysis.run("analyze", [], read=[], written=[])
    monkeypatch.setattr(engine, "check", lambda: engine_info(kernel="6.6.87-linuxkit"))
    with pytest.raises(UsageError, match=r"did not find a folder .*colima shares no other"):
        analysis.run("analyze", [], read=[], written=[])


@pytest.mark.timeout(30)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_verb_leaves_no_container_behind(docker, number):
    records = shutil.copy(Path(__file__).parents[1] / "data/records/demo.jsonl", docker)

    def interrupt():
        while not (docker / "pid").exists() or not (docker / "pid").read_text():
            time.sleep(0.001)
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            analysis.run("analyze", [str(records)], read=[Path(records)], written=[])
    finally:
        signal.signal(signal.SIGINT, before)
        thread.join()
    asked = (docker / "asked").read_text().split()
    assert asked == ["kill", "--signal", "SIGINT", f"{compose.project_name()}-analyze-{os.getpid()}"]
    with pytest.raises(ProcessLookupError):
        os.kill(int((docker / "pid").read_text()), 0)
