"""Writes docs/results.md and its figures from releases: the same releases give the same bytes."""

from __future__ import annotations

import argparse
import functools
import sys
import tempfile
from collections import defaultdict
from itertools import islice
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from agenttrace.agents.tool_calling import MAX_STEPS
from agenttrace.analysis.plots import draw
from agenttrace.analysis.render import UNKNOWN, Section, amount, as_markdown, integer, percent, share
from agenttrace.analysis.sections import sections
from agenttrace.analysis.summary import report
from agenttrace.analysis.tables import load
from agenttrace.errors import AgentTraceError, DataError, UsageError
from agenttrace.publish.manifest import MANIFEST, read_manifest
from agenttrace.store.jsonl import write_whole
from agenttrace.store.read import read_run_spec, read_traces, run_spec_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from agenttrace.analysis.findings import Cost, Distribution, Figure, Group
    from agenttrace.records import RunSpec, Trace

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "results.md"
FIGURES = {
    "outcomes": "How many traces were solved.",
    "time-split": "Where the time of a trace goes.",
    "durations": "How long traces, model steps and tool calls took (share of them that took at most as long).",
    "tokens": "Tokens of a trace.",
    "tools": "Which tools were called.",
    "memory": "Memory of calls per command: peak, and mean where it was measured.",
    "waiting": "What kept calls waiting.",
    "success-cost": "What solved and unsolved traces cost.",
}
"""Of those that `plots` draws: these, with what they show."""
IN_FULL = (
    "How runs ended", "Model time against tool time, as measured", "Tools", "Commands (first word of a bash call)",
    "Exit codes of calls that ran", "Was this call slow by itself, by its limit, or by its neighbours?",
    "What goes together (per trace, 95 % interval)",
)  # fmt: skip
"""Sections of `analyze` that are shown for each model."""
_FEW = 5
"""Solved runs of which the calls are shown."""
ABOUT = """\
# Results: small models on NL2Bash and MBPP

`scripts/nox -s results -- {releases}` writes this page from the records named there, and the same records give
the same bytes. `scripts/nox -s analyze -- {release}` prints more of the same figures; `scripts/nox -s replay --
{release}` runs every tool call and every verdict anew.

**What this is, and what it is not.** {honest} {repeats} A model that repeats one call is of no use to who
wants the task done, and of some use to who asks what agents cost: the calls are real, and each ran in a sandbox and
was measured. Nothing here says how good larger models are, or these ones with another prompt, sampler or agent. Each
ran once, with one seed, and was not tuned for. {limits}

**Which figures carry over.** {busy} [Wall times](#how-they-were-run) are of that machine at that hour, and so are
speeds and what goes together with times: they do not carry over. Tokens, exit codes, processor time and peak memory do.

**How to read shares.** Those of traces have Wilson's 95 % interval, as if tasks were drawn at random, which they were
not; those of steps and calls have none, since calls of a run resemble each other. A run ends as `final_answer` only by
a call whose answer could be read: one that was cut off does not end it, so there are more such calls than such ends.
"""


