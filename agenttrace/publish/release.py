"""Makes a release: the published folder, and with it cassettes, verdicts and a manifest; and checks one.

What keeps a campaign from being released are its flaws: findings, missing tasks or replies, a changed checkout, torn
ends.
"""

from __future__ import annotations

import shutil
from collections import Counter
from itertools import islice, product
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import UNSET

from agenttrace import __version__
from agenttrace.agents.run import UNPARSABLE
from agenttrace.errors import AgentTraceError, DataError, UsageError, command
from agenttrace.formats import READERS
from agenttrace.formats.convert import new_folder
from agenttrace.formats.reading import kind
from agenttrace.publish.folder import PublishSettings, check_names, copy, fill, seal, unchanged
from agenttrace.publish.forms import FORMS
from agenttrace.publish.imports import OWN_LICENCE
from agenttrace.publish.manifest import (
    RECORDS,
    VERDICTS,
    Manifest,
    encoded,
    manifest,
    read_manifest,
    verdict_lines,
)
from agenttrace.publish.remade import differences
from agenttrace.publish.sums import MANIFEST, SUMS, files, sums
from agenttrace.records import BashBlockSpec, ToolCallingSpec
from agenttrace.serving.cassette import Cassette, cassette_path
from agenttrace.store.read import read_run_spec, read_traces, run_spec_path
from agenttrace.tasks import OWN
from agenttrace.tasks.own.loading import sidecar
from agenttrace.validate import FOREIGN, Validation
from agenttrace.validate.planned import tasks_here

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from agenttrace.records import AgentSpec, LLMStep, Record, RunSpec, Trace
    from agenttrace.serving.cassette import Exchange
    from agenttrace.validate.leaks import Word

MOST = 20
"""Flaws told of one kind; a hostile file could have millions."""
_Rollout = tuple[str, Any]
"""Task and index: what a run spec plans one record of."""
_NAMED = 3
_IMPORTS = (
    "what was read from another format has neither run spec nor cassette, so nobody could check or replay it: "
    "`publish` it"
)
_MOST_NAMED = 1_000_000
"""Tasks that are held in memory to say which have no record; of more only the number is told."""


def release(
    paths: Sequence[Path], output: Path, settings: PublishSettings | None = None, *, words: Sequence[Word] = ()
) -> Manifest:
    """Write the folder of a release and return its manifest.

    Layout: that of the form `traces` of `agenttrace.publish.folder`, and `records/NAME.cassette.zst`,
    `verdicts/NAME.jsonl`, `manifest.json`. The same files give the same bytes.

    Args:
        paths: record files of finished campaigns, run spec and cassette beside each.
        output: a new or empty folder.
        settings: heading and licence of the card.
        words: private texts, beside the patterns of the leak check.

    Raises:
        DataError: a campaign is not fit to be released; names every reason, nothing is written.
        UsageError: the output is there already, two files have one name, or one is of another format.
        StorageError: the folder cannot be written.
    """
    check_names(paths)
    for path in paths:
        other = kind(path)
        if other is not None and not other.is_ours:
            raise UsageError(f"{path}: it holds {READERS[other.format].about}; {_IMPORTS}")
        if path.suffix != ".jsonl":
            raise UsageError(
                f"{path}: a release holds record files as they were collected, NAME.jsonl; if it is packed: "
                f"{command('compact', str(path), '-o NAME.jsonl')}"
            )
    settings = settings or PublishSettings()
    title, licence = settings.title or FORMS["traces"].title, settings.licence or OWN_LICENCE
    settings = msgspec.structs.replace(settings, form="traces", title=title, licence=licence)
    with new_folder(output) as folder, unchanged([*paths, *map(cassette_path, paths)]):
        if found := [flaw for path in paths for flaw in flaws(path, words)]:
            lines = "\n  ".join(found)
            raise DataError(f"not fit to be released:\n  {lines}\nNothing was written.")
        contents, tables = fill(folder, paths, settings, release=True)
        copy(paths, folder, records=True)
        (folder / VERDICTS).mkdir()
        for path in paths:
            tape = cassette_path(path)
            shutil.copyfile(tape, folder / RECORDS / tape.name)
            (folder / VERDICTS / path.name).write_bytes(b"".join(verdict_lines(path)))
        seal(folder, contents, tables)
        said: dict[str, Any] = {
            "agenttrace_version": __version__,
            "title": title,
            "licence": licence,
            "about": settings.about,
        }
        made = manifest(folder, [path.name for path in paths], **said)
        (folder / MANIFEST).write_bytes(encoded(made))
    return made


