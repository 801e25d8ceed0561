"""Writes docs/results.md and its figures from releases: the same releases give the same bytes."""

from __future__ import annotations

import argparse
import functools
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

from agenttrace.analysis.plots import draw
from agenttrace.analysis.render import UNKNOWN, Section, amount, as_markdown, integer, percent, share
from agenttrace.analysis.sections import sections
from agenttrace.analysis.summary import report
from agenttrace.analysis.tables import load
from agenttrace.publish.manifest import read_manifest
from agenttrace.store.jsonl import write_whole
from agenttrace.store.read import read_run_spec, read_traces, run_spec_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from agenttrace.analysis.findings import Cost, Distribution, Figure, Group
    from agenttrace.records import RunSpec

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs" / "results.md"
FIGURES = {
    "outcomes": "How traces ended.",
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
ABOUT = """\
# Results: small models on the whole task sets

`scripts/nox -s results -- {releases}` writes this page from the records of these releases, and the same records give
the same bytes. `scripts/nox -s analyze -- {release}` prints more of the same figures; `scripts/nox -s replay --
{release}` runs every tool call and every verdict anew.

**What this is, and what it is not.** {honest} A model that repeats one failing command is of no use to who
wants the task done, and of some use to who asks what agents cost: the calls are real, and each ran in a sandbox and
was measured. Nothing here says how good larger models are, or these ones with another prompt, sampler or agent. Each
ran once, with one seed, and was not tuned for. Shares have Wilson's 95 % interval over tasks, which are not drawn at
random.
"""


def main() -> None:
    """Write the page and its figures, or say that those in the tree are others."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("releases", nargs="+", type=Path, help="folders that `release` made")
    parser.add_argument("-o", "--output", type=Path, default=PAGE, help="default: docs/results.md")
    asked = parser.parse_args()
    files = [file for release in asked.releases for file in _files(release)]
    groups: dict[str, list[Path]] = defaultdict(list)
    for file in files:
        groups[_spec(file).dataset.name].append(file)
    page = asked.output.stem
    (asked.output.parent / "images").mkdir(parents=True, exist_ok=True)
    parts = [_about(asked.releases, files)]
    for dataset, its in sorted(groups.items()):
        parts += _dataset(dataset, sorted(its), asked.output.parent / "images", page)
    write_whole(asked.output, ("\n".join(part.rstrip("\n") + "\n" for part in parts)).encode())
    print(asked.output)


def _files(release: Path) -> list[Path]:
    """Return the record files of a release, in the order of its manifest."""
    return [release / campaign.records_file for campaign in read_manifest(release).campaigns]


def _spec(file: Path) -> RunSpec:
    return read_run_spec(run_spec_path(file))


def _about(releases: Sequence[Path], files: Sequence[Path]) -> str:
    found = report(load(files), by="model")
    solved = [
        f"{group.name} solved {share(group.solved)} of the tasks whose answer can be judged" for group in found.groups
    ]
    honest = f"{len(files)} campaigns, {sum(group.traces for group in found.groups):,} traces. {'; '.join(solved)}."
    names = [
        str(one.resolve().relative_to(ROOT)) if one.resolve().is_relative_to(ROOT) else one.name for one in releases
    ]
    return (
        ABOUT.format(releases=" ".join(names), release=names[0], honest=honest)
        + "\n"
        + as_markdown([_campaigns(files)])
    )


def _campaigns(files: Sequence[Path]) -> Section:
    """Return how each campaign was run: from its run spec and its first record."""
    columns = []
    for file in files:
        spec, first = _spec(file), next(iter(read_traces(file)))
        hardware = first.environment.get("hardware", {})
        host = first.environment.get("host", {})
        columns.append(
            {
                "data set": f"{spec.dataset.name}, {spec.dataset.count or 'all'} tasks",
                "model": spec.model.name,
                "weights": f"{spec.model.artifact}, {spec.model.bytes:,} bytes",
                "agent": f"{spec.agent.kind}, at most {spec.agent.max_steps} steps",
                "how calls are written": first.metadata.get("constrained") or "as the model writes them",
                "profile": spec.serving.profile,
                "sampler": f"{spec.sampler.name}, seed {spec.sampler.seed}",
                "longest reply, tokens": f"{spec.sampler.max_tokens:,}",
                "machine": f"{hardware.get('cpu', UNKNOWN)}, {hardware.get('cpu_count_logical', UNKNOWN)} cores, "
                f"{amount(hardware.get('memory_total_bytes'), 'B')}, cgroup v{host.get('cgroup_version', '?')}",
                "commit of the kit": (host.get("git_commit") or UNKNOWN)[:12],
            }
        )
    rows = [(name, *(column[name] for column in columns)) for name in columns[0]]
    return Section("How they were run", ("", *(str(number) for number in range(1, len(files) + 1))), rows)


def _dataset(name: str, files: Sequence[Path], images: Path, page: str) -> Iterator[str]:
    """Yield the parts of one data set: models side by side, figures, then each model in full."""
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
        "tokens in and out per solved trace": lambda one: amount(one.tokens_per_solved, ""),
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
        return "0 calls"
    if not found.executed:
        return f"{integer(found.calls)} calls"
    return f"{integer(found.calls)} calls, {percent(found.failed.share)} with an exit code other than 0"


if __name__ == "__main__":
    main()
