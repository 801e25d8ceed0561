"""Three forms of one computation, and nothing from a record that could act in any of them."""

from __future__ import annotations

import json
import re

import msgspec
import pytest

from agenttrace.analysis import render
from agenttrace.analysis.findings import Report
from agenttrace.analysis.render import amount, percent
from agenttrace.analysis.sections import sections
from agenttrace.analysis.summary import report
from agenttrace.analysis.tables import load


@pytest.fixture(scope="module")
def found(thousand):
    return report(load([thousand]), by="model")


def test_json_is_the_whole_report(found):
    assert msgspec.json.decode(render.as_json(found), type=Report) == found


def test_text_and_markdown_have_the_same_cells(found):
    marked = [
        [cell.strip() for cell in line.strip("|").split(" | ")]
        for line in render.as_markdown(sections(found)).splitlines()
        if line.startswith("| ") and not line.startswith("| ---")
    ]
    plain = render.as_text(sections(found))
    assert len(marked) > 100
    for row in marked:
        for cell in row:
            assert re.sub(r"\\(.)", r"\1", cell).replace("&lt;", "<") in plain


def test_unknown_figures_are_called_not_measured(released):
    one = report(load([released]))
    text = render.as_text(sections(one))
    assert "Model time: not measured" in text
    row = next(line for line in text.splitlines() if line.startswith("bash"))
    assert row.count("not measured") == 7
    assert json.loads(render.as_json(one))["groups"][0]["tools"][0]["peak_bytes"]["median"] is None


EVIL = "\x1b]0;P\x07<img src=x onerror=alert(1)>|`x`[a](javascript:b)\n# h\u202e"


@pytest.fixture
def hostile(few):
    lines = [json.loads(line) for line in few.read_bytes().splitlines()]
    for line in lines:
        line["model"] = line["metadata"]["dataset_name"] = line["outcome"]["ended"] = EVIL
        for span in line["spans"]:
            span["tool_name"] = EVIL
        for verdict in line["outcome"]["verdicts"]:
            verdict["aspect"] = EVIL
    few.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return report(load([few]), by="model")


def test_names_from_records_cannot_drive_a_terminal(hostile):
    text = render.as_text(sections(hostile))
    assert "onerror" in text
    assert not set(text) & set("\x1b\x07\u202e")
    assert "\n# h" not in text


def test_names_from_records_are_no_markup(hostile):
    text = render.as_markdown(sections(hostile))
    assert "<img" not in text
    assert "\x1b" not in text
    assert "&lt;img" in text
    assert not re.search(r"(?<!\\)\[a", text)
    for line in text.splitlines():
        if line.startswith("| end "):
            assert line.count(" | ") == 2


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "ms", "not measured"), (0.0, "ms", "0 ms"), (0.0015, "ms", "1.50 µs"), (1234.0, "ms", "1.23 s"),
        (90_000.0, "ms", "1.50 min"), (1536, "B", "1.50 KiB"), (0, "B", "0 B"), (3 << 30, "B", "3 GiB"),
        (12345.6, "", "12,346"),
    ],
)  # fmt: skip
def test_amounts(value, unit, text):
    assert amount(value, unit) == text


def test_a_small_share_is_not_rounded_to_nothing():
    assert percent(0.000004) == "0.0004 %"
    assert percent(0) == "0.0 %"
    assert percent(None) == "not measured"


def test_printed_json_holds_nothing_that_drives_a_terminal_and_means_the_same():
    text = "a\x9b31m\u202e\U000e0001é你"
    shown = render.as_json(Report(by=text, partial=False, sources=(), groups=(), comparisons=()))
    assert all(char == "\n" or char.isprintable() for char in shown)
    assert json.loads(shown)["by"] == text
