"""One fixture in three places: the repository's tree, the sandbox image, and a worker's tree after a reset."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.errors import DataError
from agenttrace.fixture.build import FixtureError, load
from agenttrace.fixture.checkout import TreeDifference, compare, differences, restore
from agenttrace.fixture.version import digest, manifest, released_version
from agenttrace.host import engine
from agenttrace.host.base import PROJECT_LABEL
from agenttrace.host.place import IS_CHECKOUT, ROOT
from agenttrace.host.workers import SandboxContainer, sandbox_project
from agenttrace.sandbox.runner import tree
from agenttrace.show import say

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from agenttrace.fixture.build import Fixture

FIXTURE = "nl2bash"
TESTDATA = ROOT / "testdata"

_IN_IMAGE = """
import json, sys
sys.path.insert(0, "/opt/agenttrace/runner")
import tree
entries, truncated = tree.listing("/opt/agenttrace/fixtures/" + sys.argv[1])
print(json.dumps({"digest": tree.digest(entries), "entries": entries, "truncated": truncated}))
"""
_WRECK = """set -e
rm -rf /testdata/system/folder3 /testdata/workspace/test; chmod 0600 /testdata/testbed/hello.c
echo more >>/testdata/workspace/dir1/all.txt; mkdir /testdata/testbed/new; ln -sfn / /testdata/system/MANIFEST
touch -d @0 /testdata/backup/file.txt
"""
_LIMIT_MS = 10_000


@dataclass(frozen=True, slots=True)
class Place:
    """The tree of a fixture in one place."""

    name: str
    digest: str
    differences: tuple[TreeDifference, ...]


def verify(folder: Path = TESTDATA) -> tuple[Place, ...]:
    """Compare the NL2Bash fixture in its three places with its released description.

    A tree that was cloned and never generated first gets what git could not carry.

    Args:
        folder: the repository's tree.

    Raises:
        DataError: this checkout's description of the fixture is not the released one, or a tree is not there.
    """
    try:
        fixture = load(FIXTURE)
        if digest(fixture) != (released := released_version(FIXTURE)):
            raise DataError(
                f"fixture {FIXTURE}: this checkout describes {digest(fixture)}, but {released} was released; "
                "if the change is meant, it is a new release: write the new digest to agenttrace/fixture/released.toml"
            )
        here = _checked_out(fixture, folder)
    except FixtureError as error:
        raise DataError(str(error)) from error
    with sandbox_project("fixture", ("sandbox",)) as (project, env):
        return *here, _image(fixture, env), _worker(fixture, project, env)


def _checked_out(fixture: Fixture, folder: Path) -> tuple[Place, ...]:
    if not IS_CHECKOUT and folder == TESTDATA:
        say("no checkout here, so no testdata/ to compare")
        return ()
    return (_repository(fixture, folder),)


def _repository(fixture: Fixture, folder: Path) -> Place:
    found = compare(fixture, folder)
    if found.fresh:
        say(f"{folder} is as git left it: making its times, modes and empty folders")
        found = restore(fixture, folder)
    if found.unread:
        raise DataError(f"{found.unread}: give yourself the right to read it and run again")
    return Place(f"repository {folder.name}/", found.digest, found.differences)


def _image(fixture: Fixture, env: Mapping[str, str]) -> Place:
    """Read what the image holds with the code that lies in it, and no worker between."""
    image = env["AGENTTRACE_SANDBOX_IMAGE"]
    argv = ["docker", "run", "--rm", "--label", PROJECT_LABEL, "--network", "none", "--read-only", "--cap-drop", "ALL"]
    argv += ["--user", "0:0", "--entrypoint", "python3", image, "-I", "-S", "-B", "-c", _IN_IMAGE, fixture.name]
    listed: dict[str, Any] = json.loads(engine.run(argv, env=env).stdout)
    return _place(f"image {image}", fixture, listed)


def _worker(fixture: Fixture, project: str, env: Mapping[str, str]) -> Place:
    """Wreck a worker's tree, reset it, and read what is there then."""
    container = SandboxContainer(project, env)
    try:
        container.worker.reset(fixture.name)
        wrecked = container.worker.call("bash", _WRECK, limit_ms=_LIMIT_MS)
        container.worker.reset(fixture.name)
        found = container.worker.tree()
    finally:
        container.close()
    if wrecked.exit_code != 0:
        raise DataError(f"worker: its tree could not be changed before the reset: {wrecked.stderr.text}")
    entries = [msgspec.structs.asdict(entry) for entry in found.entries]
    listed = {"digest": tree.digest(entries), "entries": entries, "truncated": found.truncated}
    return _place("worker after a reset", fixture, listed)


def _place(name: str, fixture: Fixture, listed: dict[str, Any]) -> Place:
    if listed["truncated"]:
        raise DataError(f"{name}: the tree could not be read to its end")
    return Place(name, listed["digest"], differences(manifest(fixture), listed["entries"]))
