"""`agenttrace publish-rollouts`: a folder of rollouts as it is published, and its upload."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from agenttrace.errors import UsageError

HELP = "make the folder of rollouts to publish (SWE-ZERO's or mini-swe-agent's form and our own, card), or upload it"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument("run", nargs="?", type=Path, metavar="RUN", help="rollouts (.jsonl, .jsonl.zst)")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="DIR", help="a new or empty folder")
    parser.add_argument(
        "--form",
        choices=["1k-32k", "12m", "own", "mini-swe-agent"],
        default="1k-32k",
        help="schema of that SWE-ZERO set, our own columns alone, or trajectory files (default: %(default)s)",
    )
    parser.add_argument("--rows-per-shard", type=int, default=10_000, metavar="N", help="default: %(default)s")
    parser.add_argument("--title", default="Execution-free coding rollouts", help="heading of the card")
    parser.add_argument("--license", default="apache-2.0", metavar="ID", help="licence as the Hub writes it")
    parser.add_argument("--private-text", action="append", default=[], metavar="TEXT", help="must not be in it")
    parser.add_argument("--keep-findings", action="store_true", help="publish although something looks private")
    parser.add_argument(
        "--upload",
        metavar="OWNER/NAME",
        help="bring it to the Hub in one commit (token: HF_TOKEN); without RUN, DIR as it is",
    )
    parser.add_argument("--make-only", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--from-host", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument(
        "--private", action="store_true", help="the repository is made private, or must be private already"
    )


def check(arguments: argparse.Namespace) -> None:
    """Refuse what cannot work, before anything is made.

    Raises:
        UsageError: with what to do.
    """
    from agenttrace.publish.upload import check_name  # noqa: PLC0415

    if arguments.run is None and arguments.upload is None:
        raise UsageError("name the run to publish, or --upload a folder that was made before")
    if arguments.upload is not None:
        check_name(arguments.upload)


def run(arguments: argparse.Namespace) -> int:
    """Make the folder, upload it where that is asked for, and say what came of it."""
    check(arguments)
    if arguments.run is not None:
        _make(arguments)
    if arguments.upload is not None and not arguments.make_only:
        from agenttrace.publish.upload import upload  # noqa: PLC0415
        from agenttrace.rollouts.surroundings import surroundings  # noqa: PLC0415

        with surroundings(sys.stdin.buffer.read() if arguments.from_host else None):
            done = upload(arguments.output, arguments.upload, private=arguments.private)
        sys.stdout.write(f"{done.url}: {done.added} files, {done.removed} stale ones removed, one commit\n")
    return 0


def _make(arguments: argparse.Namespace) -> None:
    from agenttrace.publish.rollouts import Settings, publish  # noqa: PLC0415
    from agenttrace.validate.leaks import word  # noqa: PLC0415
    from agenttrace.verbs.validate import local_rules  # noqa: PLC0415

    settings = Settings(
        form=arguments.form,
        rows_per_shard=arguments.rows_per_shard,
        title=arguments.title,
        licence=arguments.license,
        leaks="keep" if arguments.keep_findings else "stop",
    )
    words = [*local_rules()[0], *(word("private text", text) for text in arguments.private_text)]
    for name, count in publish(arguments.run, arguments.output, settings, words=words).items():
        sys.stdout.write(f"{arguments.output}/{name}: {count} rollouts\n")
