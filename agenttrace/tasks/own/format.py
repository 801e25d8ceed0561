"""The keys of a task set and what may stand at each; everything wrong is collected, nothing stops at the first."""

from __future__ import annotations

import re
import warnings
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from agenttrace.errors import did_you_mean
from agenttrace.records import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Path = tuple[str | int, ...]
    Complain = Callable[[Path, str], None]

MOST_TASKS = 10_000
LONGEST_TEXT = 100_000
LONGEST_PATTERN = 2_000
LIMIT_S, LONGEST_S = 10, 60
ASPECTS = ("state", "stdout", "exit_status")
"""What of a run can be compared with the gold command's, and the default is the first alone."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ASPECT = re.compile(r"[a-z0-9][a-z0-9_-]{0,59}")
_CLOCK = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
_MODE = re.compile(r"0[0-7]{3}")
_HEX = re.compile(r"[0-9a-f]{64}")
_LARGEST_ID = 2**53
_SHOWN = 60


class Key(NamedTuple):
    """What may stand at a key: the words for it, and whether a value is that."""

    expected: str
    holds: Callable[[Any], bool]


def _is_text(value: Any, most: int = LONGEST_TEXT, *, empty: bool = True) -> bool:  # noqa: ANN401 - parsed
    if not isinstance(value, str) or len(value) > most or "\0" in value or not (empty or value.strip()):
        return False
    return value.isascii() or not any("\ud800" <= one <= "\udfff" for one in value)


def _is_number(value: Any, least: float, most: float) -> bool:  # noqa: ANN401
    return isinstance(value, int | float) and not isinstance(value, bool) and least <= value <= most


def _is_id(value: Any) -> bool:  # noqa: ANN401
    if isinstance(value, str):
        return _NAME.fullmatch(value) is not None
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST_ID


def is_path(value: Any) -> bool:  # noqa: ANN401
    """Return whether a value names something below a folder, in its shortest form."""
    return (
        _is_text(value, 1000, empty=False)
        and "\\" not in value
        and all(part not in {"", ".", ".."} for part in value.split("/"))
    )


def _fits(pattern: re.Pattern[str]) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and pattern.fullmatch(value) is not None


def _is_clock(value: Any) -> bool:  # noqa: ANN401
    if not _fits(_CLOCK)(value):
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:  # a 13th month
        return False
    return True


def _pattern_problem(value: Any) -> str | None:  # noqa: ANN401
    if not _is_text(value, LONGEST_PATTERN):
        return f"expected a regular expression of Python, at most {LONGEST_PATTERN:,} characters"
    try:
        with warnings.catch_warnings(action="ignore"):  # of what a later Python may read otherwise
            re.compile(value)
    except (re.error, RecursionError, OverflowError) as error:
        return f"not a regular expression: {error}"
    return None


TEXT = Key(f"a text of at most {LONGEST_TEXT:,} characters", _is_text)
COMMAND = Key("a command for bash, " + TEXT.expected, lambda value: _is_text(value, empty=False))
PATTERN = Key("a regular expression", lambda value: _pattern_problem(value) is None)
EXISTS = Key("true; that nothing is there is `absent = true`", lambda value: value is True)
ABSENT = Key("true; that something is there is `exists = true`", lambda value: value is True)
BOOL = Key("true or false", lambda value: isinstance(value, bool))
SECONDS = Key(f"seconds, 0.1 to {LONGEST_S}", lambda value: _is_number(value, 0.1, LONGEST_S))
STATUS = Key("an exit status, 0 to 255", lambda value: isinstance(value, int) and _is_number(value, 0, 255))
MODE = Key('four octal digits as text, such as "0644"', _fits(_MODE))
HEX = Key("64 hexadecimal digits in small letters", _fits(_HEX))
PATH = Key('a path below the task\'s folder, such as "logs/app.log"', is_path)
FIXTURE = Key('a folder or an archive of the set, as a path from the file of tasks, such as "files"', is_path)
SCRIPT = Key('a file of the set, as a path from the file of tasks, such as "checks/total.sh"', is_path)
PATHS = Key("a list of such paths", lambda value: isinstance(value, list) and all(map(is_path, value)))
COMPARED = Key(
    f"a list of some of {', '.join(ASPECTS)}",
    lambda value: isinstance(value, list) and bool(value) and len({*map(str, value)} & {*ASPECTS}) == len(value),
)
ASPECT = Key("a name of small letters, digits, _ and - (at most 60)", _fits(_ASPECT))
ID = Key("a name of letters, digits, dots, dashes, underscores (at most 100), or a whole number", _is_id)
CLOCK = Key('an instant as text, such as "2024-05-05T12:30:00Z"', _is_clock)

HEAD = {
    "name": Key("a name of letters, digits, dots, dashes, underscores (at most 100)", _fits(_NAME)),
    "fixture": FIXTURE,
    "clock": CLOCK,
}
TASK = {
    "id": ID,
    "prompt": Key(TEXT.expected + ", not empty", lambda value: _is_text(value, empty=False)),
    "fixture": FIXTURE,
    "gold": COMMAND,
    "gold_answer": TEXT,
    "check": Key("at least one check", lambda value: isinstance(value, list) and bool(value)),
}
CHECKS: dict[str, dict[str, Key]] = {
    "answer": {"equals": TEXT, "matches": PATTERN},
    "stdout": {"command": COMMAND, "equals": TEXT, "matches": PATTERN, "limit_s": SECONDS},
    "file": {
        "path": PATH,
        "exists": EXISTS,
        "absent": ABSENT,
        "equals": TEXT,
        "matches": PATTERN,
        "sha256": HEX,
        "mode": MODE,
    },
    "exit_status": {"script": COMMAND, "script_file": SCRIPT, "equals": STATUS, "limit_s": SECONDS},
    "gold": {"compare": COMPARED, "sorted": BOOL, "ignore_content": PATHS},
}
"""Kind of check → its keys beside `kind` and `name`."""
_NEEDED = {"stdout": ("command",), "file": ("path",)}
_ONE_OF = {
    "answer": ("equals", "matches"),
    "stdout": ("equals", "matches"),
    "exit_status": ("script", "script_file"),
}
_SOME_OF = {"file": ("exists", "absent", "equals", "matches", "sha256", "mode")}


class OwnTask(Record, frozen=True, kw_only=True):
    """A task as it stands in a set, checked.

    Attributes:
        id: of the task.
        prompt: what the model is asked.
        check: the checks, each with its `kind` and `name`; scripts stand in them, wherever they were read from.
        fixture: place of the tree that its runs start from, in the set; `None` is that of the set.
        gold: a command that solves it.
        gold_answer: the answer that goes with it; `None` is what it prints, without blanks around it.
    """

    id: str | int
    prompt: str
    check: tuple[dict[str, Any], ...]
    fixture: str | None = None
    gold: str | None = None
    gold_answer: str | None = None


def keys(found: Mapping[str, Any], known: Mapping[str, Key], path: Path, what: str, complain: Complain) -> None:
    """Complain of every key that does not exist, and of every value that is not what it must be."""
    for name, value in found.items():
        if name not in known:
            complain(
                (*path, name),
                f"{what}: unknown key {_quoted(name)}{did_you_mean(name, known)} (known: {', '.join(known)})",
            )
        elif not known[name].holds(value):
            why = _pattern_problem(value) if known[name] is PATTERN else f"expected {known[name].expected}"
            complain((*path, name), f"{what}: {name} is {_quoted(value)}: {why}{_unusable(value)}")


def head(found: Mapping[str, Any], path: Path, complain: Complain) -> None:
    """Complain of what is wrong with what holds for the whole set."""
    if "set" in found:
        complain((*path, "set"), f"its keys ({', '.join(HEAD)}) stand at the top of TOML, without [set]")
    keys({name: value for name, value in found.items() if name != "set"}, HEAD, path, "the set", complain)


def task(found: Any, path: Path, complain: Complain) -> OwnTask | None:  # noqa: ANN401 - parsed
    """Return a task, or `None` after complaints."""
    if not isinstance(found, dict):
        complain(path, f"expected a task (a table with id, prompt, check), not {_quoted(found)}")
        return None
    complaints: list[Path] = []

    def note(where: Path, message: str) -> None:
        complaints.append(where)
        complain(where, message)

    what = f"task {_quoted(found.get('id', '(without id)'))}"
    keys(found, TASK, path, what, note)
    for name in ("id", "prompt"):
        if name not in found:
            note(path, f"{what}: {name} is missing")
    if "check" not in found:
        note(path, f"{what}: check is missing: without one, nothing says whether it was solved")
    if "gold_answer" in found and "gold" not in found:
        note((*path, "gold_answer"), f"{what}: gold_answer goes with gold, which is missing")
    checks = found.get("check")
    made = _checks(checks if isinstance(checks, list) else [], found, path, what, note)
    return None if complaints else OwnTask(**{**found, "check": tuple(made)})


def _checks(found: list[Any], of: Mapping[str, Any], path: Path, what: str, complain: Complain) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    names: set[str] = set()
    numbers: dict[str, int] = {}
    for number, one in enumerate(found):
        where = (*path, "check", number)
        which = f"{what}, check {number + 1}"
        if not isinstance(one, dict):
            complain(where, f"{which}: expected a table with a kind, not {_quoted(one)}")
            continue
        kind = one.get("kind")
        if not isinstance(kind, str) or kind not in CHECKS:
            said = (
                "kind is missing" if kind is None else f"unknown kind {_quoted(kind)}{did_you_mean(str(kind), CHECKS)}"
            )
            complain((*where, "kind"), f"{which}: {said} (known: {', '.join(CHECKS)})")
            continue
        _check(kind, one, where, which, complain)
        if kind == "gold" and "gold" not in of:
            complain(where, f"{which}: it compares with the task's gold, which is missing")
        name = one.get("name") or _free(kind, names, numbers)
        if isinstance(name, str) and name in names:
            complain((*where, "name"), f"{which}: another check of this task is called {_quoted(name)}, too")
        names.add(str(name))
        made.append({"kind": kind, "name": name, **{key: one[key] for key in CHECKS[kind] if key in one}})
    return made


def _check(kind: str, one: Mapping[str, Any], where: Path, which: str, complain: Complain) -> None:
    """Complain of what is wrong with the keys of one check."""
    known = {"kind": TEXT, "name": ASPECT, **CHECKS[kind]}
    keys(one, known, where, f"{which} ({kind})", complain)
    for name in _NEEDED.get(kind, ()):
        if name not in one:
            complain(where, f"{which} ({kind}): {name} is missing")
    for table, most in ((_ONE_OF, 1), (_SOME_OF, len(one))):
        names = table.get(kind, ())
        there = [name for name in names if name in one]
        if names and not 1 <= len(there) <= most:
            expected = "one of" if most == 1 else "one or more of"
            complain(
                where,
                f"{which} ({kind}): expected {expected} {', '.join(names)}; it has {' and '.join(there) or 'none'}",
            )
    if "absent" in one and len({*one} & {*_SOME_OF["file"]}) > 1:
        complain(where, f"{which} ({kind}): absent stands alone: of a file that is not there nothing else can hold")


def _free(kind: str, names: set[str], numbers: dict[str, int]) -> str:
    """Return a name that no check before has; `numbers` says from where on to look for one of a kind."""
    while True:
        number = numbers[kind] = numbers.get(kind, 0) + 1
        if (name := kind if number == 1 else f"{kind}_{number}") not in names:
            return name


def _unusable(value: Any) -> str:  # noqa: ANN401
    """Return which character no text may hold, to end a message with, or nothing."""
    if isinstance(value, str) and "\0" in value:
        return "; it holds a NUL"
    half = isinstance(value, str) and any("\ud800" <= one <= "\udfff" for one in value)
    return "; it holds one half of a surrogate pair" if half else ""


def _quoted(value: Any) -> str:  # noqa: ANN401
    try:
        text = ascii(value) if isinstance(value, str) else repr(value)
    except RecursionError:
        text = f"a {type(value).__name__} that is nested too deeply"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
