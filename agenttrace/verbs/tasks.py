"""`agenttrace tasks`: a task set of one's own, begun from an example, and checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from agenttrace.errors import command
from agenttrace.show import say, tell

if TYPE_CHECKING:
    import argparse

    from agenttrace.tasks.own.loading import OwnSet


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument(
        "what",
        choices=["new", "check"],
        help="new: write an example, which works as it is; check: name every mistake of a set, then try its gold "
        "commands in the sandbox",
    )
    parser.add_argument(
        "path", metavar="PATH", type=Path, help="new: a folder that is made; check: a set's folder or file"
    )
    parser.add_argument("--read-only", action="store_true", help="check: start nothing, only read the files")


def run(arguments: argparse.Namespace) -> int:
    """Write the example, or check a set; 1 where checks do not do what they should."""
    if arguments.what == "new":
        return _new(arguments.path)
    from agenttrace.tasks.own.loading import load  # noqa: PLC0415

    found = load(arguments.path)
    trees = f"{len(found.trees)} fixtures" if found.trees else "no fixture"
    tell(f"{found.name}: {len(found.tasks)} tasks, {trees}, SHA-256 {found.sha256}")
    return 0 if arguments.read_only else _try(found)


def _new(folder: Path) -> int:
    from agenttrace.tasks.own.example import write  # noqa: PLC0415

    for path in write(folder):
        tell(f"{folder / path}")
    say(f"next: {command('tasks', 'check', str(folder))}, then {command('collect', '--dataset', str(folder))}")
    return 0


def _try(found: OwnSet) -> int:
    from agenttrace.host.try_tasks import tried  # noqa: PLC0415

    without = 0
    wrong = 0
    for one in tried(found):
        problems = one.problems
        wrong += bool(problems)
        without += one.gold is None
        passed = "no gold command" if one.gold is None else f"gold passes {len(one.gold)} of {len(one.gold)} checks"
        for problem in problems or [f"{passed}, an untouched tree fails"]:
            tell(f"{'WRONG' if problems else 'ok   '} {one.task_id}: {problem}")
    if without:
        say(
            f"{without} of {len(found.tasks)} tasks have no gold command: that their checks can be passed was not tried"
        )
    tell(f"{found.name}: {f'{wrong} tasks are NOT as they should be' if wrong else 'every task is as it should be'}")
    return 1 if wrong else 0
