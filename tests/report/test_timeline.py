"""The timeline in a real Chromium: its lanes, what kept a call waiting, and the parts of a generation."""

from __future__ import annotations

import re

import pytest

from agenttrace.report import write_report
from bench.synthetic import traces as synthetic
from tests.report.records import SAWTOOTH, WAITING, checkout_trace, odd_trace, traces, turn, waiting_trace
from tests.report.test_page import show, watched

pytestmark = pytest.mark.slow  # a browser starts
EARLIER = checkout_trace(7, turn(1, "ls"))
ODD = odd_trace()
SYNTHETIC = traces(40, model="small")


@pytest.fixture(scope="module")
def page(chromium, tmp_path_factory):
    folder = tmp_path_factory.mktemp("timeline")
    synthetic.write(folder / "made.jsonl", [waiting_trace(), EARLIER, ODD, *SYNTHETIC])
    write_report([folder / "made.jsonl"], folder / "report.html")
    with watched(chromium, folder / "report.html") as page:
        yield page


@pytest.fixture
def waiting(page):
    """The page of a trace whose calls waited, each in its own way (`WAITING`)."""
    show(page, f"#trace={waiting_trace().trace_id}")
    return page


def test_each_call_says_what_kept_it_waiting(waiting):
    said = [bar.get_attribute("aria-label") for bar in waiting.locator("#timeline .bar.tools").all()]
    assert said[0].endswith("throttled 400 ms, slow by its limit")
    assert said[1].endswith("waited 300 ms for a processor, slow by its neighbours")
    assert said[2].endswith("waited 200 ms for memory, waited 250 ms for a disk, slow by its limit")
    assert "peak 8.00 MiB, whole tree to 25.0 MiB, mean 12.0 MiB" in said[3]
    assert not re.search("waited|throttled|slow|not measured", said[3])
    assert said[4].endswith("meanwhile something on the machine waited 100 ms for a processor, 500 ms for a disk")
    assert said[5].endswith("waiting not measured")
    cards = waiting.locator(".call .cost").all_inner_texts()
    assert "throttled 400 ms" in cards[0]
    assert "slow by its limit" in cards[0]
    assert not re.search("waited|throttled|slow|waiting", "".join(cards[3:]))


def test_waiting_has_a_lane_whose_height_is_all_of_a_call(waiting):
    lane = waiting.locator("#timeline rect.lane").nth(3).bounding_box()["height"]
    assert waiting.locator(".lane-label.waits span").inner_text() == "to 45 %"
    (throttled,) = waiting.locator("#timeline .canvas .throttled").all()
    assert throttled.bounding_box()["height"] == pytest.approx(0.4 * lane, abs=1)
    for kind, share in (("processor", 0.3), ("memory", 0.2), ("disk", 0.25)):
        (line,) = waiting.locator(f"#timeline .canvas .for-{kind}").all()
        length = float(line.get_attribute("y1")) - float(line.get_attribute("y2"))
        assert length == pytest.approx(share * lane, abs=0.1), kind
    assert waiting.locator("#timeline .missing").count() == 1
    meanings = waiting.locator(".legend li").all_inner_texts()
    assert {"throttled by its limit", "waiting for a processor", "waiting for memory", "waiting for a disk"} < {
        *meanings
    }
    assert {"queue of the server", "prefill: reading the prompt", "decode: generating"} < {*meanings}


def test_memory_is_an_area_where_it_was_followed_and_has_its_mean_where_that_is_known(waiting):
    (area,) = waiting.locator("#timeline .canvas path.memory").all()
    numbers = list(map(float, re.findall(r"[\d.]+", area.get_attribute("d"))))
    assert len(numbers) == 2 * (len(SAWTOOTH) + 4)
    assert numbers[::2] == sorted(numbers[::2])
    assert waiting.locator("#timeline .canvas rect.memory").count() == len(WAITING) - 1
    assert waiting.locator("#timeline .canvas .mean").count() == len(WAITING) - 1


