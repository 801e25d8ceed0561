"""What verbs that read record files share: arguments, bad lines named on standard error, results written whole."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agenttrace.errors import DataError, UsageError, command, did_you_mean
from agenttrace.formats.folders import files, matching
from agenttrace.formats.reading import kind
from agenttrace.show import say
from agenttrace.store.jsonl import write_whole
from agenttrace.store.opening import is_failures
from agenttrace.store.read import run_spec_path
from agenttrace.verbs import WRITTEN
from agenttrace.verbs.output import STDOUT, add_json, write_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from agenttrace.analysis.render import Section
    from agenttrace.analysis.tables import Source, Tables
    from agenttrace.store.read import Problem

_NAMED = 20
_READ = ("files", "file", "run", "one", "other", "against")
"""Names of arguments that are files to read, or folders or patterns of them."""


def add_files(parser: argparse.ArgumentParser, *, strict: bool = True) -> None:
    """Add the record files, and whether one with bad lines makes the verb fail."""
    parser.add_argument(
        "files",
        nargs="*",
        type=Path,
        metavar="FILE",
        help="files of traces, of any readable format; folders of them; patterns (default: the newest record file of "
        "datasets/)",
    )
    parser.set_defaults(newest="files")
    if strict:
        parser.add_argument("--strict", action="store_true", help="exit status 1 when some lines could not be read")


def add_file(parser: argparse.ArgumentParser, name: str, *, metavar: str) -> None:
    """Add the one file or folder that is read."""
    what = "file of traces, of any readable format, or a folder of them (default: the newest record file of datasets/)"
    parser.add_argument(name, nargs="?", type=Path, metavar=metavar, help=what)
    parser.set_defaults(newest=name)


def settled(arguments: argparse.Namespace, words: list[str]) -> list[str]:
    """See to it that what a verb reads is there; where no file was named, take the newest.

    Args:
        arguments: those of the verb; a file that was left out is put into them.
        words: the command line that they were read from.

    Returns:
        the command line with that file, and with the files that a pattern fits in its place.

    Raises:
        UsageError: a file is not there, or a pattern fits none.
    """
    if (name := getattr(arguments, "newest", None)) and _take_newest(arguments, name):
        found = getattr(arguments, name)
        words = [str(found[0] if isinstance(found, list) else found), *words]
    paths = _named(arguments)
    fitting = {str(path): [str(one) for one in matching(path)] for path in paths}
    for path in paths:
        if fitting[str(path)] == [str(path)]:
            try:
                path.lstat()
            except OSError as error:
                raise UsageError(f"cannot read {path}: {error.strerror}{_near(path)}") from error
    return [one for word in words for one in fitting.get(str(Path(word)), [word])]


def _named(arguments: argparse.Namespace) -> list[Path]:
    """Return the files of traces, folders and patterns of them, that the arguments name."""
    named = [getattr(arguments, name, None) for name in _READ]
    return [path for one in named for path in (one if isinstance(one, list) else [one]) if isinstance(path, Path)]


def _take_newest(arguments: argparse.Namespace, name: str) -> bool:
    """Put the newest record file where none was named; `show 27` means a trace of it."""
    given = getattr(arguments, name)
    is_trace = (
        isinstance(given, Path)
        and getattr(arguments, "trace", "") is None
        and not (os.path.lexists(given) or given.suffix or len(given.parts) > 1)
    )
    if given and not is_trace:
        return False
    if is_trace:
        arguments.trace = str(given)
    path = _newest()
    say(f"reading {path}, the newest record file")
    setattr(arguments, name, [path] if isinstance(given, list) else path)
    return True


def _newest() -> Path:
    """Return the record file that was written to last, of those in the folder for records, releases among them.

    Raises:
        UsageError: there is none.
    """
    try:
        from agenttrace.host.place import datasets  # noqa: PLC0415 - on the user's machine only
    except ImportError:
        raise UsageError("name a record file") from None
    folder = datasets()
    found = [path for pattern in ("*.jsonl", "*/*.jsonl", "*/records/*.jsonl") for path in folder.glob(pattern)]
    records = [path for path in found if run_spec_path(path).is_file() and not is_failures(path)]
    if not records:
        raise UsageError(f"no record file in {folder}: name one, or make one first: {command('collect')}")
    return max(records, key=lambda path: path.stat().st_mtime_ns)


def _near(path: Path) -> str:
    """Return a question with the name beside a path that is most like it, to end a message with, or nothing."""
    try:
        beside = {one.name: str(one) for one in path.parent.iterdir()}
    except OSError:
        return ""
    question = did_you_mean(path.name, beside)
    return next((question.replace(name, whole) for name, whole in beside.items() if f" {name}?" in question), question)


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
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="write there instead of printing (`-`: print)"
    )
    add_json(parser)


def add_prices(parser: argparse.ArgumentParser) -> None:
    """Add the table of prices by which traces are priced that do not say what they cost."""
    from agenttrace.formats.prices import VARIABLE  # noqa: PLC0415

    named = os.environ.get(VARIABLE)
    parser.add_argument(
        "--prices", type=Path, metavar="FILE", default=Path(named) if named else None,
        help=f"TOML table of prices, looked at before the package's own ({VARIABLE} names one, too)",
    )  # fmt: skip


def add_folder(parser: argparse.ArgumentParser, default: str) -> None:
    """Add the folder that results go to; files in it are replaced by those of the same name."""
    words: dict[str, Any] = {"dest": "output", "type": _folder, "metavar": "FOLDER"}
    parser.add_argument("-o", "--output", **words, default=Path(default), help="default: %(default)s")
    parser.add_argument("--outdir", **words, default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def _folder(given: str) -> Path:
    if not given:
        raise argparse.ArgumentTypeError("an empty name")
    if Path(given).is_file():
        raise argparse.ArgumentTypeError(f"{given} is a file: name a folder")
    return Path(given)


def records_only(paths: Sequence[Path]) -> list[Path]:
    """Return the files, those of traces in place of a folder, without those of failed attempts.

    A pattern such as `*.jsonl` takes these in, and they would count as the model's. Where nothing but such files is
    named, they are meant.

    Raises:
        UsageError: a folder holds no file of traces.
    """
    paths = once(files(paths, say))
    kept = [path for path in paths if not is_failures(path)]
    if not kept:
        return list(paths)
    for path in paths:
        if is_failures(path):
            say(f"{path}: attempts that ended in an infrastructure failure, left out; name it alone to read it")
    return kept


def once(paths: list[Path]) -> list[Path]:
    """Return each file once, under the name by which it came first; others are told."""
    found: dict[str, Path] = {}
    for path in paths:
        first = found.setdefault(os.path.realpath(path), path)  # `resolve` gives up on a loop of links
        if first is not path:
            say(f"{path} is given twice; read once")
    return [*found.values()]


def paths_of(arguments: argparse.Namespace) -> tuple[list[Path], list[Path]]:
    """Return the paths among the arguments of a verb: those that are read, and those that are written."""
    read: list[Path] = []
    written: list[Path] = []
    for name, value in vars(arguments).items():
        paths = [path for path in (value if isinstance(value, list | tuple) else [value]) if isinstance(path, Path)]
        (written if name in WRITTEN else read).extend(paths)
    return read, written


def spare_inputs(arguments: argparse.Namespace, *, replaces: bool) -> None:
    """Refuse to write over what is read; where a verb replaces what it wrote before, say so.

    Raises:
        UsageError: a path among the arguments of a verb that is written is one of those that are read.
    """
    read, written = ([path for path in paths if path.exists()] for paths in paths_of(arguments))
    for path in written:
        if any(path.samefile(other) for other in read):
            raise UsageError(f"{path} is one of the files that are read: give the result another name")
        if replaces and path.is_file() and not getattr(arguments, "watch", False):
            say(f"{path} was there already, and is replaced")


def refuse_unreadable(arguments: argparse.Namespace) -> None:
    """Refuse files of traces that no verb can read, before a container is started for them; Parquet is left to it.

    Raises:
        UsageError: says what a file looks like.
    """
    for path in _named(arguments):
        if path.is_file() and path.suffix != ".parquet":
            with suppress(DataError):  # named with its line, beside those that are whole
                kind(path)


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
                bad = f"{source.bad_lines} bad line{'s' * (source.bad_lines != 1)}"
                say(f"{source.file}: PARTIAL: {bad}{rest} left out, {source.rows} traces read")
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
        UsageError: the file is a folder.
        StorageError: it cannot be written.
    """
    from agenttrace.analysis import render  # noqa: PLC0415

    if arguments.json is not None:
        write_json(arguments.json, render.as_json(found).encode())
        return
    forms = {"text": render.as_text, "markdown": render.as_markdown}
    text = render.as_json(found) if arguments.format == "json" else forms[arguments.format](sections)
    output = arguments.output
    if output is None or output == Path(STDOUT):
        sys.stdout.write(text)
        return
    if output.is_dir():
        raise UsageError(f"-o {output}: it is a folder; name a file in it")
    write_whole(output, text.encode())
