"""What verbs that read record files share: arguments, bad lines named on standard error, results written whole."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agenttrace.errors import DataError, StorageError, UsageError
from agenttrace.show import say
from agenttrace.store.jsonl import write_whole
from agenttrace.store.opening import is_failures
from agenttrace.verbs import WRITTEN

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

    from agenttrace.analysis.render import Section
    from agenttrace.analysis.tables import Source, Tables
    from agenttrace.store.read import Problem

_NAMED = 20


def add_files(parser: argparse.ArgumentParser, *, strict: bool = True) -> None:
    """Add the record files, and whether one with bad lines makes the verb fail."""
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help="files of traces, of any readable format; folders of them",
    )
    if strict:
        parser.add_argument("--strict", action="store_true", help="exit status 1 when some lines could not be read")


def add_groups(parser: argparse.ArgumentParser, what: str) -> None:
    """Add how traces are grouped; `what` says what a group gets."""
    parser.add_argument(
        "--by",
        choices=["file", "model", "dataset", "run_id"],
        default="file",
        help=f"{what} (default: %(default)s)",
    )


def add_format(parser: argparse.ArgumentParser) -> None:
    """Add the form of findings and where they go."""
    parser.add_argument(
        "--format", choices=["text", "markdown", "json"], default="text", help="what is printed (default: %(default)s)"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write there instead of printing")


def add_prices(parser: argparse.ArgumentParser) -> None:
    """Add the table of prices by which traces are priced that do not say what they cost."""
    from agenttrace.formats.prices import VARIABLE  # noqa: PLC0415

    named = os.environ.get(VARIABLE)
    parser.add_argument(
        "--prices", type=Path, metavar="FILE", default=Path(named) if named else None,
        help=f"TOML table of prices, looked at before the package's own ({VARIABLE} names one, too)",
    )  # fmt: skip


def records_only(paths: Sequence[Path]) -> list[Path]:
    """Return the files, those of traces in place of a folder, without those of failed attempts.

    A pattern such as `*.jsonl` takes these in, and they would count as the model's. Where nothing but such files is
    named, they are meant.

    Raises:
        UsageError: a folder holds no file of traces.
    """
    from agenttrace.formats.reading import files  # noqa: PLC0415

    paths = files(paths, say)
    kept = [path for path in paths if not is_failures(path)]
    if not kept:
        return list(paths)
    for path in paths:
        if is_failures(path):
            say(f"{path}: attempts that ended in an infrastructure failure, left out; name it alone to read it")
    return kept


def paths_of(arguments: argparse.Namespace) -> tuple[list[Path], list[Path]]:
    """Return the paths among the arguments of a verb: those that are read, and those that are written."""
    read: list[Path] = []
    written: list[Path] = []
    for name, value in vars(arguments).items():
        paths = [path for path in (value if isinstance(value, list | tuple) else [value]) if isinstance(path, Path)]
        (written if name in WRITTEN else read).extend(paths)
    return read, written


def spare_inputs(arguments: argparse.Namespace) -> None:
    """Refuse to write over what is read.

    Raises:
        UsageError: a path among the arguments of a verb that is written is one of those that are read.
    """
    read, written = ([path for path in paths if path.exists()] for paths in paths_of(arguments))
    for path in written:
        if any(path.samefile(other) for other in read):
            raise UsageError(f"{path} is one of the files that are read: give the result another name")


class Complaints:
    """Names the first bad lines of each file as they are met; `close` counts them all."""

    def __init__(self) -> None:
        self._said: dict[str, int] = {}

    def __call__(self, problem: Problem) -> None:
        """Name one."""
        self._said[problem.file] = self._said.get(problem.file, 0) + 1
        if self._said[problem.file] <= _NAMED or problem.line is None:
            say(str(problem))

    def close(self, sources: Sequence[Source]) -> bool:
        """Say how many lines of each file are missing, and stop when nothing was read at all.

        Returns:
            whether something is missing.

        Raises:
            DataError: there is not one trace.
        """
        for source in sources:
            if source.partial:
                rest = " and the rest of the file" if source.damaged else ""
                say(f"{source.file}: PARTIAL: {source.bad_lines} bad lines{rest} left out, {source.rows} traces read")
        if not any(source.rows for source in sources):
            names = ", ".join(source.file for source in sources)
            raise DataError(f"{names}: no trace to read")
        return any(source.partial for source in sources)


def load_or_stop(paths: Sequence[Path], prices: Path | None = None) -> Tables:
    """Return the tables of record files, what is bad in them named on standard error.

    Args:
        paths: the files.
        prices: a table of prices, where the user has one.

    Raises:
        DataError: there is not one trace, or the table of prices is none.
        UsageError: a file cannot be opened or is of another kind.
    """
    from agenttrace.analysis.tables import load  # noqa: PLC0415
    from agenttrace.formats.prices import read_prices  # noqa: PLC0415

    complaints = Complaints()
    tables = load(records_only(paths), on_problem=complaints, prices=read_prices(prices))
    complaints.close(tables.sources)
    return tables


def deliver(arguments: argparse.Namespace, found: Any, sections: Iterable[Section]) -> None:  # noqa: ANN401 - findings
    """Print findings in the form of `--format`, or write them to the file of `--output`, whole or not at all.

    Args:
        arguments: those of `add_format`.
        found: what becomes JSON.
        sections: what becomes text and Markdown.

    Raises:
        StorageError: the file cannot be written.
    """
    from agenttrace.analysis import render  # noqa: PLC0415

    forms = {"text": render.as_text, "markdown": render.as_markdown}
    text = render.as_json(found) if arguments.format == "json" else forms[arguments.format](sections)
    output = arguments.output
    if output is None:
        sys.stdout.write(text)
        return
    if output.is_dir():
        raise StorageError(f"cannot write {output}: it is a folder; name a file in it")
    write_whole(output, text.encode())
