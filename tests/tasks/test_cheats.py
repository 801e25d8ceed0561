"""Code that means to pass without the right result does not."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from agenttrace.tasks.asserts import run_asserts

TESTS = ["assert add(1, 2) == 3", "assert add(4, 5) == 9", "assert add('a', 'b') == 'ab'"]
CHEATS = {
    f"{group}: {name}": code
    for group, cheats in tomllib.loads((Path(__file__).parent / "cheats.toml").read_text(encoding="utf-8")).items()
    for name, code in cheats.items()
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CHEATS)
def test_no_assert_passes(make_bench, name):
    bench = make_bench("empty")
    bench.pristine()
    problems = run_asserts(bench, CHEATS[name], "", TESTS, limit_ms=3000)
    assert len(problems) == len(TESTS)
    assert all(problems), problems
