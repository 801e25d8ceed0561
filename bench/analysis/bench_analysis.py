"""Measures the analysis beside the plain way: `nox -s bench-analysis`.

Each measurement is a process of its own, started from a small one (a child's peak memory starts at that of the process
that forks it), and says its peak resident set itself. The sides take turns on the same file.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any

_SPANS_PER_TRACE = 2.6
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024
_SPARE = 0.8


class Measured(NamedTuple):
    """Seconds, CPU seconds and peak resident bytes of one process, and what it made."""

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    result: Any


class Row(NamedTuple):
    """One line of the result: what, ours, the other side's, their ratio, the target and whether it is met."""

    what: str
    ours: str
    other: str
    ratio: str
    target: str
    met: bool | None


def make(path: str, spans: int, seed: int) -> int:
    """Write synthetic records with about this many spans; returns the number of traces."""
    from itertools import chain  # noqa: PLC0415

    from bench.synthetic.traces import Campaign, traces, write  # noqa: PLC0415

    tasks = max(1, round(spans / _SPANS_PER_TRACE / 4))
    campaigns = [
        Campaign(model=model, dataset=dataset, tasks=tasks, seed=seed)
        for model in ("synthetic-small", "synthetic-large")
        for dataset in ("mbpp", "nl2bash")
    ]
    return write(Path(path), chain.from_iterable(map(traces, campaigns)))


def ours(path: str) -> dict[str, int]:
    """Read the tables our way; returns their lengths."""
    from agenttrace.analysis.tables import load  # noqa: PLC0415

    tables = load([path])
    return {"runs": len(tables.runs), "steps": len(tables.steps), "spans": len(tables.spans)}


def plain(path: str) -> dict[str, int]:
    """Read the tables with `pandas.read_json` and dictionaries, the quickest plain way found.

    `pandas.json_normalize` in place of the dictionaries takes four times as long for the spans.
    """
    import pandas as pd  # noqa: PLC0415

    rows = pd.read_json(path, lines=True)
    runs = pd.DataFrame(
        [
            {"trace_id": trace_id, **metadata, **{key: outcome[key] for key in ("ended", "solved", "final_answer")}}
            for trace_id, metadata, outcome in zip(rows["trace_id"], rows["metadata"], rows["outcome"], strict=True)
        ]
    )
    steps = pd.DataFrame(
        [
            {"trace_id": trace_id, **step, **(step["timings"] or {})}
            for trace_id, steps in zip(rows["trace_id"], rows["llm_steps"], strict=True)
            for step in steps
        ]
    )
    spans = pd.DataFrame(
        [
            {"trace_id": trace_id, **span, **span["telemetry"]}
            for trace_id, spans in zip(rows["trace_id"], rows["spans"], strict=True)
            for span in spans
        ]
    )
    return {"runs": len(runs), "steps": len(steps), "spans": len(spans)}


def analysed(path: str) -> int:
    """Compute and render a whole analysis by model; returns the characters of its text."""
    from agenttrace.analysis.render import as_text  # noqa: PLC0415
    from agenttrace.analysis.sections import sections  # noqa: PLC0415
    from agenttrace.analysis.summary import report  # noqa: PLC0415
    from agenttrace.analysis.tables import load  # noqa: PLC0415

    return len(as_text(sections(report(load([path]), by="model"))))


def measured(work: Callable[..., Any], *arguments: Any) -> Measured:  # noqa: ANN401 - passed on
    """Run work in a fresh process, imports included.

    Raises:
        RuntimeError: the process ended without a result (killed for memory, an exception).
    """
    context = multiprocessing.get_context("spawn")
    ours_end, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_measure, args=(theirs, work, arguments))
    process.start()
    theirs.close()
    try:
        found = Measured(*ours_end.recv())
    except EOFError:
        process.join()
        raise RuntimeError(f"{work.__name__} ended with status {process.exitcode} and no result") from None
    process.join()
    return found


def _measure(pipe: Any, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:  # noqa: ANN401 - a connection
    started = time.perf_counter()
    result = work(*arguments)
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_SELF)
    pipe.send((seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * _RSS_UNIT, result))


