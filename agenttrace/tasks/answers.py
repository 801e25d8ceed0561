"""Finds the Python code of a run: in its tool calls, and in a final answer that may be Markdown around the code."""

from __future__ import annotations

import ast
import builtins
import json
import re
import symtable
import textwrap
import threading
import warnings
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from agenttrace.tasks import Finished

_PARSING = threading.Lock()
_FENCE = re.compile(
    r"(?:`{3,}|~{3,})[^\n`]*\n?|</?(?:code|pre|think(?:ing)?|answer|solution|python|s)\b[^>\n]*>|<\|[a-z_]{1,30}\|>"
)
"""Markdown's fences, and the tags and tokens of a template that divide an answer like them."""
_INLINE = re.compile(r"(`+)(?=[^`\n])(.+?)(?<!`)\1(?!`)")
_BEFORE = re.compile(r"(?:[ \t>]|[-*+](?=[ \t])|\d{1,9}[.)](?=[ \t]))*")
_MARGIN = re.compile(r"^(?:[ \t]*(?:>>>|\.\.\.)(?: |$)|(?:[ \t]*>[ \t]?)+)", re.MULTILINE)
_START = re.compile(r"[ \t]*(?:@|\w+[ \t]*[:=]|(?:async|class|def|for|from|if|import|try|while|with)\b)")
_WORD = re.compile(r"\[?\w+\]?\s*")
_ENDS = 8
"""So many fences on from the one that opens a block, its end is looked for: a docstring can hold fences, too."""
_TRIES = 300
"""Of one text no more pieces than this are parsed."""

Binding = Literal["made", "declared", "imported"]
"""`declared` is a function without a body: `def f(x): ...`."""


def candidate(finished: Finished, name: str) -> str | None:
    """Return the last code of a run that binds `name` at its top level: in the final answer or a Python call.

    Code that makes the name goes before code that only shows its signature or imports it, as an example does.
    """
    found: dict[Binding, str] = {}
    for code, how in _found(finished, name):
        if how == "made":
            return code
        found.setdefault(how, code)
    return found.get("declared") or found.get("imported")


def binding(code: str, name: str) -> Binding | None:
    """Return how code binds a name at its top level, by any statement; `None` when it does not, or is no Python."""
    return _binding(code, name)[0]


def _found(finished: Finished, name: str) -> Iterator[tuple[str, Binding]]:
    """Yield the code that binds the name, the last first."""
    answer = finished.outcome.final_answer
    if answer is not None:
        yield from ((_with_what_it_needs(code, answer), how) for code, how in code_in(answer, name))
    for span in reversed(finished.spans):
        if span.tool_name == "python_interpreter" and span.status != "not_executed":
            try:
                arguments: Any = json.loads(span.tool_input)
            except (ValueError, RecursionError):  # in a record that was edited
                continue
            code = arguments.get("code") if isinstance(arguments, dict) else None
            if isinstance(code, str) and (how := binding(code, name)) is not None:
                yield code, how


def code_in(text: str, name: str) -> Iterator[tuple[str, Binding]]:
    """Yield the pieces of a text that are Python and bind `name`, the last first.

    That is the text itself where it is code; else what stands between two fences, or one fence and an end of the text,
    in a list or a quotation, too; else code between lines of prose; else code in one line between backticks.
    """
    text = _as_python_reads(text)
    tries = 0
    for pieces in (_blocks(text), _between_prose(text, name), (match[2] for match in _INLINE.finditer(text))):
        made = False
        for piece in pieces:
            if name not in piece:
                continue
            tries += 1
            if tries > _TRIES:
                return
            if (how := binding(piece, name)) is not None:
                made = made or how == "made"
                yield _without_words(piece), how
        if made:
            return


def _with_what_it_needs(code: str, text: str) -> str:
    """Return code below what stands between other fences of its text and binds what it uses and does not bind."""
    needed, pieces = _unbound(code), [code]
    for block in reversed(_FENCE.split(_as_python_reads(text))):
        piece = textwrap.dedent(block)
        if needed and any(name in piece and binding(piece, name) is not None for name in needed):
            pieces.append(_without_words(piece))
            needed = {name for name in needed | _unbound(piece) if binding(piece, name) is None}
    return "\n".join(reversed(pieces))


