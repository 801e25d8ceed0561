"""`agenttrace release`: a finished campaign as a release; its check, its signature, and one file for an archive."""

import argparse
from pathlib import Path

from agenttrace.errors import DataError, UsageError
from agenttrace.show import tell
from agenttrace.verbs.output import add_about, add_json, write_json

EXIT_INCOMPLETE = 4
"""Nothing is wrong with a release, but another version of the kit made what this one would compare."""
_SIGNED, _REFUSED = "signed:", "refused:"


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="record files of finished campaigns")
    parser.add_argument("-o", "--output", type=Path, metavar="DIR", help="a new or empty folder; of --pack a .zip")
    parser.add_argument("--pack", type=Path, metavar="DIR", help="check a release and write it as one .zip")
    parser.add_argument("--verify", type=Path, metavar="DIR", help="check a release, write nothing")
    parser.add_argument("--sign", type=Path, metavar="DIR", help="check a release and sign it")
    parser.add_argument("--key", type=Path, metavar="FILE", help="with a private key (default: who you are, by OpenID)")
    parser.add_argument("--public-key", type=Path, metavar="FILE", help="--verify: it must be signed with its private")
    parser.add_argument("--identity", metavar="WHO", help="--verify: it must be signed by that e-mail or workflow")
    parser.add_argument("--issuer", metavar="URL", help="--identity: as this OpenID provider knows it")
    parser.add_argument("--trust-config", type=Path, metavar="FILE", help="of a Sigstore other than the public one")
    parser.add_argument("--signature-found", help=argparse.SUPPRESS)
    add_json(parser)
    parser.add_argument("--title", help="heading of the card")
    add_about(parser)
    parser.add_argument("--license", default="apache-2.0", metavar="ID", help="licence as the Hub writes it")
    parser.add_argument("--private", action="append", default=[], metavar="TEXT", help="a text that must not be in it")


def on_host(verb: str, arguments: argparse.Namespace, words: list[str]) -> int:
    """Make or check a release in the analysis image, which does not know what is private to this machine.

    Signatures are made and checked here: keys stay out of a container that has read the files of others, which has
    no way to Sigstore either.
    """
    from agenttrace.host import analysis  # noqa: PLC0415
    from agenttrace.verbs.reading import paths_of  # noqa: PLC0415
    from agenttrace.verbs.validate import local_rules  # noqa: PLC0415

    _check(arguments)
    if arguments.sign is not None:
        status = analysis.run(verb, ["--verify", str(arguments.sign)], read=[arguments.sign], written=[])
        return _sign(arguments) if status in {0, EXIT_INCOMPLETE} else status
    more = [] if arguments.verify or arguments.pack else [f"--private={one.text}" for one in local_rules()[0]]
    if _demanded(arguments):
        more = [f"--signature-found={_signature(arguments)}"]
    read, written = paths_of(arguments)
    read = [path for path in read if path not in {arguments.public_key, arguments.trust_config}]  # looked at here
    return analysis.run(verb, [*words, *more], read=read, written=written)