def tables_rows(folder: Path, spans: int, rounds: int, seed: int) -> list[Row]:
    """Both sides on a tenth, in turns; then on the whole, the plain side if memory and swap are enough for it."""
    small, whole = str(folder / "tenth.jsonl"), str(folder / "whole.jsonl")
    measured(make, small, spans // 10, seed)
    left, right = [], []
    for _ in range(rounds):
        left.append(measured(ours, small))
        right.append(measured(plain, small))
    rows = _pair(left, right)
    Path(small).unlink()
    measured(make, whole, spans, seed)
    first = measured(ours, whole)
    need = 10 * max(one.peak_bytes for one in right)
    memory = psutil.virtual_memory().available
    have = memory + psutil.swap_memory().free
    if need < _SPARE * have:
        swapped = f"; pandas swaps: about {need >> 30} GiB in {memory >> 30}" if need > _SPARE * memory else ""
        return rows + _pair([first], [measured(plain, whole)], note=swapped)
    why = f"left out: needs about {need >> 30} GiB, {have >> 30} are free"
    name = _name(first.result)
    return [
        *rows,
        Row(f"{name}: time", f"{first.seconds:.1f} s", why, "", "", None),
        Row(f"{name}: CPU time", f"{first.cpu_seconds:.1f} s", why, "", "", None),
        Row(f"{name}: peak memory", f"{first.peak_bytes >> 20:,} MiB", why, "", "", None),
    ]


def _name(result: dict[str, int]) -> str:
    return f"{result['spans']:,} spans, {result['runs']:,} traces to tables"


def _pair(left: list[Measured], right: list[Measured], note: str = "") -> list[Row]:
    if left[0].result != right[0].result:
        raise RuntimeError(f"the sides disagree: {left[0].result} and {right[0].result}")
    name = _name(left[0].result) + note
    seconds = [statistics.median(one.seconds for one in side) for side in (left, right)]
    peaks = [max(one.peak_bytes for one in side) for side in (left, right)]
    speed, memory = seconds[1] / seconds[0], peaks[0] / peaks[1]
    cpu = [statistics.median(one.cpu_seconds for one in side) for side in (left, right)]
    return [
        Row(f"{name}: time", f"{seconds[0]:.1f} s", f"{seconds[1]:.1f} s", f"{speed:.1f} x", ">= 5 x", speed >= 5),  # noqa: PLR2004
        Row(f"{name}: CPU time", f"{cpu[0]:.1f} s", f"{cpu[1]:.1f} s", f"{cpu[1] / cpu[0]:.1f} x", "", None),
        Row(
            f"{name}: peak memory",
            f"{peaks[0] >> 20:,} MiB",
            f"{peaks[1] >> 20:,} MiB",
            f"{memory:.3f} x",
            "<= 0.25 x",
            memory <= 0.25,  # noqa: PLR2004
        ),
    ]


def analysis_rows(folder: Path, rounds: int, seed: int) -> list[Row]:
    """The full analysis of 1,400 traces, interpreter's imports included."""
    path = str(folder / "released-size.jsonl")
    measured(make_released, path, seed)
    found = [measured(analysed, path) for _ in range(rounds)]
    middle = statistics.median(one.seconds for one in found)
    cpu = statistics.median(one.cpu_seconds for one in found)
    name = "full analysis of 1,400 traces, imports included"
    return [
        Row(f"{name}: time", f"{middle:.2f} s", "", "", "< 3 s", middle < 3),  # noqa: PLR2004
        Row(f"{name}: CPU time", f"{cpu:.2f} s", "", "", "", None),
    ]


def make_released(path: str, seed: int) -> int:
    """Write 1,400 synthetic traces; returns their number."""
    from itertools import chain  # noqa: PLC0415

    from bench.synthetic.traces import released_size, traces, write  # noqa: PLC0415

    return write(Path(path), chain.from_iterable(map(traces, released_size(seed))))


def run(*, spans: int, rounds: int, seed: int, folder: Path | None = None, json_file: Path | None = None) -> int:
    """Measure, print a table of both sides and one of report pages, and return 0.

    Args:
        spans: of the whole file; the sides take turns on a tenth of it.
        rounds: turns of each side.
        seed: of the records.
        folder: where the records go while it runs; the system's folder for such files when `None`.
        json_file: gets all figures.
    """
    load = psutil.getloadavg()[0]
    with tempfile.TemporaryDirectory(dir=folder) as name:
        rows = tables_rows(Path(name), spans, rounds, seed)
        rows += analysis_rows(Path(name), rounds, seed)
    facts = f"{psutil.cpu_count()} cores, load average {load:.1f} at the start, {psutil.getloadavg()[0]:.1f} at the end"
    _print(facts, rows)
    figures = _print_report()
    if json_file is not None:
        data = {"machine": facts, "rows": [row._asdict() for row in rows], "report": figures}
        json_file.write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")
    return 0


def _print(facts: str, rows: list[Row]) -> None:
    table = [("what", "agenttrace", "pandas", "ratio", "target", "")]
    table += [(*row[:5], {True: "met", False: "missed", None: ""}[row.met]) for row in rows]
    print(facts)  # noqa: T201 - a command
    _print_columns(table)


def _print_report() -> list[dict[str, Any]]:
    """Measure and print pages of 1,400 traces; what it imports is kept out of the other measurements."""
    import msgspec  # noqa: PLC0415

    from bench.analysis import bench_report as pages  # noqa: PLC0415

    figures = pages.measure()
    print()  # noqa: T201 - a command
    _print_columns(list(pages.rows(figures)))
    return [msgspec.to_builtins(one) for one in figures]


def _print_columns(table: Sequence[tuple[str, ...]]) -> None:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())  # noqa: T201
