r"""The leak check: looks for host paths, host names, user names and key-like secrets in every text of a record.

Two kinds of rules. **Patterns** hold anywhere and need no knowledge of a machine; `leak_rules` is the whole list.
**Words** are what is private to the machine that collected: its host name and ids, the user's name, home folder and
checkout; they are found only where they are known, so files are best checked on that machine.

Not flagged, because it belongs there: the virtual root `/testdata`, system paths (`/usr/...`, `/root/...`, all exist in
the sandbox), container ids, the sandbox's user `agent`, and homes of nobody (`/home/user`, `/home/runner`,
...), which models make up or images come with, and what documentation writes for a key. E-mail
addresses and IP addresses are not looked for: task data is full of them.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from agenttrace.validate.findings import Violation
from agenttrace.validate.leak_rules import RULES, TOKENS, is_placeholder, is_random

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ASSIGNED = re.compile(
    r"(?i:(?:api[_-]?key|access[_-]?key|secret|token|passw(?:or)?d)[a-z0-9_]{0,20}[\"']?\s{0,3}[:=]\s{0,3}[\"']?)"
    r"([A-Za-z0-9+/_=.-]{20,200})"
)
"""A long random value given to something called a key: reported when its characters are varied enough."""
_ASSIGNED_HINTS = ("key", "secret", "token", "passw")
_SECRET_NAME = re.compile(r"(?i:api[_-]?key|access[_-]?key|secret|token|passw(?:or)?d)[a-z0-9_]{0,20}$")
_SECRET_VALUE = re.compile(r"[A-Za-z0-9+/_=.-]{20,200}")
_COMMON = frozenset(
    {"root", "user", "users", "admin", "agent", "ubuntu", "debian", "runner", "docker", "builder", "test", "tests"}
    | {"guest", "nobody", "localhost", "buildkitsandbox"}
)
_SHORTEST = 4
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2}|[nrtbf/\"\\])|%([0-9a-fA-F]{2})")
_LEVELS = 3
"""Texts hold JSON that holds source code: so many times over, escapes are taken for what they stand for."""
_RUN = re.compile(r"[A-Za-z0-9+/=_.~@-]{14,}")
"""What a token is a part of: few stretches of a text are so long."""
_HEAD = re.compile(rf"(?<![A-Za-z0-9_])(?:{'|'.join(map(re.escape, TOKENS))})")
_COLOUR = re.compile(r"\x1b\[[0-9;:?]{0,20}[A-Za-z]")
_IDENTIFIER = re.compile(r"(?=\w+[.-]|[^\W_]+_)(?:[A-Za-z]+\d{0,2}|\d{1,2})(?:[._-](?:[A-Za-z]+\d{0,2}|\d{1,2})?)*")
"""A dotted name, or words with dashes: what code gives to something called a key."""
_PLAIN = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}


class Word(NamedTuple):
    """A text that must not occur: what it is, the text in small letters, and the pattern that finds it."""

    kind: str
    text: str
    pattern: re.Pattern[str]


def word(kind: str, text: str) -> Word:
    """Return the rule for one private text: as a whole word, letters of either case."""
    return Word(kind, text.lower(), re.compile(rf"(?<![\w]){re.escape(text)}(?![\w])", re.IGNORECASE))


def local_words(facts: Mapping[str, Sequence[str]]) -> tuple[list[Word], list[str]]:
    """Return rules for what is private to this machine, and the texts too common to be looked for.

    Args:
        facts: kind (`host name`, `user name`, `host path`) → texts.
    """
    rules: list[Word] = []
    common: list[str] = []
    for kind, texts in facts.items():
        for text in dict.fromkeys(texts):
            if len(text) < _SHORTEST or text.lower() in _COMMON or text in {"/root", "/home", "/tmp", "/testdata"}:  # noqa: S108
                common.append(f"{kind} {text!r}")
            else:
                rules.append(word(kind, text))
    return rules, common


def leaks(value: Any, words: Sequence[Word] = (), allowed: Sequence[str] = ()) -> Iterator[Violation]:  # noqa: ANN401
    """Yield what must not be in a record; of each only a beginning is shown.

    Args:
        value: the record as parsed JSON.
        words: what is private beside the patterns.
        allowed: findings equal to one of these are passed over.
    """
    found = list(texts("", value))
    named = any(map(_names_secret, {where.rpartition(".")[2] for where, _ in found}))
    whole = "\n".join(text for _, text in found)  # a look at all texts at once: most records end here
    if named or any(next(_matches(text, words), None) for text in _variants(whole)):
        yield from _each(found, words, allowed)


def _each(found: Sequence[tuple[str, str]], words: Sequence[Word], allowed: Sequence[str]) -> Iterator[Violation]:
    for where, text in found:
        seen: set[tuple[str, str]] = set()
        for variant in _variants(text):
            for kind, match in (*_named(where, variant), *_matches(variant, words)):
                if match not in allowed and (kind, match) not in seen:
                    seen.add((kind, match))
                    yield Violation("leak", where, f"{kind}: {masked(match)}")


@functools.lru_cache(maxsize=4096)
def _names_secret(key: str) -> bool:
    return _SECRET_NAME.search(key) is not None


def texts(path: str, value: Any) -> Iterator[tuple[str, str]]:  # noqa: ANN401 - any JSON value
    """Yield every text of a JSON value with its path, keys included; nested to any depth."""
    waiting = [(path, value)]
    while waiting:
        where, item = waiting.pop()
        if isinstance(item, str):
            yield where, item
        elif isinstance(item, dict):
            for key, inner in item.items():
                yield where, key
                waiting.append((f"{where}.{key}" if where else key, inner))
        elif isinstance(item, list):
            waiting += [(f"{where}[{index}]", inner) for index, inner in enumerate(item)]


def masked(text: str) -> str:
    """Return a beginning of a text that does not give it away, and its length."""
    return f"{text[: min(6, len(text) // 3)]}... ({len(text)} characters)"


def _variants(text: str) -> Iterator[str]:
    """Yield a text, and what it says when it is JSON text, source code or an address with escapes, or coloured.

    A colour may stand between two words, or within one.
    """
    yield text
    for _ in range(_LEVELS):
        plain = _ESCAPE.sub(_unescaped, text) if "\\" in text or "%" in text else text
        if "\x1b" in plain:
            yield _COLOUR.sub("", plain)
            plain = _COLOUR.sub(" ", plain)
        if plain == text:
            return
        yield plain
        text = plain


def _unescaped(match: re.Match[str]) -> str:
    code = match[1] or f"x{match[2]}"
    if code[0] == "x" and code[1] > "7":  # a byte of some letter, or of none
        return "\ufffd"
    return chr(int(code[1:], 16)) if code[0] in "ux" else _PLAIN.get(code, code)


def _named(where: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield a whole text that is the value of a field with a secret's name."""
    if _SECRET_VALUE.fullmatch(text) and _names_secret(where.rpartition(".")[2]) and is_random(text):
        yield "secret value", text


def _tokens(text: str) -> Iterator[tuple[str, str]]:
    for run in _RUN.finditer(text):
        end = run.start()
        for head in _HEAD.finditer(text, run.start(), run.end()):
            for prefix, token in TOKENS[head[0]]:
                if head.start() < end or not text.startswith(prefix, head.start()):
                    continue
                found = token.body.match(text, head.start() + len(prefix))
                if found and not is_placeholder(found[0]) and (not token.random or is_random(found[0])):
                    end = found.end()
                    yield token.kind, text[head.start() : end]


def _matches(text: str, words: Sequence[Word]) -> Iterator[tuple[str, str]]:
    lower = text.lower()
    for kind, rule in RULES.items():
        if any(hint in lower for hint in rule.hints):
            for match in filter(rule.holds, rule.pattern.finditer(text)):
                yield kind, match[0]
    yield from _tokens(text)
    if any(hint in lower for hint in _ASSIGNED_HINTS):
        for match in ASSIGNED.finditer(text):
            if is_random(match[1]) and not _IDENTIFIER.fullmatch(match[1]):
                yield "secret value", match[1]
    for word in words:
        for match in word.pattern.finditer(text) if word.text in lower else ():
            yield word.kind, match[0]
