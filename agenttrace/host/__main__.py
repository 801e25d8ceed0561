"""`python -m agenttrace.host VERB`: what the nox sessions run on the user's machine."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import NoReturn

from agenttrace.errors import AgentTraceError, UsageError
from agenttrace.host import engine
from agenttrace.serving import pins

EXIT_INTERRUPTED = 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nox -s", description="What the sessions do on this machine.")
    verbs = parser.add_subparsers(dest="verb", metavar="SESSION", required=True)
    collect = verbs.add_parser("collect", help="collect traces of a model on a task set", prog="nox -s collect --")
    collect.add_argument("model", nargs="?", default=pins.DEFAULT_MODEL, help="default: %(default)s (bundled)")
    collect.add_argument("--dataset", default="demo", help="task set (default: %(default)s)")
    collect.add_argument("-n", dest="count", type=int, metavar="N", help="number of tasks (default: all)")
    collect.add_argument("--offset", type=int, default=0, metavar="K", help="first task (default: 0)")
    collect.add_argument("--run-id", help="name of the campaign (default: made from model, date and data set)")
    collect.add_argument("--output", type=Path, metavar="FILE", help="record file (default: in datasets/)")
    collect.add_argument("--fresh", action="store_true", help="start a new campaign although one can be resumed")
    collect.add_argument("--workers", type=int, default=1, metavar="W", help="tasks run at a time (default: 1)")
    collect.add_argument("--profile", default=pins.DEFAULT_PROFILE, help="serving profile (default: %(default)s)")
    collect.add_argument("--max-steps", type=int, default=10, metavar="N", help="generations per task (default: 10)")
    collect.add_argument(
        "--call-limit", type=_milliseconds, default=30_000, metavar="S", help="seconds per call (default: 30)"
    )
    verbs.add_parser("images", help="build the images that are out of date", prog="nox -s images --")
    clean = verbs.add_parser("clean", help="remove containers, volumes and networks", prog="nox -s clean --")
    clean.add_argument("--images", action="store_true", help="remove the images as well")
    clean.add_argument("--all", action="store_true", help="also what running campaigns of other checkouts use")
    return parser


def _milliseconds(text: str) -> int:
    seconds = float(text)
    if not math.isfinite(seconds):
        raise ValueError(text)
    return round(seconds * 1000)


def main(argv: list[str] | None = None) -> NoReturn:
    """Run one verb and exit with its status; a user's mistake is one message, never a traceback."""
    arguments = _parser().parse_args(argv)
    verb = {"collect": _collect, "images": _images, "clean": _clean}[arguments.verb]
    try:
        status = verb(arguments)
    except AgentTraceError as error:
        engine.say(str(error))
        status = error.exit_code
    except KeyboardInterrupt:
        engine.say("interrupted; every finished record is kept, the same command goes on")
        status = EXIT_INTERRUPTED
    sys.exit(status)


def _collect(arguments: argparse.Namespace) -> int:
    from agenttrace.host.campaign import Request, collect  # noqa: PLC0415
    from agenttrace.host.compose import ROOT  # noqa: PLC0415
    from agenttrace.plan import Options  # noqa: PLC0415

    output: Path | None = arguments.output
    folder = ROOT / "datasets" if output is None else output.parent
    if output is None:
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot make the folder for records {folder}: {error.strerror}") from error
    options = Options(
        model=arguments.model,
        dataset=arguments.dataset,
        profile=arguments.profile,
        offset=arguments.offset,
        count=arguments.count,
        max_steps=arguments.max_steps,
        call_limit_ms=arguments.call_limit,
        run_id=arguments.run_id,
        output=None if output is None else output.name,
        fresh=arguments.fresh,
    )
    return collect(Request(options=options, folder=folder, workers=arguments.workers))


def _images(_: argparse.Namespace) -> int:
    from agenttrace.host import images  # noqa: PLC0415

    engine.check()
    built = images.build()
    for target, name in built.names.items():
        print(f"{name}  environment {built.environment_digests[target]}")  # noqa: T201 - the session's result
    print(f"base: {built.base_origin}")  # noqa: T201
    return 0


def _clean(arguments: argparse.Namespace) -> int:
    from agenttrace.host import cleaning  # noqa: PLC0415

    engine.check()
    report = cleaning.clean(images=arguments.images, everything=arguments.all)
    for line in report.lines:
        engine.say(line)
    return 0 if report.complete else 1


if __name__ == "__main__":
    main()
