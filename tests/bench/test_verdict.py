"""Verdicts, without measuring anything."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import tables
from bench.sandbox.machine import Machine
from bench.verdict import Finding, Flag, Near, Row, cpu, interleaved, median, percentile, row

MACHINE = Machine(
    cpus=2, memory_bytes=2**33, kernel="6.1", engine="26.1", cgroup_version=2, storage_driver="overlay2",
    work_filesystem="ext2/ext3", docker_desktop=False, worker_cpus=1.0, worker_memory_bytes=2**30, load_before=0.5,
)  # fmt: skip


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [(90, "within"), (100, "within"), (110, "within"), (89, "outside"), (111, "outside"), (None, "outside")],
)
def test_a_known_figure_is_within_its_tolerance_or_outside(measured, verdict):
    assert Near(100, 10).verdict(measured) == verdict


def test_no_tolerance_is_exact():
    assert Near(0, 0).verdict(0) == "within"
    assert Near(0, 0).verdict(1) == "outside"


@pytest.mark.parametrize(("measured", "verdict"), [(21, "flagged"), (20, "outside"), (0, "outside"), (None, "outside")])
def test_an_alarm_that_is_not_raised_is_a_failure(measured, verdict):
    assert Flag(100, 20).verdict(measured) == verdict


@pytest.mark.parametrize(("expected_ms", "tolerance_ms"), [(0, 10), (100, 10), (200, 10), (300, 15), (1000, 50)])
def test_cpu_time_may_be_off_by_5_percent_or_10_ms(expected_ms, tolerance_ms):
    assert cpu(expected_ms * 10**6) == Near(expected_ms * 10**6, tolerance_ms * 10**6)


@pytest.mark.parametrize(
    ("samples", "expected"), [([3, 1, 2], 2), ([1, 2], 1), ([7], 7), ([], None), ([1, None, 1], None)]
)
def test_a_median_needs_every_sample(samples, expected):
    assert median(samples) == expected


@given(st.lists(st.integers(), min_size=1), st.integers(1, 100))
def test_a_percentile_is_a_sample_that_enough_samples_do_not_exceed(samples, percent):
    found = percentile(samples, percent)
    assert found in samples
    assert sum(sample <= found for sample in samples) * 100 >= percent * len(samples)


def test_percentiles_of_a_hundred():
    assert [percentile(range(1, 101), percent) for percent in (50, 95, 100)] == [50, 95, 100]


@pytest.mark.parametrize(("judged", "verdict"), [("median", "met"), ("p95", "met"), ("max", "missed")])
def test_a_target_is_for_one_figure(judged, verdict):
    made = row("g", "n", "ms", [1.0] * 99 + [9.0], target=2, judged=judged)
    assert made.verdict == verdict
    assert (made.median, made.p95, made.largest, made.count) == (1, 1, 9, 100)


def test_a_target_is_met_when_it_is_reached_exactly_and_missed_without_a_figure():
    assert row("g", "n", "ms", [2.0], target=2).verdict == "met"
    assert Row(group="g", name="n", unit="ms", median=1, target=2, judged="p95").verdict == "missed"
    assert row("g", "n", "ms", [2.0]).verdict == ""


def test_the_ratio_says_how_much_longer_the_alternative_takes():
    assert row("g", "n", "ms", [2.0, 2.0], against=[8.0]).ratio == 4
    assert row("g", "n", "ms", [0.0], against=[8.0]).ratio is None


def test_sides_take_turns():
    order = []

    def side(name):
        def turn():
            order.append(name)
            return [len(order), -1]

        return turn

    assert interleaved({"a": side("a"), "b": side("b")}, 2) == {"a": [1, -1, 3, -1], "b": [2, -1, 4, -1]}
    assert order == ["a", "b", "a", "b"]


def test_the_json_file_holds_the_machine_and_the_verdicts(tmp_path):
    finding = Finding(load="l", figure="cpu_ns", expectation=Flag(9, 5), measured=4, samples=(4,), note="why")
    tables.write_json(tmp_path / "f.json", MACHINE, findings=[finding], rows=[row("g", "n", "ms", [3.0], target=2)])
    told = json.loads((tmp_path / "f.json").read_text())
    assert told["machine"]["kernel"] == "6.1"
    assert told["findings"][0]["verdict"] == "outside"
    assert told["findings"][0]["expectation"] == {"type": "flag", "expected": 9, "threshold": 5}
    assert told["rows"][0] | {"verdict": "missed", "target": 2} == told["rows"][0]


def test_the_tables_show_every_verdict(capsys):
    findings = [
        Finding(
            load="[one]", figure="cpu_ns", expectation=Near(10**6, 10**6), measured=2 * 10**6, samples=(2 * 10**6,)
        ),
        Finding(
            load="two", figure="max_rss_bytes", expectation=Near(2**20, 1), measured=None, samples=(None,), note="x"
        ),
        Finding(load="two", figure="cpu_unattributed_ns", expectation=Flag(9, 5), measured=9, samples=(9,)),
    ]
    tables.print_findings("title", findings)
    tables.print_rows("title", [row("a", "n", "ms", [1.0], target=2), row("b", "m", "", [3], target=2, against=[6])])
    shown = capsys.readouterr().out
    for text in ("[one]", "within", "outside", "flagged", "none (x)", "2.0 ms", "met", "missed", "2.0 x"):
        assert text in shown
