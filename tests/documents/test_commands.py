"""Every command that the documents show is one: its verb, session and options exist."""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from functools import cache
from importlib import import_module

import pytest

from agenttrace.verbs import VERBS, module_of
from tests.documents.blocks import DOCUMENTS, NEEDS, ROOT, asked_of_nox, blocks, commands, inline, sessions, shown

OF_OTHERS = {
    *(
        "brew",
        "cat",
        "cd",
        "colima",
        "curl",
        "docker",
        "git",
        "llama-quantize",
        "mkdir",
        "nohup",
        "openssl",
        "pip",
        "pipx",
        "podman",
    ),
    *("printf", "python", "python3", "ray", "read", "sudo", "tar", "uv"),
}


class _Refused(Exception):  # noqa: N818
    pass


class _Parser(argparse.ArgumentParser):
    def error(self, message):
        raise _Refused(message)


@cache
def parser(name):
    found = _Parser(prog=name)
    import_module(module_of(name)).add(found)
    return found


@cache
def help_of_bench(name):
    return subprocess.run(
        [sys.executable, "-m", "bench", name, "--help"], capture_output=True, text=True, cwd=ROOT, check=True
    ).stdout


def check(words):
    """Raise `_Refused` unless this is a command of ours that its parser takes, or a program that we know."""
    if words[0] in {"scripts/nox", "nox"}:
        names, arguments = asked_of_nox(words)
        for name in names:
            check_session(name, arguments)
    elif words[0] == "agenttrace":
        if words[1] not in VERBS:
            raise _Refused(f"{words[1]} is no verb")
        check_verb(words[1], words[2:])
    elif not (words[0] in OF_OTHERS or (ROOT / words[0]).is_file()):
        raise _Refused(f"{words[0]} is no program that the documents use; is it spelt right?")


def check_session(name, arguments):
    if name in VERBS:
        check_verb(name, arguments)
    elif name not in sessions() and name not in {"-l", "-h"}:
        raise _Refused(f"{name} is no session")
    elif sessions().get(name):
        unknown = [
            word for word in arguments if word.startswith("--") and word.split("=")[0] not in help_of_bench(name)
        ]
        if unknown:
            raise _Refused(f"{name} has no {unknown}")


def check_verb(name, arguments):
    try:
        parser(name).parse_args(arguments)
    except SystemExit as ended:
        if ended.code:
            raise _Refused(f"{name} {arguments}") from None


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_of_a_block_is_one(document):
    refused = []
    for block in blocks(document):
        for words in commands(block.script) if block.language in {"sh", "console"} else ():
            try:
                check(words)
            except _Refused as error:
                refused.append(f"{block.name}: {' '.join(words)}: {error}")
    assert refused == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_command_in_running_text_names_verbs_and_options_that_there_are(document):
    refused = []
    for line, text in inline(document):
        names = re.findall(r"[a-z][a-z0-9-]+", re.split(r" -- | --|[\[<]", text.partition(" -s ")[2] or text[11:])[0])
        for name in names if " -s " in text else names[:1]:
            if name not in VERBS and name not in sessions():
                refused.append(f"{document}:{line}: {text}: {name} is neither a verb nor a session")
            elif name in VERBS:
                known = parser(name)._option_string_actions
                refused += [
                    f"{document}:{line}: {text}: {name} has no {option}"
                    for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", text)
                    if option not in known
                ]
    assert refused == []


@pytest.mark.parametrize("name", VERBS)
def test_the_page_that_a_verb_is_explained_on_shows_it(name):
    text = (ROOT / "docs" / VERBS[name].page).read_text(encoding="utf-8")
    assert re.search(rf"(scripts/nox -s|agenttrace) {name}\b|`{name}\b", text)


def test_the_readme_has_every_bench_and_check_of_the_kit():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    benches = [name for name, is_bench in sessions().items() if is_bench]
    assert len(benches) > 10
    assert [name for name in benches if not re.search(rf"(scripts/nox -s |`){name}`", text)] == []


@pytest.mark.parametrize("name", ["collect", "cluster"])
def test_every_option_of_a_campaign_is_on_the_page_of_its_verb(name):
    pages = [(ROOT / "docs" / page).read_text(encoding="utf-8") for page in ("collect.md", VERBS[name].page)]
    shown = [action for action in parser(name)._actions if action.help != argparse.SUPPRESS and action.dest != "help"]
    options = [action.option_strings for action in shown if action.option_strings]
    assert len(options) > 30
    assert [words for words in options if not any(f"`{word}" in page for word in words for page in pages)] == []


def test_what_cannot_be_typed_stands_in_no_block():
    odd = [f"{one.name}: {one.script}" for one in shown("sh", "console") if re.search(r"…|<[a-z]+>", one.script)]
    assert odd == []


def test_every_need_is_one_that_is_known():
    needed = {block.name: block.needs for block in shown("sh", "console", "python") if block.needs}
    assert {name: need for name, need in needed.items() if need.split(" ")[0] not in NEEDS} == {}
    assert all(re.fullmatch(r"engine|\w+ \(.+\)", need) for need in needed.values()), "say what it is, in brackets"


def test_a_command_that_is_none_is_seen():
    for line, said in (
        ("scripts/nox -s colect", "no session"),
        ("scripts/nox -s collect -- --outptu x.jsonl", "unrecognized arguments: --outptu"),
        ("agenttrace shw x", "no verb"),
        ("agenttrace convert x --to nothing -o y", "invalid choice"),
        ("agentrace show x", "spelt right"),
        ("scripts/nox -s bench-collect -- --taskz 3", "has no"),
    ):
        (words,) = commands(line)
        with pytest.raises(_Refused, match=said):
            check(words)


def test_a_script_is_cut_into_its_commands():
    script = """A=1 nox -s show -- 'a b' \\
      x # why
    cd there && scripts/nox -s report | cat
    while read -r a; do printf %s "$a"; done < b
    cat > x <<'END' | tee y
not a command
END
    """
    assert commands(script) == [
        ["nox", "-s", "show", "--", "a b", "x"],
        ["cd", "there"],
        ["scripts/nox", "-s", "report"],
        ["cat"],
        ["read", "-r", "a"],
        ["printf", "%s", "$a"],
        ["cat"],
        ["tee", "y"],
    ]
