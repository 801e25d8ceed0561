"""`agenttrace verify-fixture`: the NL2Bash fixture in its three places."""

import argparse
from pathlib import Path

from agenttrace.show import tell
from agenttrace.verbs.output import add_json, write_json


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    add_json(parser)
    parser.add_argument("--testdata", type=Path, metavar="FOLDER", help="the repository's tree (default: testdata/)")


def run(arguments: argparse.Namespace) -> int:
    """Print the digest of every place and what differs."""
    from agenttrace.fixture.version import released_version  # noqa: PLC0415
    from agenttrace.host import verify_fixture  # noqa: PLC0415

    released = released_version(verify_fixture.FIXTURE)
    places = verify_fixture.verify(arguments.testdata or verify_fixture.TESTDATA)
    for place in places:
        tell(f"{place.digest}  {place.name}")
        for difference in place.differences:
            tell(f"    {difference}")
    equal = all(place.digest == released and not place.differences for place in places)
    tell(f"{released}  released: {'all equal' if equal else 'NOT equal'}")
    write_json(arguments.json, {"equal": equal, "released": released, "places": places})
    return 0 if equal else 1