def verify(
    folder: Path, unseen: Callable[[str], None] = lambda _: None, noted: Callable[[str], None] = lambda _: None
) -> Iterator[str]:
    """Yield everything that is wrong with a release, each as `PATH: what`; nothing when it is whole.

    Files are compared with the manifest, the manifest and `SHA256SUMS` with what the files give, the records with run
    spec, cassette and verdicts, and tables, schemas and card with what the records give. Nothing outside the folder is
    read, whatever the manifest names. What is private to this machine is not looked for: it is another one than the one
    that collected.

    Args:
        folder: the release.
        unseen: gets what could not be compared, as `PATH: why`: files that another version of the kit made.
        noted: gets what of the records was not checked, likewise: tasks that are not at hand, for example.

    Raises:
        UsageError: there is no such folder.
    """
    if not folder.is_dir():
        what = "it is a file; name the release's folder" if folder.is_file() else "there is no such folder"
        raise UsageError(f"cannot read {folder}: {what}")
    stated = None
    try:
        stated = read_manifest(folder)
    except DataError as error:
        yield f"{MANIFEST}: {error}"
    if odd := list(_odd_files(folder)):
        yield from odd
        return  # what they point to is not looked at
    if stated is not None:
        yield from _file_differences(stated, folder)
    records = sorted((folder / RECORDS).glob("*.jsonl"))
    if not records:
        yield f"{RECORDS}: holds no record file"
    for path in records:
        yield from (f"{RECORDS}/{flaw}" for flaw in flaws(path, noted=lambda note: noted(f"{RECORDS}/{note}")))
        yield from _verdict_differences(path, folder / VERDICTS / path.name)
    if stated is None or not records:
        return
    names = [campaign.records_file.removeprefix(f"{RECORDS}/") for campaign in stated.campaigns]
    if sorted(names) != [path.name for path in records]:
        yield f"{MANIFEST}: campaigns are of {names}, the record files are {[path.name for path in records]}"
        return
    yield from _strangers(stated, records)
    yield from _manifest_differences(stated, folder, names)
    yield from differences(stated, folder, names, unseen)


def _odd_files(folder: Path) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        if not path.name.isprintable():
            name = ascii(path.relative_to(folder).as_posix())
            yield f"{name}: has a name that no list of digests can hold"
        elif path.is_symlink() or not (path.is_file() or path.is_dir()):
            yield f"{path.relative_to(folder).as_posix()}: is neither a file nor a folder"


def _file_differences(stated: Manifest, folder: Path) -> Iterator[str]:
    there = files(folder)
    for name in sorted({*stated.files, *there}):
        was, is_ = stated.files.get(name), there.get(name)
        if is_ is None:
            yield f"{name}: is missing"
        elif was is None:
            yield f"{name}: is not in the manifest"
        elif was.bytes != is_.bytes:
            yield f"{name}: has {is_.bytes} bytes, released were {was.bytes}"
        elif was.sha256 != is_.sha256:
            yield f"{name}: its SHA-256 is {is_.sha256}, released was {was.sha256}"


def _strangers(stated: Manifest, records: list[Path]) -> Iterator[str]:
    """Yield what is listed in the two folders that are not made again, and is of no record file there."""
    known = {f"{VERDICTS}/{one.name}" for one in records}
    for one in records:
        known |= {f"{RECORDS}/{path.name}" for path in (one, run_spec_path(one), cassette_path(one), sidecar(one))}
    for name in stated.files:
        if name.partition("/")[0] in {RECORDS, VERDICTS} and name not in known:
            yield f"{name}: belongs to no record file"


def _verdict_differences(records: Path, verdicts: Path) -> Iterator[str]:
    if not verdicts.is_file():
        yield f"{VERDICTS}/{verdicts.name}: is missing"
        return
    try:
        made = list(verdict_lines(records))
    except AgentTraceError:  # the records cannot be read: told already
        return
    whole = b"".join(made)
    if verdicts.stat().st_size != len(whole) or verdicts.read_bytes() != whole:
        yield f"{VERDICTS}/{verdicts.name}: is not what the records say"


