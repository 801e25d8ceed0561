"""`agenttrace show`: one trace as a transcript."""

from __future__ import annotations

from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from agenttrace.records import Trace

WHOLE_ID = 36
"""Characters of a whole trace id, a UUID."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    from agenttrace.verbs.output import add_json  # noqa: PLC0415
    from agenttrace.verbs.reading import add_file  # noqa: PLC0415

    add_file(parser, "file", metavar="FILE")
    parser.add_argument("trace", nargs="?", help="task id, task name or start of a trace id (default: the first trace)")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print the trace."""
    from rich.console import Console  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    from agenttrace.verbs.output import write_json  # noqa: PLC0415

    trace = _picked(arguments.file, arguments.trace)
    if arguments.json is not None:
        write_json(arguments.json, trace)
        return 0

    class Transcript(Console):
        """Leaves a reader that has gone, such as `head`, to who ends the command: Rich would end it with status 1."""

        def on_broken_pipe(self) -> None:
            raise  # noqa: PLE0704 - Rich calls it where it caught the error

    from agenttrace.show import transcript  # noqa: PLC0415

    out = Transcript(highlight=False, soft_wrap=True)
    for style, line in transcript(trace):
        out.print(Text(line, style=style))
    return 0


def _picked(path: Path, named: str | None) -> Trace:
    """Return the named trace; by its whole id it is found in a compacted file without reading the others."""
    from agenttrace.errors import DataError, UsageError  # noqa: PLC0415
    from agenttrace.formats.reading import traces  # noqa: PLC0415
    from agenttrace.show import pick  # noqa: PLC0415
    from agenttrace.store.compact import COMPACTED, Compacted  # noqa: PLC0415
    from agenttrace.verbs.reading import records_only  # noqa: PLC0415

    if named is not None and len(named) == WHOLE_ID and path.suffix == COMPACTED:
        with suppress(DataError, UsageError), Compacted(path) as file:  # else it is compressed, or that is no id of it
            return file.get(named)
    found = (trace for file in records_only([path]) for _, trace in traces(file))
    first = next(found, None)
    if first is None:
        raise UsageError(f"{path}: no record yet")
    return pick(chain([first], found), named)