def test_a_generation_has_its_queue_prefill_and_decode_in_its_bar_and_beside_it(waiting):
    drawn = waiting.locator("#timeline .canvas")
    boxes = [drawn.locator(f".{kind}").first.bounding_box() for kind in ("queue", "prefill", "decode", "unnamed")]
    queue, prefill, whole, rest = boxes
    assert queue["x"] == pytest.approx(whole["x"], abs=0.5)
    assert queue["width"] == pytest.approx(whole["width"] / 8, abs=1)
    assert prefill["x"] == pytest.approx(queue["x"] + queue["width"], abs=0.5)
    assert rest["x"] + rest["width"] == pytest.approx(whole["x"] + whole["width"], abs=0.5)
    said = waiting.locator("#timeline .bar.model").first.get_attribute("aria-label")
    assert "50.0 ms of it waiting in the server's queue, 100 ms reading the prompt, 200 ms generating" in said
    side = waiting.locator("#step-1 .side").inner_text()
    assert [line for line in side.splitlines() if line.startswith(("queue", "prefill", "decode"))] == [
        "queue 50.0 ms", "prefill 100 ms", "decode 200 ms",
    ]  # fmt: skip


def test_a_trace_of_an_earlier_version_has_no_waiting_no_mean_and_no_parts_of_a_generation(page):
    show(page, f"#trace={EARLIER.trace_id}")
    assert page.locator(".lane-label.waits span").inner_text() == "not measured"
    assert (
        page.locator("#timeline .canvas").locator(".mean, .series, .queue, .prefill, .decode, .throttled").count() == 0
    )
    assert page.locator(".legend li").count() == 0
    assert page.locator("#timeline .bar.tools").get_attribute("aria-label").endswith("waiting not measured")


def test_the_timeline_has_lanes_and_leads_to_the_step(page):
    trace = next(t for t in SYNTHETIC if len(t.llm_steps) > 3 and t.spans[2].telemetry.max_rss_bytes)
    show(page, f"#trace={trace.trace_id}")
    assert page.locator(".lane-label b").all_inner_texts() == ["Model", "Tools", "CPU", "Waiting", "Memory", "Disk"]
    assert page.locator("#timeline .bar.model").count() == len(trace.llm_steps)
    assert page.locator("#timeline .bar.tools").count() == len(trace.spans)
    assert page.locator("#timeline rect.memory").count() > 0
    boxes = [bar.bounding_box() for bar in page.locator("#timeline .bar .whole").all()]
    ends = [box["x"] + box["width"] for box in boxes]
    assert (
        max(ends)
        <= page.locator("#timeline .canvas svg").bounding_box()["x"]
        + page.locator("#timeline .canvas svg").bounding_box()["width"]
    )
    page.locator("#timeline .bar.model").nth(2).click()
    assert page.url.endswith("&step=3")
    page.mouse.move(5, 5)
    page.keyboard.press("l")
    page.keyboard.press("ArrowRight")
    assert "exit" in page.inner_text(".readout") or "no process" in page.inner_text(".readout")
    wide = page.locator("#timeline .canvas svg").bounding_box()["width"]
    page.click("button[aria-label='Zoom in']")
    assert page.locator("#timeline .canvas svg").bounding_box()["width"] > 1.9 * wide


def test_figures_that_no_call_can_have_stay_within_their_lanes(page):
    show(page, f"#trace={ODD.trace_id}")
    lanes = [lane.bounding_box() for lane in page.locator("#timeline rect.lane").all()]
    right = lanes[0]["x"] + lanes[0]["width"]
    shapes = page.locator("#timeline .canvas").locator("rect:not(.lane), path").all()
    for box in filter(None, (shape.bounding_box() for shape in shapes)):
        assert any(
            lane["y"] - 2 <= box["y"] and box["y"] + box["height"] <= lane["y"] + lane["height"] + 2 for lane in lanes
        )
        assert lanes[0]["x"] - 2 <= box["x"] <= box["x"] + box["width"] <= right + 2


def test_lanes_stay_where_they_are_while_a_bar_is_told_of(page):
    page.set_viewport_size({"width": 390, "height": 844})
    show(page, f"#trace={waiting_trace().trace_id}")
    canvas = page.locator("#timeline .canvas")
    before = canvas.bounding_box()
    page.locator("#timeline .bar.tools .whole").nth(4).hover()
    page.locator(".readout", has_text="meanwhile something on the machine").wait_for()
    assert canvas.bounding_box() == before
    page.set_viewport_size({"width": 1280, "height": 800})