def _unbound(code: str) -> set[str]:
    """Return the names that code takes from its top level and does not bind there."""
    with _PARSING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        top = symtable.symtable(code, "<candidate>", "exec")
    used: set[str] = set()
    tables = [top]
    while tables:
        table = tables.pop()
        tables += table.get_children()
        used |= {
            one.get_name() for one in table.get_symbols() if one.is_referenced() and (table is top or one.is_global())
        }
    bound = {one.get_name() for one in top.get_symbols() if one.is_assigned() or one.is_imported()}
    return used - bound - set(dir(builtins))


def _as_python_reads(text: str) -> str:
    return text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")


def _without_words(code: str) -> str:
    """Return code without top-level lines of one word, such as `python` above it or `[DONE]` below it."""
    lines = code.split("\n")
    for node in _statements(code):
        word = node.value if isinstance(node, ast.Expr) else None
        if isinstance(word, ast.List) and len(word.elts) == 1:
            word = word.elts[0]
        if isinstance(word, ast.Name) and node.lineno <= len(lines) and _WORD.fullmatch(lines[node.lineno - 1]):
            lines[node.lineno - 1] = ""
    return "\n".join(lines)


def _blocks(text: str) -> Iterator[str]:
    """Yield the text, then what stands between fences: the last opening first, its nearest end first."""
    yield text
    marks = [(0, 0), *(match.span() for match in _FENCE.finditer(text)), (len(text), len(text))]
    for number in range(len(marks) - 2, -1, -1):
        start, end = marks[number]
        for stop, _ in marks[number + 1 : number + 1 + _ENDS]:
            yield text[end:stop]
            if (plain := _unquoted(text[end:stop], text[text.rfind("\n", 0, start) + 1 : start])) != text[end:stop]:
                yield plain


def _unquoted(block: str, before: str) -> str:
    """Return a block without the marks of quotation that its fence has before it, and without its margin."""
    depth = before.count(">") if _BEFORE.fullmatch(before) else 0
    lines = [re.sub(rf"^(?:[ \t]*>[ \t]?){{0,{min(depth, 9)}}}", "", line) for line in block.split("\n")]
    return textwrap.dedent("\n".join(lines))


def _between_prose(text: str, name: str) -> Iterator[str]:
    """Yield the code from a line that can begin some to the first that is none, within what fences divide.

    Then the same without marks of quotation and prompts of an interpreter.
    """
    split = reversed(_FENCE.split(text))
    for part in (form for one in split for form in dict.fromkeys((one, _MARGIN.sub("", one)))):
        lines, done = part.split("\n"), 0
        for first in (number for number, line in enumerate(lines) if _START.match(line)):
            if first < done:  # within code that was looked at: a method is bound in its class
                continue
            margin = lines[first][: -len(lines[first].lstrip())]
            rest = [line.removeprefix(margin) for line in lines[first:]]
            while rest and name in (code := "\n".join(rest)):
                yield code
                _, wrong = _binding(code, name)
                if wrong is None:
                    done = first + len(rest)
                if wrong is None or not 0 < wrong <= len(rest):
                    break
                del rest[wrong - 1 :]


def _binding(code: str, name: str) -> tuple[Binding | None, int | None]:
    """Return how code binds a name, and the number of the line at which it is no Python."""
    try:
        with _PARSING, warnings.catch_warnings():  # filters are the whole process's, and campaigns have threads
            warnings.simplefilter("ignore")
            found = symtable.symtable(code, "<candidate>", "exec").lookup(name)
    except SyntaxError as error:
        return None, error.lineno
    except (KeyError, ValueError, RecursionError, MemoryError, OverflowError):
        return None, None
    if not found.is_assigned():
        return ("imported" if found.is_imported() else None), None
    return ("declared" if _is_signature(code, name) else "made"), None


def _is_signature(code: str, name: str) -> bool:
    """Return whether each function of that name at the top level does nothing, and there is one."""
    bodies = [node.body for node in _statements(code) if isinstance(node, ast.FunctionDef) and node.name == name]
    return bool(bodies) and all(
        isinstance(node, ast.Pass) or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        for body in bodies
        for node in body
    )


def _statements(code: str) -> list[ast.stmt]:
    with _PARSING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(code).body