def _manifest_differences(stated: Manifest, folder: Path, names: list[str]) -> Iterator[str]:
    """Yield what in the manifest and the list of digests is not what the files give."""
    said = {name: getattr(stated, name) for name in ("agenttrace_version", "title", "licence", "about")}
    try:
        made = manifest(folder, names, **said)
    except AgentTraceError:  # a file that cannot be read is named already
        return
    pairs: list[tuple[str, Record, Record]] = [("", stated, made)]
    pairs += [(f"{one.run_id}: ", one, there) for one, there in zip(stated.campaigns, made.campaigns, strict=True)]
    for name, was, is_ in pairs:
        for field in was.__struct_fields__:
            left, right = getattr(was, field), getattr(is_, field)
            if left != right and field not in {"campaigns", "files"}:
                yield f"{MANIFEST}: {name}{field} is {left}, the files give {right}"
    if (folder / SUMS).is_file() and (folder / SUMS).read_bytes() != sums(made.files).encode():
        yield f"{SUMS}: is not the list of the files"
    if (stated.files == made.files) and (folder / MANIFEST).read_bytes() != encoded(made):
        yield f"{MANIFEST}: is not what the files give, byte for byte"


def first(found: Iterator[str]) -> list[str]:
    """Return the first of what is wrong, and a last line when there is more."""
    told = list(islice(found, 2 * MOST + 1))
    return [*told[: 2 * MOST], "and more"] if len(told) > 2 * MOST else told


def flaws(records: Path, words: Sequence[Word] = (), noted: Callable[[str], None] = lambda _: None) -> Iterator[str]:
    """Yield what keeps a record file and the files beside it from being released, each as `NAME: what`.

    The file validates; run spec and cassette lie beside it and are its own; every task of the run spec has a record
    and its replies; the checkout that collected had no changes.
    """
    validation = Validation(records, words=words)
    found = list(islice(validation, MOST + 1))
    for note in validation.notes:
        noted(f"{records.name}: {note}")
    for one in found[:MOST]:
        place = f"{records.name}, line {one.line}" if one.line else records.name
        yield ": ".join(part for part in (place, one.rule, one.where, one.message) if part)
    if len(found) > MOST:
        yield f"{records.name}: more than {MOST} findings; all of them: nox -s validate -- {records}"
    beside = run_spec_path(records)
    if not beside.is_file():
        yield f"{beside.name}: is missing; every record file has its run spec beside it; {_IMPORTS}"
        return
    yield from _without_tasks(records)
    tape, there, dirty, odd = cassette_path(records), dict[str, _Rollout](), Counter[str](), Counter[str]()
    try:
        spec = read_run_spec(beside)
        sha256 = spec.digest
        cassette, replies = _on_tape(tape, sha256)
        for trace in read_traces(records):
            known, host = trace.metadata, trace.environment.get("host")
            there[trace.trace_id] = (str(known.get("task_id")), known.get("rollout_index"))
            odd.update(_oddities(trace, sha256))
            if isinstance(host, dict) and host.get("git_dirty") is True:
                dirty[str(host.get("git_commit"))] += 1
            replies += () if cassette is None or len(replies) > MOST else _replies(cassette, trace, spec.agent)
    except (UsageError, DataError) as error:
        yield str(error).replace(f"{records.parent}/", "")
        return
    yield from (f"{records.name}: {flaw}" for flaw in _unfinished(spec, list(there.values()), beside))
    yield from (f"{records.name}: {count} records {what}" for what, count in odd.items())
    if dirty:
        why = f"from a checkout with uncommitted changes (commit {_some(sorted(dirty))})"
        yield f"{records.name}: {dirty.total()} records were collected {why}"
    if others := set(cassette.trace_ids if cassette else ()) - set(there):
        replies.append(f"holds replies of {len(others)} traces without a record ({_some(sorted(others))})")
    yield from (f"{tape.name}: {flaw}" for flaw in replies[:MOST])


def _oddities(trace: Trace, spec_sha256: str) -> Iterator[str]:
    """Yield what the validation lets pass in a record, as it may be in a file that is no release."""
    if FOREIGN in trace.environment:
        yield f"were read from another format: {_IMPORTS}"
    if trace.metadata.get("run_spec_sha256") != spec_sha256:
        yield "are of another run spec than the one beside them"


def _without_tasks(records: Path) -> Iterator[str]:
    """Yield that a set of somebody's own is missing; that another one lies there, the validation says."""
    try:
        dataset = read_run_spec(run_spec_path(records)).dataset
    except (UsageError, DataError):  # told below
        return
    if dataset.source == OWN and not (path := sidecar(records)).is_file():
        yield f"{path.name}: is missing; without its tasks nobody can judge or replay the records"


