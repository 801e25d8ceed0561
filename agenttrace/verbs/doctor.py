"""`agenttrace doctor`: what this machine has, and what differs."""

import argparse

from agenttrace.verbs.output import add_json, write_json


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument("--network", action="store_true", help="also ask registry, Hub and task files for an answer")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Look at everything and say what to do."""
    from agenttrace.host import doctor, findings  # noqa: PLC0415

    found = findings.examine(network=arguments.network)
    if arguments.json is None:
        doctor.show(found)
    write_json(arguments.json, doctor.as_json(found))
    return doctor.exit_code(found)
