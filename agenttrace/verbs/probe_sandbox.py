"""`agenttrace probe-sandbox`: the sandbox, attacked."""

import argparse
from pathlib import Path

from agenttrace.sandbox.policies import policies
from agenttrace.verbs import output


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument("--policy", action="append", choices=[*policies()], help="default: all")
    parser.add_argument("-k", dest="named", metavar="NAME", help="only probes whose name contains this pattern")
    where = "attack the workers that listen there, however they were started; their own policy is the default"
    parser.add_argument("--socket", type=Path, metavar="FOLDER", help=where)
    output.add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Try every probe; 1 when one got through or was not really tried."""
    from agenttrace.errors import UsageError  # noqa: PLC0415
    from agenttrace.probes import report  # noqa: PLC0415

    output.check_json(arguments.json)
    if arguments.socket is None:
        outcome = report.probe_sandbox(only=arguments.policy or (), named=arguments.named)
    else:
        policies = arguments.policy or [None]
        if len(policies) > 1:
            raise UsageError("--socket FOLDER: its workers have one policy; name it once, or not at all")
        outcome = report.probe_sockets(arguments.socket, policy=policies[0], named=arguments.named)
    if arguments.json != output.STDOUT:
        report.show(outcome)
    output.write_json(arguments.json, outcome)
    return outcome.exit_code
