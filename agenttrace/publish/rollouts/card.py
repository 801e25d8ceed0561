"""The card of published rollouts: a YAML header for the Hub, the schemas, how they were made, and their statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from agenttrace.analysis.rollouts.render import code, statistics_text
from agenttrace.publish.card import escaped, front_matter, size_category
from agenttrace.records import Record

if TYPE_CHECKING:
    from agenttrace.analysis.rollouts.statistics import Statistics
    from agenttrace.records.rollout import RolloutSpec

TAGS = ("llm-agents", "software-engineering", "swe-agent", "agent-trajectories", "execution-free", "agenttrace")
_MEANING = {
    "instance_id": "name of the task in its task set; every rollout of a task has the same",
    "repo": "`OWNER/NAME` of the repository",
    "messages": "system, task, then assistant and user in turn; without what answered the submitting command",
    "trajectory_format": "always `mini-swe-agent-1`",
    "exit_status": "`Submitted` or `incomplete`; it says nothing on correctness",
    "exit_status_detail": "the rule that ended it (turns, tokens, format) and a sentence, at most 200 characters",
    "n_turns": "generations of the model",
    "n_messages": "2 n_turns + 1 when submitted, otherwise 2 n_turns + 2",
    "prompt_tokens": "sum of the prompts of all requests: a context counts again in every turn; 0 where not reported",
    "completion_tokens": "sum of the generated tokens; 0 where not reported",
    "duration_sec": "seconds, preparation of the tree included",
}
_OWN = (
    "One row a rollout: every field of our record. `turns` holds the executed command, exit code, telemetry and",
    "observation of each turn, `patch` what the harness found changed. Columns named `..._json` hold JSON text. Nested",
    "columns are shortened here.",
)


class Table(Record, frozen=True, kw_only=True):
    """A part of the folder: configuration, folder, rows, bytes as Arrow and on disk, name → type of its columns."""

    name: str
    folder: str
    rows: int
    bytes: int
    size: int
    columns: dict[str, str]


def card(spec: RolloutSpec, title: str, licence: str, tables: list[Table], found: Statistics) -> str:
    """Return the text of `README.md`: YAML header and Markdown."""
    lines = ["", f"# {escaped(title)}", "", *_what(spec, found), *_load(tables), *_schemas(tables), *_made(spec, found)]
    lines += ["## Statistics", "", statistics_text(found).rstrip(), "", *_files(spec)]
    return front_matter(_header(title, licence, tables, found)) + "\n".join(lines) + "\n"


def _header(title: str, licence: str, tables: list[Table], found: Statistics) -> dict[str, Any]:
    parquet = [table for table in tables if table.columns]
    header: dict[str, Any] = {
        "pretty_name": title,
        "license": licence,
        "language": ["en"],
        "task_categories": ["text-generation"],
        "tags": [*TAGS, *(name for name in found.languages if name.isascii() and name.isalnum())],
        "size_categories": [size_category(found.rollouts)],
    }
    if parquet:
        header["configs"] = [
            {
                "config_name": table.name,
                **({"default": True} if number == 0 else {}),
                "data_files": [{"split": "train", "path": f"{table.folder}/train-*"}],
            }
            for number, table in enumerate(parquet)
        ]
    return header


def _what(spec: RolloutSpec, found: Statistics) -> list[str]:
    lines = [
        f"{found.rollouts} attempts of {escaped(spec.model.name)} at {found.tasks} tasks in {found.repos}",
        "repositories, with a shell and without the means to run code.",
        "",
        "**The shell commands were really executed**, on a real checkout of the repository at the task's base commit,",
        "and the observations are what they printed. Only the execution of code was impossible: no interpreter,",
        "compiler, build tool or test runner existed where the commands ran, and no network. **`Submitted` means that",
        "the model said it was done. It does not mean that the change is correct**: no test was run.",
        "",
    ]
    if spec.model.demo:
        lines += [
            "> The model is a test fixture of the kit. These rollouts show that the machine runs and are no result.",
            "",
        ]
    return lines


def _load(tables: list[Table]) -> list[str]:
    if not tables[0].columns:
        return [
            "## Files of trajectories", "",
            "`trajectories/INSTANCE/INSTANCE__INDEX.traj.json`: one rollout each, as mini-swe-agent v1 writes them",
            "(`trajectory_format: mini-swe-agent-1`); what it has no field for is under `info.agenttrace`.", "",
        ]  # fmt: skip
    calls = [f'{table.folder} = load_dataset("PATH_OR_REPOSITORY", "{table.name}", split="train")' for table in tables]
    return ["## Load", "", "```python", "from datasets import load_dataset", "", *calls, "```", ""]


def _schemas(tables: list[Table]) -> list[str]:
    lines = []
    for table in tables:
        if not table.columns:
            continue
        own = table.name == "rollouts"
        lines += [f"## Configuration `{table.name}`: {table.rows} rows", ""]
        if own:
            lines += [*_OWN, ""]
        lines += ["| column | type |" if own else "| column | type | meaning |", "|---|---|" + ("" if own else "---|")]
        for name, kind in table.columns.items():
            shown = kind if len(kind) <= 60 else kind.partition("<")[0] + "<…>"  # noqa: PLR2004 - of a table's width
            lines.append(f"| `{name}` | `{shown}` |" + ("" if own else f" {_MEANING[name]} |"))
        lines.append("")
    return lines


def _made(spec: RolloutSpec, found: Statistics) -> list[str]:
    sampler, agent, box = spec.sampler, spec.agent, spec.sandbox
    asked = (
        "laid into the tree where they apply (`hidden_tests` of each row)" if spec.dataset.hidden_tests else "not shown"
    )
    drawn = f"{len(spec.sampling.instance_ids)} tasks with seed {spec.sampling.seed}, {spec.sampling.rollouts} rollouts"
    sampling = f"temperature {sampler.temperature}, top_p {sampler.top_p}, top_k {sampler.top_k}, min_p {sampler.min_p}"
    tokens = (
        f"{agent.max_output_tokens} tokens a turn, {agent.max_total_tokens} in all ({agent.reserve_tokens} in reserve)"
    )
    limits = f"{agent.call_limit_ms / 1000:g} s a command, {agent.max_format_errors} format errors in a row"
    cut = f"cut in the middle beyond {agent.observation_max_chars:,} characters"
    room = f"{box.cpus:g} CPU, {box.memory_bytes / 2**20:,.0f} MiB, {box.pids} processes, no network"
    server = f"{code(spec.serving.engine)} {code(spec.serving.engine_version)}, profile {code(spec.serving.profile)}"
    rows = [
        ("run", f"{code(spec.run_id)}, run spec SHA-256 `{spec.digest}`"),
        ("tasks", f"{code(spec.dataset.name)}, {code(spec.dataset.source)}, SHA-256 `{spec.dataset.sha256}`"),
        ("drawn", f"{drawn} each; {found.rollouts} are here"),
        ("hidden tests", asked),
        ("model", _model(spec)),
        ("server", server),
        ("sampler", f"{sampling}; seed {sampler.seed}, from which every rollout has its own (`seed`)"),
        ("budgets", f"{agent.max_turns} turns, {tokens}, {limits}"),
        ("observations", f"format {code(agent.observation_template)}, {cut}"),
        ("sandbox", f"policy {code(box.policy)}, {room}"),
        *((f"image {escaped(name)}", f"`{value}`") for name, value in sorted(spec.images.items())),
        ("made by", f"agenttrace {escaped(spec.collector_version)}, schema {escaped(spec.schema_version)}"),
    ]
    return ["## How they were made", "", "| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows), ""]


def _model(spec: RolloutSpec) -> str:
    """Return what is known of the weights: of those behind somebody else's endpoint, their name."""
    model = spec.model
    licence = f"licence {escaped(model.licence or 'not stated')}"
    if spec.serving.engine == "external":
        return f"{code(model.name)}, as an endpoint calls it; which weights it has was not verified; {licence}"
    origin = f"{code(model.repo)} at {code(model.revision or '')}" if model.repo else model.source
    return f"{code(model.name)} ({origin}), {code(model.artifact)}, SHA-256 `{model.sha256}`, {licence}"


def _files(spec: RolloutSpec) -> list[str]:
    return [
        "## Files",
        "",
        f"- The run spec (`*.run.json`, run {code(spec.run_id)}): prompts and templates in full, settings, digests.",
        "- `schema/`: JSON Schemas of our own records and of the run spec.",
        "- `SHA256SUMS`: digests of all files (`sha256sum --check SHA256SUMS`).",
        "",
        "Attempts that the infrastructure spoilt do not count and are not among these. Texts of repositories remain",
        "under the licences of their repositories.",
    ]
