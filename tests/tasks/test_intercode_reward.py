"""The InterCode reward against a table of cases worked out by hand from the published formula."""

from __future__ import annotations

import hashlib
import math
import os
import subprocess

import pytest

from agenttrace.records import StateChange
from agenttrace.sandbox.reports import TreeEntry
from agenttrace.tasks import bench as state
from agenttrace.tasks import intercode_reward as ic


def file(path, content="x", mode="0644"):
    digest = hashlib.sha256(content.encode()).hexdigest()
    return StateChange(path=path, type="file", mode=mode, size=len(content), sha256=digest)


def link(path, target):
    return StateChange(path=path, type="symlink", target=target)


def folder(path):
    return StateChange(path=path, type="dir", mode="0755")


def gone(path):
    return StateChange(path=path, type="absent")


def as_entry(change):
    fields = {name: getattr(change, name) for name in ("path", "type", "size", "sha256", "target")}
    return TreeEntry(mode=change.mode or "0777", mtime_ns=1, **fields)


BEFORE = tuple(
    as_entry(change)
    for change in (folder("system"), file("system/a.txt"), file("system/b c.txt"), folder("system/e"), link("l", "x"))
)
NEW = file("system/new.txt")


def parts(agent, gold, output="", expected=""):
    facts = [state.applied(BEFORE, made) for made in (agent, gold)]
    found = ic.reward(BEFORE, (facts[0], output), (facts[1], expected))
    return None if found is None else (found.file_diff, found.file_changes, found.answer_similarity)


@pytest.mark.parametrize(
    ("agent", "gold", "diff", "changes"),
    [
        ([], [], 0.33, 0.33),
        ([NEW], [NEW], 0.33, 0.33),
        ([NEW], [], 0.05, 0.33),
        ([], [gone("system/a.txt")], 0.05, 0.33),
        ([gone("system/a.txt")], [NEW], 0.0, 0.33),
        ([gone("system/a.txt")], [file("system/a.txt", "y")], 0.0, 0.33),  # ` D` and ` M` are two pairs
        ([file("system/new.txt", "1")], [file("system/new.txt", "2")], 0.33, 0.0),
        ([file("system/a.txt", "1")], [file("system/a.txt", "2")], 0.33, 0.33),  # modified: content never compared
        ([file("plain", "1")], [file("plain", "2")], 0.33, 0.33),  # no dot: md5deep is missing on both sides
        ([NEW, file("p.q", "1")], [NEW, file("p.q", "2")], 0.33, 0.17),  # 0.165 as a binary fraction rounds up
        ([folder("system/empty")], [], 0.33, 0.33),  # git does not see it
        ([file("usr/share/x.txt")], [], 0.33, 0.33),  # ignored at any depth
        ([folder("n"), file("n/1.txt")], [folder("n"), file("n/2.txt")], 0.33, 0.33),  # a new folder is one entry
        ([file("system/a.txt", mode="0755")], [], 0.05, 0.33),  # the executable bit is content to git
        ([file("system/a.txt", mode="0600")], [], 0.33, 0.33),  # other bits are not
        ([link("k.txt", "l")], [file("k.txt")], 0.33, 0.0),
        ([link("l", "y")], [], 0.05, 0.33),
        ([file("l")], [], 0.05, 0.33),
    ],
)  # fmt: skip
def test_state_and_content_parts(agent, gold, diff, changes):
    assert parts(agent, gold) == (diff, changes, 0.33)


NAMES = (
    "tab\there", "form\ffeed", "bell\a", "back\b", "vertical\v", "return\r", "line\nbreak", "unit\x1cseparator", "\x01",
    "del\x7f", "nbsp\u00a0x", "\u00e9", "\U0001f600", 'quo"te', "back\\slash", "plain!#$&()*,;<>=?@[]^`{|}~", "a b",
    " ",
)  # fmt: skip


