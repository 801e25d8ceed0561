"""What is observed of the machine a campaign ran on: kept apart from metadata, never compared byte for byte."""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.records import digest
from agenttrace.serving.profiles import NOT_REPORTED

if TYPE_CHECKING:
    from agenttrace.sandbox.reports import WorkerInfo
    from agenttrace.serving.endpoint import ServerFacts

IMAGE_DIR = Path("/etc/agenttrace")


def image_digests(folder: Path = IMAGE_DIR) -> dict[str, str]:
    """Return the environment digest of each image; empty outside the collector image."""
    return {
        path.stem: path.read_text(encoding="ascii").split()[0] for path in sorted((folder / "images").glob("*.sha256"))
    }


def observe(facts: ServerFacts, checks: dict[str, str], worker: WorkerInfo) -> dict[str, Any]:
    """Return the `environment` of the traces of one session.

    Holds no host name, user name, path or address. `server_checks` says, per item, whether the server reported what the
    run spec names. `host` is what the host side saw (engine, checkout), passed in as JSON in
    `AGENTTRACE_HOST`.
    """
    import psutil  # noqa: PLC0415 - needed only here

    return {
        "python_version": platform.python_version(),
        "platform": f"{platform.system()}-{platform.machine()}".lower(),
        "hardware": {
            "os": platform.system(),
            "os_release": platform.release(),
            "machine": platform.machine(),
            "cpu": cpu_model(),
            "cpu_flags_sha256": _cpu_flags_digest(),
            "cpu_count_logical": psutil.cpu_count(),
            "memory_total_bytes": psutil.virtual_memory().total,
        },
        "base_origin": _first_line(IMAGE_DIR / "base-origin"),
        "host": json.loads(os.environ.get("AGENTTRACE_HOST") or "{}"),
        "server_reported": {
            name: NOT_REPORTED if value is None else value for name, value in msgspec.to_builtins(facts).items()
        },
        "server_checks": checks,
        "worker_reported": msgspec.to_builtins(worker),
    }


def _cpuinfo(key: str) -> str | None:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None


def cpu_model() -> str:
    """Return the processor's name, or its architecture where the system tells none."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def cpu_flags() -> list[str] | None:
    """Return the processor's features in the kernel's words, sorted; `None` where the system does not tell."""
    flags = _cpuinfo("flags") or _cpuinfo("Features")
    return None if flags is None else sorted(flags.split())


def _cpu_flags_digest() -> str | None:
    flags = cpu_flags()
    return None if flags is None else digest(flags)


def _first_line(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
