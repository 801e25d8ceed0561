"""`agenttrace collect`: a campaign on this machine."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agenttrace.errors import UsageError
from agenttrace.verbs import asked
from agenttrace.verbs.output import add_json, check_json, write_json

if TYPE_CHECKING:
    from agenttrace.campaign.options import Options
    from agenttrace.host.campaign import Request


def add(parser: argparse.ArgumentParser, preset: Options | None = None) -> None:
    """Add the arguments of this verb, with the defaults of a preset."""
    from agenttrace.campaign.options import Options  # noqa: PLC0415

    asked.add_campaign(parser, preset or Options(), datasets=preset is None)
    add_json(parser)
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="record file (default: in datasets/)")
    parser.add_argument("--fresh", action="store_true", help="start a new campaign although one can be resumed")
    workers: dict[str, Any] = {"dest": "workers", "type": int, "metavar": "W"}
    parser.add_argument("--workers", **workers, help="tasks run at a time, one sandbox each (default: the profile's)")
    parser.add_argument("--concurrency", **workers, default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace, preset: Options | None = None) -> int:
    """Run the campaign, or several, one after the other."""
    from agenttrace.campaign.result import collected  # noqa: PLC0415
    from agenttrace.host.campaign import collect  # noqa: PLC0415

    check_json(arguments.json)

    end = collect(request(arguments, preset))
    if arguments.json is not None:
        write_json(
            arguments.json, {"status": end.status, "campaigns": [collected(path)._asdict() for path in end.files]}
        )
    return end.status


def request(arguments: argparse.Namespace, preset: Options | None = None) -> Request:
    """Return what the arguments of this verb ask for.

    Raises:
        UsageError: there is no folder for records, and none can be made.
    """
    from agenttrace.campaign.options import Options  # noqa: PLC0415
    from agenttrace.host.campaign import Request  # noqa: PLC0415
    from agenttrace.host.place import datasets  # noqa: PLC0415
    from agenttrace.models import pins  # noqa: PLC0415

    output: Path | None = arguments.output
    folder = datasets() if output is None else output.parent
    if output is None:
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot make the folder for records {folder}: {error.strerror}") from error
    names = arguments.dataset or (["demo"] if arguments.model == pins.DEFAULT_MODEL else ["mbpp", "nl2bash"])
    names = [names] if isinstance(names, str) else names
    return Request(
        options=tuple(asked.campaign_options(arguments, preset or Options(), name) for name in names),
        folder=folder,
        workers=arguments.workers,
        base_url=arguments.base_url,
        size=arguments.size,
        sha256=arguments.sha256,
        accept_terms=arguments.accept_terms,
        places=asked.places(arguments),
    )
