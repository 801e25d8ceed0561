"""The card of a published folder: a YAML header for the Hub and `datasets`, and a page for people."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from agenttrace import __version__
from agenttrace.formats.columns import TIME
from agenttrace.records import SCHEMA_VERSION, Record

if TYPE_CHECKING:
    from agenttrace.formats import Sourced

TAGS = ("llm-agents", "tool-use", "telemetry", "execution-traces", "resource-scheduling", "agenttrace")
_SIZES = ((1_000, "n<1K"), (10_000, "1K<n<10K"), (100_000, "10K<n<100K"), (1_000_000, "100K<n<1M"), (10**7, "1M<n<10M"))
_DTYPES = {"double": "float64", TIME: "timestamp[us, tz=UTC]"}
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#+!|~$-])")


class Config(Record, frozen=True, kw_only=True):
    """One configuration of the data set: name, columns, rows, bytes as Arrow, size of its file."""

    name: str
    kinds: dict[str, str]
    rows: int
    bytes: int
    size: int


@dataclass(kw_only=True)
class Facts:
    """What the card says of the records, counted while they pass.

    Attributes:
        title: heading.
        licence: identifier as the Hub writes it.
        release: cassettes, verdicts and a manifest lie beside the records.
        records: number of records.
        demo: records of a model that is a test fixture.
        groups: (run id, data set, model) → records, and how they ended.
        files: record files.
    """

    title: str
    licence: str
    release: bool = False
    records: int = 0
    demo: int = 0
    groups: dict[tuple[str, str, str], Counter[str]] = field(default_factory=dict)
    files: dict[str, None] = field(default_factory=dict)

    def count(self, record: Sourced) -> None:
        """Count one record."""
        known = record.trace.metadata
        self.records += 1
        self.demo += known.get("demo") is True
        self.files[record.source] = None
        key = (str(known.get("run_id")), str(known.get("dataset_name")), record.trace.model)
        group = self.groups.setdefault(key, Counter())
        group["records"] += 1
        group[
            "solved"
            if record.trace.outcome.solved
            else "not solved"
            if record.trace.outcome.solved is False
            else "unknown"
        ] += 1


def card(facts: Facts, configs: list[Config]) -> str:
    """Return the text of `README.md`: YAML header and Markdown."""
    return front_matter(_header(facts, configs)) + _page(facts, configs)


def front_matter(header: dict[str, Any]) -> str:
    """Return the YAML header of a card, in ASCII: pyyaml misreads some line ends that it writes as they are."""
    import yaml  # noqa: PLC0415 - not in the host's environment

    return f"---\n{yaml.safe_dump(header, sort_keys=False)}---\n"


def _header(facts: Facts, configs: list[Config]) -> dict[str, Any]:
    return {
        "pretty_name": facts.title,
        "license": facts.licence,
        "language": ["en"],
        "task_categories": ["text-generation"],
        "tags": list(TAGS),
        "size_categories": [size_category(facts.records)],
        "configs": [
            {
                "config_name": config.name,
                **({"default": True} if number == 0 else {}),
                "data_files": [{"split": "train", "path": f"data/{config.name}/*.parquet"}],
            }
            for number, config in enumerate(configs)
        ],
        "dataset_info": [
            {
                "config_name": config.name,
                "features": [{"name": name, "dtype": _DTYPES.get(kind, kind)} for name, kind in config.kinds.items()],
                "splits": [{"name": "train", "num_bytes": config.bytes, "num_examples": config.rows}],
                "download_size": config.size,
                "dataset_size": config.bytes,
            }
            for config in configs
        ],
    }


def size_category(rows: int) -> str:
    """Return the Hub's word for a number of rows."""
    return next((name for most, name in _SIZES if rows < most), "10M<n<100M")


def _page(facts: Facts, configs: list[Config]) -> str:
    first = configs[0].name
    lines = [
        "",
        f"# {escaped(facts.title)}",
        "",
        "Traces of a model that works on tasks with tools. Every tool call carries what it cost the operating system:",
        "CPU time, peak memory, disk reads and writes of its whole process tree, and the method that measured each.",
        "",
    ]
    if facts.demo:
        lines += [
            f"> {facts.demo} of the {facts.records} records come from a demonstration model, trained on its very",
            "> tasks. They show that the machine runs and are no result.",
            "",
        ]
    lines += [
        "| run | task set | model | records | solved | not solved | unknown |",
        "|---|---|---|---:|---:|---:|---:|",
        *(
            f"| {' | '.join(map(escaped, key))} | {count['records']} | {count['solved']} | {count['not solved']} "
            f"| {count['unknown']} |"
            for key, count in facts.groups.items()
        ),
        "",
        "## Load",
        "",
        "```python",
        "from datasets import load_dataset",
        "",
        f'{first} = load_dataset("PATH_OR_REPOSITORY", "{first}", split="train")',
        'spans = load_dataset("PATH_OR_REPOSITORY", "spans", split="train")',
        "```",
        "",
        "| configuration | a row is | rows | columns |",
        "|---|---|---:|---:|",
        *(f"| `{one.name}` | {_ABOUT[one.name]} | {one.rows} | {len(one.kinds)} |" for one in configs),
        "",
        "`trace_id` joins the tables; `call_id` joins a call in `llm_steps.tool_calls_json` to its row in `spans`.",
        'Columns named `..._json` hold JSON text. `null` is "not measured" or "does not apply"; 0 is zero.',
        "",
        "## Files",
        "",
        "- `records/`: the record files as they were collected, one JSON object a line, and beside each its run spec:",
        "  prompts, tool schemas, sampler, server arguments, digests of weights, fixture and images.",
        *(f"  - `{name}`" for name in map(_code, facts.files)),
        *(_RELEASE if facts.release else ()),
        f"- `schema/`: JSON Schema of both, version {SCHEMA_VERSION}, with meaning, unit and method of every field.",
        "- `SHA256SUMS`: digests of all files (`sha256sum --check SHA256SUMS`).",
        "",
        f"Made by agenttrace {__version__}. The files were validated before this folder was written: schema, ids,",
        "order, joins, counts, metadata, and a search for host paths, host names, user names and keys.",
    ]
    return "\n".join(lines) + "\n"


_ABOUT = {
    "runs": "a task, run once: prompt, outcome, verdicts, metadata, environment",
    "llm_steps": "a generation of the model: text, reasoning, proposed calls, tokens, timings",
    "spans": "a tool call: input, output, exit code, telemetry",
    "agenttrace-0.3": "a task, run once, in the 14 columns of AgentTrace 0.3.0",
}

_RELEASE = (
    "- `records/NAME.cassette.zst`: every request to the model and what came of it: with it the campaign runs again",
    "  without the model (`nox -s replay -- records/NAME.jsonl` in a checkout of agenttrace).",
    "- `verdicts/`: per record how it ended and every verdict, one JSON object a line.",
    "- `manifest.json`: size and digest of every file, counts, run ids, and the digest over the metadata of all rows",
    "  (`nox -s release -- --verify FOLDER`, `nox -s reproduce -- records/NAME.jsonl`).",
)


def escaped(text: str) -> str:
    """Return a text as Markdown that shows it and does nothing else, on one line."""
    return _MARKDOWN.sub(r"\\\1", " ".join(text.split()))[:400]


def _code(text: str) -> str:
    return "".join(char for char in text if char.isprintable() and char != "`")
