"""Task sets of users: mistakes are told by file and line, and one that is right has one digest in every form."""

from __future__ import annotations

import errno
import hashlib
import json
import time
import tomllib
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttrace.errors import StorageError, UsageError
from agenttrace.tasks import check_name
from agenttrace.tasks.own import matching, positions
from agenttrace.tasks.own.example import write
from agenttrace.tasks.own.loading import is_path, load, sidecar, unpacked

ANSWER = '[[task.check]]\nkind = "answer"\nequals = "1"\n'
TASK = f'[[task]]\nid = "a"\nprompt = "How many?"\n{ANSWER}'

MALFORMED = {
    "no TOML": ('name = "x"\n[[task]\n', "2: not valid TOML: Expected ']]' at the end of an array declaration"),
    "no task": ('name = "x"\n', "1: there is no task in it"),
    "an unknown key": (
        TASK.replace("prompt", "promt", 1),
        (
            "2 mistakes; nothing was started:\n"
            "  tasks.toml:1: task 'a': prompt is missing\n"
            "  tasks.toml:3: task 'a': unknown key 'promt' (did you mean prompt?) (known: id, prompt, fixture, gold, "
            "gold_answer, check)"
        ),
    ),
    "a table of what stands at the top": (
        f'[set]\nname = "x"\n{TASK}',
        "1: its keys (name, fixture, clock) stand at the top of TOML, without [set]",
    ),
    "a wrong type": (
        TASK.replace('"1"', "1"),
        "6: task 'a', check 1 (answer): equals is 1: expected a text of at most 100,000 characters",
    ),
    "a doubled id": (TASK + TASK, "8: id 'a' is that of the task in line 1, too"),
    "a missing fixture": (
        TASK + 'fixture = "data"\n',
        "7: task 'a', check 1 (answer): unknown key 'fixture' (known: kind, name, equals, matches)",
    ),
    "a fixture that is not there": (
        f'fixture = "data.tar"\n{TASK}',
        "1: the set: fixture data.tar: there is no such file or folder",
    ),
    "a fixture elsewhere": (
        TASK.replace("[[task.check]]", 'fixture = "../etc"\n[[task.check]]'),
        (
            "4: task 'a': fixture is '../etc': expected a folder or an archive of the set, as a path from the file of "
            'tasks, such as "files"'
        ),
    ),
    "a pattern that is none": (
        TASK.replace('equals = "1"', 'matches = "(1"'),
        (
            "6: task 'a', check 1 (answer): matches is '(1': not a regular expression: missing ), unterminated "
            "subpattern at position 0"
        ),
    ),
    "an unknown kind": (
        TASK.replace('"answer"', '"anwser"'),
        (
            "5: task 'a', check 1: unknown kind 'anwser' (did you mean answer?) (known: answer, stdout, file, "
            "exit_status, gold)"
        ),
    ),
    "a check that checks nothing": (
        TASK.replace('equals = "1"\n', ""),
        "4: task 'a', check 1 (answer): expected one of equals, matches; it has none",
    ),
    "two things at once": (
        f'{TASK}[[task.check]]\nkind = "file"\npath = "x"\nabsent = true\nmode = "0644"\n',
        "7: task 'a', check 2 (file): absent stands alone: of a file that is not there nothing else can hold",
    ),
    "a gold check without gold": (
        TASK.replace('"answer"\nequals = "1"', '"gold"'),
        "4: task 'a', check 1: it compares with the task's gold, which is missing",
    ),
    "two checks of one name": (
        TASK + '[[task.check]]\nkind = "answer"\nname = "answer"\nequals = "2"\n',
        "9: task 'a', check 2: another check of this task is called 'answer', too",
    ),
    "no check": (
        '[[task]]\nid = 1\nprompt = "x"\n',
        "1: task 1: check is missing: without one, nothing says whether it was solved",
    ),
    "a name of the kit": (
        f'name = "demo"\n{TASK}',
        "1: the set is called demo, as one of the kit is: give it another name",
    ),
    "no UTF-8": (b'name = "x"\n# \xff\n', "2: not UTF-8"),
    "one bracket": ('[task]\nid = "a"\n', "1: expected [[task]] with two brackets: there can be several"),
    "a script that is not there": (
        TASK + '[[task.check]]\nkind = "exit_status"\nscript_file = "c.sh"\n',
        "9: task 'a': script_file c.sh: there is no such file or folder",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_set_is_one_clear_line_for_each_mistake(tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    text, said = MALFORMED[case]
    (tmp_path / "tasks.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(UsageError) as error:
        load(tmp_path.__class__("tasks.toml"))
    separator = ": " if said.partition(" ")[2].startswith("mistakes") else ":"
    assert str(error.value) == f"tasks.toml{separator}{said}"


def test_json_lines_are_named_by_their_number(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    good = {"id": 1, "prompt": "x", "check": [{"kind": "answer", "equals": "1"}]}
    lines = [
        json.dumps(good),
        "{",
        "",
        '{"id": 2, "id": 3}',
        "[]",
        json.dumps({"set": {}}),
        json.dumps(good | {"id": "1"}),
    ]
    (tmp_path / "t.jsonl").write_text("\n".join(lines))
    with pytest.raises(UsageError) as error:
        load(tmp_path.__class__("t.jsonl"))
    assert str(error.value).splitlines() == [
        "t.jsonl: 7 mistakes; nothing was started:",
        "  t.jsonl:2: not valid JSON: Expecting property name enclosed in double quotes at character 2",
        "  t.jsonl:4: task 3: check is missing: without one, nothing says whether it was solved",
        "  t.jsonl:4: task 3: prompt is missing",
        "  t.jsonl:4: the key 'id' is given twice in one object",
        "  t.jsonl:5: expected a task (a table with id, prompt, check), not []",
        '  t.jsonl:6: what holds for the whole set is the first line: {"set": {"name": ..., "fixture": ...}}',
        "  t.jsonl:7: id '1' is that of the task in line 1, too",
    ]


def test_what_is_no_set_at_all_is_told_apart(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path.__class__
    for name, said in (
        ("nowhere", "there is no such folder or file of tasks; agenttrace tasks new NAME writes an example"),
        (".", "expected one file of tasks, found neither tasks.toml nor tasks.jsonl; agenttrace tasks new NAME writes"),
        ("x.txt", "a task set is a folder with tasks.toml or tasks.jsonl, or such a file"),
        ("x.tar", "it cannot be read as an archive: "),
    ):
        path("x.txt").write_text("")
        path("x.tar").write_text("no tar")
        with pytest.raises(UsageError) as error:
            load(path(name))
        assert str(error.value).startswith(f"{name}: {said}")
    with pytest.raises(UsageError, match=r"unknown task set 'nlbash'; known: .* \(did you mean nl2bash\?\)"):
        check_name("nlbash")
    with pytest.raises(UsageError, match="unknown task set 'own'"):
        check_name("own")


TOML = """
title = 'a "b" # c'
[[task]] # the first
id = "x\\"y"
check = [ # one
  { kind = "a]", "q.r" = [1, 2] },
  { kind = 'b}' },
]
prompt = \"\"\"
[[task]]
id = "not here\\\"\"
\"\"\"
more.deep = 1979-05-27T07:32:00Z
[[task.check2]]
x = '''
'''
[task.table]
y = 1
[[task]]
id = true
"""


def _paths(value, path=()):
    if path and path[-1] not in {"task", "check2", "more"}:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from _paths(inner, (*path, key))


def test_every_key_of_a_toml_text_has_its_line():
    parsed = tomllib.loads(TOML)
    found = positions.lines(TOML)
    assert [path for path in _paths(parsed) if path not in found] == []
    wanted = {
        ("task", 0): 3,
        ("task", 0, "id"): 4,
        ("task", 0, "check", 1, "kind"): 7,
        ("task", 0, "check2", 0, "x"): 15,
    }
    wanted |= {("task", 0, "table", "y"): 18, ("task", 1): 19, ("task", 1, "id"): 20}
    assert {path: found[path] for path in wanted} == wanted


KEYS = st.text("ab-_\"'.# ]", min_size=1, max_size=4)
VALUES = st.recursive(
    st.integers() | st.booleans() | st.text("a\"'\\#]}\n,=", max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=8,
)


def _toml(value):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {_toml(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[\n" + ",\n".join(map(_toml, value)) + "\n]"
    return json.dumps(value)


@given(st.dictionaries(KEYS, VALUES, max_size=4))
def test_lines_are_found_in_any_toml(values):
    text = "".join(f"{json.dumps(key)} = {_toml(value)}\n" for key, value in values.items())
    assert tomllib.loads(text) == values
    found = positions.lines(text)
    lines = text.split("\n")
    for key in values:
        assert lines[found[(key,)] - 1].startswith(json.dumps(key))


def test_the_example_is_not_written_over_anything(tmp_path):
    write(tmp_path / "x")
    with pytest.raises(UsageError, match="is there already"):
        write(tmp_path / "x")
    with pytest.raises(UsageError, match="cannot be the name of a task set"):
        write(tmp_path / "mbpp")


@pytest.mark.parametrize("name", ["run.jsonl", "run.jsonl.gz", "run.jsonl.zst", "run.failures.jsonl", "run.run.json"])
def test_the_set_lies_beside_the_records_whatever_they_are(tmp_path, name):
    assert sidecar(tmp_path / name) == tmp_path / "run.tasks.tar"


def test_a_search_that_would_not_end_ends(monkeypatch):
    monkeypatch.setattr(matching, "LIMIT_S", 0.5)
    assert matching.problem("(a+)+$", "a" * 40 + "b", "the answer") == (
        "looking for the pattern in the answer took longer than 0.5 s"
    )
    assert matching.problem("^b", "a\nb", "it") == "it does not match '^b'"
    assert matching.problem("(?m)^b", "a\nb", "it") is None


def test_the_digest_is_of_what_tasks_checks_and_fixtures_say(tmp_path):
    write(tmp_path / "x")
    text = (tmp_path / "x" / "tasks.toml").read_text()
    before = load(tmp_path / "x").sha256
    (tmp_path / "x" / "tasks.toml").write_text(text.replace('equals = "3"', 'equals = "4"'))
    assert load(tmp_path / "x").sha256 != before
    (tmp_path / "x" / "tasks.toml").write_text(text.replace("# An answer.", "# Nothing."))
    assert load(tmp_path / "x").sha256 == before
    (tmp_path / "x" / "checks" / "total.sh").write_text("true\n")
    after = load(tmp_path / "x").sha256
    assert after != before
    assert len(after) == len(hashlib.sha256().hexdigest())


def test_an_empty_fixture_is_one_and_the_name_is_that_of_folder_or_file(tmp_path):
    (tmp_path / "set" / "nothing").mkdir(parents=True)
    (tmp_path / "set" / "files").mkdir()
    (tmp_path / "set" / "files" / "a").write_text("a")
    text = f'fixture = "files"\n{TASK}'.replace('id = "a"\n', 'id = "a"\nfixture = "nothing"\n')
    for name, called in (("tasks.toml", "set"), ("mine.toml", "mine")):
        (tmp_path / "set" / name).write_text(text)
        found = load(tmp_path / "set" / name)
        assert found.name == called
        assert found.trees[found.tasks[0].fixture].entries == ()
        assert unpacked(found.packed(), "x") == found


def test_a_pattern_that_a_later_python_may_read_otherwise_is_taken_without_a_word(tmp_path):
    (tmp_path / "tasks.toml").write_text(TASK.replace('equals = "1"', 'matches = "[[a]"'))
    with warnings.catch_warnings(action="error"):
        assert load(tmp_path).tasks[0].check[0]["matches"] == "[[a]"


def test_a_value_too_deep_to_be_shown_is_a_mistake_like_any_other(tmp_path):
    deep = "prompt = {a" + " = {a".join([".a" * 90] * 30) + " = 1" + "}" * 30
    (tmp_path / "tasks.toml").write_text(TASK.replace('prompt = "How many?"', deep))
    with pytest.raises(UsageError, match="prompt is a dict that is nested too deeply: expected a text"):
        load(tmp_path)


@pytest.mark.parametrize(
    "name", ["gone.zip", "gone.tgz", "gone.tar.gz", "gone.tar", "gone.toml", "gone.jsonl", "./demo"]
)
def test_what_is_not_there_is_a_place_all_the_same_when_it_is_named_like_one(name):
    assert is_path(name)
    assert not is_path("demo")


CHECKED = {"id": "a", "prompt": "x", "check": [{"kind": "answer", "equals": "1"}]}
ODD = {
    "a clock that the calendar has not": (
        "tasks.toml",
        f'clock = "2024-13-45T99:99:99Z"\n{TASK}',
        "1: the set: clock is '2024-13-45T99:99:99Z': expected an instant as text",
    ),
    "digits of another script": ("tasks.toml", f'clock = "٢٠٢٤-05-05T12:30:00Z"\n{TASK}', "1: the set: clock is "),
    "a date instead of a text": (
        "tasks.toml",
        f"clock = 2024-05-05T12:30:00Z\n{TASK}",
        "1: the set: clock is datetime",
    ),
    "a NUL": (
        "tasks.jsonl",
        json.dumps(CHECKED | {"prompt": "a\0b"}),
        "1: task 'a': prompt is 'a\\x00b': expected a text of at most 100,000 characters, not empty; it holds a NUL",
    ),
    "half a character": (
        "tasks.jsonl",
        json.dumps(CHECKED | {"prompt": "\ud800"}),
        "not empty; it holds one half of a surrogate pair",
    ),
    "JSON over several lines": (
        "tasks.jsonl",
        json.dumps(CHECKED, indent=1),
        "1: one JSON text over several lines; here each line is one task, whole",
    ),
    "all tasks in a list": (
        "tasks.jsonl",
        json.dumps([CHECKED]),
        "1: a list; here each line is one task, without brackets around all",
    ),
    "lists without end": ("tasks.jsonl", "[" * 100_000, "1: not valid JSON: nested too deeply"),
    "a number without end": ("tasks.jsonl", "9" * 10_000, "1: not valid JSON: a number with too many digits"),
    "a key without end": (
        "tasks.toml",
        "x" + '.a."b".c' * 20_000 + f" = 1\n{TASK}",
        "1: a key of more than 100 parts",
    ),
    "a table without end": ("tasks.toml", f"{TASK}[x{'.a' * 50_000}]\n", "7: a key of more than 100 parts"),
    "a file that must not exist": (
        "tasks.toml",
        TASK + '[[task.check]]\nkind = "file"\npath = "x"\nexists = false\n',
        "10: task 'a', check 2 (file): exists is False: expected true; that nothing is there is `absent = true`",
    ),
    "a fixture that is the set itself": (
        "tasks.toml",
        f'fixture = "."\n{TASK}',
        "1: the set: fixture is '.': expected a folder or an archive of the set, as a path from the file of tasks",
    ),
}


@pytest.mark.parametrize("case", ODD)
def test_an_odd_set_is_told_what_is_odd_at_once(tmp_path, case):
    name, text, said = ODD[case]
    (tmp_path / name).write_text(text)
    with pytest.raises(UsageError) as error:
        load(tmp_path)
    assert said in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_many_words_with_dots_between_them_are_a_text_like_any_other(tmp_path):
    (tmp_path / "tasks.toml").write_text(TASK.replace("How many?", "a. b ." * 20_000).replace('"a"', '"a-b"', 1))
    with pytest.raises(UsageError, match=r"prompt is 'a\. b \..*expected a text of at most"):
        load(tmp_path)


def test_thousands_of_checks_are_named_in_no_time(tmp_path):
    (tmp_path / "tasks.toml").write_text(TASK + ANSWER * 20_000)
    started = time.monotonic()
    found = load(tmp_path)
    assert time.monotonic() - started < 30  # it was a minute and a half while each looked at all before it
    assert found.tasks[0].check[-1]["name"] == "answer_20001"


def test_an_example_that_could_not_be_written_leaves_nothing(tmp_path, monkeypatch):
    def full(self, *_, **__):
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_text", full)
        with pytest.raises(StorageError, match="No space left"):
            write(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []
    write(tmp_path / "x")


def test_an_empty_name_is_no_place():
    assert not is_path("")
