"""The kit's images: built when their inputs changed, found again when not."""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
import time
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agenttrace import __version__
from agenttrace.errors import AgentTraceError, StorageError
from agenttrace.show import say
from agenttrace.store.jsonl import write_whole

from . import base as bases
from . import engine, place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

TARGETS = ("server", "sandbox", "collector")
"""What a campaign needs."""
EXTRA_TARGETS = ("sandbox-execution-free", "analysis", "rollouts")
"""Built when asked for only."""
ALL_TARGETS = (*TARGETS, *EXTRA_TARGETS)

_SHARED_INPUTS = ("Dockerfile", ".dockerignore", "docker")
_INPUTS = {
    "server": _SHARED_INPUTS,
    "sandbox": (
        *_SHARED_INPUTS,
        *("agenttrace/fixture", "agenttrace/sandbox/helper", "agenttrace/sandbox/runner", "agenttrace/sandbox/tools"),
        "agenttrace/sandbox/policies.toml",
    ),
    "collector": (*_SHARED_INPUTS, "agenttrace", "requirements/collector.txt"),
}
_INPUTS["sandbox-execution-free"] = _INPUTS["sandbox"]
_INPUTS["analysis"] = (*_INPUTS["collector"], "requirements/analysis.txt")
_INPUTS["rollouts"] = _INPUTS["analysis"]
_NOT_IN_CONTEXT = ("agenttrace/host/", "agenttrace/probes/")
_FINGERPRINT_LABEL = "org.agenttrace.fingerprint"
_BASE_LABEL = "org.agenttrace.base"
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy")
_LOG_LINES_SHOWN = 30
_FACT_WORDS = re.compile(r"\w+ [0-9a-f]{64}( [0-9a-f]{64} [0-9a-f]{64})?")
_FACTS = """
    cd /etc/agenttrace && cat base-origin environment.sha256
    if [ -d images ]; then cat images/server.sha256 images/sandbox.sha256; fi
"""


class ImageBuildError(AgentTraceError):
    """An image could not be built; the message ends with the last lines of the build and names its log."""


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Images that are there and up to date; every mapping has the targets as its keys."""

    names: Mapping[str, str]
    ids: Mapping[str, str]
    environment_digests: Mapping[str, str]
    """SHA-256 of what each image consists of (packages, wheels, our files), whatever the architecture."""
    base_origin: str
    """`registry` or `mmdebstrap`."""


def build(*, targets: Sequence[str] = TARGETS) -> ImageSet:
    """Images of these targets, built as far as their inputs have changed since the last build.

    Safe to cut off at any time and to start again: a name moves to the new image only when that is complete.

    Args:
        targets: some of `ALL_TARGETS`.

    Raises:
        UsageError: there is nothing to build on (see `base.decide`).
        ImageBuildError: the build itself failed.
    """
    wanted = {target: fingerprint(target) for target in targets}
    found = _inspect(targets)
    stale = [target for target in targets if _label(found.get(target), _FINGERPRINT_LABEL) != wanted[target]]
    bases_used = {_label(image, _BASE_LABEL) for image in found.values()}
    if stale or len(bases_used) != 1:
        base = bases.decide()
        stale = [t for t in targets if t in stale or _label(found[t], _BASE_LABEL) != base.reference]
        _build(stale, base)
        found = _built(targets)
    facts = {target: _facts(found[target]) for target in targets}
    if odd := _disagreeing(facts):
        _build(odd, bases.decide())
        found = _built(targets)
        facts = {target: _facts(found[target]) for target in targets}
    return ImageSet(
        names={target: name(target) for target in targets},
        ids={target: found[target]["Id"] for target in targets},
        environment_digests={target: facts[target][1] for target in targets},
        base_origin=facts[targets[0]][0],
    )


def _built(targets: Sequence[str]) -> dict[str, Any]:
    """Return what the engine says of images that were built a moment ago."""
    found = _inspect(targets)
    if missing := [name(target) for target in targets if target not in found]:
        raise ImageBuildError(f"{', '.join(missing)}: removed by another command meanwhile; run the same command again")
    return found


def name(target: str) -> str:
    """Name and tag of a target's image; `AGENTTRACE_IMAGE_TAG` sets another tag, for checkouts side by side.

    Images for an emulated architecture have its name behind the tag.
    """
    arch = bases.foreign_arch()
    tag = os.environ.get("AGENTTRACE_IMAGE_TAG") or __version__
    return f"agenttrace-{target}:{tag}{'' if arch is None else f'-{arch}'}"


def state(target: str) -> tuple[str | None, str] | None:
    """Fingerprint and environment digest of a target's image as it is; nothing is built."""
    image = _inspect([target]).get(target)
    return None if image is None else (_label(image, _FINGERPRINT_LABEL), _facts(image)[1])


