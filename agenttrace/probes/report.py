"""What a battery showed: a table of every probe by name, a file, an exit status."""

from __future__ import annotations

import platform
import re
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import msgspec

from agenttrace.errors import UsageError
from agenttrace.host import engine, images, workers
from agenttrace.probes.attack import Result, Verdict, attack
from agenttrace.probes.battery import battery
from agenttrace.probes.labs import ComposeLab, SocketLab, policy_of
from agenttrace.sandbox.policies import policies
from agenttrace.sandbox.strength import shortfalls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from agenttrace.probes.battery import Probe

_STYLES: dict[Verdict, str] = {
    "held": "green",
    "GOT THROUGH": "bold red",
    "unclear": "bold red",
    "not applicable": "dim",
}
FAILURES = frozenset({"GOT THROUGH", "unclear"})
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


class BatteryOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """One run of the battery.

    Attributes:
        environment_digests: of the images that were attacked.
        kernel: of the engine's machine.
        engine_version: of the Docker engine; `None` where workers of others were attacked.
        duration_ms: all of it, without the building of images.
        results: one per probe and policy.
        shortfalls: in what the workers say that they fall short of docker-compose.yml, where they are others'.
    """

    environment_digests: dict[str, str]
    kernel: str
    engine_version: str | None
    duration_ms: int
    results: tuple[Result, ...]
    shortfalls: tuple[str, ...] = ()

    @property
    def exit_code(self) -> int:
        """0 when nothing got through and everything was really tried."""
        return 1 if any(result.verdict in FAILURES for result in self.results) else 0


def probe_sandbox(
    *,
    only: Sequence[str] = (),
    named: str | None = None,
    variables: dict[str, str] | None = None,
    override: Path | None = None,
) -> BatteryOutcome:
    """Attack the sandbox with every probe and return what came out; progress goes to the terminal.

    Args:
        only: policies; all when empty.
        named: pattern that a probe's name must contain.
        variables: what docker-compose.yml is filled with instead of the kit's own images.
        override: compose file laid over the services.

    Raises:
        UsageError: no probe is left, or the engine cannot be used.
    """
    chosen = [name for name in policies() if not only or name in only]
    info = engine.check()
    probes = _named(battery(info.arch), named)
    targets = [policies()[name].target for name in chosen]
    built = images.build(targets=targets)
    results: list[Result] = []
    with workers.sandbox_project("probes", targets) as (project, env), _progress(len(probes) * len(chosen)) as add:
        for policy in chosen:
            lab = ComposeLab(project, {**env, **(variables or {})}, policy, override)
            results += attack(probes, policy, lab, report=add)
    return BatteryOutcome(
        environment_digests=dict(built.environment_digests),
        kernel=info.kernel,
        engine_version=info.version,
        duration_ms=sum(result.duration_ms for result in results),
        results=tuple(results),
    )


def probe_sockets(folder: Path, *, policy: str | None = None, named: str | None = None) -> BatteryOutcome:
    """Attack whichever workers listen in a folder, all taken to be alike; progress goes to the terminal.

    Args:
        folder: with their sockets, on the machine that they run on.
        policy: that they must have; theirs when `None`.
        named: pattern that a probe's name must contain.

    Raises:
        UsageError: no probe is left, the workers have another policy, or no container keeps them apart from others.
        WorkerLostError: there is no worker.
    """
    probes = _named(battery(_ARCHITECTURES.get(platform.machine(), platform.machine())), named)
    lab = SocketLab(folder)
    try:
        info = lab.worker.info
        found = policy_of(lab.worker, policy)
        with _progress(len(probes)) as add:
            results = attack(probes, found, lab, report=add)
    finally:
        lab.close()
    return BatteryOutcome(
        environment_digests={policies()[found].target: info.environment_digest} if info.environment_digest else {},
        kernel=platform.release(),
        engine_version=None,
        duration_ms=sum(result.duration_ms for result in results),
        results=tuple(results),
        shortfalls=tuple(shortfalls(info)),
    )


def _named(probes: Sequence[Probe], pattern: str | None) -> list[Probe]:
    if found := [probe for probe in probes if re.search(pattern or "", probe.name)]:
        return found
    raise UsageError(f"no probe's name contains {pattern!r}; `-k` takes a part of a name or a pattern")


@contextmanager
def _progress(total: int) -> Iterator[Callable[[Result], None]]:
    """Yield what counts one more; what gets through is told at once."""
    from rich.console import Console  # noqa: PLC0415 - heavy
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn  # noqa: PLC0415

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    progress = Progress(*columns, console=Console(stderr=True), transient=True)
    bar = progress.add_task("probing", total=total)

    def add(result: Result) -> None:
        progress.update(bar, advance=1, description=f"{result.policy} {result.name}")
        if result.verdict in FAILURES:
            told = f"{result.verdict}: {result.policy} {result.name}"
            progress.console.print(told, style="bold red", markup=False)

    with progress:
        yield add


def show(outcome: BatteryOutcome) -> None:
    """Print every probe with its verdict, and a summary."""
    from rich.console import Console  # noqa: PLC0415 - heavy
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    console = Console(file=sys.stdout)
    failed = outcome.exit_code != 0
    table = Table(title="probes of the sandbox", border_style="red" if failed else "green", title_justify="left")
    for column in ("policy", "probe", "verdict"):
        table.add_column(column, no_wrap=True)
    table.add_column("what the sandbox said", overflow="fold")
    for result in outcome.results:
        verdict = Text(result.verdict, style=_STYLES[result.verdict])
        table.add_row(result.policy, result.name, verdict, Text(result.evidence[:160]))
    console.print(table)
    for policy in dict.fromkeys(result.policy for result in outcome.results):
        console.print(Text(summary(outcome, policy), style="bold red" if failed else "green"))
    for one in outcome.shortfalls:
        console.print(Text(f"weaker than docker-compose.yml: {one}", style="yellow"))


def summary(outcome: BatteryOutcome, policy: str) -> str:
    """How many probes of a policy ended how, in one line."""
    verdicts = [result.verdict for result in outcome.results if result.policy == policy]
    counted = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in _STYLES)
    return f"{policy}: {len(verdicts)} probes: {counted}"
