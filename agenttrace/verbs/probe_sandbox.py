"""`agenttrace probe-sandbox`: the sandbox, attacked."""

import argparse

from agenttrace.verbs import output


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument("--policy", action="append", choices=["shell", "execution_free"], help="default: both")
    parser.add_argument("-k", dest="named", metavar="NAME", help="only probes whose name contains this pattern")
    output.add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Try every probe; 1 when one got through or was not really tried."""
    from agenttrace.probes import report  # noqa: PLC0415

    output.check_json(arguments.json)
    outcome = report.probe_sandbox(only=arguments.policy or (), named=arguments.named)
    if arguments.json != output.STDOUT:
        report.show(outcome)
    output.write_json(arguments.json, outcome)
    return outcome.exit_code