def fingerprint(target: str, root: Path = place.ROOT) -> str:
    """SHA-256 over path and content of every file that the image of this target is built from."""
    digest = hashlib.sha256(__version__.encode())
    for path in _input_files(target, root):
        content = hashlib.sha256((root / path).read_bytes()).hexdigest()
        digest.update(f"{content} {path}\n".encode())
    return digest.hexdigest()


def export(target: str, destination: Path) -> None:
    """Build the image of a target from scratch, with all time stamps clamped, into an OCI archive.

    From scratch means: no step, package list, package or wheel of an earlier build is used. Layers are not compressed,
    so that their digests depend on no compressor's version.

    Needs the engine's containerd image store (`EngineInfo.containerd_image_store`).

    Args:
        target: one of `ALL_TARGETS`.
        destination: file to write.

    Raises:
        UsageError: there is nothing to build on (see `base.decide`).
        ImageBuildError: the build itself failed, or BuildKit took a step from another build all the same.
    """
    output = f"type=oci,dest={destination},rewrite-timestamp=true,compression=uncompressed,force-compression=true"
    # `--no-cache` alone still takes steps from builds that run at the same moment; cache mounts under a new name make
    # every step another one.
    fresh = f"BUILDKIT_CACHE_MOUNT_NS=agenttrace-{uuid.uuid4().hex[:12]}"
    _build([target], bases.decide(), output=("--no-cache", "--output", output, "--build-arg", fresh))
    if reused := reused_steps(_log_file(target).read_text(encoding="utf-8")):
        raise ImageBuildError(
            f"{name(target)}: {', '.join(reused)} came from another build; run it again while nothing else is built"
        )


def _input_files(target: str, root: Path) -> Iterator[str]:
    for start in _INPUTS[target]:
        top = root / start
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            relative = path.relative_to(root).as_posix()
            ignored = relative.startswith(_NOT_IN_CONTEXT) or "__pycache__" in relative or path.name == ".DS_Store"
            if path.is_file() and not ignored and path.suffix != ".pyc":
                yield relative


def _inspect(targets: Sequence[str]) -> dict[str, Any]:
    ended = engine.run(["docker", "image", "inspect", *map(name, targets)], check=False)
    by_tag = {tag: image for image in json.loads(ended.stdout or "[]") for tag in image.get("RepoTags") or ()}
    return {target: by_tag[name(target)] for target in targets if name(target) in by_tag}


def _label(image: Mapping[str, Any] | None, key: str) -> str | None:
    labels = ((image or {}).get("Config") or {}).get("Labels") or {}
    value = labels.get(key)
    return None if value is None else str(value)


def _build(targets: Sequence[str], base: bases.Base, *, output: Sequence[str] = ("--load",)) -> None:
    # The collector first: it needs every stage, and BuildKit then works on them side by side.
    for target in sorted(targets):
        started = time.monotonic()
        say(f"building {name(target)} on {base.origin} base")
        with tempfile.TemporaryDirectory(prefix="agenttrace-") as work:
            _build_one(target, _argv(target, base, Path(work), output))
        say(f"built {name(target)} in {time.monotonic() - started:.1f} s")
    if targets:
        label = f"label={bases.PROJECT_LABEL}"
        engine.run(["docker", "image", "prune", "--force", "--filter", label], check=False)