def test_names_are_quoted_as_git_does_it(tmp_path):
    git = ["git", "-c", "core.quotepath=true", "-c", "safe.directory=*", "-C", str(tmp_path)]
    subprocess.run([*git, "init", "--quiet"], check=True, env={**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null"})
    for name in NAMES:
        (tmp_path / name).touch()
    ended = subprocess.run([*git, "status", "--short"], check=True, capture_output=True)
    made = [file(name, "") for name in NAMES]
    assert ic.git_status({}, state.applied((), made)) == ended.stdout.decode("ascii").removesuffix("\n")


def test_odd_names_are_one_word_each():
    odd = [name for name in NAMES if " " not in name]
    status = ic.git_status({}, state.applied((), [file(name, "") for name in odd]))
    assert len(ic.pairs(status)) == len(odd)


def test_a_name_with_a_blank_breaks_the_pairing():
    assert ic.git_status({}, state.applied((), [file("a b.txt")])) == '?? "a b.txt"'
    assert ic.pairs('?? "a b.txt"') is None  # three words: the published code fails
    assert parts([file("system/d e.txt")], []) is None
    # two such names give six words, paired across each other
    assert ic.pairs('?? "a b.txt"\n?? "c d.txt"') == {('"a', "??"), ("??", 'b.txt"'), ('d.txt"', '"c')}
    assert parts([gone("system/b c.txt"), file("x y")], [gone("system/b c.txt"), file("x y")]) == (0.33, 0.33, 0.33)


@pytest.mark.parametrize(
    ("agent", "gold", "similarity"),
    [
        ("", "", 1.0),
        ("2", "2", 1.0),
        ("2", "3", 0.0),  # single digits are no words: equality decides
        ("2\n", "2", 0.0),
        ("12", "13", 0.0),
        ("2 files", "3 files", 1.0),  # the digit is not seen
        ("b.txt a.txt", "a.txt b.txt", 1.0),  # order is not seen
        ("Hello", "hello", 1.0),
        ("word", "", 0.0),
        ("aa", "aa bb", 1 / math.sqrt(1 + (math.log(1.5) + 1) ** 2)),
        ("aa aa bb", "aa", 2 / math.sqrt(4 + (math.log(1.5) + 1) ** 2)),
    ],
)
def test_outputs_are_bags_of_words(agent, gold, similarity):
    assert ic.similarity(agent, gold) == pytest.approx(similarity, abs=1e-12)
    assert parts([], [], agent, gold) == (0.33, 0.33, round(0.33 * similarity, 2))


def test_outputs_are_compared_as_if_the_roots_lay_where_intercode_has_them():
    agent, gold = "/testdata/system/a.txt\n/testdata\n", "/testdata/system/b.txt\nls: /testdata/testbed: none\n"
    published = ic.similarity("/system/a.txt\n/\n", "/system/b.txt\nls: /testbed: none\n")
    assert parts([], [], agent, gold)[2] == round(0.33 * published, 2)
    assert ic.similarity(agent, gold) > published + 0.1
    assert parts([], [], "/testdata\n", "/\n")[2] == 0.33


@pytest.mark.parametrize(("differing", "score"), [(0, 0.33), (1, 0.05), (2, 0.0), (9, 0.0)])
def test_the_state_part_is_the_error_function(differing, score):
    assert ic.state_part(differing) == score


def test_all_parts_together_make_one():
    assert ic.Parts(file_diff=0.33, file_changes=0.33, answer_similarity=0.33).reward == pytest.approx(1.0)
    assert ic.Parts(file_diff=0.05, file_changes=0.33, answer_similarity=0.0).reward == pytest.approx(0.39)


@pytest.mark.parametrize("mode", ["", "x", "-1", "9999", "0" * 5000, None])
def test_a_mode_that_is_none_is_not_executable(mode):
    assert ic.git_status({"a": as_entry(file("a", mode="0755"))}, {"a": file("a", mode=mode)}) == " M a"
    assert ic.git_status({"a": as_entry(file("a"))}, {"a": file("a", mode=mode)}) == ""
