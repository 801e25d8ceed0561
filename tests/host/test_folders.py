"""Folders that the engine's machine shares with this one or does not, and drives of Windows."""

from __future__ import annotations

import platform
import threading
import uuid
from pathlib import Path
from types import SimpleNamespace

import docker.errors
import pytest

from agenttrace.errors import AgentTraceError, UsageError
from agenttrace.host import compose, engine, folders, images

WSL = "Linux version 5.15.167.4-microsoft-standard-WSL2 (root@f9c826d3017f) (gcc) #1 SMP\n"
MOUNTS = """/dev/sdc / ext4 rw,relatime,discard 0 0
drivers /usr/lib/wsl/drivers 9p ro,nosuid,nodev,noatime,aname=drivers;fmask=222;dmask=222 0 0
C:\\134 /mnt/c 9p rw,noatime,dirsync,aname=drvfs;path=C:\\;uid=1000;gid=1000;symlinkroot=/mnt/ 0 0
"""


@pytest.mark.parametrize(
    ("folder", "version", "expected"),
    [
        ("/mnt/c/Users/me/agenttrace", WSL, True),
        ("/home/me/agenttrace", WSL, False),
        ("/mnt/cd", WSL, False),
        ("/mnt/c/Users/me/agenttrace", "Linux version 6.1.0-37-amd64 (debian-kernel@lists.debian.org)", False),
    ],
)
def test_a_drive_of_windows_has_no_modes(folder, version, expected):
    assert folders.without_modes(Path(folder), version, MOUNTS) is expected


def test_this_machine_has_modes(tmp_path):
    assert not folders.without_modes(tmp_path)


def test_a_container_that_the_engine_could_not_start_is_told_of(tmp_path, engine_info):
    with pytest.raises(AgentTraceError, match="could not start the container; its reason stands above"):
        folders.checked_end(125, [tmp_path], engine_info(kernel=platform.release()))


@pytest.mark.docker
def test_a_folder_that_the_collector_sees_as_another_one_is_refused(tmp_path, engine_info):
    built = images.build(targets=("collector",))
    uid, gid = compose.caller(engine.check())
    project = f"{compose.project_name()}-{uuid.uuid4().hex[:6]}"
    at = SimpleNamespace(info=engine_info(kernel="6.6.87-linuxkit"), project=project)
    known = {**compose.image_variables(built.ids), "AGENTTRACE_UID": str(uid), "AGENTTRACE_GID": str(gid)}
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    sdk = compose.client()
    compose.ensure_volumes(sdk)
    services = compose.Services(at.project, {**known, "AGENTTRACE_DATASETS": str(here)})
    try:
        folders.check_shared(services, at, here)
        with pytest.raises(UsageError, match=r"would not come to lie here: .* Use a folder in your home"):
            folders.check_shared(services, at, there)
    finally:
        compose.sweep(sdk, project)
    assert [*here.iterdir(), *there.iterdir()] == []


@pytest.mark.docker
def test_what_a_container_uses_that_the_engine_has_just_made_is_removed_when_that_is_known():
    built = images.build(targets=("collector",))
    project = f"{compose.project_name()}-{uuid.uuid4().hex[:6]}"
    sdk = compose.client()
    label = {"com.docker.compose.project": project}
    network = sdk.networks.create(project, labels=label)
    # Without a label it is not listed, as one that is only being made.
    late = sdk.containers.run(
        built.ids["collector"], ["60"], entrypoint="sleep", network=project, detach=True, name=project
    )
    gone = threading.Timer(1, lambda: late.remove(force=True))
    try:
        with pytest.raises(docker.errors.APIError, match="active endpoints"):
            compose.sweep(sdk, project)
        gone.start()
        compose.sweep_for_good(sdk, project)
        with pytest.raises(docker.errors.NotFound):
            network.reload()
    finally:
        if gone.ident is None:
            late.remove(force=True)
            network.remove()
        else:
            gone.join()
