"""`agenttrace publish`: a folder as it is published, and its upload."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from agenttrace.errors import UsageError
from agenttrace.publish.forms import FORMS, about
from agenttrace.show import tell
from agenttrace.verbs.output import add_about, add_json, write_json


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument("files", nargs="*", type=Path, metavar="FILE", help="files of traces, folders of them")
    add_shared(parser, form=None)
    parser.add_argument("--private", action="append", default=[], metavar="TEXT", help="a text that must not be in it")
    parser.add_argument(
        "--private-repository", action="store_true", help="the repository is made private, or must be private already"
    )


def add_shared(parser: argparse.ArgumentParser, *, form: str | None) -> None:
    """Add what this verb and `publish-rollouts` have in common."""
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="DIR", help="a new or empty folder")
    chosen = "by the agent: traces or 1k-32k" if form is None else form
    parser.add_argument("--form", choices=list(FORMS), default=form, help=f"{about()} (default: {chosen})")
    parser.add_argument("--rows-per-shard", type=int, default=10_000, metavar="N", help="default: %(default)s")
    parser.add_argument("--title", help="heading of the card")
    parser.add_argument(
        "--license", metavar="ID",
        help="licence as the Hub writes it (default: apache-2.0; what was read from another format must name its own)",
    )  # fmt: skip
    add_about(parser)
    parser.add_argument("--keep-findings", action="store_true", help="publish although something looks private")
    parser.add_argument(
        "--upload",
        metavar="OWNER/NAME",
        help="bring it to the Hub in one commit (token: HF_TOKEN); without FILE, DIR as it is",
    )
    add_json(parser)
    parser.add_argument("--make-only", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--from-host", action="store_true", help=argparse.SUPPRESS)


def check(arguments: argparse.Namespace) -> None:
    """Refuse what cannot work, before anything is made.

    Raises:
        UsageError: with what to do.
    """
    from agenttrace.publish.upload import check_name  # noqa: PLC0415

    if not arguments.files and arguments.upload is None:
        raise UsageError("name the run to publish, or --upload a folder that was made before")
    if not arguments.files and (arguments.about is not None or arguments.strict):
        raise UsageError("--about and --strict are of a folder that is made: name the files, too")
    if not all(arguments.private):
        raise UsageError("--private: expected a text that is not empty")
    if arguments.upload is not None:
        check_name(arguments.upload)


def on_host(verb: str, arguments: argparse.Namespace, words: list[str]) -> int:
    """Make the folder and upload it in containers of their own, which do not know what is private to this machine."""
    from agenttrace.host import analysis  # noqa: PLC0415
    from agenttrace.verbs.validate import local_rules  # noqa: PLC0415

    check(arguments)
    option = "--private" if verb == "publish" else "--private-text"
    return analysis.publish(verb, arguments, [*words, *(f"{option}={one.text}" for one in local_rules()[0])])


def run(arguments: argparse.Namespace) -> int:
    """Make the folder, upload it where that is asked for, and say what came of it."""
    check(arguments)
    done: dict[str, Any] = {"folder": arguments.output}
    if arguments.files:
        done["rows"] = _make(arguments)
    if arguments.upload is not None and not arguments.make_only:
        from agenttrace.host import gitleaks  # noqa: PLC0415
        from agenttrace.models.hub import host_settings  # noqa: PLC0415
        from agenttrace.publish.upload import upload  # noqa: PLC0415

        if not arguments.from_host:  # there it has looked already
            gitleaks.search([arguments.output, *arguments.files], keep=arguments.keep_findings)
        with host_settings(sys.stdin.buffer.read() if arguments.from_host else None):
            sent = upload(arguments.output, arguments.upload, private=arguments.private_repository)
        tell(f"{sent.url}: {sent.added} files, {sent.removed} stale ones removed, one commit")
        done["url"] = sent.url
    write_json(arguments.json, done)
    return 0


def _make(arguments: argparse.Namespace) -> dict[str, int]:
    from agenttrace.publish.about import said_about, unsaid  # noqa: PLC0415
    from agenttrace.publish.croissant import hub_licence  # noqa: PLC0415
    from agenttrace.publish.folder import PublishSettings, publish  # noqa: PLC0415
    from agenttrace.validate.leaks import word  # noqa: PLC0415
    from agenttrace.verbs.reading import records_only  # noqa: PLC0415
    from agenttrace.verbs.validate import local_rules  # noqa: PLC0415

    settings = PublishSettings(
        about=said_about(arguments.about, strict=arguments.strict),
        form=arguments.form,
        rows_per_shard=arguments.rows_per_shard,
        title=arguments.title,
        licence=arguments.license and hub_licence(arguments.license),
        leaks="keep" if arguments.keep_findings else "stop",
    )
    words = [*local_rules()[0], *(word("private text", text) for text in arguments.private)]
    files = records_only(arguments.files)
    rows = publish(files, arguments.output, settings, words=words, noted=lambda note: tell(f"note: {note}"))
    for name, count in rows.items():
        tell(f"{arguments.output}/{name}: {f'{count} rows' if count else 'no rows, so no such configuration'}")
    if missing := unsaid(settings.about):
        tell(f"not said: {', '.join(missing)} (--about FILE)")
    return rows
