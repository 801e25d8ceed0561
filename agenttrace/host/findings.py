"""What doctor looks at: the machine, what is pinned, and the way out."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import time
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from agenttrace.campaign.environment import cpu_flags, cpu_model
from agenttrace.errors import AgentTraceError, UsageError, command
from agenttrace.fixture.build import FixtureError
from agenttrace.fixture.version import fixture_version, released_version
from agenttrace.host import base as bases
from agenttrace.host import compose, engine, folders, images, place, weights
from agenttrace.models import hub, index, pins
from agenttrace.store.opening import content
from agenttrace.tasks import sources

if TYPE_CHECKING:
    from collections.abc import Mapping

    from agenttrace.host.engine import EngineInfo
    from agenttrace.records import ModelPin
    from agenttrace.tasks.sources import SourceFile

State = Literal["ok", "differs", "missing", "unknown"]
_GIB = 2**30
MEMORY_LEAST_BYTES = 2 * _GIB
"""Limits of one sandbox and the collector together (docker-compose.yml)."""
MEMORY_WISHED_BYTES = 6 * _GIB
"""With the largest pinned weights beside them."""
DISK_LEAST_BYTES = _GIB
DISK_WISHED_BYTES = 10 * _GIB
"""All images and BuildKit's cache of one build take about this much."""
ANSWER_S = 10.0
_FIXTURE = "nl2bash"
_PROXIES = ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy")


class DoctorFinding(msgspec.Struct, frozen=True, omit_defaults=True):
    """One line of the page.

    Attributes:
        name: the thing.
        state: `ok`, `differs` from what is pinned or wished for, `missing`, or `unknown` where it cannot be told.
        found: what is here, in words.
        pinned: what should be here, where something is pinned.
        advice: what to do; empty where nothing needs doing.
        blocks: whether no campaign can run as long as it is so.
    """

    name: str
    state: State
    found: str
    pinned: str = ""
    advice: str = ""
    blocks: bool = False


def examine(*, network: bool = False) -> list[DoctorFinding]:
    """Findings in the order in which a person would mend them.

    Args:
        network: also ask the registry, the Hub and the home of the task files whether they answer; none of them is
            needed once things are here.
    """
    found = engine_findings()
    usable = not any(finding.blocks for finding in found)
    if usable:  # what the engine's machine offers, a virtual one on macOS
        info = engine.check()
        found += [_architecture(info), _processor(), _memory(info), *_disks()]
    found += [_checkout(compose.ROOT), _python(), _records_folder(), _fixture(), _bundled()]
    found += [_task_file(source) for source in (*sources.NL2BASH, sources.MBPP)]
    found += settings_findings()
    if usable:
        found += [_base(), *map(_image, images.ALL_TARGETS), *volume_findings()]
    if network:
        mirror = "put the weights into the models volume another way, or name a mirror in HF_ENDPOINT"
        elsewhere = f"fetch them elsewhere and name their folder in {sources.MIRROR} (docs/tasks.md)"
        found += [_registry(), answer("hub", hub.endpoint(), mirror), _package_index()]
        found.append(answer("task files", sources.MBPP.url, elsewhere))
    return found


def engine_findings() -> list[DoctorFinding]:
    """The engine with its plugins; blocks where one is missing or too old."""
    try:
        info = engine.check()
    except UsageError as error:
        return [DoctorFinding("engine", "missing", "no engine to work with", advice=str(error), blocks=True)]
    where = "Docker Desktop, " if info.docker_desktop else "rootless, " if info.rootless else ""
    where += "SELinux, " if info.selinux else ""
    plugins = f"buildx {info.buildx_version}, compose {info.compose_version}"
    found = DoctorFinding("engine", "ok", f"{info.version} ({where}kernel {info.kernel}), {plugins}")
    return [found, *_limits(info), _image_store(info), _cgroup(info)]


def _limits(info: EngineInfo) -> list[DoctorFinding]:
    try:
        engine.check_strength(info)
    except UsageError as error:
        return [DoctorFinding("limits", "missing", ", ".join(info.unlimited), advice=str(error), blocks=True)]
    return []


def _image_store(info: EngineInfo) -> DoctorFinding:
    if info.containerd_image_store:
        return DoctorFinding("image store", "ok", "containerd")
    advice = "only `images -- --check-reproducible` needs the other one: docs/images.md says how to switch"
    return DoctorFinding("image store", "differs", f"the older one ({info.storage_driver})", "containerd", advice)


