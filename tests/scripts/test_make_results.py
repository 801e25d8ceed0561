"""`make-results.py`: a page of a release's figures, the same bytes for the same release."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from agenttrace.publish.manifest import read_manifest
from agenttrace.store.read import read_traces

pytest.importorskip("matplotlib")

ROOT = Path(__file__).resolve().parents[2]
RELEASE = ROOT / "datasets" / "agenttrace-demo"


def made(folder):
    """Make the page of the released demo and return every file of it."""
    folder.mkdir()
    words = [sys.executable, str(ROOT / "scripts" / "make-results.py"), str(RELEASE), "-o", str(folder / "results.md")]
    subprocess.run(words, check=True, capture_output=True, env={"PYTHONPATH": str(ROOT)})
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_the_page_holds_the_figures_of_the_release_and_is_made_again_byte_for_byte(tmp_path):
    first, second = made(tmp_path / "a"), made(tmp_path / "b")
    assert first == second
    page = first["results.md"].decode()
    (campaign,) = read_manifest(RELEASE).campaigns
    solved, judged = campaign.solved["solved"], campaign.solved["solved"] + campaign.solved["not solved"]
    assert f"agenttrace-demo solved {solved} of {judged}" in page
    assert f"| traces | {campaign.records} |" in page
    assert "of its traces with a verdict" in page
    assert "that limit ended" in page
    assert "a floor" not in page  # it was trained on these tasks
    assert "may be chance" not in page  # far more than a few are solved
    assert "made one and the same again and again: 0 of " in page
    for label in ("load (1 min; median, most)", "time in which something waited for a CPU"):
        (row,) = (line for line in page.splitlines() if line.startswith(f"| {label} |"))
        assert any(char.isdigit() for char in row.split("|")[2]) or "not measured" in row
    (row,) = (line for line in page.splitlines() if line.startswith("| tool final_answer |"))
    assert "exit code" not in row  # none ran
    assert " 1 calls" not in page
    assert "…" not in page
    pictures = [name for name in first if name.endswith(".svg")]
    assert pictures
    assert all(f"({name})" in page for name in pictures)
    assert "![How many traces were solved.](images/results-demo-outcomes.svg)" in page


def test_the_page_in_the_tree_says_what_the_few_solved_runs_called_and_how_many_repeat_one_call():
    records = ROOT / "datasets" / "small-models" / "records"
    traces = [trace for file in sorted(records.glob("*.jsonl")) for trace in read_traces(file)]
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    solved = [trace for trace in traces if trace.outcome.solved]
    assert solved
    for trace in solved:
        assert f"task {trace.metadata['task_id']} of nl2bash by `{trace.spans[0].tool_input}`" in page
    several = [trace for trace in traces if len(trace.spans) > 1 and not trace.metadata["demo"]]
    same = sum(all(span.tool_input == trace.spans[0].tool_input for span in trace.spans) for trace in several)
    assert f"{same} of {len(several)} of HuggingFaceTB/SmolLM2-135M-Instruct, " in page


@pytest.mark.parametrize("what", ["README.md", "datasets/small-rollouts", "nowhere"])
def test_what_is_no_release_is_one_line_and_nothing_is_written(what, tmp_path):
    words = [sys.executable, str(ROOT / "scripts" / "make-results.py"), str(ROOT / what), "-o", str(tmp_path / "r.md")]
    ran = subprocess.run(words, check=False, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)})
    assert ran.returncode == 1
    assert ran.stderr.startswith(f"error: {ROOT / what}: manifest.json is missing")
    assert "datasets/small-models" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
    assert not any(tmp_path.iterdir())
