"""The tables and the JSON file of a check or a benchmark."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.table import Table

    from bench.sandbox.machine import Machine
    from bench.verdict import Finding, Row

_WIDTH = 150
_COLOURS = {"within": "green", "met": "green", "flagged": "cyan", "outside": "red", "missed": "red"}


def figure(value: float | None, name: str) -> str:
    """A telemetry figure for reading: times in ms, whole MiB as such, other sizes in bytes."""
    if value is None:
        return "none"
    if name.endswith("_ns"):
        return f"{value / 1e6:.1f} ms"
    if name.endswith(("_bytes", "_chars")):
        return f"{value / 2**20:.2f} MiB" if abs(value) >= 2**20 else f"{value:,.0f} B"
    return f"{value:,.0f}"


def print_findings(title: str, findings: Sequence[Finding]) -> None:
    """Print what was expected beside what was measured."""
    from rich.markup import escape  # noqa: PLC0415 - heavy
    from rich.table import Table  # noqa: PLC0415

    table = Table("load", "figure", "expected", "tolerance", "measured", "verdict", title=title, title_justify="left")
    load = ""
    for finding in findings:
        told = msgspec.to_builtins(finding.expectation)
        limit = told.get("tolerance")
        allowed = (
            f"> {figure(told.get('threshold'), finding.figure)}" if limit is None else figure(limit, finding.figure)
        )
        colour = _COLOURS[finding.verdict]
        measured = figure(finding.measured, finding.figure)
        table.add_row(
            "" if finding.load == load else escape(finding.load),
            finding.figure,
            figure(finding.expectation.expected, finding.figure),
            allowed if limit is None else f"± {allowed}",
            f"{measured} ({escape(finding.note)})" if finding.note else measured,
            f"[{colour}]{finding.verdict}[/]",
        )
        load = finding.load
    _print(table)


def print_rows(title: str, rows: Sequence[Row]) -> None:
    """Print what was measured beside its target and its alternative."""
    from rich.table import Table  # noqa: PLC0415 - heavy

    table = Table("what", "n", "median", "p95", "target", "verdict", "ratio", title=title, title_justify="left")
    group = ""
    for item in rows:
        if group and item.group != group:
            table.add_section()
        group = item.group
        colour = _COLOURS.get(item.verdict, "")
        table.add_row(
            item.name,
            str(item.count),
            _number(item.median, item.unit),
            "" if item.p95 is None or item.count == 1 else _number(item.p95, item.unit),
            "" if item.target is None else f"{item.judged} ≤ {_number(item.target, item.unit)}",
            f"[{colour}]{item.verdict}[/]" if colour else "",
            "" if item.ratio is None else f"{item.ratio:.1f} x {item.note}",
        )
    _print(table)


def _print(table: Table) -> None:
    """Print to the terminal's width, and wide enough for every column elsewhere."""
    from rich.console import Console  # noqa: PLC0415 - heavy

    console = Console()
    (console if console.is_terminal else Console(width=_WIDTH)).print(table)


def _number(value: float, unit: str) -> str:
    return f"{value:,.2f} {unit}" if unit else f"{value:,.0f}"


def machine_line(machine: Machine) -> str:
    """One line that says where the figures come from."""
    after = "" if machine.load_after is None else f", {machine.load_after} at the end"
    return (
        f"{machine.cpus} cores, {machine.memory_bytes / 2**30:.0f} GiB, kernel {machine.kernel}, "
        f"engine {machine.engine}, cgroup v{machine.cgroup_version}, storage {machine.storage_driver} "
        f"(work tree on {machine.work_filesystem}), load average {machine.load_before}{after}"
    )


def write_json(path: Path, machine: Machine, **tables: Sequence[Finding] | Sequence[Row]) -> None:
    """Write machine and tables to `path`; each row has its verdict beside its fields."""
    document = {
        "machine": msgspec.to_builtins(machine),
        **{
            name: [{**msgspec.to_builtins(item), "verdict": item.verdict} for item in table]
            for name, table in tables.items()
        },
    }
    path.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n")