def _cgroup(info: EngineInfo) -> DoctorFinding:
    found = f"version {info.cgroup_version}, driver {info.cgroup_driver}"
    if info.cgroup_version == 2:  # noqa: PLR2004 - the version
        return DoctorFinding("cgroup", "ok", found)
    advice = "nothing to do: cgroup figures are an extra, and records say which kind they come from (docs/telemetry.md)"
    return DoctorFinding("cgroup", "differs", found, "version 2", advice)


def _architecture(info: EngineInfo) -> DoctorFinding:
    found = f"{info.arch}, {info.cpus} processors"
    if info.arch in bases.ARCHITECTURES:
        return DoctorFinding("architecture", "ok", found)
    advice = "the images are known to build on these only; take another machine"
    return DoctorFinding("architecture", "differs", found, " or ".join(bases.ARCHITECTURES), advice, blocks=True)


def _processor() -> DoctorFinding:
    flags = cpu_flags()
    if flags is None:
        found = f"{platform.processor() or platform.machine()}; features are not told by this system"
        return DoctorFinding("processor", "unknown", found)
    notable = [name for name in ("avx2", "avx512f", "amx_tile", "f16c", "fma", "asimd", "sve") if name in flags]
    # No features are pinned: another processor may sample other tokens, and records carry what they were made on.
    return DoctorFinding("processor", "ok", f"{cpu_model()}: {' '.join(notable) or 'no vector extensions'}")


def _memory(info: EngineInfo) -> DoctorFinding:
    found = f"{info.memory_bytes / _GIB:.1f} GiB for containers"
    if info.memory_bytes >= MEMORY_WISHED_BYTES:
        return DoctorFinding("memory", "ok", found)
    return DoctorFinding(
        "memory",
        "differs",
        found,
        f"{MEMORY_WISHED_BYTES // _GIB} GiB, or {MEMORY_LEAST_BYTES // _GIB} GiB for the bundled model",
        "give the engine more (Docker Desktop: Settings, Resources; `colima start --memory 8`), or choose a smaller "
        "model",
        blocks=info.memory_bytes < MEMORY_LEAST_BYTES,
    )


def _disks() -> list[DoctorFinding]:
    folder = place.datasets()
    places = {"disk, records": folder if folder.exists() else folder.absolute().parent}
    ended = engine.run(["docker", "info", "--format", "{{.DockerRootDir}}"], check=False)
    data = Path(ended.stdout.strip() or "/nonexistent")
    if data.exists():  # on macOS it lies in the engine's own machine
        places["disk, engine"] = data
    return [_disk(name, place) for name, place in places.items()]


def _disk(name: str, place: Path) -> DoctorFinding:
    free = shutil.disk_usage(place).free
    found = f"{free / _GIB:.1f} GiB free in {place}"
    if free >= DISK_WISHED_BYTES:
        return DoctorFinding(name, "ok", found)
    advice = "make room; `docker builder prune` empties the engine's build cache"
    return DoctorFinding(
        name, "differs", found, f"{DISK_WISHED_BYTES // _GIB} GiB", advice, blocks=free < DISK_LEAST_BYTES
    )


def _checkout(folder: Path) -> DoctorFinding:
    if not folders.without_modes(folder):
        return DoctorFinding("files", "ok", str(folder))
    found = f"{folder} is on a drive of Windows, where files have no modes of their own"
    advice = "clone into the Linux file system, such as ~: testdata/ cannot be the fixture here, and all is slow"
    return DoctorFinding("files", "differs", found, advice=advice)


def _python() -> DoctorFinding:
    locked = (compose.ROOT / "requirements/host.txt").read_text(encoding="utf-8")
    wanted = dict(re.findall(r"^([\w.-]+)==(\S+)", locked, flags=re.MULTILINE))
    here = {name: version for name in wanted if (version := _version(name)) is not None}
    other = [f"{name} {version} ({wanted[name]})" for name, version in here.items() if version != wanted[name]]
    found = f"{platform.python_version()}, {len(here) - len(other)} packages as locked"
    if not other:
        return DoctorFinding("python", "ok", found)
    advice = "nothing, unless something fails: `scripts/nox` in a checkout uses an environment with the locked ones"
    return DoctorFinding("python", "differs", f"{found}; others: {', '.join(other)}", "requirements/host.txt", advice)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _records_folder() -> DoctorFinding:
    folder = place.datasets()
    if os.access(folder if folder.exists() else folder.absolute().parent, os.W_OK):
        return DoctorFinding("records folder", "ok", str(folder))
    advice = "use a checkout of your own, or name a file with `collect -- --output`"
    return DoctorFinding("records folder", "differs", f"{folder} is not writable", advice=advice)


