"""Compares the images of the engine's own architecture with those of the other one, run by emulation.

A check is a function of the two image sets that yields what differs; `CHECKS` lists them in order.
"""

from __future__ import annotations

import contextlib
import difflib
import json
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from agenttrace.errors import AgentTraceError, UsageError
from agenttrace.fixture.version import released_version
from agenttrace.host import base as bases
from agenttrace.host import engine, images, verify_fixture
from agenttrace.host.compose import ROOT
from agenttrace.host.workers import SandboxContainer, sandbox_project
from agenttrace.show import say

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from agenttrace.host.images import ImageSet

_CALL = "cd /testdata && find . -type f | LC_ALL=C sort | xargs sha256sum | sha256sum; echo $((6 * 7)); exit 3"
_CALL_LIMIT_MS = 60_000
_METADATA = """
from datetime import UTC, datetime
from pathlib import Path
from agenttrace.campaign.environment import image_digests
from agenttrace.campaign.options import Options
from agenttrace.campaign.plan import make_plan
from agenttrace.records import canonical_json
options = Options(dataset="demo", run_id="other-architecture")
moment = datetime(2026, 1, 1, tzinfo=UTC)
plan = make_plan(options, images=image_digests(), folder=Path("/tmp"), now=moment)
for task in plan.tasks:
    print(plan.trace_id(task), canonical_json(plan.metadata(task)).decode())
"""


class NotCheckedError(AgentTraceError):
    """There is nothing to check; the message says what is missing. Neither equal nor not equal."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The same images for two architectures."""

    own: ImageSet
    other: ImageSet
    other_arch: str


def check(
    *,
    only: Sequence[str] = (),
    show: Callable[[str], None] = print,
    report: Callable[[str], None] = say,
) -> int:
    """Return 0 when no check failed, else 1; builds the images of both architectures first.

    Args:
        only: names of checks, the default is all of `CHECKS`.
        show: gets a line per check, and under a failed one what differs.
        report: gets one line of progress per step.

    Raises:
        UsageError: a name is not that of a check, or the engine's architecture is none that the images are built for.
        ImageBuildError: an image cannot be built.
    """
    if unknown := set(only) - set(CHECKS):
        raise UsageError(f"no check {', '.join(sorted(unknown))}; there are {', '.join(CHECKS)}")
    engine.check()
    arch = bases.engine_arch()
    if arch not in bases.ARCHITECTURES:
        raise UsageError(f"the engine runs on {arch}; the images are built for {' and '.join(bases.ARCHITECTURES)}")
    other_arch = next(name for name in bases.ARCHITECTURES if name != arch)
    with emulating(None):
        own = images.build(targets=images.ALL_TARGETS)
    with emulating(other_arch):
        other = images.build(targets=images.ALL_TARGETS)
    show(f"images: all {len(images.ALL_TARGETS)} built for {arch} and {other_arch}")
    pair = Pair(own=own, other=other, other_arch=other_arch)
    failed = [name for name in only or CHECKS if not _passes(name, pair, show, report)]
    show(f"NOT equal: {', '.join(failed)}" if failed else "nothing that was checked differs")
    return 1 if failed else 0


def _passes(name: str, pair: Pair, show: Callable[[str], None], report: Callable[[str], None]) -> bool:
    report(f"checking {name} on {pair.other_arch}")
    try:
        differences = list(CHECKS[name](pair))
    except NotCheckedError as error:
        show(f"{name}: NOT checked: {error}")
        return True
    except AgentTraceError as error:
        differences = [str(error)]
    show(f"{name}: {'NOT equal' if differences else 'equal'}")
    for difference in differences:
        show(f"    {difference}")
    return not differences


@contextlib.contextmanager
def emulating(arch: str | None) -> Iterator[None]:
    """Within it, images are built and run for an architecture; `None`: the engine's own."""
    before = os.environ.pop(bases.ARCH_VARIABLE, None)
    if arch is not None:
        os.environ[bases.ARCH_VARIABLE] = arch
    try:
        yield
    finally:
        os.environ.pop(bases.ARCH_VARIABLE, None)
        if before is not None:
            os.environ[bases.ARCH_VARIABLE] = before


def environment(pair: Pair) -> Iterator[str]:
    """Packages, wheels and files of every image are the same versions, so the environment digests are equal."""
    for target in images.ALL_TARGETS:
        own, other = _parts(pair.own.ids[target]), _parts(pair.other.ids[target])
        for line in difflib.unified_diff(own, other, lineterm="", n=0):
            if not line.startswith(("---", "+++", "@@")):
                yield f"{target}: {line}"
        if pair.own.environment_digests[target] != pair.other.environment_digests[target]:
            yield f"{target}: digest {pair.own.environment_digests[target]} / {pair.other.environment_digests[target]}"


def _parts(image: str) -> list[str]:
    text = _run(image, "cat", "/etc/agenttrace/environment.txt")
    return text.splitlines()[1:]


