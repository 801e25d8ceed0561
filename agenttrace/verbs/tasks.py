"""`agenttrace tasks`: a task set of one's own, begun from an example, and checked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from agenttrace.errors import command
from agenttrace.show import counted, say, tell
from agenttrace.verbs.output import add_json, check_json, write_json

if TYPE_CHECKING:
    import argparse

    from agenttrace.campaign.try_tasks import TriedTask


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument(
        "what",
        metavar="new|check",
        choices=["new", "check"],
        help="new: write an example, which works as it is; check: name every mistake of a set, then try its gold "
        "commands in the sandbox",
    )
    parser.add_argument(
        "path", metavar="PATH", type=Path, help="new: a folder that is made; check: a set's folder or file"
    )
    parser.add_argument("--read-only", action="store_true", help="check: start nothing, only read the files")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Write the example, or check a set; 1 where checks do not do what they should."""
    check_json(arguments.json)
    return _new(arguments) if arguments.what == "new" else _check(arguments)


def _new(arguments: argparse.Namespace) -> int:
    from agenttrace.tasks.own.example import write  # noqa: PLC0415

    folder = arguments.path
    made = [str(folder / path) for path in write(folder)]
    for path in made:
        tell(path)
    say(f"next: {command('tasks', 'check', str(folder))}, then {command('collect', '--dataset', str(folder))}")
    write_json(arguments.json, {"files": made})
    return 0


def _check(arguments: argparse.Namespace) -> int:
    from agenttrace.tasks.own.loading import load  # noqa: PLC0415

    found = load(arguments.path)
    trees = counted(len(found.trees), "fixture")
    tell(f"{found.name}: {counted(len(found.tasks), 'task')}, {trees}, SHA-256 {found.sha256}")
    tried: list[TriedTask] = []
    if not arguments.read_only:
        from agenttrace.host.try_tasks import tried as try_all  # noqa: PLC0415

        tried = try_all(found)
    for one in tried:
        _tell(one)
    wrong = sum(bool(one.problems) for one in tried)
    if without := sum(one.gold is None for one in tried):
        say(f"{without} of {len(tried)} tasks have no gold command: that their checks can be passed was not tried")
    if tried:
        said = f"{wrong} tasks are NOT as they should be" if wrong else "every task is as it should be"
        tell(f"{found.name}: {said}")
    facts = {"name": found.name, "sha256": found.sha256, "tasks": len(found.tasks)}
    write_json(arguments.json, facts | {"tried": [{"task_id": one.task_id, "problems": one.problems} for one in tried]})
    return 1 if wrong else 0


def _tell(one: TriedTask) -> None:
    passed = "no gold command" if one.gold is None else f"gold passes {len(one.gold)} of {len(one.gold)} checks"
    for problem in one.problems or [f"{passed}, an untouched tree fails"]:
        tell(f"{'WRONG' if one.problems else 'ok   '} {one.task_id}: {problem}")
