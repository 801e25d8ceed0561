"""`agenttrace release`: a finished campaign as a release, the check of one, and one as a file for an archive."""

import argparse
from pathlib import Path

from agenttrace.errors import UsageError
from agenttrace.show import tell
from agenttrace.verbs.output import add_about, add_json, write_json

EXIT_INCOMPLETE = 4
"""Nothing is wrong with a release, but another version of the kit made what this one would compare."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="record files of finished campaigns")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="a new or empty folder; of --pack a .zip")
    parser.add_argument("--pack", type=Path, metavar="DIR", help="check a release and write it as one .zip")
    parser.add_argument("--verify", type=Path, metavar="DIR", help="check a release, write nothing")
    add_json(parser)
    parser.add_argument("--title", help="heading of the card")
    add_about(parser)
    parser.add_argument("--license", default="apache-2.0", metavar="ID", help="licence as the Hub writes it")
    parser.add_argument("--private", action="append", default=[], metavar="TEXT", help="a text that must not be in it")


def on_host(verb: str, arguments: argparse.Namespace, words: list[str]) -> int:
    """Make or check a release in the analysis image, which does not know what is private to this machine."""
    from agenttrace.host import analysis  # noqa: PLC0415
    from agenttrace.verbs.reading import paths_of  # noqa: PLC0415
    from agenttrace.verbs.validate import local_rules  # noqa: PLC0415

    private = [] if arguments.verify or arguments.pack else [f"--private={one.text}" for one in local_rules()[0]]
    read, written = paths_of(arguments)
    return analysis.run(verb, [*words, *private], read=read, written=written)


def run(arguments: argparse.Namespace) -> int:
    """Make or check a release; return 1 when a checked one is not whole."""
    import msgspec  # noqa: PLC0415

    from agenttrace.publish.about import said_about, unsaid  # noqa: PLC0415
    from agenttrace.publish.folder import PublishSettings  # noqa: PLC0415
    from agenttrace.publish.release import release  # noqa: PLC0415
    from agenttrace.validate.leaks import word  # noqa: PLC0415
    from agenttrace.verbs.validate import local_rules  # noqa: PLC0415

    if (arguments.verify or arguments.pack) and (arguments.about or arguments.strict):
        raise UsageError("--about and --strict are of a release that is made: give them with FILE... -o DIR")
    if arguments.verify is not None:
        if arguments.files or arguments.output is not None or arguments.pack:
            raise UsageError("--verify DIR checks a release and writes nothing: give it without FILE, -o and --pack")
        return _verify(arguments.verify, arguments.json)
    if arguments.pack is not None:
        return _pack(arguments)
    if not arguments.files or arguments.output is None:
        raise UsageError(
            "name record files and a folder (FILE... -o DIR), or a release to check (--verify DIR) or to pack"
        )
    words = [*local_rules()[0], *(word("private text", text) for text in arguments.private)]
    about = said_about(arguments.about, strict=arguments.strict)
    settings = PublishSettings(title=arguments.title, licence=arguments.license, about=about)
    made = release(arguments.files, arguments.output, settings, words=words)
    for one in made.campaigns:
        digest = made.metadata_sha256[Path(one.records_file).name]
        tell(f"{one.records_file}: {one.records} records of {one.run_id}, metadata {digest}")
    total = sum(file.bytes for file in made.files.values())
    tell(f"{arguments.output}: released, {len(made.files)} files, {total} bytes")
    if missing := unsaid(about):
        tell(f"not said: {', '.join(missing)} (--about FILE)")
    write_json(arguments.json, {"folder": arguments.output, **msgspec.to_builtins(made)})
    return 0


def _pack(arguments: argparse.Namespace) -> int:
    from agenttrace.publish.archive import DEPOSIT, pack  # noqa: PLC0415

    if arguments.files or arguments.output is None:
        raise UsageError("--pack DIR packs a release that is there: give it with -o FILE.zip and without FILE")
    written = pack(arguments.pack, arguments.output)
    for path in written:
        tell(f"{path}: {path.stat().st_size} bytes")
    if len(written) == 1:
        tell(f"not said: creators, so there is no {DEPOSIT} (release it with --about FILE)")
    write_json(arguments.json, {"written": written})
    return 0


def _verify(folder: Path, json: Path | str | None) -> int:
    from agenttrace.publish.release import first, verify  # noqa: PLC0415

    unseen: list[str] = []
    found = first(verify(folder, unseen.append))
    for line in (*found, *(f"{line}: not compared" for line in unseen)):
        tell(line.replace("\n", "\\n"))
    write_json(json, {"whole": not (found or unseen), "findings": found, "not_compared": unseen})
    if unseen and not found:
        tell(f"{folder}: files, records, run spec, cassette, verdicts are whole; what is not compared may say anything")
        return EXIT_INCOMPLETE
    whole = "whole: files, records, run spec, cassette, verdicts, tables, card"
    tell(f"{folder}: {'NOT whole' if found else whole}")
    return 1 if found else 0
