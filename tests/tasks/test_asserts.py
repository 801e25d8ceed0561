"""Asserts on a candidate, in real processes."""

from __future__ import annotations

import pytest

from agenttrace.errors import DataError
from agenttrace.tasks import asserts

ADD = "def add(a, b):\n    return a + b\n"
TESTS = ["assert add(1, 2) == 3", "assert add(1, 2) == 4", "assert add('a', 'b') == 'ab', 'text'"]


@pytest.fixture
def run(make_bench):
    bench = make_bench("empty")

    def go(code, tests=TESTS, setup="", limit_ms=10_000):
        bench.pristine()
        return asserts.run_asserts(bench, code, setup, tests, limit_ms=limit_ms)

    return go


def test_each_assert_has_its_own_result(run):
    assert run(ADD) == [None, "AssertionError", None]


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("pass", "NameError"),
        ("def add(:", "candidate: SyntaxError"),
        ("import nonesuch", "candidate: ModuleNotFoundError"),
        ("raise SystemExit(0)", "candidate: SystemExit: 0"),
        ("import os; os._exit(0)", "candidate: the process ended (exit status 0)"),
        ("def add(a, b): raise ValueError('no')", "ValueError: no"),
        ("def add(a, b): exit()", "SystemExit"),
        ("def add(a, b): input()", "EOFError"),
    ],
)
def test_a_candidate_that_does_not_work_fails_all(run, code, reason):
    found = run(code)
    assert len(found) == 3
    assert all(problem is not None and problem.startswith(reason) for problem in found)


def test_one_that_ends_or_hangs_in_one_assert_does_not_decide_the_others(run):
    code = "import os\ndef f(x):\n    if x == 1: os._exit(0)\n    while x == 2: pass\n    return x\n"
    found = run(code, [f"assert f({n}) == {n}" for n in range(4)], limit_ms=1000)
    assert found == [None, "the process ended (exit status 0)", "not done after 1 s", None]


def test_the_set_up_comes_after_the_candidate(run):
    node = "class Node:\n    def __init__(self, v): self.v = v\ndef value(n): return n.v\n"
    assert run(node, ["assert value(root) == 7"], setup="root = Node(7)") == [None]
    (problem,) = run("def value(n): return n.v", ["assert value(root) == 7"], setup="root = Node(7)")
    assert problem.startswith("setup: NameError")


def test_what_the_candidate_prints_is_no_result(run):
    code = ADD + "print('[\"x\", \"0\", null]', flush=True)\nimport os\nos.system('echo y; echo z >&2')\n"
    assert run(code) == [None, "AssertionError", None]


def test_a_main_guard_is_not_run_and_classes_can_be_pickled(run):
    code = "import pickle\nclass A: pass\ndef f(): return type(pickle.loads(pickle.dumps(A()))) is A\n"
    assert run(code + "if __name__ == '__main__': raise ValueError\n", ["assert f() == True"]) == [None]


def test_an_error_text_that_no_file_could_hold_is_escaped(run):
    assert run("def f():\n    raise ValueError(chr(0xD800))\n", ["assert f() == 1"]) == [r"ValueError: \ud800"]


def test_what_the_candidate_writes_among_the_results_is_not_one(run):
    code = (
        "import os\n"
        "for number in range(3, 30):\n"
        "    try:\n"
        "        os.write(number, b'1\\n[[1], 2, 3]\\n' + b'[' * 30000 + b'\\n')\n"
        "    except OSError:\n"
        "        pass\n"
        "def f():\n    return 1\n"
    )
    assert run(code, ["assert f() == 1"]) == [None]


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ("3", "3"), ("3.0", "3"), ("True", "1"), ("None", "None"), ("'a\\n\u00e9'", "'a\\n\u00e9'"),
        ("-1e-300", "-1e-300"),
        ("10 ** 300", "10 ** 300"), ("float('inf')", "1e999"),
        ("[1, (2, 'x'), {'k': [None]}]", "[1, (2, 'x'), {'k': [None]}]"),
        ("{(1, 2): 'x', 3: {4}}", "{3: {4}, (1, 2): 'x'}"),
        ("{1, (2, 3)}", "{(2, 3), 1}"), ("set()", "set()"), ("frozenset({1})", "{1}"), ("{1: 2}.keys()", "{1}"),
        ("collections.Counter('aab')", "{'a': 2, 'b': 1}"), ("collections.OrderedDict(a=1)", "{'a': 1}"),
        ("types.MappingProxyType({'a': 1})", "{'a': 1}"), ("collections.namedtuple('P', 'x y')(1, 2)", "(1, 2)"),
        ("enum.IntEnum('E', 'A').A", "1"), ("fractions.Fraction(1, 2)", "0.5"), ("decimal.Decimal(3)", "3"),
        ("collections.UserList([(1, 2)])", "[(1, 2)]"), ("collections.UserString('ab')", "'ab'"),
        ("complex(2, 0)", "2"), ("decimal.Decimal(10 ** 30 + 1)", "1000000000000000000000000000001"),
    ],
)  # fmt: skip
def test_what_equals_the_expected_value_holds(run, result, expected):
    code = f"import collections, decimal, enum, fractions, types\ndef f(): return {result}\n"
    if expected == "10 ** 300":
        expected = str(10**300)
    assert run(code, [f"assert f() == {expected}"]) == [None]


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ("[1, 2]", "(1, 2)"), ("(1, 2)", "[1, 2]"), ("[1, 2]", "[2, 1]"), ("[1]", "[1, 1]"), ("{1: 2}", "{1: 3}"),
        ("{1}", "{1: 1}"), ("{1, 2}", "{1, 3}"), ("'1'", "1"), ("0.1 + 0.2", "0.3"), ("None", "0"), ("''", "None"),
        ("{'list': [1]}", "[1]"), ("[[1, 2]]", "{1: 2}"), ("[]", "set()"), ("'[1]'", "[1]"),
    ],
)  # fmt: skip
def test_what_differs_does_not(run, result, expected):
    assert run(f"def f(): return {result}\n", [f"assert f() == {expected}"]) == ["AssertionError"]


@pytest.mark.parametrize(
    ("result", "says"),
    [
        ("map(int, '12')", "TypeError: the result is of type map, which no expected value is"),
        ("decimal.Decimal('0.1')", "TypeError: the result is of type Decimal"),
        ("'x' * 10 ** 6", "ValueError: the result is too long to be compared: 1000002 characters"),
        ("10 ** 10 ** 4", "ValueError: Exceeds the limit"),
    ],
)
def test_what_cannot_be_compared_says_why(run, result, says):
    (problem,) = run(f"import decimal\ndef f(): return {result}\n", ["assert f() == [1, 2]"])
    assert problem.startswith(says)


@pytest.mark.parametrize(
    "test", ["assert f()", "assert f() == g", "assert f() != 1", "f() == 1", "assert 1 < f() == 1", "("]
)
def test_another_form_of_test_is_refused(test):
    with pytest.raises(DataError, match="is not `assert CALL == LITERAL`"):
        asserts.assertion(test)
