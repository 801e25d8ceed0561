"""A simulated campaign makes what is planned, loses what a kill costs and nothing else, and is the same each time."""

import math

import pytest

from bench.campaigns import dry_run
from bench.campaigns.dry_events import Fleet, simulate
from bench.campaigns.dry_figures import Figures

EVEN = Fleet(nodes=2, slots=8, workers=4, mean_s=30.0, sigma=0.0)
FIGURES = Figures(
    record_bytes=2000, cassette_bytes=1000, line_bytes=50_000, rollout_bytes=2500, part_bytes=8000, manifest_bytes=4000,
    log_cpu_ms=1.0, read_cpu_us=200.0, tree_cpu_s=1.0, tree_bytes=10**7, seat_bytes=10**8,
)  # fmt: skip


def test_hours_are_those_reckoned_by_hand_where_rollouts_take_the_same_time_and_nothing_is_killed():
    found = simulate(EVEN, tasks=8, rollouts=20, seed=0)
    # Four attempts at a time, each five rounds of 30 s for its 20 rollouts: 150 s, twice.
    assert found.hours * 3600 == pytest.approx(300)
    assert found.tail_hours * 3600 == pytest.approx(150)
    assert found.busy == pytest.approx(1)
    assert (found.kept, found.kills, found.lost, found.cut_off, found.again) == (160, 0, 0, 0, 0)
    # 4 end every 30 s: two rounds make 8 within 60 s, the next begins a part of its own.
    assert found.parts == 8 * 3


def test_the_same_seed_gives_the_same_course_and_another_one_another():
    fleet = Fleet(nodes=3, slots=8, workers=4, mean_s=30.0, sigma=0.5, kill_s=400.0, back_s=60.0)
    one, again, other = (simulate(fleet, tasks=40, rollouts=20, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert one.hours != other.hours


@pytest.mark.parametrize("seed", range(5))
def test_kills_cost_time_and_no_rollout(seed):
    calm = Fleet(nodes=3, slots=8, workers=4, mean_s=30.0, sigma=0.5)
    killed = Fleet(nodes=3, slots=8, workers=4, mean_s=30.0, sigma=0.5, kill_s=300.0, back_s=60.0)
    quiet, found = (simulate(fleet, tasks=60, rollouts=20, seed=seed) for fleet in (calm, killed))
    assert quiet.kept == found.kept == 1200
    assert found.kills > 0
    assert found.again > 0
    assert found.hours > quiet.hours
    assert found.cut_off <= found.kills * killed.slots
    assert found.lost <= found.kills * 2 * 15  # of each attempt of the node what waits for its part
    assert found.busy < quiet.busy


def test_an_attempt_that_takes_more_workers_than_a_node_has_is_an_error():
    with pytest.raises(ValueError, match="more workers"):
        simulate(Fleet(nodes=1, slots=4, workers=8, mean_s=1.0, sigma=0.0), tasks=1, rollouts=1, seed=0)


def test_the_table_is_reckoned_from_inputs_and_figures():
    inputs = dry_run.Inputs(tasks=200, rollouts=10, endpoints=2, in_flight=8, rate=288.0, slots=8, life_hours=0.0)
    rows = {row.what: row.figure for row in dry_run.plan_rows(inputs, FIGURES)}
    assert inputs.nodes == 2
    assert rows["hours at least"] == f"{2000 / 288 / 2:.1f}"
    assert rows["merged record file"] == f"{2000 * 50_000 / 1e12:.2f} TB"
    courses = [*dry_run.scenarios(inputs)]
    assert [workers for workers, _ in courses] == [4, 1, 4, 2, 1, 1]
    assert all(course.kept == 2000 for _, course in courses)
    text = dry_run.table(inputs, FIGURES)
    assert text == dry_run.table(inputs, FIGURES)
    assert math.isclose(inputs.mean_s, 100 + 0.253 * 15 / 26)
