"""`agenttrace fetch`: weights, verified."""

import argparse

from agenttrace.show import tell
from agenttrace.verbs import asked, output


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument("model", help=asked.MODEL)
    asked.add_weights(parser)
    output.add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Bring the weights into the models volume."""
    from agenttrace.host import weights  # noqa: PLC0415

    pin = weights.bring(
        arguments.model, size=arguments.size, sha256=arguments.sha256, accept_terms=arguments.accept_terms
    )
    for line in weights.lines(pin):
        tell(line)
    output.write_json(arguments.json, pin)
    return 0
