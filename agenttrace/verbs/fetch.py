"""`agenttrace fetch`: weights, verified."""

from __future__ import annotations

from typing import TYPE_CHECKING

from agenttrace.verbs import asked

if TYPE_CHECKING:
    import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument("model", help=asked.MODEL)
    asked.add_weights(parser)


def run(arguments: argparse.Namespace) -> int:
    """Bring the weights into the models volume."""
    from agenttrace.host import weights  # noqa: PLC0415

    return weights.bring(arguments.model, size=arguments.size, sha256=arguments.sha256)
