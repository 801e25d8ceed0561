"""`agenttrace publish-rollouts`: `publish` of one run in the forms of SWE-ZERO, under its earlier name and options."""

import argparse
from pathlib import Path

from agenttrace.verbs import publish


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument("files", nargs="*", type=Path, metavar="RUN", help="rollouts (.jsonl, .jsonl.zst)")
    publish.add_shared(parser, form="1k-32k")
    parser.add_argument(
        "--private-text", action="append", default=[], dest="private", metavar="TEXT", help="must not be in it"
    )
    parser.add_argument(
        "--private",
        action="store_true",
        dest="private_repository",
        help="the repository is made private, or must be private already",
    )


on_host = publish.on_host
run = publish.run
