"""Run probes in real workers and judge what they answered; `labs` says which workers."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Literal, Protocol

import msgspec

from agenttrace.errors import UsageError, WorkerLostError
from agenttrace.sandbox.client import KEEP_BYTES
from agenttrace.sandbox.strength import AmongOthersError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from agenttrace.probes.battery import Probe
    from agenttrace.sandbox.client import Worker
    from agenttrace.sandbox.reports import CallReport

Verdict = Literal["held", "GOT THROUGH", "unclear", "not applicable"]
FIXTURE = "demo"
_EVIDENCE_CHARS = 300


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What came out of one probe in one policy.

    Attributes:
        name: of the probe.
        policy: where it was tried.
        verdict: `held`; `GOT THROUGH`; `unclear` when nothing shows that the attack was even tried, which is as bad;
            `not applicable` when this policy has no such way in.
        evidence: what the sandbox said, or why the probe does not apply; escaped.
        duration_ms: time for the probe and for bringing the worker back.
    """

    name: str
    policy: str
    verdict: Verdict
    evidence: str
    duration_ms: int


class Lab(Protocol):
    """Where the workers of one policy come from."""

    @property
    def worker(self) -> Worker:
        """A living worker, the same until `close`."""

    def close(self) -> None:
        """Let the worker go; the next use gets another."""

    def plant(self) -> None:
        """Place what a reset must not touch, beside the work tree of the worker."""

    def is_untouched(self) -> bool:
        """Whether it is still there as it was."""


def attack(
    probes: Sequence[Probe], policy: str, lab: Lab, *, report: Callable[[Result], None] = lambda _: None
) -> list[Result]:
    """Results of these probes in one policy, in their order.

    Args:
        probes: those that do not apply get a result as well.
        policy: name of the policy.
        lab: gives workers of it; no longer used afterwards.
        report: gets each result as it comes.
    """
    results = []
    try:
        for probe in probes:
            results.append(_one(probe, policy, lab))
            report(results[-1])
    finally:
        lab.close()
    return results


def _one(probe: Probe, policy: str, lab: Lab) -> Result:
    start_ns = time.monotonic_ns()
    if policy in probe.not_applicable:
        verdict: Verdict = "not applicable"
        evidence = probe.not_applicable[policy]
    else:
        verdict, evidence = _tried(probe, lab)
    took_ms = (time.monotonic_ns() - start_ns) // 1_000_000
    return Result(name=probe.name, policy=policy, verdict=verdict, evidence=evidence, duration_ms=took_ms)


def _tried(probe: Probe, lab: Lab) -> tuple[Verdict, str]:
    """Verdict and evidence of a probe that applies; the worker is fit for the next one afterwards."""
    lab.worker.reset(FIXTURE)
    if probe.canaries:
        lab.plant()
    try:
        reports = list(_calls(probe, lab))
        verdict, evidence = judge(probe, reports)
        if any(report.status == "oom" for report in reports):
            lab.close()  # as in a campaign: a worker that saw an OOM kill is replaced
        lab.worker.reset(FIXTURE)
        alive = lab.worker.call("bash", "echo alive", limit_ms=10_000)
        if (alive.stdout.text or "").strip() != "alive":
            return "GOT THROUGH", f"the next task's shell said {shown(alive)}"
    except AmongOthersError:
        raise
    except UsageError as error:
        return ("held", str(error)) if re.search(probe.refused, str(error), re.MULTILINE) else ("unclear", str(error))
    except WorkerLostError as error:
        lab.close()
        return "GOT THROUGH", f"the worker was lost: {error}"
    if probe.canaries and not lab.is_untouched():
        return "GOT THROUGH", "the reset touched files outside the work tree"
    return verdict, evidence


def _calls(probe: Probe, lab: Lab) -> Iterator[CallReport]:
    yield lab.worker.call(probe.kind, probe.command, limit_ms=probe.limit_ms)
    if probe.then is not None:
        if probe.reset:
            lab.worker.reset(FIXTURE)
        yield lab.worker.call("bash", probe.then, limit_ms=probe.limit_ms)


def judge(probe: Probe, reports: Sequence[CallReport]) -> tuple[Verdict, str]:
    """Verdict on what the calls of a probe reported, and the part of it that shows it."""
    first, last = reports[0], reports[-1]
    said = shown(last)
    if found := re.search(probe.breach, said, re.MULTILINE):
        return "GOT THROUGH", _cut(said, found.start())
    if any(stream.bytes_kept > KEEP_BYTES for report in reports for stream in (report.stdout, report.stderr)):
        return "GOT THROUGH", "more output was kept than asked for"
    if first.status not in probe.ends:
        return "GOT THROUGH", f"the call ended with {first.status}, not with {' or '.join(probe.ends)}: {_cut(said)}"
    if probe.planted is not None and not re.search(probe.planted, shown(first), re.MULTILINE):
        return "unclear", f"the first call did not do its part: {_cut(shown(first))}"
    if found := re.search(probe.refused, said, re.MULTILINE):
        return "held", _cut(said, found.start())
    return "unclear", f"nothing shows that it was tried: {_cut(said)}"


def shown(report: CallReport) -> str:
    """How a call ended and what it wrote, without anything that a terminal would obey."""
    text = f"{report.stdout.text}{report.stderr.text}[status {report.status}, exit code {report.exit_code}]"
    return "".join(char if char.isprintable() or char == "\n" else f"\\x{ord(char):02x}" for char in text)


def _cut(text: str, start: int = 0) -> str:
    """Some characters from the line in which `start` lies."""
    begin = text.rfind("\n", 0, start) + 1
    part = text[begin : begin + _EVIDENCE_CHARS].strip()
    return " | ".join(part.splitlines())
