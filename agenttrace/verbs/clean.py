"""`agenttrace clean`: what the kit left on the engine, removed."""

import argparse

from agenttrace.show import agrees, say
from agenttrace.verbs.output import add_json, write_json

_GB = 1e9


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument("-y", "--yes", action="store_true", help="remove fetched weights without asking")
    add_json(parser)
    parser.add_argument("--images", action="store_true", help="remove the images as well")
    parser.add_argument("--all", action="store_true", help="also what running campaigns of other checkouts use")


def run(arguments: argparse.Namespace) -> int:
    """Remove containers, volumes and networks; weights and repositories that were fetched only where that is agreed."""
    from agenttrace.host import compose, engine  # noqa: PLC0415

    engine.check()
    done: list[str] = []

    def report(line: str) -> None:
        done.append(line)
        say(line)

    sdk = compose.client()
    caches = {name: size for name, size in compose.caches(sdk).items() if not (arguments.yes or _agreed(name, size))}
    whole = compose.clean(sdk, report, images=arguments.images, everything=arguments.all, keep={*caches})
    for name, size in caches.items():
        report(f"kept: volume {name} ({size / _GB:.1f} GB); --yes removes it, too")
    write_json(arguments.json, {"clean": whole, "lines": done})
    return 0 if whole else 1


def _agreed(name: str, size: int) -> bool:
    """Ask whether a volume whose content was fetched may go; who cannot be asked keeps it."""
    return agrees(f"Remove the volume {name}, {size / _GB:.1f} GB that would have to be fetched again?")
