"""Makes the pictures of docs/report.md: a report of the given record files, looked at in a real Chromium.

    python scripts/report-screenshots.py RECORDS... --trace ID --rollout ID --timeline ID --compare ID,ID

Needs what the tests need (`scripts/nox -s tests` installs it). Pictures are 1280 pixels wide, the phone's 390.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from agenttrace.report import write_report  # noqa: E402
from bench.analysis import browser  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

IMAGES = ROOT / "docs" / "images"


def main() -> None:
    """Write the pictures to docs/images/."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("records", nargs="+", type=Path)
    parser.add_argument("--trace", required=True, help="id of a trace with several calls")
    parser.add_argument("--rollout", required=True, help="id of a trace over a checkout")
    parser.add_argument("--timeline", required=True, help="id of a trace whose calls waited, with memory over time")
    parser.add_argument("--compare", required=True, help="ID,ID")
    arguments = parser.parse_args()
    if missing := browser.missing():
        sys.exit(missing)
    IMAGES.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, browser.started() as chromium:
        page = Path(folder, "report.html")
        write_report(arguments.records, page)
        url = page.as_uri()
        trace, compare = f"{url}#trace={arguments.trace}", f"{url}#compare={arguments.compare}"
        rollout = f"{url}#trace={arguments.rollout}"
        picture(chromium, url, "report-overview", size=(1280, 1100))
        picture(chromium, f"{url}#list", "report-list")
        picture(chromium, trace, "report-trace")
        picture(chromium, rollout, "report-dark", dark=True)
        picture(chromium, f"{url}#trace={arguments.timeline}", "report-timeline", clip="#timeline")
        picture(chromium, compare, "report-compare")
        picture(chromium, f"{url}#list&group=task", "report-phone-list", size=(390, 780))
        picture(chromium, rollout, "report-phone-trace", size=(390, 780))


def picture(
    chromium: Browser,
    url: str,
    name: str,
    *,
    size: tuple[int, int] = (1280, 800),
    dark: bool = False,
    clip: str | None = None,
) -> None:
    """Write one picture: the window, or with `clip` one element of it with its second tool call pointed at."""
    context = chromium.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme="dark" if dark else "light"
    )
    page: Page = context.new_page()
    page.goto(url)
    page.wait_for_selector("body[data-ready]", state="attached")
    if clip:
        page.locator(f"{clip} .bar.tools .whole").nth(1).hover()
        page.locator(clip).screenshot(path=IMAGES / f"{name}.png")
    else:
        page.wait_for_timeout(200)
        page.screenshot(path=IMAGES / f"{name}.png")
    context.close()
    shrink(IMAGES / f"{name}.png")


def shrink(path: Path) -> None:
    """Reduce a picture to 256 colours: a page of text and bars loses nothing that is seen."""
    from PIL import Image  # noqa: PLC0415

    with Image.open(path) as image:
        small = image.convert("RGB").quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    small.save(path, optimize=True)


main()
