"""`agenttrace rollouts`: `collect` with the preset of SWE-ZERO's rollouts."""

import argparse

from agenttrace.verbs import collect


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `collect`, with the preset's defaults."""
    from agenttrace.campaign.options import ROLLOUTS  # noqa: PLC0415

    collect.add(parser, ROLLOUTS)


def run(arguments: argparse.Namespace) -> int:
    """Make rollouts as the arguments say."""
    from agenttrace.campaign.options import ROLLOUTS  # noqa: PLC0415

    return collect.run(arguments, ROLLOUTS)
