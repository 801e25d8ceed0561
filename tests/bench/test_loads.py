"""The known loads as data."""

import msgspec

from agenttrace.records import NO_PROCESS
from bench.sandbox import bench_sandbox
from bench.sandbox.telemetry_check import EVERY as LOADS

NAMES = [load.name for load in LOADS]


def test_names_are_unique_and_those_of_the_benchmark_exist():
    assert len(set(NAMES)) == len(NAMES)
    assert set(bench_sandbox._ACCURATE) <= set(NAMES)


def test_every_figure_is_one_that_a_call_has():
    fields = {*msgspec.structs.asdict(NO_PROCESS), "cpu_ns"}
    assert {name for load in LOADS for name in load.expected} <= fields
    assert all(load.expected for load in LOADS)


def test_python_loads_are_python():
    for load in LOADS:
        if load.kind == "python":
            compile(load.code, load.name, "exec")
            compile(load.without, load.name, "exec")