def _fixture() -> DoctorFinding:
    name = f"fixture {_FIXTURE}"
    try:
        here, released = fixture_version(_FIXTURE), released_version(_FIXTURE)
    except FixtureError as error:
        return DoctorFinding(name, "missing", str(error), advice="restore agenttrace/fixture", blocks=True)
    if here == released:
        return DoctorFinding(name, "ok", here)
    advice = "records of this checkout name another tree than the released one: restore agenttrace/fixture"
    return DoctorFinding(name, "differs", here, released, advice)


def _bundled() -> DoctorFinding:
    pin = pins.model_pin(pins.DEFAULT_MODEL)
    file, advice = pins.BUNDLED / pin.artifact, "restore it with git: it is refused as it is"
    try:
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
    except FileNotFoundError:
        return DoctorFinding("bundled model", "missing", str(file), pin.sha256, advice)
    except OSError as error:
        return DoctorFinding("bundled model", "differs", str(error), pin.sha256, advice)
    if digest != pin.sha256:
        return DoctorFinding("bundled model", "differs", digest, pin.sha256, advice)
    return DoctorFinding("bundled model", "ok", digest)


def _task_file(source: SourceFile) -> DoctorFinding:
    name = f"tasks {source.path.rpartition('/')[2]}"
    try:
        path = sources.folder() / source.path
        digest = hashlib.sha256(content(path, most=source.bytes)).hexdigest() if path.exists() else None
    except (AgentTraceError, OSError) as error:
        advice = f"make it readable, or name another folder in {sources.MIRROR}"
        return DoctorFinding(name, "differs", str(error), source.sha256, advice)
    if digest is None:
        advice = f"put it there: it comes from {source.url}" if sources.mirror() else "nothing: first use downloads it"
        return DoctorFinding(name, "missing", str(path), source.sha256, advice)
    if digest == source.sha256:
        return DoctorFinding(name, "ok", str(path))
    advice = f"remove or replace {path}: as it is, it is refused"
    return DoctorFinding(name, "differs", f"SHA-256 {digest}", source.sha256, advice)


def _base() -> DoctorFinding:
    reference = bases.pinned("BASE")
    if bases.have(reference):
        return DoctorFinding("base", "ok", f"{reference} is here")
    if local := bases.local_bases():
        advice = "where the registry answers, new builds take the pinned one; records say which it was"
        return DoctorFinding("base", "differs", f"{local[0]} (mmdebstrap)", reference, advice)
    return DoctorFinding("base", "missing", "not here yet", reference, "nothing: first use brings it")


def _image(target: str) -> DoctorFinding:
    name, state = f"image {target}", images.state(target)
    if state is None:
        return DoctorFinding(name, "missing", images.name(target), advice="nothing: built when it is first used")
    built_from, environment_digest = state
    if built_from != (fingerprint := images.fingerprint(target)):
        found = f"{images.name(target)} was built from other files"
        advice = f"nothing: built again when it is next used ({command('images')} does it now)"
        return DoctorFinding(name, "differs", found, f"fingerprint {fingerprint}", advice)
    return DoctorFinding(name, "ok", f"{images.name(target)}, environment {environment_digest}")


def volume_findings() -> list[DoctorFinding]:
    """The volume of weights: which pinned ones are in it, by name and size; `fetch` compares digests before use."""
    volume = compose.models_volume()
    if engine.run(["docker", "volume", "inspect", volume], check=False).returncode != 0:
        return [DoctorFinding("weights", "missing", f"no volume {volume}", advice="nothing: made when first used")]
    if not bases.have(images.name("collector")):
        return [DoctorFinding("weights", "unknown", f"volume {volume}; without images it cannot be read")]
    argv = ["docker", "run", "--rm", "--label", bases.PROJECT_LABEL, "--network", "none", "--read-only"]
    argv += ["--volume", f"{volume}:/models:ro", "--entrypoint", "stat", images.name("collector")]
    every = [pins.model_pin(name) for name in pins.model_names()]
    ended = engine.run(
        [*argv, "--format", "%s %n", *(f"/models/{pins.stored_name(pin)}" for pin in every)], check=False
    )
    lines = (line.partition(" ") for line in ended.stdout.splitlines())
    sizes = {path.removeprefix("/models/"): int(size) for size, _, path in lines}
    return [_weights(pin, sizes.get(pins.stored_name(pin)), volume) for pin in every]