def _unfinished(spec: RunSpec, there: list[_Rollout], beside: Path) -> Iterator[str]:
    if not there:
        yield "holds no record"
        return
    known = set(there)
    wanted = spec.dataset.count * spec.dataset.rollouts
    names = _planned_names(spec, beside) if wanted <= _MOST_NAMED else {}
    missing = [name for rollout, name in names.items() if rollout not in known]
    if missing or len(there) < wanted:
        count = max(len(missing), wanted - len(there))
        which = f" ({_some(missing)})" if missing else ""
        yield f"{count} of {wanted} tasks of the run spec have no record{which}: collect the rest first"
    if len(there) > wanted:
        yield f"{len(there)} records, but the run spec has {wanted} tasks"


def _planned_names(spec: RunSpec, beside: Path) -> dict[_Rollout, str]:
    """Return what a run spec plans, with the name of its task; empty where its task files are not at hand."""
    dataset = spec.dataset
    if dataset.sampling is not UNSET:
        drawn = dataset.sampling.task_ids[dataset.offset : dataset.offset + dataset.count]
        tasks = [(name, f"task {name}") for name in drawn]
    else:
        try:
            tasks = [(str(task.task_id), f"task {task.task_id} {task.name}") for task in tasks_here(dataset, beside)]
        except AgentTraceError:
            return {}
    return {(task_id, index): name for (task_id, name), index in product(tasks, range(dataset.rollouts))}


def _on_tape(path: Path, spec_sha256: str) -> tuple[Cassette | None, list[str]]:
    """Return a cassette, where it is one, and what is wrong with it as a whole."""
    try:
        cassette = Cassette(path)
    except UsageError:
        return None, ["is missing; without the replies nobody can replay the records"]
    except DataError as error:
        return None, [str(error).replace(f"{path.parent}/", "")]
    found = [str(damage) for damage in cassette.damage]
    if cassette.end < path.stat().st_size:
        torn = path.stat().st_size - cassette.end
        found.append(f"the last {torn} bytes are no whole frame (a torn end): collect again")
    if cassette.run_spec_sha256 != spec_sha256:
        found.append(f"is of another run spec ({cassette.run_spec_sha256}, the run spec beside it is {spec_sha256})")
    return cassette, found


def _replies(cassette: Cassette, trace: Trace, agent: AgentSpec) -> Iterator[str]:
    """Yield why the replies of a trace are not those of its record."""
    try:
        turns = [turn for turn in cassette.turns(trace.trace_id) if turn.kind in {"reply", UNPARSABLE}]
    except DataError as error:
        yield str(error).removeprefix(f"{cassette.path}: ")
        return
    pairs = zip(trace.llm_steps, turns, strict=False)
    if len(turns) != len(trace.llm_steps) or not all(_came_of(step, turn, agent) for step, turn in pairs):
        yield f"the replies of trace {trace.trace_id} are not those of its record"


def _came_of(step: LLMStep, turn: Exchange, agent: AgentSpec) -> bool:
    """Return whether a generation is what came of a request, as far as both say it."""
    if UNPARSABLE in {turn.kind, step.finish_reason}:
        empty = not (step.model_output or step.reasoning_content or step.tool_calls)
        return empty and turn.kind == step.finish_reason
    said = turn.result if isinstance(turn.result, dict) else {}
    heard = said.get("content") or "", said.get("reasoning") or "", said.get("output_tokens")
    if heard != (step.model_output or "", step.reasoning_content or "", step.output_tokens):
        return False
    if any(name in said and said[name] != getattr(step, name) for name in ("finish_reason", "input_tokens")):
        return False
    return "tool_calls" not in said or _has_calls(step, said["tool_calls"], agent)


def _has_calls(step: LLMStep, proposed: object, agent: AgentSpec) -> bool:
    """Return whether a generation has the calls of a reply; of an agent that reads them from its text, it need not."""
    if not isinstance(proposed, list) or not all(isinstance(one, dict) for one in proposed):
        return False
    calls = [(one.get("name"), one.get("arguments")) for one in proposed]
    if isinstance(agent, BashBlockSpec):
        return [f"{name}: {arguments}" for name, arguments in calls] == [*(step.ignored_calls or ())]
    if isinstance(agent, ToolCallingSpec) and agent.reply_form is UNSET:
        return calls == [(call.name, call.arguments) for call in step.tool_calls or ()]
    return True


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"
