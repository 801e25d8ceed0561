"""The code blocks of the documents: what each holds, what it needs, and the commands in it."""

from __future__ import annotations

import ast
import re
import shlex
from functools import cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from agenttrace.verbs import VERBS

ROOT = Path(__file__).parents[2]
MADE_OF_OTHERS = {"index.md", "contributing.md", "changelog.md"}
DOCUMENTS = (
    *("README.md", "CONTRIBUTING.md", "datasets/README.md"),
    *sorted(f"docs/{path.name}" for path in ROOT.glob("docs/*.md") if path.name not in MADE_OF_OTHERS),
)
NEEDS = ("engine", "network", "time", "yours")
"""What a comment right before a block may say that it needs (`<!-- needs: network (the Hub) -->`): a Docker engine, the
network, many minutes, or something of the reader's own, such as an endpoint. A block of `sh`, `console` or `python`
without one runs anywhere."""
_BLOCK = re.compile(
    r"^(?: *<!-- needs: (?P<needs>[^\n]*?) -->\n)?(?P<indent> *)```(?P<language>[a-z]*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)
_COMMENT = re.compile(r"^ *<!-- needs:", re.MULTILINE)
_INLINE = re.compile(r"`((?:scripts/)?nox -s [^`\n]+|agenttrace [a-z][^`\n]*)`")
_WORDS_OF_THE_SHELL = {"while", "do", "done", "for", "in", "if", "then", "fi"}


class Block(NamedTuple):
    """One block; `needs` is empty where it runs anywhere."""

    document: str
    line: int
    language: str
    needs: str
    text: str

    @property
    def name(self):
        return f"{self.document}:{self.line}"

    @property
    def script(self):
        """What a reader would type: of a console the lines after `$`."""
        if self.language != "console":
            return self.text
        return "".join(line.removeprefix("$ ") for line in self.text.splitlines(keepends=True) if line.startswith("$ "))

    @property
    def printed(self):
        """Of a console, what it shows as printed."""
        lines = self.text.splitlines() if self.language == "console" else []
        return [line for line in lines if not line.startswith("$ ")]


@cache
def blocks(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    found = [
        Block(document, text.count("\n", 0, one.start("indent")) + 1, one["language"], one["needs"] or "", one["text"])
        for one in _BLOCK.finditer(text)
    ]
    assert sum(bool(block.needs) for block in found) == len(_COMMENT.findall(text)), (
        f"{document}: a comment before none"
    )
    return found


def shown(*languages):
    """Every block of these languages in the documents."""
    return [block for document in DOCUMENTS for block in blocks(document) if block.language in languages]


def inline(document):
    """Commands of ours in the running text, with the line of each."""
    text = (ROOT / document).read_text(encoding="utf-8")
    return [(text.count("\n", 0, one.start()) + 1, one[1].replace("\\|", "|")) for one in _INLINE.finditer(text)]


def commands(script):
    """The simple commands of a script, as lists of words: assignments, redirections and words of the shell left out."""
    found = []
    script = re.sub(r"<<'?(\w+)'?(.*?)\n.*?^\1$", r"\2", script, flags=re.MULTILINE | re.DOTALL)
    for line in script.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        words: list[str] = []
        for word in chain(lexer, ";"):
            if word and set(word) <= set("|&;"):
                while words and (re.match(r"[A-Za-z_]\w*=", words[0]) or words[0] in _WORDS_OF_THE_SHELL):
                    words.pop(0)
                if words:
                    found.append(words)
                words = []
            elif word and set(word) <= set("<>"):
                next(lexer)  # where it goes
            else:
                words.append(word)
    return found


@cache
def sessions():
    """Names of nox sessions that are no verbs; with whether arguments go to a parser of `bench`."""
    tree = ast.parse((ROOT / "noxfile.py").read_text(encoding="utf-8"))
    found = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            for made in node.decorator_list:
                if isinstance(made, ast.Call) and ast.unparse(made.func) == "nox.session":
                    given = {keyword.arg: ast.literal_eval(keyword.value) for keyword in made.keywords}
                    found[given.get("name", node.name)] = False
        if isinstance(node, ast.Assign | ast.AnnAssign) and "BENCHES" in ast.unparse(node).partition("=")[0]:
            found |= {ast.literal_eval(key): True for key in node.value.keys}
    return found


def asked_of_nox(words):
    """The sessions that a command line of nox names, and what follows `--`."""
    before, _, after = " ".join(map(shlex.quote, words)).partition(" -- ")
    names = [word for word in shlex.split(before)[1:] if word != "-s"]
    return names, shlex.split(after)


def is_verb(name):
    return name in VERBS