def run(arguments: argparse.Namespace) -> int:
    """Make, check, sign or pack a release; return 1 when a checked one is not whole, or not signed as was asked for."""
    import msgspec  # noqa: PLC0415

    from agenttrace.publish.about import said_about, unsaid  # noqa: PLC0415
    from agenttrace.publish.croissant import hub_licence  # noqa: PLC0415
    from agenttrace.publish.folder import PublishSettings  # noqa: PLC0415
    from agenttrace.publish.release import release  # noqa: PLC0415
    from agenttrace.validate.leaks import word  # noqa: PLC0415
    from agenttrace.verbs.validate import local_rules  # noqa: PLC0415

    _check(arguments)
    if arguments.verify is not None:
        return _verify(arguments)
    if arguments.sign is not None:
        return _check_and_sign(arguments)
    if arguments.pack is not None:
        return _pack(arguments)
    if not arguments.files or arguments.output is None:
        raise UsageError(
            "name record files and a folder (FILE... -o DIR), or a release to check (--verify DIR), to sign (--sign "
            "DIR) or to pack"
        )
    words = [*local_rules()[0], *(word("private text", text) for text in arguments.private)]
    about = said_about(arguments.about, strict=arguments.strict)
    settings = PublishSettings(title=arguments.title, licence=hub_licence(arguments.license), about=about)
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
    written = pack(arguments.pack, arguments.output, _not_compared)
    for path in written:
        tell(f"{path}: {path.stat().st_size} bytes")
    if len(written) == 1:
        tell(f"not said: creators, so there is no {DEPOSIT} (release it with --about FILE)")
    write_json(arguments.json, {"written": written})
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuse options that do not go together.

    Raises:
        UsageError: says which.
    """
    others = [name for name in ("verify", "sign", "pack") if getattr(arguments, name) is not None]
    if len(others) > 1:
        raise UsageError(f"--{others[0]} and --{others[1]} are one command each")
    if others and (arguments.about or arguments.strict):
        raise UsageError("--about and --strict are of a release that is made: give them with FILE... -o DIR")
    if others in (["verify"], ["sign"]) and (arguments.files or arguments.output is not None):
        raise UsageError(f"--{others[0]} DIR is about a release that is there: give it without FILE and -o")
    if arguments.sign is not None and arguments.json is not None:
        raise UsageError("--json is of a release that is made, checked or packed; who signed one, --verify says")
    if arguments.key is not None and arguments.sign is None:
        raise UsageError("--key FILE is what --sign DIR signs with; a signature is checked with --public-key FILE")
    if _demanded(arguments) and arguments.verify is None:
        raise UsageError("--public-key, --identity and --issuer say whose signature --verify DIR asks for")
    if (arguments.identity is None) != (arguments.issuer is None):
        raise UsageError("--identity WHO and --issuer URL go together: providers may give two people the same name")
    if arguments.public_key is not None and arguments.identity is not None:
        raise UsageError("--public-key and --identity: a release has one signature, by one of both")
    if arguments.trust_config is not None and (arguments.key or not (arguments.sign or arguments.identity)):
        raise UsageError("--trust-config FILE is about signatures by an identity; a key needs none")


def _demanded(arguments: argparse.Namespace) -> bool:
    return any(one is not None for one in (arguments.public_key, arguments.identity, arguments.issuer))


def _check_and_sign(arguments: argparse.Namespace) -> int:
    from agenttrace.publish.release import first, verify  # noqa: PLC0415

    if found := first(verify(arguments.sign, _not_compared)):
        raise DataError(f"{arguments.sign}: not whole, so it was not signed:\n  " + "\n  ".join(found))
    return _sign(arguments)


def _not_compared(line: str) -> None:
    tell(f"{line}: not compared".replace("\n", "\\n"))


def _sign(arguments: argparse.Namespace) -> int:
    from agenttrace.publish.signature import sign  # noqa: PLC0415
    from agenttrace.publish.sums import SIGNATURE  # noqa: PLC0415

    who = sign(arguments.sign, key=arguments.key, trust_config=arguments.trust_config)
    tell(f"{arguments.sign / SIGNATURE}: signed by {who}")
    return 0


def _signature(arguments: argparse.Namespace) -> str:
    """Return who signed, or why that is refused, after the word which says which of both it is."""
    from agenttrace.publish.signature import Trusted, signed_by  # noqa: PLC0415

    names = ("public_key", "identity", "issuer", "trust_config")
    try:
        return f"{_SIGNED}{signed_by(arguments.verify, Trusted(**{name: getattr(arguments, name) for name in names}))}"
    except DataError as error:
        return f"{_REFUSED}{error}"


def _verify(arguments: argparse.Namespace) -> int:
    from agenttrace.publish.release import first, verify  # noqa: PLC0415
    from agenttrace.publish.sums import SIGNATURE  # noqa: PLC0415

    folder, unseen, notes = arguments.verify, list[str](), list[str]()
    found = first(verify(folder, unseen.append, notes.append))
    signature = arguments.signature_found or (_signature(arguments) if _demanded(arguments) else "")
    if signature.startswith(_REFUSED):
        found.append(f"{SIGNATURE}: {signature.removeprefix(_REFUSED)}")
    who = signature.removeprefix(_SIGNED) if signature.startswith(_SIGNED) else None
    for line in found:
        tell(line.replace("\n", "\\n"))
    for line in unseen:
        _not_compared(line)
    for line in notes:
        tell(f"note: {line}".replace("\n", "\\n"))
    if not signature and (folder / SIGNATURE).is_file():
        tell(f"{SIGNATURE}: not looked at (--public-key FILE, or --identity WHO --issuer URL)")
    write_json(
        arguments.json,
        {
            "whole": not (found or unseen),
            "signed_by": who,
            "findings": found,
            "not_compared": unseen,
            "notes": notes,
        },
    )
    signed = f", signature of {who}" if who else ""
    if unseen and not found:
        parts = f"files, records, run spec, cassette, verdicts{signed}"
        tell(f"{folder}: {parts} are whole; what is not compared may say anything")
        return EXIT_INCOMPLETE
    whole = f"whole: files, records, run spec, cassette, verdicts, tables, card{signed}"
    tell(f"{folder}: {'NOT whole' if found else whole}")
    return 1 if found else 0
