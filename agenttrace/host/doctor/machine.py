"""The machine itself: engine, processor, memory, disk, Python."""

from __future__ import annotations

import os
import platform
import re
import shutil
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from agenttrace.campaign.environment import cpu_flags, cpu_model
from agenttrace.errors import UsageError
from agenttrace.host import base as bases
from agenttrace.host import engine
from agenttrace.host.compose import ROOT

from .finding import Finding

if TYPE_CHECKING:
    from agenttrace.host.engine import EngineInfo

_GIB = 2**30
MEMORY_LEAST_BYTES = 2 * _GIB
"""Limits of one sandbox and the collector together (docker-compose.yml)."""
MEMORY_WISHED_BYTES = 6 * _GIB
"""With the largest pinned weights beside them."""
DISK_LEAST_BYTES = _GIB
DISK_WISHED_BYTES = 10 * _GIB
"""All images and BuildKit's cache of one build take about this much."""


def engine_findings() -> list[Finding]:
    """The engine with its plugins; blocks where one is missing or too old."""
    try:
        info = engine.check()
    except UsageError as error:
        return [Finding(name="engine", state="missing", found="no engine to work with", advice=str(error), blocks=True)]
    where = "Docker Desktop, " if info.docker_desktop else "rootless, " if info.rootless else ""
    plugins = f"{info.version} ({where}kernel {info.kernel}), buildx {info.buildx_version}, compose"
    store = (
        Finding(name="image store", state="ok", found="containerd")
        if info.containerd_image_store
        else Finding(
            name="image store",
            state="differs",
            found=f"the older one ({info.storage_driver})",
            pinned="containerd",
            advice="only `images -- --check-reproducible` needs the other one: docs/images.md says how to switch",
        )
    )
    return [Finding(name="engine", state="ok", found=f"{plugins} {info.compose_version}"), store, _cgroup(info)]


def _cgroup(info: EngineInfo) -> Finding:
    found = f"version {info.cgroup_version}, driver {info.cgroup_driver}"
    if info.cgroup_version == 2:  # noqa: PLR2004 - the version
        return Finding(name="cgroup", state="ok", found=found)
    advice = "nothing to do: cgroup figures are an extra, and records say which kind they come from (docs/telemetry.md)"
    return Finding(name="cgroup", state="differs", found=found, pinned="version 2", advice=advice)


def resource_findings(info: EngineInfo) -> list[Finding]:
    """What the engine's machine offers, a virtual one on macOS."""
    return [_architecture(info), _processor(), _memory(info), *_disks()]


def _architecture(info: EngineInfo) -> Finding:
    found = f"{info.arch}, {info.cpus} processors"
    if info.arch in bases.ARCHITECTURES:
        return Finding(name="architecture", state="ok", found=found)
    wanted = " or ".join(bases.ARCHITECTURES)
    advice = "the images are known to build on these only; take another machine"
    return Finding(name="architecture", state="differs", found=found, pinned=wanted, advice=advice, blocks=True)


def _processor() -> Finding:
    flags = cpu_flags()
    if flags is None:
        found = f"{platform.processor() or platform.machine()}; features are not told by this system"
        return Finding(name="processor", state="unknown", found=found)
    notable = [name for name in ("avx2", "avx512f", "amx_tile", "f16c", "fma", "asimd", "sve") if name in flags]
    # No features are pinned: another processor may sample other tokens, and records carry what they were made on.
    return Finding(name="processor", state="ok", found=f"{cpu_model()}: {' '.join(notable) or 'no vector extensions'}")


def _memory(info: EngineInfo) -> Finding:
    found = f"{info.memory_bytes / _GIB:.1f} GiB for containers"
    if info.memory_bytes >= MEMORY_WISHED_BYTES:
        return Finding(name="memory", state="ok", found=found)
    blocks = info.memory_bytes < MEMORY_LEAST_BYTES
    return Finding(
        name="memory",
        state="differs",
        found=found,
        pinned=f"{MEMORY_WISHED_BYTES // _GIB} GiB, or {MEMORY_LEAST_BYTES // _GIB} GiB for the bundled model",
        advice="give the engine more (Docker Desktop: Settings, Resources; `colima start --memory 8`), or choose a "
        "smaller model",
        blocks=blocks,
    )


def _disks() -> list[Finding]:
    places = {"disk, records": ROOT}
    ended = engine.run(["docker", "info", "--format", "{{.DockerRootDir}}"], check=False)
    data = Path(ended.stdout.strip() or "/nonexistent")
    if data.exists():  # on macOS it lies in the engine's own machine
        places["disk, engine"] = data
    return [_disk(name, place) for name, place in places.items()]


def _disk(name: str, place: Path) -> Finding:
    free = shutil.disk_usage(place).free
    found = f"{free / _GIB:.1f} GiB free in {place}"
    if free >= DISK_WISHED_BYTES:
        return Finding(name=name, state="ok", found=found)
    wanted = f"{DISK_WISHED_BYTES // _GIB} GiB"
    advice = "make room; `docker builder prune` empties the engine's build cache"
    return Finding(
        name=name, state="differs", found=found, pinned=wanted, advice=advice, blocks=free < DISK_LEAST_BYTES
    )


def host_findings() -> list[Finding]:
    """Python here, with the packages that the sessions lock, and the folder for records."""
    wanted = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements/host.txt").read_text(), flags=re.MULTILINE))
    here = {name: version for name in wanted if (version := _version(name)) is not None}
    other = [f"{name} {version} ({wanted[name]})" for name, version in here.items() if version != wanted[name]]
    python = f"{platform.python_version()}, {len(here) - len(other)} packages as locked"
    findings = [Finding(name="python", state="ok", found=python)]
    if other:
        advice = "scripts/nox uses an environment of its own with the locked ones"
        findings = [
            Finding(
                name="python",
                state="differs",
                found=f"{python}; others: {', '.join(other)}",
                pinned="requirements/host.txt",
                advice=advice,
            )
        ]
    return [*findings, _records_folder()]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _records_folder() -> Finding:
    folder = ROOT / "datasets"
    nearest = folder if folder.exists() else ROOT
    if os.access(nearest, os.W_OK):
        return Finding(name="records folder", state="ok", found=str(folder))
    advice = "use a checkout of your own, or name a file with `collect -- --output`"
    return Finding(name="records folder", state="differs", found=f"{folder} is not writable", advice=advice)
