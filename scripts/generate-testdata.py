"""Writes a fixture's tree into testdata/, or checks the one that lies there."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import sys
from collections import Counter
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 - macOS brings an older one, and a traceback helps nobody
    sys.exit("generate-testdata.py needs Python 3.11 or newer")

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from agenttrace.fixture import Fixture, FixtureError, load  # noqa: E402 - found through the line above
from agenttrace.fixture.checkout import Checkout, compare, restore  # noqa: E402
from agenttrace.fixture.version import digest, manifest, released_version  # noqa: E402

ABOUT = """
Writes the file system of the NL2Bash tasks into testdata/: files, modes, times and empty folders, of which git carries
only the files. Writes what is missing or differs, nothing else, and never removes what it does not know. Needs neither
Docker nor packages. With --check it writes nothing and says in what the tree differs (exit status 1) or that it does
not (0). What is in the tree and why: docs/fixture.md.
"""


def main() -> int:
    """Exit code: 0 the tree is as it must be, 1 it is not or cannot be written."""
    arguments = _arguments()
    try:
        fixture = load(arguments.fixture)
        if arguments.manifest:
            sys.stdout.writelines(json.dumps(entry) + "\n" for entry in manifest(fixture))
            return 0
        if arguments.check:
            found = compare(fixture, arguments.output)
            return _say(fixture, arguments.output, found, _command(arguments))
        return _say(fixture, arguments.output, restore(fixture, arguments.output), "")
    except FixtureError as error:
        print(error, file=sys.stderr)
        return 1


def _say(fixture: Fixture, folder: Path, found: Checkout, command: str) -> int:
    """Print what was found and how to mend it; returns the exit status."""
    for difference in found.differences:
        print(difference)
    for path in found.ignored:
        print(f"note: {path!r} is the Finder's and does not count")
    if found.unread:
        print(f"the rest could not be read: {found.unread}")
    if (described := digest(fixture)) != (released := released_version(fixture.name)):
        print(f"agenttrace/fixture/{fixture.name}.toml describes {described}; released was {released}")
        return 1
    if not found.differences and not found.unread:
        print(f"{_place(folder)} is the fixture {fixture.name}: {len(fixture.entries)} paths, digest {found.digest}")
        return 0
    kinds = Counter(difference.kind for difference in found.differences)
    counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    print(f"{_place(folder)} differs from the fixture {fixture.name}: {counted}")
    if found.fresh:
        print("Git carries no times, no modes but the owner's x and no empty folders, and nothing else differs.")
    if any(difference.kind in {"extra", "type"} for difference in found.differences):
        print("Remove what is extra or of another type first; it might be yours, so nothing here does that.")
    print(f"To mend it: {command}")
    return 1


def _place(folder: Path) -> str:
    """The folder as it was named, and where that is when a link leads there."""
    real = folder.resolve()
    return str(folder) if real == folder.absolute() else f"{folder} (that is {real})"


def _command(arguments: argparse.Namespace) -> str:
    """Command line that writes what was checked, ready to be pasted into a shell in the current folder."""
    name = Path(sys.executable).name
    found = shutil.which(name)
    python = name if found is not None and Path(found).samefile(sys.executable) else sys.executable
    script = sys.argv[0] if Path(sys.argv[0]).is_file() and not sys.argv[0].startswith("-") else str(Path(__file__))
    options = [] if arguments.fixture == "nl2bash" else ["--fixture", arguments.fixture]
    if arguments.output != ROOT / "testdata":
        folder = str(arguments.output)
        options += [f"--output={folder}"] if folder.startswith("-") else ["--output", folder]
    return shlex.join([python, script, *options])


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("the name is empty; name a folder, or leave the option out")
    return Path(text)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=ABOUT)
    parser.add_argument("--check", action="store_true", help="compare only")
    parser.add_argument("--manifest", action="store_true", help="print the manifest, one JSON object a line, and end")
    parser.add_argument(
        "--output", type=_folder, default=ROOT / "testdata", metavar="FOLDER", help="default: testdata/"
    )
    parser.add_argument("--fixture", default="nl2bash", metavar="NAME", help="default: %(default)s")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:  # `... --check | head`: the reader has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 1
    raise SystemExit(status)
