"""The first word of a command, whatever the input looks like."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttrace.formats.commands import first_word


@pytest.mark.parametrize(
    ("command", "word"),
    [
        ("ls -la", "ls"), ("  find . | wc", "find"), ("LC_ALL=C sort x", "sort"), ("A='b c' B=\"d\" /bin/du -s", "du"),
        ("cd /x && ls", "cd"), ("ls;pwd", "ls"), ("(cd x; ls)", "cd"), ("", None), ("   ", None), ("$(which ls)", None),
        ("echo>x", "echo"), ("./run.sh", "run.sh"), ("/", "/"), ("A=1", None), ("x" * 100, "x" * 40),
        ("x=$(date +%s); ls", "ls"), ("n=`wc -l < f`; echo $n", "echo"), ("arr=(1 2 3); ls", "ls"), ("{ ls; }", "ls"),
        ("x=$(echo $(ls)) y='a b' cat f", "cat"), ("FOO=bar\nls -la", "ls"), ("! grep x f", "grep"), ("x='open", None),
        ("a[1]=2 ls", "ls"), ("x+=1 ls", "ls"),
    ],
)  # fmt: skip
def test_first_word(command, word):
    assert first_word(json.dumps({"command": command})) == word
    assert first_word(f"kwargs={ {'command': command}!r}") == word
    assert first_word(f"args=({command!r},)") == word  # how convert reads it, too


@pytest.mark.parametrize(
    "text", ["", "kwargs={", "kwargs={1}", "kwargs=" + "{" * 5000, "[]", '{"command": 1}', "args=('ls', 'x')"]
)
def test_what_holds_no_command_has_none(text):
    assert first_word(text) is None


@given(st.text())
def test_any_text_is_survived(text):
    first_word(text)
    first_word(json.dumps({"command": text}))
    first_word(f"kwargs={ {'command': text}!r}")
