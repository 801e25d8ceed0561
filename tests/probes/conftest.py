"""The battery against real workers, in an instance of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import uuid

import pytest


def engine_answers():
    if shutil.which("docker") is None:
        return False
    return subprocess.run(["docker", "version"], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def engine():
    """Give the project a name of its own; without an engine the battery cannot be tried, and that is said aloud."""
    if not engine_answers():
        pytest.skip("no Docker engine answers: start one (scripts/nox does it on Debian and Ubuntu as root)")
    volume = f"agenttrace-models-{uuid.uuid4().hex[:8]}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AGENTTRACE_INSTANCE", uuid.uuid4().hex[:8])
        patch.setenv("AGENTTRACE_MODELS_VOLUME", volume)
        yield
    docker("volume", "rm", "--force", volume)


def docker(*arguments, **more):
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=True, **more).stdout


@pytest.fixture(scope="module")
def derived_image(engine):
    """Return a function that builds an image on one of ours with a command run in it, and gives its name."""
    made = []

    def build(base, command):
        made.append(f"agenttrace-weak:{uuid.uuid4().hex[:8]}")
        argv = ["buildx", "build", "--builder", docker("context", "show").strip() or "default", "--load"]
        environment = {name: value for name, value in os.environ.items() if "proxy" not in name.lower()}
        docker(*argv, "--tag", made[-1], "-", input=f"FROM {base}\nRUN {command}\n", env=environment)
        return made[-1]

    yield build
    if made:
        docker("image", "rm", "--force", *made)
