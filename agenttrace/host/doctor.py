"""One page on what this machine has, what is pinned, what differs, and what to do about it; changes nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agenttrace.host.findings import DoctorFinding


def exit_code(found: Sequence[DoctorFinding]) -> int:
    """1 when a campaign could not run here, else 0."""
    return 1 if any(finding.blocks for finding in found) else 0


def as_json(found: Sequence[DoctorFinding]) -> dict[str, object]:
    """The same page for programs."""
    return {"can_run": exit_code(found) == 0, "findings": msgspec.to_builtins(list(found))}


def show(found: Sequence[DoctorFinding]) -> None:
    """Print the page; a piece of advice stands under the line that it is for."""
    from rich.console import Console  # noqa: PLC0415 - heavy
    from rich.text import Text  # noqa: PLC0415

    colours = {"ok": "green", "differs": "yellow", "missing": "red", "unknown": "cyan"}
    out = Console(highlight=False, soft_wrap=True)
    width = max(len(finding.name) for finding in found)
    for finding in found:
        line = Text(f"{finding.name:<{width}}  ")
        line.append(f"{finding.state:<8}", style=colours[finding.state])
        line.append(f" {finding.found}")
        out.print(line)
        if finding.pinned and finding.state != "ok":
            out.print(Text(f"{'':<{width}}           pinned: {finding.pinned}", style="dim"))
        if finding.advice:
            must = "needed for any campaign: " if finding.blocks else ""
            out.print(Text(f"{'':<{width}}           → {must}{finding.advice}"))
    blocked = sum(finding.blocks for finding in found)
    out.print(f"a campaign cannot run here: {blocked} to mend" if blocked else "a campaign can run here")
