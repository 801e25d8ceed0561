"""What is pinned: base, images, weights, fixture, task files."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from agenttrace.errors import AgentTraceError
from agenttrace.fixture.build import FixtureError
from agenttrace.fixture.version import fixture_version, released_version
from agenttrace.host import base as bases
from agenttrace.host import compose, engine, images
from agenttrace.models import pins
from agenttrace.store.opening import content
from agenttrace.tasks import sources

from .finding import Finding

if TYPE_CHECKING:
    from agenttrace.tasks.sources import SourceFile

_FIXTURE = "nl2bash"


def file_findings() -> list[Finding]:
    """What lies in this checkout or in the task folder; needs no engine."""
    return [_fixture(), _bundled(), *(_task_file(source) for source in (*sources.NL2BASH, sources.MBPP))]


def _fixture() -> Finding:
    name = f"fixture {_FIXTURE}"
    try:
        here, released = fixture_version(_FIXTURE), released_version(_FIXTURE)
    except FixtureError as error:
        return Finding(name=name, state="missing", found=str(error), advice="restore agenttrace/fixture", blocks=True)
    if here == released:
        return Finding(name=name, state="ok", found=here)
    advice = "records of this checkout name another tree than the released one: restore agenttrace/fixture"
    return Finding(name=name, state="differs", found=here, pinned=released, advice=advice)


def _bundled() -> Finding:
    pin = pins.model_pin(pins.DEFAULT_MODEL)
    file, advice = pins.BUNDLED / pin.artifact, "restore it with git: it is refused as it is"
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    except FileNotFoundError:
        return Finding(name="bundled model", state="missing", found=str(file), pinned=pin.sha256, advice=advice)
    except OSError as error:
        return Finding(name="bundled model", state="differs", found=str(error), pinned=pin.sha256, advice=advice)
    if digest != pin.sha256:
        return Finding(name="bundled model", state="differs", found=digest, pinned=pin.sha256, advice=advice)
    return Finding(name="bundled model", state="ok", found=digest)


def _task_file(source: SourceFile) -> Finding:
    name = f"tasks {source.path.rpartition('/')[2]}"
    try:
        path = sources.folder() / source.path
        digest = hashlib.sha256(content(path, most=source.bytes)).hexdigest() if path.exists() else None
    except (AgentTraceError, OSError) as error:
        advice = f"make it readable, or name another folder in {sources.MIRROR}"
        return Finding(name=name, state="differs", found=str(error), pinned=source.sha256, advice=advice)
    if digest is None:
        fetched = f"put it there: it comes from {source.url}" if sources.mirror() else "nothing: first use downloads it"
        return Finding(name=name, state="missing", found=str(path), pinned=source.sha256, advice=fetched)
    if digest == source.sha256:
        return Finding(name=name, state="ok", found=str(path))
    advice = f"remove or replace {path}: as it is, it is refused"
    return Finding(name=name, state="differs", found=f"SHA-256 {digest}", pinned=source.sha256, advice=advice)


def image_findings() -> list[Finding]:
    """The base and each image: is it there, was it built from what this checkout holds, what does it consist of."""
    reference = bases.pinned("BASE")
    local = bases.local_bases(bases.foreign_arch() or bases.engine_arch())
    if bases.have(reference):
        base = Finding(name="base", state="ok", found=f"{reference} is here")
    elif local:
        advice = "where the registry answers, new builds take the pinned one; records say which it was"
        base = Finding(name="base", state="differs", found=f"{local[0]} (mmdebstrap)", pinned=reference, advice=advice)
    else:
        base = Finding(
            name="base", state="missing", found="not here yet", pinned=reference, advice="nothing: first use brings it"
        )
    return [base, *(_image(target) for target in (*images.TARGETS, *images.EXTRA_TARGETS))]


def _image(target: str) -> Finding:
    name, state = f"image {target}", images.state(target)
    if state.fingerprint is None:
        return Finding(
            name=name, state="missing", found=images.name(target), advice="nothing: built when it is first used"
        )
    if state.fingerprint != images.fingerprint(target):
        return Finding(
            name=name,
            state="differs",
            found=f"{images.name(target)} was built from other files",
            pinned=f"fingerprint {images.fingerprint(target)}",
            advice="nothing: built again when it is next used (scripts/nox -s images does it now)",
        )
    return Finding(name=name, state="ok", found=f"{images.name(target)}, environment {state.environment_digest}")


def volume_findings() -> list[Finding]:
    """The volume of weights: which pinned ones are in it, by name and size; `fetch` compares digests before use."""
    volume = compose.models_volume()
    if engine.run(["docker", "volume", "inspect", volume], check=False).returncode != 0:
        found = f"no volume {volume}"
        return [Finding(name="weights", state="missing", found=found, advice="nothing: made when first used")]
    if images.state("collector").fingerprint is None:
        return [Finding(name="weights", state="unknown", found=f"volume {volume}; without images it cannot be read")]
    argv = ["docker", "run", "--rm", "--label", bases.PROJECT_LABEL, "--network", "none", "--read-only"]
    argv += ["--volume", f"{volume}:/models:ro", "--entrypoint", "stat", images.name("collector")]
    sizes: dict[str, int] = {}
    wanted = {pins.stored_name(pin): pin for pin in map(pins.model_pin, pins.model_names())}
    ended = engine.run([*argv, "--format", "%s %n", *(f"/models/{name}" for name in wanted)], check=False)
    for line in ended.stdout.splitlines():
        size, _, path = line.partition(" ")
        sizes[path.removeprefix("/models/")] = int(size)
    findings = []
    for stored, pin in wanted.items():
        name = f"weights {pin.name}"
        if stored not in sizes:
            found, advice = f"not in {volume}", "nothing: fetched when first used"
            findings.append(Finding(name=name, state="missing", found=found, pinned=pin.sha256, advice=advice))
        elif sizes[stored] != pin.bytes:
            found, advice = f"{sizes[stored]} bytes", "nothing: set aside and fetched anew when next used"
            findings.append(
                Finding(name=name, state="differs", found=found, pinned=f"{pin.bytes} bytes", advice=advice)
            )
        else:
            findings.append(Finding(name=name, state="ok", found=f"{pin.bytes} bytes in {volume}"))
    return findings