def main() -> int:
    """Write the page and its figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("releases", nargs="+", type=Path, help="folders that `release` made")
    parser.add_argument("-o", "--output", type=Path, default=PAGE, help="default: docs/results.md")
    asked = parser.parse_args()
    try:
        _write(asked.releases, asked.output)
    except AgentTraceError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(asked.output)
    return 0


def _write(releases: Sequence[Path], output: Path) -> None:
    """Write the page; what is wrong with a release is known before anything is written."""
    files = [file for release in releases for file in _files(release)]
    groups: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        groups[_spec(file).dataset.name].append(file)
    parts = [_about(releases, files)]
    images = output.parent / "images"
    images.mkdir(parents=True, exist_ok=True)
    for dataset, its in sorted(groups.items()):
        parts += _dataset(dataset, sorted(its), images, output.stem)
    write_whole(output, ("\n".join(part.rstrip("\n") + "\n" for part in parts)).encode())


def _files(release: Path) -> list[Path]:
    """Return the record files of a release, in the order of its manifest."""
    try:
        return [release / campaign.records_file for campaign in read_manifest(release).campaigns]
    except DataError as error:
        what = "name a folder that `release` made, such as datasets/small-models"
        raise UsageError(f"{release}: {MANIFEST} {error}; {what}") from error


def _spec(file: Path) -> RunSpec:
    return read_run_spec(run_spec_path(file))


def _about(releases: Sequence[Path], files: Sequence[Path]) -> str:
    found = report(load(files), by="model")
    solved = [
        f"{group.name} solved {share(group.solved)} of its traces with a verdict ({group.ungraded:,} have none)"
        for group in found.groups
    ]
    count = f"{len(files)} campaign{'s' if len(files) > 1 else ''}"
    honest = f"{count}, {sum(group.traces for group in found.groups):,} traces. {'; '.join(solved)}.{_solved(files)}"
    names = [
        str(one.resolve().relative_to(ROOT)) if one.resolve().is_relative_to(ROOT) else one.name for one in releases
    ]
    return (
        ABOUT.format(
            releases=" ".join(names),
            release=names[0],
            honest=honest,
            repeats=_repeats(files),
            limits=_limits(files),
            busy=_busy(files),
        )
        + "\n"
        + as_markdown([_campaigns(files)])
    )


def _solved(files: Sequence[Path]) -> str:
    """Return what the solved runs called, where they are so few that chance may have solved them."""
    every = (trace for file in files for trace in read_traces(file))
    solved = [*islice((trace for trace in every if trace.outcome.solved), _FEW + 1)]
    if not 0 < len(solved) <= _FEW:
        return ""
    shown = []
    for trace in solved:
        ran = dict.fromkeys(span.tool_input for span in trace.spans if span.status != "not_executed")
        calls = ", ".join(f"`{call[:200].replace('`', ' ')}`" for call in ran) or "no call"
        shown.append(f"task {trace.metadata['task_id']} of {trace.metadata['dataset_name']} by {calls}")
    return f" So few may be chance: {'; '.join(shown)}."


def _repeats(files: Sequence[Path]) -> str:
    """Return in how many runs of a model every call was the same."""
    calls: dict[str, list[int]] = defaultdict(list)
    for file in files:
        for trace in read_traces(file):
            if len(trace.spans) > 1:
                calls[trace.model].append(len({(span.tool_name, span.tool_input) for span in trace.spans}))
    each = (f"{counts.count(1):,} of {len(counts):,} of {model}" for model, counts in sorted(calls.items()))
    return f"Of the runs with several calls these made one and the same again and again: {', '.join(each)}."


def _limits(files: Sequence[Path]) -> str:
    """Return how many steps runs could take, and how many runs that limit ended."""
    least = min(_spec(file).agent.max_steps for file in files)
    ended = []
    for file in files:
        spec, ends = _spec(file), [trace.outcome.ended for trace in read_traces(file)]
        ended.append(
            f"{percent(ends.count('max_steps') / len(ends))} of the runs of {spec.model.name} on {spec.dataset.name}"
        )
    than = f", where the default is {MAX_STEPS}" if least != MAX_STEPS else ""
    floor = {spec.model.name for spec in map(_spec, files) if spec.model.demo and not spec.dataset.bundled}
    knows = "".join(f" {name} knows nothing of these tasks and is here as a floor: what that costs." for name in floor)
    return f"Runs had at most {least} steps{than}; that limit ended {', '.join(ended)}.{knows}"


def _loads(traces: Sequence[Trace]) -> list[float]:
    hosts = (trace.environment.get("host_load") or {} for trace in traces)
    return [value for host in hosts for value in host.get("load_1m") or () if value is not None]


def _busy(files: Sequence[Path]) -> str:
    """Return how busy the machine was, and whether with other work: a campaign has no more processes at a time."""
    loads = [median(found) for file in files if (found := _loads(list(read_traces(file))))]
    cores = next(read_traces(files[0])).environment.get("hardware", {}).get("cpu_count_logical")
    if not loads or not cores:
        return "How busy the machine was is not known."
    said = f"The load of the machine was {amount(min(loads), '')} to {amount(max(loads), '')} (median of a campaign)"
    return f"{said} on {cores} cores{': it had much other work.' if min(loads) > 2 * cores else '.'}"


def _load(traces: Sequence[Trace]) -> dict[str, str]:
    """Return how busy the machine was: all of it, this campaign's own part included."""
    hosts = [trace.environment.get("host_load") or {} for trace in traces]
    loads, stalled = (
        _loads(traces),
        [host["cpu_stalled_ms"] for host in hosts if host.get("cpu_stalled_ms") is not None],
    )
    measured = [span.telemetry for trace in traces for span in trace.spans if span.telemetry is not None]
    waits = [(one.wall_ns or 0, one.runqueue_wait_ns) for one in measured if isinstance(one.runqueue_wait_ns, int)]
    walls, waited = (sum(one[at] for one in waits) / 1e6 for at in (0, 1))
    return {
        "load (1 min; median, most)": f"{amount(median(loads), '')}, {amount(max(loads), '')}" if loads else UNKNOWN,
        "time in which something waited for a CPU": amount(sum(stalled), "ms") if stalled else UNKNOWN,
        "calls: their time, and their processes' wait for a CPU": f"{amount(walls, 'ms')}, {amount(waited, 'ms')}",
    }


