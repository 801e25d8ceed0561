"""What a campaign runs on: as it is observed here, and where that differs from what a run spec names.

Observations are kept apart from metadata and never compared byte for byte.
"""

from __future__ import annotations

import json
import os
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from agenttrace.errors import UsageError
from agenttrace.records import RunSpec, digest
from agenttrace.records.compare import Difference, record_differences
from agenttrace.serving.profiles import NOT_REPORTED

if TYPE_CHECKING:
    from agenttrace.sandbox.client import Worker
    from agenttrace.sandbox.reports import WorkerInfo
    from agenttrace.serving.endpoint import ServerFacts

IMAGE_DIR = Path("/etc/agenttrace")
"""Where the collector's image keeps what the images consist of."""
_NAMES = {
    "images.server": "the image of the model server",
    "images.sandbox": "the image of the sandbox",
    "images.collector": "the image of the collector",
    "model.sha256": "the weights",
    "model.bytes": "the weights",
    "model.chat_template_sha256": "the chat template",
    "dataset.sha256": "the task file",
    "sandbox.fixture_version": "the fixture",
}
_SHOWN = 12
Entries = dict[str, dict[str, Any]]


def image_digests() -> dict[str, str]:
    """Return the environment digest of each image; empty outside the collector image."""
    return {
        path.stem: path.read_text(encoding="ascii").split()[0]
        for path in sorted((IMAGE_DIR / "images").glob("*.sha256"))
    }


def observe(worker: WorkerInfo) -> dict[str, Any]:
    """Return the `environment` of the traces of one session, but for what tells of the model server.

    Holds no host name, user name, path or address. `host` is what the host side saw (engine, checkout), passed in as
    JSON in `AGENTTRACE_HOST`.
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
            "cpu_flags_sha256": None if (flags := cpu_flags()) is None else digest(flags),
            "cpu_count_logical": psutil.cpu_count(),
            "memory_total_bytes": psutil.virtual_memory().total,
        },
        "base_origin": next((line.strip() for line in _lines(IMAGE_DIR / "base-origin")), None),
        "host": json.loads(os.environ.get("AGENTTRACE_HOST") or "{}"),
        # Without what it says of its confinement, which would name folders of a host that runs it in no container.
        "worker_reported": msgspec.to_builtins(msgspec.structs.replace(worker, confinement=None)),
    }


def said_of_server(facts: ServerFacts, checks: dict[str, str]) -> dict[str, Any]:
    """Return what the `environment` of a trace tells of its model server.

    `server_checks` says, per item, whether the server reported what the run spec names.
    """
    return {
        "server_reported": {
            name: NOT_REPORTED if value is None else value
            for name, value in msgspec.to_builtins(facts).items()
            if name != "can_switch_thinking"  # it is only asked for
        },
        "server_checks": checks,
    }


def _lines(path: Path) -> list[str]:
    """Return the lines of a file; none where it cannot be read, as outside the collector's image."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []


def _cpuinfo(key: str) -> str | None:
    pairs = (line.partition(":") for line in _lines(Path("/proc/cpuinfo")))
    return next((value.strip() for name, _, value in pairs if name.strip() == key), None)


