"""The verbs `rollouts-prepare` and `rollouts`, which run in the kit's containers; people type `nox -s rollouts`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add both verbs."""
    prepare = verbs.add_parser("rollouts-prepare", help="draw tasks and make their trees (inside its container)")
    prepare.add_argument("--cache", type=Path, default=Path("/repositories"), help="bare repositories")
    prepare.add_argument("--repositories", metavar="URL|FOLDER", help="where repositories come from")
    prepare.add_argument("--from-host", action="store_true", help="read environment and certificates on standard input")
    rollouts = verbs.add_parser("rollouts", help="make rollouts (inside their container)")
    rollouts.add_argument("--base-url", default="http://server:8080/v1", help="the model server (default: %(default)s)")
    rollouts.add_argument("--sockets", type=Path, default=Path("/run/agenttrace"), help="where sandbox workers listen")
    rollouts.add_argument("--folder", type=Path, default=Path("/data"), help="where record files lie")
    rollouts.add_argument("--concurrency", type=int, default=1, help="rollouts at a time (default: %(default)s)")
    rollouts.add_argument("--report", type=Path, metavar="FILE", help="write what the sitting cost, as JSON")
    rollouts.add_argument("--key-from-stdin", action="store_true", help="read the endpoint's key from standard input")
    rollouts.add_argument("--describe", action="store_true", help="only say what would be done, as JSON")
    for parser in (prepare, rollouts):
        parser.add_argument("--options", default="{}", help="as JSON (see agenttrace.rollouts.options)")
        parser.add_argument("--trees", type=Path, default=Path("/trees"), help="trees and tasks")


def prepare(arguments: argparse.Namespace) -> int:
    """Make the trees and print what came of it, as JSON; progress goes to standard error."""
    from agenttrace.rollouts.prepare import Places, prepare  # noqa: PLC0415
    from agenttrace.rollouts.sitting import parse_options  # noqa: PLC0415
    from agenttrace.rollouts.surroundings import surroundings  # noqa: PLC0415
    from agenttrace.show import printable  # noqa: PLC0415

    options = parse_options(arguments.options)
    places = Places(trees=arguments.trees, cache=arguments.cache, repositories=arguments.repositories)

    def report(line: str) -> None:
        print(f"agenttrace: {printable(line)}", file=sys.stderr, flush=True)  # noqa: T201 - progress

    with surroundings(sys.stdin.buffer.read() if arguments.from_host else None):
        prepared = prepare(options, places, report)
    print(json.dumps({"tasks": len(prepared.tasks), "skipped": len(prepared.skipped)}))  # noqa: T201
    return 0


def rollouts(arguments: argparse.Namespace) -> int:
    """Make rollouts, or say what would be done."""
    from agenttrace.rollouts.sitting import Surroundings, describe, parse_options, rollouts  # noqa: PLC0415
    from agenttrace.serving.endpoint import api_key  # noqa: PLC0415

    around = Surroundings(
        folder=arguments.folder,
        trees=arguments.trees,
        base_url=arguments.base_url,
        sockets=arguments.sockets,
        concurrency=arguments.concurrency,
        report=arguments.report,
        key=(sys.stdin.readline().strip() or None) if arguments.key_from_stdin else api_key(),
    )
    options = parse_options(arguments.options)
    if arguments.describe:
        print(json.dumps(describe(options, around)))  # noqa: T201
        return 0
    return rollouts(options, around)
