"""Times a report of synthetic traces beside the plain way: every record as JSON in one page, a table row for each."""

from __future__ import annotations

import tempfile
import time
from html import escape
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING

from agenttrace.records import Record
from agenttrace.report.write import write_report
from agenttrace.store.read import read_traces
from bench.analysis import browser
from bench.synthetic import traces as synthetic

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from playwright.sync_api import Page

    from agenttrace.records import Trace

_MB = 1e6
_ROUNDS = 5
_READY = "body[data-ready]"


class Figures(Record, frozen=True, kw_only=True):
    """What was measured of one page; the times in the browser are medians of five, `None` without a browser.

    Attributes:
        write_s: record file to page on the disk.
        bytes: size of the page and its data files.
        first_view_s: opening the file to the list on the screen.
        search_s: typing what no trace holds, to the empty list, the first time (every text is unpacked).
        frame_ms: half of the frames were faster while the list was scrolled by 100 pixels a frame.
    """

    name: str
    traces: int
    write_s: float
    bytes: int
    first_view_s: float | None = None
    search_s: float | None = None
    frame_ms: float | None = None


def measure(count: int = 1400) -> list[Figures]:
    """Return the figures of our page and of the plain one, from the same records, in one run."""
    with tempfile.TemporaryDirectory(prefix="agenttrace-report-") as folder:
        records = Path(folder, "records.jsonl")
        synthetic.write(records, islice(_traces(), count))
        ours, plain = Path(folder, "report.html"), Path(folder, "plain.html")
        started = time.perf_counter()
        written = write_report([records], ours)
        ours_s = time.perf_counter() - started
        started = time.perf_counter()
        _write_plain(records, plain)
        plain_s = time.perf_counter() - started
        size = written.page_bytes + written.sidecar_bytes
        found = [
            Figures(name="report", traces=written.traces, write_s=ours_s, bytes=size),
            Figures(name="plain page", traces=written.traces, write_s=plain_s, bytes=plain.stat().st_size),
        ]
        return found if browser.missing() else _seen(found, ours, plain)


def rows(figures: Sequence[Figures]) -> Iterator[tuple[str, ...]]:
    """Yield the figures as rows of a table, the first one its head."""
    yield ("page", "traces", "written in", "size", "first view", "first search", "median frame, scrolling")
    for one in figures:
        yield (
            one.name,
            f"{one.traces:,}",
            f"{one.write_s:.2f} s",
            f"{one.bytes / _MB:.1f} MB",
            _or_dash(one.first_view_s, "s"),
            _or_dash(one.search_s, "s"),
            _or_dash(one.frame_ms, "ms"),
        )


def _or_dash(value: float | None, unit: str) -> str:
    return "not measured" if value is None else f"{value:.3g} {unit}"


def _traces() -> Iterator[Trace]:
    released = chain.from_iterable(map(synthetic.traces, synthetic.released_size()))
    more = (synthetic.Campaign(tasks=2500, dataset="mixed", seed=seed) for seed in range(100))
    return chain(released, chain.from_iterable(map(synthetic.traces, more)))


def _write_plain(records: Path, output: Path) -> None:
    with output.open("w", encoding="utf-8") as page:
        page.write('<!doctype html><meta charset="utf-8"><body><script type="application/json">[')
        page.write(",".join(records.read_text(encoding="utf-8").replace("<", "\\u003c").splitlines()))
        page.write("]</script><table>")
        for trace in read_traces(records):
            cells = (trace.trace_id, trace.prompt, trace.model, trace.outcome.ended, f"{trace.total_duration_ms:.1f}")
            page.write("<tr>" + "".join(f"<td>{escape(cell)}" for cell in cells))
        page.write(
            "</table><script>JSON.parse(document.querySelector('script').textContent);"
            "requestAnimationFrame(() => setTimeout(() => document.body.dataset.ready = ''));</script>"
        )


def _seen(figures: Sequence[Figures], ours: Path, plain: Path) -> list[Figures]:
    with browser.started() as chromium:
        page = chromium.new_page(viewport={"width": 1280, "height": 800})
        views = []
        for path in (ours, plain):
            times = sorted(_open(page, path) for _ in range(_ROUNDS))
            views.append(times[_ROUNDS // 2])
        _open(page, ours, "#list")
        frame_ms = _median_frame(page)
        search_s = _search(page)
        chromium_figures = {"first_view_s": views[0], "search_s": search_s, "frame_ms": frame_ms}
        return [_with(figures[0], **chromium_figures), _with(figures[1], first_view_s=views[1])]


def _with(figures: Figures, **more: float) -> Figures:
    import msgspec  # noqa: PLC0415

    return msgspec.structs.replace(figures, **more)


def _open(page: Page, path: Path, view: str = "") -> float:
    """Return seconds from the address to the first view."""
    page.goto("about:blank")
    started = time.perf_counter()
    page.goto(f"{path.as_uri()}{view}", wait_until="commit")
    page.wait_for_selector(_READY, state="attached")
    return time.perf_counter() - started


def _search(page: Page) -> float:
    # Found nowhere, so every text is unpacked and searched to its end.
    started = time.perf_counter()
    page.fill("#q", "NOT IN ANY OF THESE TRACES")
    page.wait_for_selector("#rows .none")
    return time.perf_counter() - started


def _median_frame(page: Page) -> float:
    return float(
        page.evaluate("""async () => {
            const scroller = document.querySelector("#scroller");
            const frame = () => new Promise((resolve) => requestAnimationFrame(resolve));
            const times = [];
            let before = await frame();
            for (let number = 1; number <= 240; number += 1) {
                scroller.scrollTop += 100;
                const now = await frame();
                times.push(now - before);
                before = now;
            }
            return times.sort((left, right) => left - right)[Math.floor(times.length / 2)];
        }""")
    )
