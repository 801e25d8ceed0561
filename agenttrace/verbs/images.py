"""`agenttrace images`: the images, built and compared."""

import argparse

from agenttrace.errors import UsageError, did_you_mean
from agenttrace.show import tell
from agenttrace.verbs.output import add_json, write_json


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument("targets", nargs="*", metavar="IMAGE", help="default: those of a campaign; the checks take all")
    parser.add_argument("--all", action="store_true", help="all images, also those that only some verbs use")
    add_json(parser)
    parser.add_argument("--check-reproducible", action="store_true", help="build each twice from scratch, compare")


def run(arguments: argparse.Namespace) -> int:
    """Build or compare images."""
    from agenttrace.host import engine, images, rebuild  # noqa: PLC0415

    known = images.ALL_TARGETS
    if unknown := [target for target in arguments.targets if target not in known]:
        raise UsageError(
            f"no image {', '.join(unknown)}{did_you_mean(unknown[0], known)}; there are {', '.join(known)}"
        )
    everything = arguments.all or arguments.check_reproducible
    targets = tuple(arguments.targets) or (known if everything else images.TARGETS)
    engine.check()
    if arguments.check_reproducible:
        return 0 if rebuild.check_reproducible(targets) else 1
    built = images.build(targets=targets)
    for target, name in built.names.items():
        tell(f"{name}  environment {built.environment_digests[target]}")
    tell(f"base: {built.base_origin}")
    write_json(arguments.json, built)
    return 0
