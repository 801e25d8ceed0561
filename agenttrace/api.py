"""The Python interface that `agenttrace` itself offers: what the verbs do, without a command line; see docs/api.md.

It prints nothing of its own, ends no process, and raises `AgentTraceError` where a verb would print a message.
"""

from __future__ import annotations

import argparse
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict, Unpack

import msgspec

from agenttrace.campaign.result import Collected, collected
from agenttrace.errors import EXIT_INTERRUPTED, DataError, UsageError, did_you_mean, unusable
from agenttrace.formats.folders import files
from agenttrace.formats.reading import traces
from agenttrace.show import hush
from agenttrace.store.opening import as_path, as_paths, is_failures

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agenttrace.analysis.tables import Tables
    from agenttrace.errors import AgentTraceError
    from agenttrace.host.campaign import CampaignsEnd
    from agenttrace.records import Trace
    from agenttrace.store.opening import Paths
    from agenttrace.store.read import Problem

    OnProblem = Callable[[Problem], object] | None


def read(paths: Paths, *, on_problem: OnProblem = None) -> Iterator[Trace]:
    """Return an iterator over the traces of files, one in memory at a time.

    Args:
        paths: a file, a folder, a pattern such as `runs/*.jsonl`, or several of them; of any format that is read.
            Files of failed attempts are left out, unless nothing else is named.
        on_problem: called with what cannot be read (its `file`, `line` and `message`), instead of stopping there.

    Raises:
        UsageError: at once, where nothing is there to read; later, where a file is of another kind.
        DataError: a line is no trace, or the rest of a file is damaged, and there is no `on_problem`.
    """
    found = _records(paths)
    return (trace for path in found for _, trace in traces(path, on_problem))


def tables(paths: Paths, *, on_problem: OnProblem = None) -> Tables:
    """Return the traces of files as three pandas frames: `runs`, `steps` and `spans`.

    Arguments and errors are those of `read`. `sources` says what became of each file.
    """
    from agenttrace.analysis.tables import load  # noqa: PLC0415 - pandas

    return load(_records(paths), on_problem=on_problem or _stop)


def convert(paths: Paths, to: str, output: str | Path) -> dict[str, int]:
    """Write the traces of files in another format and return how many rows each written file has.

    Args:
        paths: as those of `read`.
        to: a format of docs/formats.md, such as `atif` or `parquet`.
        output: a new file, or a new folder; it is there whole or not at all.

    Raises:
        UsageError: there is no such format, or the output is there already.
        DataError: a line is no trace, or the format cannot hold it.
    """
    from agenttrace.formats import convert as formats  # noqa: PLC0415 - pyarrow

    try:
        return formats.convert(_records(paths), to, as_path(output))
    except OSError as error:  # a name that is too long for the file system
        raise unusable(error) from error


def _records(paths: Paths) -> list[Path]:
    named = as_paths(paths)
    if not named:
        raise UsageError("no file of traces was given")
    try:
        found = files(named, lambda _: None)
    except OSError as error:
        raise unusable(error) from error
    return [path for path in found if not is_failures(path)] or found


def _stop(problem: Problem) -> None:
    raise DataError(str(problem))


class CampaignOptions(TypedDict, total=False):
    """What may be asked of a campaign, with the defaults of the verb; described in `agenttrace.campaign.options`.

    `system_prompt` and `chat_template` are the texts themselves.
    """

    agent: str | None
    profile: str
    threads: tuple[int, int] | None
    request_limit_s: int | None
    sampler: str | None
    temperature: float | None
    top_p: float | None
    thinking: Literal["on", "off"] | int | None
    reply_details: tuple[str, ...]
    seed: int | None
    context: int | None
    offset: int
    count: int | None
    rollouts: int
    source: str | None
    split: str
    languages: tuple[str, ...]
    hidden_tests: bool
    repos: int | None
    per_repo: int | None
    run_id: str | None
    max_steps: int | None
    call_limit_ms: int | None
    max_output_tokens: int | None
    max_total_tokens: int | None
    observation: Literal["swe-zero", "mini-swe-agent"]
    system_prompt: str | None
    fresh: bool
    workers: int | None
    base_url: str | None
    size: int | None
    sha256: str | None
    accept_terms: bool
    chat_template: str | None
    constrained: Literal["on", "off"] | None
    repositories: str | None