def cpu_model() -> str:
    """Return the processor's name, or its architecture where the system tells none."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def cpu_flags() -> list[str] | None:
    """Return the processor's features in the kernel's words, sorted; `None` where the system does not tell."""
    flags = _cpuinfo("flags") or _cpuinfo("Features")
    return None if flags is None else sorted(flags.split())


class RecordedFacts(msgspec.Struct):
    """What a cassette holds of `replay_facts`; `None` where it says nothing."""

    fixture: Entries | None = None
    sandbox: list[str] | None = None


def input_differences(recorded: RunSpec, here: RunSpec) -> list[Difference]:
    """Return every field in which two run specs differ, inputs called by their names; the run id is no input."""
    return spec_differences(recorded, msgspec.structs.replace(here, run_id=recorded.run_id))


def spec_differences(recorded: RunSpec, here: RunSpec) -> list[Difference]:
    """Return every field in which two run specs differ, inputs called by their names."""
    found = record_differences(RunSpec, *(msgspec.json.encode(one, order="deterministic") for one in (recorded, here)))
    return [
        msgspec.structs.replace(one, field=f"{_NAMES[one.field]} ({one.field})") if one.field in _NAMES else one
        for one in found
    ]


def refuse_other_inputs(recorded: RunSpec, here: RunSpec, *, what: str) -> None:
    """Refuse to go on when an input is another one than the run spec names.

    Raises:
        UsageError: names every one with both values.
    """
    if found := input_differences(recorded, here):
        lines = "\n  ".join(map(str, found))
        raise UsageError(f"{what}: the inputs here are not those of its run spec (recorded / here):\n  {lines}")


def as_replayed(recorded: RunSpec, here: RunSpec) -> RunSpec:
    """Return the run spec here with everything that a replay does not depend on taken from the recorded one.

    That is what only serves or packs: images, weights, server and version of the kit. What shapes a request, a tool
    call or a verdict stays: fixture, task file, chat template, prompts, tool schemas, sampler, limits, schema.
    """
    template = here.model.chat_template_sha256
    return msgspec.structs.replace(
        here,
        images=recorded.images,
        collector_version=recorded.collector_version,
        serving=recorded.serving,
        model=msgspec.structs.replace(recorded.model, chat_template_sha256=template),
        schema_version=recorded.schema_version,
    )


def replay_facts(worker: Worker, spec: RunSpec) -> dict[str, Any]:
    """Return what a later replay needs to name what changed: every path of the fixture, every part of the sandbox.

    Args:
        worker: an idle worker; it is reset.
        spec: names the fixture.
    """
    entries: Entries = {}
    if spec.dataset.sampling is UNSET:  # else every task has a tree of its own, whose digest is in its metadata
        worker.reset(spec.sandbox.fixture, clock=spec.sandbox.clock)
        entries = {entry.path: msgspec.to_builtins(entry) for entry in worker.manifest()}
    return {"fixture": entries, "sandbox": _sandbox_parts()}


def _sandbox_parts() -> list[str]:
    """Return what the sandbox's image consists of, a line per package or file; empty outside the collector's image."""
    return [line for line in _lines(IMAGE_DIR / "images" / "sandbox.txt") if not line.startswith("architecture ")]


def changed_paths(recorded: Entries, here: Entries) -> dict[str, str]:
    """Return, by path of the fixture, what differs: what it was and what it is."""
    changed = {}
    for path in sorted({*recorded, *here}):
        was, is_ = recorded.get(path, {}), here.get(path, {})
        fields = [name for name in {**was, **is_} if was.get(name) != is_.get(name)]
        if not was or not is_:
            changed[path] = "only here" if is_ else "missing here"
        elif fields:
            changed[path] = ", ".join(f"{name} {was.get(name)} / {is_.get(name)}" for name in fields)
    return changed


def changed_parts(recorded: list[str], here: list[str]) -> list[str]:
    """Return one line per package or file of the sandbox's image that differs, or one that they cannot be compared."""
    if bool(recorded) != bool(here):  # one side was outside the collector's image, as the nodes of a cluster may be
        return [f"its packages and files: {'not known here' if recorded else 'not recorded'}, so not compared"]
    was, is_ = (dict(map(_part, lines)) for lines in (recorded, here))
    return [
        f"{name}: {was.get(name, 'not there')} / {is_.get(name, 'not there')}"
        for name in sorted({*was, *is_})
        if was.get(name) != is_.get(name)
    ]


def _part(line: str) -> tuple[str, str]:
    """Return name and state of a part: `deb NAME VERSION KIND`, `wheel NAME VERSION` or `file SHA256 PATH`."""
    kind, _, said = line.partition(" ")
    first, _, rest = said.partition(" ")
    if kind == "file":
        return f"file {rest}", first[:_SHOWN]
    return f"{kind} {first}", rest