def fixture(pair: Pair) -> Iterator[str]:
    """The fixture in the other sandbox image, and in its worker after a reset, has the released digest."""
    released = released_version(verify_fixture.FIXTURE)
    with emulating(pair.other_arch):
        for place in verify_fixture.verify():
            if place.digest != released:
                yield f"{place.name}: {place.digest}, released is {released}"


def call(pair: Pair) -> Iterator[str]:
    """A call in the other worker is measured by the compiled helper and ends as it does here."""
    results = []
    for arch in (None, pair.other_arch):
        with emulating(arch), sandbox_project("other-arch", ("sandbox",)) as (project, env):
            container = SandboxContainer(project, env)
            try:
                container.worker.reset("nl2bash")
                done = container.worker.call("bash", _CALL, limit_ms=_CALL_LIMIT_MS)
                results.append((container.worker.info.helper, done.exit_code, done.stdout.text))
            finally:
                container.close()
    for name, one, two in zip(("helper", "exit code", "output"), results[0], results[1], strict=True):
        if one != two:
            yield f"{name}: {one!r} / {two!r}"


def telemetry(pair: Pair) -> Iterator[str]:
    """The regression of telemetry normalisation passes in the other collector."""
    (ROOT / ".nox").mkdir(exist_ok=True)
    # In the checkout, because that is what an engine in a virtual machine sees of this machine.
    with tempfile.TemporaryDirectory(prefix="wheels-", dir=ROOT / ".nox") as folder:
        Path(folder).chmod(0o755)  # the collector's user is none of this machine
        _fetch_wheels(pair.other.ids["collector"], pair.other_arch, Path(folder))
        argv = ["docker", "run", "--rm", "--label", bases.PROJECT_LABEL, "--network", "none"]
        argv += ["--volume", f"{ROOT}:/checkout:ro", "--volume", f"{folder}:/wheels:ro", "--workdir", "/checkout"]
        argv += ["--env", "PYTHONPATH=/opt/agenttrace/lib:/wheels", "--env", "HYPOTHESIS_STORAGE_DIRECTORY=/tmp/found"]
        argv += ["--entrypoint", "python"]
        argv += [pair.other.ids["collector"], "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/telemetry"]
        ended = engine.run(argv, check=False)
    if ended.returncode != 0:
        yield from (ended.stdout + ended.stderr).strip().splitlines()[-20:]


def _fetch_wheels(image: str, arch: str, folder: Path) -> None:
    """Put the locked packages of the regression, for the interpreter of an image, into a folder."""
    version = _run(image, "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])").strip()
    cpu = {"amd64": "x86_64", "arm64": "aarch64"}[arch]
    platforms = [f"--platform=manylinux{tag}_{cpu}" for tag in ("2014", "_2_17", "_2_28", "_2_34")]
    argv = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--target", str(folder)]
    argv += ["--require-hashes", "--no-deps", "--only-binary", ":all:", "--python-version", version, *platforms]
    engine.run([*argv, "--requirement", str(ROOT / "requirements/telemetry.txt")])


def metadata(pair: Pair) -> Iterator[str]:
    """Trace ids and metadata of a demo campaign are the same bytes."""
    lists = [
        _run(images_.ids["collector"], "python", "-c", _METADATA).splitlines() for images_ in (pair.own, pair.other)
    ]
    if len(lists[0]) != len(lists[1]) or not lists[0]:
        yield f"{len(lists[0])} / {len(lists[1])} tasks"
        return
    for one, two in zip(lists[0], lists[1], strict=True):
        if one != two:
            first, second = (json.loads(line.partition(" ")[2]) for line in (one, two))
            keys = [key for key in sorted({*first, *second}) if first.get(key) != second.get(key)]
            yield f"{one.partition(' ')[0]}: {', '.join(keys) or 'other id'}"


def replay(pair: Pair) -> Iterator[str]:
    """The newest release is planned on the other architecture to the same rows and replays there to the same traces."""
    from agenttrace.host.replay import released, reproduce  # noqa: PLC0415 - the whole campaign comes with it

    try:
        files = released(ROOT / "datasets")
    except UsageError as error:
        raise NotCheckedError(str(error)) from error
    with emulating(pair.other_arch):
        for file in files:
            status, _ = reproduce(file)
            if status != 0:
                yield f"{file.name}: ended with status {status}; what differs stands above"


def _run(image: str, program: str, *arguments: str) -> str:
    argv = ["docker", "run", "--rm", "--label", bases.PROJECT_LABEL, "--network", "none", "--entrypoint", program]
    return engine.run([*argv, image, *arguments]).stdout


CHECKS: dict[str, Callable[[Pair], Iterator[str]]] = {
    "environment": environment,
    "fixture": fixture,
    "call": call,
    "telemetry": telemetry,
    "metadata": metadata,
    "replay": replay,
}
"""In the order in which they run. A new check is a new line here."""
