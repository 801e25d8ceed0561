"""Figures: the same bytes for the same input, nothing cut off, nothing empty."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import subprocess
import sys

import pytest

from agenttrace.analysis.plots import _figures, _parts, draw
from agenttrace.analysis.plots.style import SETTINGS, label, labels
from agenttrace.analysis.tables import load
from agenttrace.errors import UsageError

pytestmark = pytest.mark.slow

NAMES = {
    "time-split", "requests", "durations", "tokens", "tools", "exit-codes", "commands", "memory", "waiting", "outcomes",
    "success-cost", "timeline",
}  # fmt: skip
DRAW = """
import sys
from pathlib import Path
from agenttrace.analysis.plots import draw
from agenttrace.analysis.tables import load
draw(load([sys.argv[1]]), Path(sys.argv[2]), by="model")
"""


def digests(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


@pytest.mark.slow
def test_every_figure_in_every_format_and_the_same_bytes_from_another_process_on_another_day(tmp_path, thousand):
    found = draw(load([thousand]), tmp_path / "a", by="model")
    assert not found.left_out
    assert {path.name for path in found.paths} == {f"{name}.{kind}" for name in NAMES for kind in ("pdf", "svg", "png")}
    environment = os.environ | {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "SOURCE_DATE_EPOCH": "1"}
    subprocess.run([sys.executable, "-c", DRAW, thousand, tmp_path / "b"], check=True, env=environment)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    heads = {".pdf": b"%PDF", ".png": b"\x89PNG", ".svg": b"<?xml"}
    assert all(path.read_bytes().startswith(heads[path.suffix]) for path in found.paths)


def figures(tables, by):
    import matplotlib as mpl

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(SETTINGS)
        for name, make in _figures(None).items():
            figure = make(_parts(tables, by))
            figure.draw_without_rendering()
            yield name, figure


@pytest.mark.parametrize("by", ["model", "file"])
def test_no_text_is_cut_off_no_panel_is_empty_and_axes_are_named(thousand, by):
    for name, figure in figures(load([thousand]), by):
        renderer = figure._get_renderer()
        page = figure.bbox
        for axes in figure.axes:
            assert axes.has_data(), name
            assert axes.get_xlabel() or axes.get_shared_x_axes().joined(axes, figure.axes[-1]), name
            for text in (*axes.texts, *axes.get_xticklabels(), *axes.get_yticklabels(), axes.xaxis.label, axes.title):
                if not text.get_visible() or not text.get_text():
                    continue
                box = text.get_window_extent(renderer)
                inside = axes.get_window_extent(renderer)
                if text in axes.get_xticklabels() and not inside.x0 - 1 <= (box.x0 + box.x1) / 2 <= inside.x1 + 1:
                    continue  # ticks beyond the limits are not drawn
                if text in axes.get_yticklabels() and not inside.y0 - 1 <= (box.y0 + box.y1) / 2 <= inside.y1 + 1:
                    continue
                assert box.x0 >= page.x0 - 2, (name, text.get_text())
                assert box.x1 <= page.x1 + 2, (name, text.get_text())


def test_tick_labels_do_not_overlap(thousand):
    for name, figure in figures(load([thousand]), "model"):
        renderer = figure._get_renderer()
        for axes in figure.axes:
            inside = axes.get_window_extent(renderer)
            boxes = [text.get_window_extent(renderer) for text in axes.get_xticklabels() if text.get_text()]
            shown = sorted((b.x0, b.x1) for b in boxes if inside.x0 - 1 <= (b.x0 + b.x1) / 2 <= inside.x1 + 1)
            assert all(left[1] <= right[0] for left, right in itertools.pairwise(shown)), name


def test_what_was_not_measured_is_left_out_with_a_reason(tmp_path, released):
    found = draw(load([released]), tmp_path / "out", formats=["svg"])
    assert "time-split" in found.left_out
    assert "verdict" in found.left_out["outcomes"]
    assert "one clock" in found.left_out["timeline"]
    assert {"commands", "requests", "memory", "waiting"} < {*found.left_out}
    assert "before schema 1.2.0" in found.left_out["waiting"]
    assert {path.name for path in found.paths} == {"durations.svg", "tokens.svg", "tools.svg", "exit-codes.svg"}


def test_hostile_names_are_drawn_as_text(tmp_path, few):
    evil = "$\\frac{$ \x1b[2J 先看 </svg><script>alert(1)</script>\n" + "x" * 500
    lines = [json.loads(line) for line in few.read_bytes().splitlines()]
    for line in lines:
        line["model"] = line["metadata"]["dataset_name"] = evil
        for span in line["spans"]:
            span["tool_name"] = evil
    few.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    found = draw(load([few]), tmp_path / "out", by="model", formats=["svg", "png"])
    assert all(b"<script" not in path.read_bytes() for path in found.paths)


def test_labels_are_short_and_different():
    assert labels(["/a/x.jsonl", "/a/y.jsonl"]) == ["x.jsonl", "y.jsonl"]
    assert labels(["/a/x.jsonl", "/b/x.jsonl"]) == ["/a/x.jsonl", "/b/x.jsonl"]
    long = ["a" * 60 + str(n) + "b" * 60 for n in range(3)]
    assert len(set(labels(long))) == 3
    assert len(label("z" * 500)) <= 34


def test_a_trace_is_chosen_by_the_start_of_its_id(tmp_path, few):
    tables = load([few])
    wanted = tables.runs["trace_id"].iloc[3]
    assert not draw(tables, tmp_path, trace=wanted[:12], formats=["svg"]).left_out.get("timeline")
    with pytest.raises(UsageError, match="no traces that can be drawn"):
        draw(tables, tmp_path, trace="zzzz", formats=["svg"])


def test_more_groups_than_colours_are_refused(tmp_path, few):
    lines = [json.loads(line) for line in few.read_bytes().splitlines()]
    for number, line in enumerate(lines):
        line["model"] = f"m{number}"
    few.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    with pytest.raises(UsageError, match="20 groups"):
        draw(load([few]), tmp_path, by="model")