def collect(
    model: str | Path | None = None,
    *,
    dataset: str | Path = "demo",
    output: str | Path | None = None,
    quiet: bool = False,
    **options: Unpack[CampaignOptions],
) -> Collected:
    """Run a campaign as `agenttrace collect` does, in the same containers, and return what it left.

    It resumes what was cut off, and returns at once where nothing is left to do. How it goes on is written to the
    standard error of this process. To be called from the main thread: it handles signals while it runs.

    Args:
        model: a pinned name, `REPO@REVISION:FILE.gguf` of the Hub, a .gguf file, or what the endpoint serves; default
            the bundled model.
        dataset: name of a task set, or the path of one of your own.
        output: record file (`.jsonl`); default one in `datasets/`.
        quiet: write nothing but what is wrong.
        **options: see `CampaignOptions`.

    Raises:
        UsageError: an option that cannot work, no engine, another campaign of this checkout.
        AgentTraceError: it ended otherwise; `exit_code` says why, as that of the verb. What was finished is kept.
        KeyboardInterrupt: it was interrupted; what was finished is kept.
    """
    from agenttrace.host import campaign  # noqa: PLC0415 - only on a host
    from agenttrace.verbs.collect import request  # noqa: PLC0415

    if not isinstance(dataset, str | Path):
        raise UsageError(
            f"collect takes one task set, by name or path, not {type(dataset).__name__}: call it once for each"
        )
    if threading.current_thread() is not threading.main_thread():
        raise UsageError("collect handles signals while it runs: call it from the main thread")
    asked = _arguments(options)
    asked.dataset, asked.output = [str(dataset)], None if output is None else as_path(output)
    asked.model = asked.model if model is None else str(model)
    hush(quiet=quiet, results=False)
    try:
        end = campaign.collect(request(asked))
    except OSError as error:
        raise _of_the_engine(error) from error
    finally:
        hush(quiet=False, results=False)
    return collected(_file_of(end))


def _of_the_engine(error: OSError) -> AgentTraceError:
    from agenttrace.host import engine  # noqa: PLC0415

    return engine.refusal(error) or unusable(error)


def _file_of(end: CampaignsEnd) -> Path:
    """Return the record file of one campaign that ended well.

    Raises:
        AgentTraceError: it did not.
        KeyboardInterrupt: it was interrupted.
    """
    from agenttrace.host.compose import EndedError  # noqa: PLC0415

    (path,) = end.files
    if end.status == EXIT_INTERRUPTED:
        raise KeyboardInterrupt
    if end.status:
        raise EndedError(
            f"the campaign ended with status {end.status}, and told why; what was finished is kept in {path}, and the "
            "same call goes on",
            end.status,
        )
    return path


def _arguments(options: CampaignOptions) -> argparse.Namespace:
    """Return the arguments of the verb `collect` where only these options were given.

    Raises:
        UsageError: there is no such option, or it is of another type.
    """
    from agenttrace.verbs import collect as verb  # noqa: PLC0415

    for name in options:
        if name not in CampaignOptions.__annotations__:
            known = ", ".join(CampaignOptions.__annotations__)
            meant = did_you_mean(name, ["model", "dataset", "output", "quiet", *CampaignOptions.__annotations__])
            raise UsageError(f"collect has no option {name!r}{meant}; it has dataset, output, {known}")
    try:
        checked = msgspec.convert(options, CampaignOptions)
    except msgspec.ValidationError as error:
        raise UsageError(f"collect: {error}") from error
    parser = argparse.ArgumentParser()
    verb.add(parser)
    found = parser.parse_args([])
    vars(found).update(checked)
    return found
