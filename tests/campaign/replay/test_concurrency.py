"""Equal output at every concurrency holds of a server that is batch-invariant, and only of one; and its price."""

from __future__ import annotations

import pytest

from agenttrace.campaign.options import Options
from agenttrace.campaign.replay.divergence import compare_runs
from agenttrace.campaign.replay.tax import RunTime, run_time, tax_lines
from tests.batches import Batches


@pytest.fixture
def runs(record, make_sandbox, tmp_path):
    """Run eight tasks with so many workers each; returns the record files and how many requests met at most."""

    def make(*widths, invariant):
        sandbox, files, met = make_sandbox(), [], []
        sandbox.start(max(widths))
        for number, workers in enumerate(widths):
            (tmp_path / str(number)).mkdir()
            script = Batches(invariant=invariant)
            options = Options(count=8, output="demo.jsonl")
            files.append(record(options, tmp_path / str(number), sandbox, script, workers=workers))
            met.append(script.most)
        return files, met

    return make


def test_a_batch_invariant_server_gives_the_same_with_any_number_of_tasks(runs):
    files, met = runs(1, 4, 4, invariant=True)
    assert met[0] == 1
    assert min(met[1:]) > 1  # else it was no test
    assert {one.verdict for one in compare_runs(files)} == {"equal"}
    times = [run_time(file, workers) for file, workers in zip(files, (1, 4, 4), strict=True)]
    assert times[0].output_tokens == times[1].output_tokens == 8 * 2 * 5
    assert times[0].seconds >= 8 * 2 * 0.1
    assert times[1].seconds < times[0].seconds


def test_a_server_that_is_not_is_found_and_the_place_named(runs):
    files, met = runs(1, 4, invariant=False)
    assert met[1] > 1
    verdicts = compare_runs(files)
    parted = [one for one in verdicts if one.verdict != "equal"]
    assert {one.verdict for one in parted} == {"other reply"}
    assert {one.divergence.where for one in parted} == {"step 2"}
    assert any("7" in one.divergence.first and "8" in one.divergence.other for one in parted)


def test_the_same_server_one_task_at_a_time_shows_nothing(runs):
    files, _ = runs(1, 1, invariant=False)
    assert {one.verdict for one in compare_runs(files)} == {"equal"}


def test_the_price_is_time_and_tokens_beside_the_first_concurrency():
    made = [(1, 10.0), (1, 12.0), (1, 11.0), (4, 5.0), (4, 6.0)]
    times = [RunTime(workers=workers, seconds=seconds, output_tokens=1100) for workers, seconds in made]
    assert list(tax_lines([RunTime(workers=None, seconds=1.0, output_tokens=1), *times])) == [
        "1 task at a time: 11.00 s (median of 3), 100 tokens/s",
        "4 tasks at a time: 5.50 s (median of 2), 200 tokens/s; 2.00 times as fast as the first",
    ]
    assert list(tax_lines([RunTime(workers=1, seconds=None, output_tokens=0)])) == []
