"""The InterCode reward for NL2Bash, exactly as published, faults included: for comparison with published numbers.

Formula: `BashEnv.get_reward` of InterCode (Yang et al. 2023, arXiv:2306.14898; princeton-nlp/intercode at
377bf97b39f51797dfde0d6a163013fdc6222fff). It sees two trees through `git status --short` (empty folders and folders
with names such as `usr` or `var` are invisible, new folders are one entry, a name with a blank breaks the pairing),
compares the content of new paths only, and compares outputs as bags of words of two or more characters.

Version 2 of the score compares outputs as they would be with the roots where InterCode has them: in version 1 the
folder `/testdata` was a word of every path.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from posixpath import dirname, join, normpath
from typing import TYPE_CHECKING

from agenttrace.records import Record
from agenttrace.tasks.rewrite import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from agenttrace.records import StateChange
    from agenttrace.sandbox.reports import TreeEntry

NAME = "intercode_reward_v2"
HIDDEN = frozenset(
    (
        "bin",
        "boot",
        "dev",
        "etc",
        "home",
        "lib",
        "media",
        "opt",
        "proc",
        "root",
        "run",
        "sbin",
        "srv",
        "sys",
        "usr",
        "var",
    )
)
"""Names that InterCode's `.gitignore` hides at any depth."""
_TOKEN = re.compile(r"\b\w\w+\b")
_COMPARED = frozenset({"A", "??", "C"})
_PLAIN = re.compile(rb"[!#-\[\]-~]+")
_NAMED = {7: "a", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r", 34: '"', 92: "\\"}
_MODE = re.compile("[0-7]{1,6}")
_HOPS = 8

Pairs = frozenset[tuple[str, str]]


class Parts(Record, frozen=True, kw_only=True):
    """The reward and its three parts, each at most 0.33 and rounded to two places."""

    file_diff: float
    file_changes: float
    answer_similarity: float

    @property
    def reward(self) -> float:
        """0.01 plus the parts, added in the published order; 1.0 counts as success."""
        return 0.01 + self.file_diff + self.file_changes + self.answer_similarity


def reward(
    before: Iterable[TreeEntry],
    agent: tuple[Mapping[str, StateChange], str],
    gold: tuple[Mapping[str, StateChange], str],
) -> Parts | None:
    """Return the reward of a run against its reference.

    Args:
        before: the pristine tree both started from.
        agent: facts of every path after the run (see `state.applied`), and the output of its last command.
        gold: the same of the reference.

    Returns:
        `None` where the published code fails: a status whose words, split at blanks, do not come in pairs.
    """
    tracked = {entry.path: entry for entry in before if entry.type != "dir" and not _hidden(entry.path)}
    seen = [pairs(git_status(tracked, facts)) for facts in (agent[0], gold[0])]
    if seen[0] is None or seen[1] is None:
        return None
    same = [path for path, status in seen[0] & seen[1] if status in _COMPARED]
    equal = sum(_content(agent[0], path) == _content(gold[0], path) if "." in path else True for path in same)
    outputs = (_moved_back(text) for _, text in (agent, gold))
    return Parts(
        file_diff=state_part(len(seen[0] ^ seen[1])),
        file_changes=round(0.33 * (equal / len(same)), 2) if same else 0.33,
        answer_similarity=round(0.33 * similarity(*outputs), 2),
    )


def state_part(differing: int) -> float:
    """Return 0.33·(1 - erf(d)), rounded: 0.33 for no difference, 0.05 for one, 0 from two on."""
    return round(0.33 * (1 - math.erf(differing)), 2)


def similarity(agent: str, gold: str) -> float:
    """Return the cosine of the TF-IDF vectors of two outputs, fitted on just these two.

    As scikit-learn's `TfidfVectorizer` does by default: lower case, words of two or more characters, raw counts,
    idf = ln(3 / (1 + df)) + 1, L2 norm. Where neither has such a word, equality decides: 1 or 0.
    """
    counts = [Counter(_TOKEN.findall(text.lower())) for text in (agent, gold)]
    words = set(counts[0]) | set(counts[1])
    if not words:
        return float(agent == gold)
    idf = {word: math.log(3 / (1 + sum(word in count for count in counts))) + 1 for word in words}
    vectors = [{word: count * idf[word] for word, count in counted.items()} for counted in counts]
    norms = [math.sqrt(sum(value * value for value in vector.values())) for vector in vectors]
    if not all(norms):
        return 0.0
    return sum(vectors[0][word] * vectors[1].get(word, 0.0) for word in vectors[0]) / (norms[0] * norms[1])


def git_status(tracked: Mapping[str, TreeEntry], after: Mapping[str, StateChange]) -> str:
    """Return what `git status --short` prints of a tree whose pristine files are committed."""
    letters = ((path, _letter(tracked[path], after.get(path))) for path in sorted(tracked))
    lines = [f" {letter} {_quoted(path)}" for path, letter in letters if letter is not None]
    folders = {folder for path in tracked for folder in _folders(path)}
    new = set()
    for path, fact in after.items():
        if path in tracked or fact.type in {"dir", "absent", "other"} or _hidden(path):
            continue
        new.add(next((f"{folder}/" for folder in _folders(path) if folder not in folders), path))
    return "\n".join([*lines, *(f"?? {_quoted(path)}" for path in sorted(new))])


def pairs(status: str) -> Pairs | None:
    """Return (path, status) as the published code splits it: at every blank; `None` where it would fail."""
    words = status.split()
    return frozenset(zip(words[1::2], words[::2], strict=True)) if len(words) % 2 == 0 else None


def _moved_back(output: str) -> str:
    """Return an output with what lies in `/testdata` at the root, where InterCode has it."""
    return output.replace(f"{ROOT}/", "/").replace(ROOT, "/")


def _letter(old: TreeEntry, new: StateChange | None) -> str | None:
    if new is None or new.type == "dir":
        return "D"
    if new.type != old.type:
        return "T"
    executable = old.type == "file" and _executable(old.mode) != _executable(new.mode)
    return "M" if executable or (old.sha256, old.target) != (new.sha256, new.target) else None


def _executable(mode: str | None) -> bool:
    return bool(mode and _MODE.fullmatch(mode) and int(mode, 8) & 0o100)


def _hidden(path: str) -> bool:
    return any(part in HIDDEN for part in path.split("/"))


def _folders(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: depth + 1]) for depth in range(len(parts))]


def _quoted(path: str) -> str:
    """Return a path as git prints it: in quotes as C writes them where it has more than plain ASCII, or a blank."""
    data = path.encode()
    return path if _PLAIN.fullmatch(data) else f'"{"".join(map(_escaped, data))}"'


def _escaped(byte: int) -> str:
    if byte in _NAMED:
        return f"\\{_NAMED[byte]}"
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\{byte:03o}"  # noqa: PLR2004 - the printable ones of ASCII


def _content(facts: Mapping[str, StateChange], path: str) -> str | None:
    """Return the digest that `md5sum PATH` would compare; `None` is its error message, the same on both sides."""
    for _ in range(_HOPS):
        fact = facts.get(path.rstrip("/"))
        if fact is None or fact.type != "symlink":
            return fact.sha256 if fact is not None and fact.type == "file" else None
        path = normpath(join(ROOT, dirname(path), fact.target or "")).removeprefix(f"{ROOT}/")
    return None
