"""`agenttrace fetch`: weights, verified."""

import argparse

from agenttrace.verbs import asked


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument("model", help=asked.MODEL)
    asked.add_weights(parser)


def run(arguments: argparse.Namespace) -> int:
    """Bring the weights into the models volume."""
    from agenttrace.host import weights  # noqa: PLC0415

    return weights.bring(arguments.model, size=arguments.size, sha256=arguments.sha256)