def _weights(pin: ModelPin, size: int | None, volume: str) -> DoctorFinding:
    name = f"weights {pin.name}"
    if size is None:
        return DoctorFinding(name, "missing", f"not in {volume}", pin.sha256, "nothing: fetched when first used")
    if size != pin.bytes:
        advice = "nothing: set aside and fetched anew when next used"
        return DoctorFinding(name, "differs", f"{size} bytes", f"{pin.bytes} bytes", advice)
    return DoctorFinding(name, "ok", f"{pin.bytes} bytes in {volume}")


def settings_findings(environ: Mapping[str, str] = os.environ) -> list[DoctorFinding]:
    """Proxy and certificates by the names of their variables: the values may hold a password and are not shown."""
    named = [name for name in _PROXIES if environ.get(name)]
    found = f"set: {', '.join(named)}" if named else "none set"
    return [DoctorFinding("proxy", "ok", found), _certificates(environ)]


def _certificates(environ: Mapping[str, str]) -> DoctorFinding:
    advice = "name a file of PEM certificates in AGENTTRACE_CA_BUNDLE, or unset it"
    try:
        bundle = bases.ca_bundle(environ)
        if bundle is None:
            found = "no bundle on this machine: image builds then check the archive's signature alone"
            return DoctorFinding("certificates", "ok", found)
        count = bundle.read_bytes().count(b"-----BEGIN CERTIFICATE-----")
    except (UsageError, OSError) as error:
        return DoctorFinding("certificates", "missing", str(error), advice=advice, blocks=True)
    if not count:
        found = f"{bundle} holds no certificate"
        return DoctorFinding("certificates", "differs", found, "PEM", advice)
    return DoctorFinding("certificates", "ok", f"{count} in {bundle}")


def _registry() -> DoctorFinding:
    started = time.monotonic()
    reference = bases.pinned("BASE")
    if reason := bases.registry_refusal(reference):
        advice = "images are built on a base from this machine's own Debian mirror instead (needs mmdebstrap)"
        return DoctorFinding("registry", "missing", reason, reference, advice)
    return DoctorFinding("registry", "ok", f"has the pinned base ({time.monotonic() - started:.1f} s)")


def _package_index() -> DoctorFinding:
    """Whether the package index that pip uses answers; one that somebody set is not named."""
    settings = weights.pip_settings(os.environ)
    asked = index.indexes(settings)
    if not asked:
        return DoctorFinding("package index", "ok", "pip uses folders of this machine alone")
    advice = "set PIP_INDEX_URL to one that answers, or put the wheels into a folder and name that in PIP_FIND_LINKS"
    shown = asked[0] if asked[0] == index.DEFAULT_INDEX else "the one that pip is set to"
    return answer("package index", f"{asked[0].rstrip('/')}/", advice, shown=shown)


def answer(name: str, url: str, advice: str, timeout_s: float = ANSWER_S, *, shown: str | None = None) -> DoctorFinding:
    """Whether an address answers at all; a refusal by the server is an answer, too.

    Args:
        name: of the finding.
        url: an http or https address.
        advice: what to do when it does not answer.
        timeout_s: how long to wait.
        shown: what is said instead of the address.
    """
    import http.client  # noqa: PLC0415 - only when asked
    import urllib.error  # noqa: PLC0415
    import urllib.request  # noqa: PLC0415

    started = time.monotonic()
    shown = shown or re.sub(r"//[^/]*@", "//…@", url)  # a password
    if not url.startswith(("http://", "https://")):
        return DoctorFinding(name, "missing", f"{shown!r} is no web address", advice=advice)
    try:
        request = urllib.request.Request(url, method="HEAD", headers={"User-Agent": "agenttrace-doctor"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=timeout_s) as response:  # noqa: S310 - checked above
            status = response.status
    except urllib.error.HTTPError as error:
        status = error.code
        error.close()
    except (OSError, ValueError, http.client.HTTPException) as error:
        found = f"{shown}: {type(error).__name__}" if shown != url else f"{url}: {error}"
        return DoctorFinding(name, "missing", found, advice=advice)
    took = time.monotonic() - started
    return DoctorFinding(name, "ok", f"{shown} answers ({status}, {took:.1f} s)")
