"""`agenttrace doctor`: what this machine has, and what differs."""

import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument("--network", action="store_true", help="also ask registry, Hub and task files for an answer")
    parser.add_argument("--json", dest="as_json", action="store_true", help="print it as JSON")


def run(arguments: argparse.Namespace) -> int:
    """Look at everything and say what to do."""
    from agenttrace.host import doctor  # noqa: PLC0415

    return doctor.run(network=arguments.network, json=arguments.as_json)
