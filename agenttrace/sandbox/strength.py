"""Whether a worker is as confined as its policy's service in docker-compose.yml, by what it says of itself."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import msgspec

from agenttrace.errors import UsageError
from agenttrace.sandbox.policies import FILE, policies
from agenttrace.sandbox.runner import confinement

if TYPE_CHECKING:
    from agenttrace.sandbox.reports import WorkerInfo


ANY = "AGENTTRACE_ANY_SANDBOX"
"""Set to 1 where workers are taken that fall short, to try things out without containers."""


def shortfalls(info: WorkerInfo) -> list[str]:
    """Return in what a worker falls short of the policy that it names, a clause each; empty where in nothing.

    A worker is believed: it is a container that the user started, from an image of the kit. What it cannot see, a
    battery of probes shows (`agenttrace.probes`).
    """
    policy = policies().get(info.policy)
    if policy is None:
        return [f"its policy {info.policy!r} is none of {', '.join(policies())}"]
    found = [] if info.isolation == "uid" else ["its tools run as the user of the runner"]
    if info.policy_sha256 != hashlib.sha256(FILE.read_bytes()).hexdigest():
        found.append("its image has other policies than this version of the kit: build the images anew")
    said, limited, asked = (msgspec.to_builtins(one) for one in (info.confinement, info.limits, policy))
    return found + confinement.faults(said, limited, asked, info.work)


def refuse_short(info: WorkerInfo, policy: str) -> None:
    """Refuse a worker that has another policy, or falls short of it, unless `ANY` lets the latter pass.

    Raises:
        UsageError: says in what, and what to do.
    """
    if info.policy != policy:
        raise UsageError(f"the sandbox workers here have the policy {info.policy}, the tasks need {policy}")
    if os.environ.get(ANY) != "1" and (found := shortfalls(info)):
        raise UsageError(
            f"a sandbox worker here is weaker than docker-compose.yml makes it: {'; '.join(found)}. Start it with "
            f"--enclose (docs/sandbox.md#outside-compose); {ANY}=1 takes it all the same, to try things out"
        )


class AmongOthersError(UsageError):
    """A worker must not be attacked, because that would be an attack on what is beside it."""


def refuse_among_others(info: WorkerInfo) -> None:
    """Refuse to attack a worker that no container keeps apart from others, unless `ANY` lets it pass.

    Probes fill what can be written to, start processes without end and remove files.

    Raises:
        AmongOthersError: it sees processes of others, or cannot say.
    """
    said = info.confinement
    if os.environ.get(ANY) == "1" or (said is not None and not said.other_processes):
        return
    seen = "does not say what it sees" if said is None else f"sees {said.other_processes} processes of others"
    raise AmongOthersError(
        f"the worker is in no container of its own (it {seen}): probes fill disks, start processes without end and "
        "remove files, and would do that to this machine; start it in one (docs/sandbox.md#outside-compose). "
        f"{ANY}=1 attacks it all the same"
    )
