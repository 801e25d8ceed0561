"""The demo tasks are well-formed, and the turns that the demo model learns really solve them on the fixture."""

import hashlib
import importlib.util
import re
import stat
import sys
import tomllib
from pathlib import Path, PurePosixPath

import pytest

from agenttrace.fixture import load, write_tree

ROOT = Path(__file__).resolve().parents[2]
TASKS = tomllib.loads((ROOT / "agenttrace/tasks/demo.toml").read_text())["task"]
CHANGE_KEYS = {
    "file": [{"type", "content"}, {"type", "content", "mode"}],
    "dir": [{"type"}],
    "symlink": [{"type", "target"}],
    "absent": [{"type"}],
}


def load_turns():
    spec = importlib.util.spec_from_file_location("demo_model_turns", ROOT / "scripts/demo_model/turns.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


turns = load_turns()
DIALOGUES = turns.load_dialogues()
RECORDED = turns.load_outputs()
every_task = pytest.mark.parametrize("task", TASKS, ids=[task["name"] for task in TASKS])
every_dialogue = pytest.mark.parametrize("dialogue", DIALOGUES, ids=[dialogue.name for dialogue in DIALOGUES])


def tree(root):
    found = {}
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            found[name] = {"type": "symlink", "target": str(path.readlink())}
        else:
            mode = f"{stat.S_IMODE(path.stat().st_mode):04o}"
            found[name] = {"type": "dir", "mode": mode} if path.is_dir() else file(path.read_text(), mode)
    return found


def file(content, mode):
    return {"type": "file", "content": content, "mode": mode}


def wrong_paths(before, after, changes):
    """Paths that are neither as before nor, where a change is expected, as expected."""
    wrong = []
    for path in before | after | changes:
        if path not in changes:
            if before.get(path) != after.get(path):
                wrong.append(path)
            continue
        expected = changes[path]
        found = after.get(path, {"type": "absent"})
        if {key: found.get(key) for key in expected} != expected:
            wrong.append(path)
    return wrong


def test_ids_are_contiguous_and_names_unique():
    assert [task["id"] for task in TASKS] == list(range(len(TASKS)))
    assert len({task["name"] for task in TASKS}) == len(TASKS)
    assert len({task["prompt"] for task in TASKS}) == len(TASKS)
    assert 28 <= len(TASKS) <= 32


def test_kinds_are_mixed():
    changing = [task for task in TASKS if "changes" in task["expect"]]
    assert sum(task["kind"] == "shell" for task in TASKS if task not in changing) >= 12
    assert sum(task["kind"] == "shell" for task in changing) >= 8
    assert sum(task["kind"] == "python" for task in TASKS) >= 6
    assert sum(not task["solvable"] for task in TASKS) >= 1


@every_task
def test_a_task_has_exactly_the_agreed_keys(task):
    assert set(task) == {"id", "name", "kind", "prompt", "solvable", "expect"}
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", task["name"])
    assert task["kind"] in {"shell", "python"}
    assert isinstance(task["solvable"], bool)
    assert task["prompt"].isascii()
    assert task["prompt"] == task["prompt"].strip()
    assert set(task["expect"]) <= {"answer", "changes"}
    answer = task["expect"]["answer"]
    assert answer == answer.strip()
    assert 0 < len(answer) <= 20


@every_task
def test_expected_changes_stay_inside_the_tree(task):
    for path, change in task["expect"].get("changes", {}).items():
        pure = PurePosixPath(path)
        assert str(pure) == path
        assert not pure.is_absolute()
        assert ".." not in pure.parts
        assert path != "."
        assert set(change) in CHANGE_KEYS[change["type"]]
        assert re.fullmatch("0[0-7]{3}", change.get("mode", "0644"))


@every_task
def test_an_expected_change_is_one(task, tmp_path):
    write_tree(load("demo"), tmp_path / "tree")
    before = tree(tmp_path / "tree")
    changes = task["expect"].get("changes", {})
    assert sorted(wrong_paths(before, before, changes)) == sorted(changes)


@every_dialogue
def test_the_learned_turns_solve_the_solvable_tasks_only(dialogue, tmp_path):
    task = TASKS[dialogue.id]
    root = tmp_path / "testdata"
    write_tree(load("demo"), root)
    before = tree(root)
    outputs, answer = turns.play(dialogue, root)
    wrong = wrong_paths(before, tree(root), task["expect"].get("changes", {}))
    assert (answer == task["expect"]["answer"] and not wrong) == task["solvable"]
    assert outputs == RECORDED[dialogue.id]


@every_dialogue
def test_a_dialogue_ends_with_its_only_final_answer(dialogue):
    tools = [turn.tool for turn in dialogue.turns]
    assert tools[-1] == "final_answer"
    assert "final_answer" not in tools[:-1]
    assert set(tools) <= set(turns.ARGUMENT_NAMES)
    assert all(turn.reasoning.strip() for turn in dialogue.turns)
    assert ("python_interpreter" in tools) == (TASKS[dialogue.id]["kind"] == "python")


def test_some_second_call_needs_the_first_output():
    assert any("@{0}" in dialogue.turns[1].argument for dialogue in DIALOGUES if len(dialogue.turns) > 2)


def test_some_first_call_fails_and_the_next_one_works():
    codes = [[output.exit_code for output in outputs] for outputs in RECORDED.values()]
    assert any(len(code) > 1 and code[0] != 0 and code[1] == 0 for code in codes)


def test_a_tool_message_shows_the_streams_that_are_not_empty():
    assert turns.Output(0, "", "").as_message() == "exit_code: 0"
    assert turns.Output(0, "a\nb\n\n", "").as_message() == "exit_code: 0\nstdout:\na\nb"
    assert turns.Output(1, "a\n", "b\n").as_message() == "exit_code: 1\nstdout:\na\nstderr:\nb"


@pytest.mark.parametrize(
    ("code", "shown"), [("1 + 1", "2\n"), ("'a'", "'a'\n"), ("None", ""), ("x = 1", ""), ("print(1)", "1\n"), ("", "")]
)
def test_python_shows_the_value_of_the_last_expression(code, shown, tmp_path):
    turn = turns.Turn("", "python_interpreter", code)
    assert turns.execute(turn, code, tmp_path) == turns.Output(0, shown, "")


def test_the_bundled_model_is_the_pinned_one_and_holds_the_template():
    data = (ROOT / "agenttrace/models/bundled/agenttrace-demo.gguf").read_bytes()
    pinned = tomllib.loads((ROOT / "scripts/demo_model/pinned.toml").read_text())["tools"]
    assert hashlib.sha256(data).hexdigest() == pinned["sha256"]
    assert (ROOT / "scripts/demo_model/template.jinja").read_bytes() in data
    assert len(data) <= 4 * 2**20
