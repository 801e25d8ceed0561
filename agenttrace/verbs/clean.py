"""`agenttrace clean`: what the kit left on the engine, removed."""

import argparse

from agenttrace.show import say


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument("--images", action="store_true", help="remove the images as well")
    parser.add_argument("--all", action="store_true", help="also what running campaigns of other checkouts use")


def run(arguments: argparse.Namespace) -> int:
    """Remove containers, volumes and networks."""
    from agenttrace.host import compose, engine  # noqa: PLC0415

    engine.check()
    return 0 if compose.clean(say, images=arguments.images, everything=arguments.all) else 1
