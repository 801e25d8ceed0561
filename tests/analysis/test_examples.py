"""The examples of docs/examples.md run as they stand and print the right answer."""

from __future__ import annotations

import contextlib
import io
import re
import statistics
from pathlib import Path

import msgspec
import pytest

from agenttrace.store.energy import SessionEnergy, append_energy
from bench.synthetic.traces import write
from tests.report.records import waiting_trace

TEXT = Path(__file__).parents[2].joinpath("docs", "examples.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"^## (.+?)\n\n```python\n(.*?)```", TEXT, re.DOTALL | re.MULTILINE))


def test_there_are_eight_of_at_most_ten_lines():
    assert len(EXAMPLES) == 8
    assert all(len([line for line in code.splitlines() if line]) <= 10 for code in EXAMPLES.values())


def run(folder, titles=tuple(EXAMPLES)):
    found = {}
    with contextlib.chdir(folder):
        for title in titles:
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(EXAMPLES[title], title, "exec"), {})
            found[title] = out.getvalue()
    return found


@pytest.fixture(scope="module")
def printed(thousand, tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    (folder / "records.jsonl").symlink_to(thousand)
    append_energy(folder / "records.jsonl", SessionEnergy(start_utc="a", end_utc="b", joules={"rapl:package-0": 5e3}))
    return run(folder)


def test_the_queue_stands_apart_where_the_server_says_it(tmp_path):
    write(tmp_path / "records.jsonl", [waiting_trace()])
    title = next(title for title in EXAMPLES if "queue" in title)
    first, *lines = run(tmp_path, [title])[title].splitlines()
    assert first == "1 of 1 traces"
    told = dict(line.split() for line in lines[:-1])
    assert {name: float(value) for name, value in told.items()} == {
        "queue_ms": 300.0, "prefill_ms": 600.0, "decode_ms": 1200.0, "llm_ms": 2400.0, "tool_ms": 6000.0,
    }  # fmt: skip


def test_what_was_not_measured_is_in_no_sum(tmp_path):
    known = waiting_trace()
    first = msgspec.structs.replace(known.llm_steps[0], timings=None)
    partly = msgspec.structs.replace(known, llm_steps=(first, *known.llm_steps[1:]))
    write(tmp_path / "records.jsonl", [known, partly])
    queue, energy = (next(title for title in EXAMPLES if word in title) for word in ("queue", "energy"))
    found = run(tmp_path, [queue, energy])
    assert found[queue].startswith("1 of 2 traces\n")
    assert "llm_ms        2400.0" in found[queue]
    assert found[energy] == "a session was not measured, or nothing solved\n"


def solved(rows):
    return {(r["metadata"]["dataset_name"], r["metadata"]["task_id"], r["model"]): r["outcome"]["solved"] for r in rows}


@pytest.mark.slow
def test_they_print_the_right_answer(printed, rows):
    answers = list(printed.values())
    verdicts = solved(rows)
    pairs = [(v, verdicts[d, t, "synthetic-large"]) for (d, t, m), v in verdicts.items() if m == "synthetic-small"]
    judged = [pair for pair in pairs if None not in pair]
    assert f"{sum(a != b for a, b in judged)} of {len(judged)} tasks" in answers[3]
    spans = [span for row in rows for span in row["spans"]]
    assert str(max(span["telemetry"]["max_rss_bytes"] or 0 for span in spans)) in answers[4]
    du = [s for s in spans if s["status"] == "ok" and "/usr/bin/du" in s["tool_input"]]
    line = next(line for line in answers[0].splitlines() if line.startswith("du "))
    assert line.split()[-1] == str(len(du))
    assert float(line.split()[-2]) == pytest.approx(sum(s["exit_code"] != 0 for s in du) / len(du), abs=1e-5)
    smallest = min(sum(s["duration_ms"] for s in row["llm_steps"]) / row["total_duration_ms"] for row in rows)
    assert float(answers[1].splitlines()[1].split()[1]) == pytest.approx(smallest, abs=1e-5)
    assert answers[2].count("synthetic-") >= 2
    python = [
        span["telemetry"]
        for span in spans
        if "python3 -c" in span["tool_input"] and span["telemetry"].get("tree_rss_mean_bytes")
    ]
    line = next(line for line in answers[5].splitlines() if line.startswith("python3 ")).split()
    ratios = [one["tree_rss_peak_bytes"] / one["tree_rss_mean_bytes"] for one in python]
    assert float(line[-2]) == pytest.approx(statistics.median(ratios), abs=1e-5)
    assert line[-1] == str(len(python))
    whole = [row for row in rows if all((step["timings"] or {}).get("predicted_ms") for step in row["llm_steps"])]
    decode = sum(step["timings"]["predicted_ms"] for row in whole for step in row["llm_steps"])
    assert answers[6].startswith(f"{len(whole)} of {len(rows)} traces\n")
    told = dict(line.split() for line in answers[6].splitlines() if len(line.split()) == 2)
    assert float(told["decode_ms"]) == pytest.approx(decode, abs=0.1)
    assert told["queue_ms"] == "<NA>" or told["queue_ms"] == "NaN"
    assert answers[7] == f"{5e3 / sum(row['outcome']['solved'] is True for row in rows):.1f} J a solved task\n"