def _campaigns(files: Sequence[Path]) -> Section:
    """Return how each campaign was run: from its run spec and its records."""
    columns = []
    for file in files:
        traces = list(read_traces(file))
        spec, first = _spec(file), traces[0]
        hardware = first.environment.get("hardware", {})
        host = first.environment.get("host", {})
        columns.append(
            {
                "task set": f"{spec.dataset.name}, {spec.dataset.count} tasks",
                "model": spec.model.name,
                "weights": f"{spec.model.artifact}, {spec.model.bytes:,} bytes",
                "agent": f"{spec.agent.kind}, at most {spec.agent.max_steps} steps",
                "how calls are written": first.metadata.get("constrained") or "as the model writes them",
                "profile": spec.serving.profile,
                "sampler": f"{spec.sampler.name}, seed {spec.sampler.seed}",
                "longest reply, tokens": f"{spec.sampler.max_tokens:,}",
                "machine": f"{hardware.get('cpu', UNKNOWN)}, {hardware.get('cpu_count_logical', UNKNOWN)} cores, "
                f"{amount(hardware.get('memory_total_bytes'), 'B')}, cgroup v{host.get('cgroup_version', '?')}",
                **_load(traces),
                "commit of the kit": (host.get("git_commit") or UNKNOWN)[:12],
            }
        )
    rows = [(name, *(column[name] for column in columns)) for name in columns[0]]
    return Section("How they were run", ("", *(str(number) for number in range(1, len(files) + 1))), rows)


def _dataset(name: str, files: Sequence[Path], images: Path, page: str) -> Iterator[str]:
    """Yield the parts of one task set: models side by side, figures, then each model in full."""
    tables = load(files)
    found = report(tables, by="model")
    *_, compared = sections(found)
    side = Section(name, ("", *(group.name for group in found.groups)), list(_side_by_side(found.groups)))
    yield as_markdown([side])
    if found.comparisons:
        yield as_markdown([_lower(compared)])
    with tempfile.TemporaryDirectory() as folder:
        drawn = draw(tables, Path(folder), by="model", formats=["svg"])
        for path in drawn.paths:
            if (text := FIGURES.get(path.stem)) is not None:
                target = images / f"{page}-{name}-{path.name}"
                write_whole(target, path.read_bytes())
                yield f"![{text}](images/{target.name})\n\n{text}\n"
    model = ""
    for section in sections(found):
        model = section.title if section.level == 1 else model
        if section.level == 1 and section.title in {group.name for group in found.groups}:
            yield as_markdown([Section(f"{name}: {section.title}", notes=section.notes, level=3)])
        elif section.title in IN_FULL:
            yield as_markdown([_lower(section)])


def _lower(section: Section) -> Section:
    return Section(section.title, section.header, section.rows, section.notes, level=4 if section.level > 1 else 3)


def _side_by_side(groups: Sequence[Group]) -> Iterator[tuple[str, ...]]:
    rows: dict[str, Callable[[Group], str]] = {
        "traces": lambda one: integer(one.traces),
        "solved": lambda one: share(one.solved) if one.solved.n else "not judged",
        "ended most often as": lambda one: f"{one.ended[0].name}, {percent(one.ended[0].share)}",
        "infrastructure failures": lambda one: integer(one.infrastructure),
        "tokens in and out of judged traces, per solved one": lambda one: amount(one.tokens_per_solved, ""),
        "time of all traces": lambda one: amount(_figure(one.durations, "trace").total, "ms"),
        "a trace, median and P95": lambda one: _middle(_figure(one.durations, "trace"), "ms"),
        "a model step, median and P95": lambda one: _middle(_figure(one.durations, "model step"), "ms"),
        "a tool call, median and P95": lambda one: _middle(_figure(one.durations, "tool call"), "ms"),
        "of the time: model": lambda one: _part(one, "model"),
        "of the time: tools": lambda one: _part(one, "tools"),
        "output tokens of a trace, median and P95": lambda one: _middle(_figure(one.tokens, "output per trace"), ""),
        "input tokens of a trace, median and P95": lambda one: _middle(_figure(one.tokens, "input per trace"), ""),
        "generation speed, tokens/s, median": lambda one: amount(_figure(one.tokens, "generation speed").median, ""),
    }
    for name in sorted({tool.name for group in groups for tool in group.tools}):
        rows[f"tool {name}"] = functools.partial(_tool, name)
    for name, show in rows.items():
        yield name, *map(show, groups)
    for name in dict.fromkeys(name for group in groups for name, _ in group.rates):
        yield name, *(share(dict(group.rates)[name]) if name in dict(group.rates) else "" for group in groups)


def _figure(figures: Sequence[Figure], name: str) -> Distribution:
    return next(one.values for one in figures if one.name == name)


def _middle(values: Distribution, unit: str) -> str:
    return f"{amount(values.median, unit)}, {amount(values.p95, unit)}"


def _part(group: Group, name: str) -> str:
    return next((percent(one.of_total) for one in group.time if one.part.startswith(name)), UNKNOWN)


def _tool(name: str, group: Group) -> str:
    found: Cost | None = next((one for one in group.tools if one.name == name), None)
    if found is None:
        return _calls(0)
    if not found.executed:
        return _calls(found.calls)
    ran = f"{integer(found.executed)} ran" if found.executed != found.calls else "all ran"
    return f"{_calls(found.calls)}, {ran}, of these {percent(found.failed.share)} with exit code ≠ 0"


def _calls(count: int) -> str:
    return f"{integer(count)} call{'' if count == 1 else 's'}"


if __name__ == "__main__":
    sys.exit(main())