def _argv(target: str, base: bases.Base, work: Path, output: Sequence[str]) -> list[str]:
    # The builder of the engine itself: another one would neither see a local base nor load what it built.
    builder = engine.run(["docker", "context", "show"]).stdout.strip() or "default"
    argv = ["docker", "buildx", "build", "--builder", builder, "--progress", "plain", "--provenance=false", *output]
    argv += ["--target", target, "--tag", name(target)]
    if arch := bases.foreign_arch():
        argv += ["--platform", f"linux/{arch}"]
        if "--no-cache" not in output:  # builds of the engine's own architecture must not wait for the slow ones
            argv += ["--build-arg", f"BUILDKIT_CACHE_MOUNT_NS=agenttrace-{arch}"]
    argv += ["--label", f"{_FINGERPRINT_LABEL}={fingerprint(target)}", "--label", f"{_BASE_LABEL}={base.reference}"]
    argv += ["--build-arg", f"BASE={base.reference}", "--build-arg", f"BASE_ORIGIN={base.origin}"]
    for variable in _PROXIES:
        if os.environ.get(variable):
            argv += ["--build-arg", variable]
    if base.apt_source is not None:
        source = work / "apt-source"
        source.write_text(base.apt_source, encoding="utf-8")
        argv += ["--build-arg", "SNAPSHOT=", "--secret", f"id=apt-source,src={source}"]
    if base.origin == "mmdebstrap" or os.environ.get("AGENTTRACE_BUILD_NETWORK") == "host":
        argv += ["--network", "host"]
    bundle = bases.ca_bundle()
    if bundle is not None:
        argv += ["--secret", f"id=ca,src={bundle}"]
    return [*argv, str(place.ROOT)]


def _build_one(target: str, argv: Sequence[str]) -> None:
    steps: dict[str, str] = {}
    path = _log_file(target)
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(bases.source_date_epoch())}
    with path.open("w", encoding="utf-8") as log:

        def on_line(line: str) -> None:
            log.write(line + "\n")
            step = finished_step(line, steps)
            if step is not None:
                say(f"  {step}")

        try:
            engine.run(argv, env=environment, on_line=on_line)
        except engine.CommandError as error:
            tail = "\n".join(error.output.splitlines()[-_LOG_LINES_SHOWN:])
            raise ImageBuildError(f"{name(target)} could not be built; the whole log: {path}\n{tail}") from error


def _log_file(target: str) -> Path:
    arch = bases.foreign_arch()
    return _log_folder() / f"image-{target}{'' if arch is None else f'-{arch}'}.log"


def _log_folder() -> Path:
    folder = place.ROOT / ".nox" / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def finished_step(line: str, steps: dict[str, str]) -> str | None:
    """Name and duration of the step that this line of BuildKit's plain progress ends; `steps` holds those begun."""
    if started := re.match(r"(#\d+) \[(?!internal|auth)([^\]]+)\]", line):
        steps[started[1]] = started[2]
    ended = re.match(r"(#\d+) DONE ([\d.]+)s", line)
    return f"{steps[ended[1]]}: {ended[2]} s" if ended and ended[1] in steps and ended[2] != "0.0" else None


def reused_steps(log: str) -> list[str]:
    """Names of the steps that a build took from the cache, by BuildKit's plain progress; a `FROM` is no step."""
    steps = dict(re.findall(r"^(#\d+) \[(?!internal|auth)([^\]]+)\] (?!FROM )", log, flags=re.MULTILINE))
    cached = dict.fromkeys(re.findall(r"^(#\d+) CACHED$", log, flags=re.MULTILINE))
    return [steps[number] for number in cached if number in steps]


def _disagreeing(facts: Mapping[str, Sequence[str]]) -> list[str]:
    """Images that the collector's image knows with another digest: the build cache was emptied between the builds."""
    told = dict(zip(TARGETS, facts.get("collector", ())[2:], strict=False))
    return [target for target, digest in told.items() if target in facts and facts[target][1] != digest]


def _facts(image: Mapping[str, Any]) -> list[str]:
    """Base origin, own digest, and for the collector those of server and sandbox; remembered by the image's id."""
    memory = _log_folder() / f"facts-{image['Id'].removeprefix('sha256:')}"
    try:
        facts = memory.read_text(encoding="ascii").split()
    except OSError:
        facts = []
    if not _FACT_WORDS.fullmatch(" ".join(facts)):  # or cut short by a full disk
        argv = ["docker", "run", "--rm", "--network", "none", "--entrypoint", "sh", image["Id"], "-c", _FACTS]
        ended = engine.run(argv, check=False)
        facts = ended.stdout.split()
        if len(facts) not in {2, 4}:
            raise ImageBuildError(f"the image {image['Id']} does not say what it consists of: {ended.stderr.strip()}")
        with suppress(StorageError):
            write_whole(memory, "\n".join(facts).encode("ascii"))
    return facts
