"""The verbs of the command line: one table, and a module each with `add(parser)` and `run(arguments)`.

The module of `publish-rollouts` is `agenttrace.verbs.publish_rollouts`; it imports what is heavy inside `run`. The same
table makes the nox sessions, the overview of `--help`, the completion of shells and the README's table.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Group = Literal["make", "look", "publish", "reproduce", "keep"]


class Verb(NamedTuple):
    """A verb.

    Attributes:
        group: what it is for; a key of `GROUPS`.
        where: `host` (on the user's machine, with its Docker engine), `image` (in the analysis image when a session
            runs it, right here otherwise) or `here` (anywhere, without Docker).
        help: one line: what a user gets.
        page: where the documents explain it.
        kept: what an interrupt leaves and what to do next.
        needs: what its session installs, `requirements/NEEDS.txt`.
    """

    group: Group
    where: Literal["host", "image", "here"]
    help: str
    page: str
    kept: str | None = None
    needs: str = "host"


GROUPS: dict[Group, str] = {
    "make": "collect traces and rollouts",
    "look": "read what was recorded, yours or others'",
    "publish": "check, convert and hand on",
    "reproduce": "make it again and compare",
    "keep": "the machine and the kit on it",
}
"""What the verbs of a group are for, in the order in which they are listed."""

_RECORDS_KEPT = "every finished record is kept, the same command goes on"

VERBS: dict[str, Verb] = {
    "collect": Verb(
        "make",
        "host",
        "traces of a model at work on a task set, one record a task; resumes",
        "collect.md",
        _RECORDS_KEPT,
    ),
    "rollouts": Verb(
        "make",
        "host",
        "coding rollouts over checkouts of repositories, without code execution",
        "rollouts.md",
        _RECORDS_KEPT,
    ),
    "tasks": Verb(
        "make",
        "host",
        "a task set of your own: an example to begin with, and its check before a model is asked",
        "own-tasks.md",
    ),
    "fetch": Verb(
        "make",
        "host",
        "a model's weights in the models volume, verified; collect does it by itself",
        "models.md",
        "what has come is kept, the same command goes on",
    ),
    "cluster": Verb(
        "make",
        "here",
        "a campaign over machines into an object store: trees, run, one shard, status, check, merge, gather, clean",
        "cluster.md",
        "what is in the store is kept, the same command goes on",
        needs="cluster",
    ),
    "show": Verb("look", "here", "one trace as a readable transcript, with the cost of each call", "report.md"),
    "report": Verb(
        "look",
        "image",
        "record files as one page for a browser: overview, list, traces, comparison; or followed",
        "report.md",
    ),
    "analyze": Verb(
        "look", "image", "outcomes, time, tokens, cost per tool and command; several files are compared", "analysis.md"
    ),
    "plots": Verb(
        "look", "image", "figures for print: PDF, SVG and PNG, the same bytes for the same input", "analysis.md"
    ),
    "tables": Verb(
        "look", "image", "three flat typed tables: runs.parquet, steps.parquet, spans.parquet", "analysis.md"
    ),
    "stats": Verb(
        "look",
        "image",
        "figures of a run with several attempts at a task: ends, tokens, commands, diversity",
        "rollouts-data.md",
    ),
    "compare": Verb(
        "look", "image", "two runs in one table: every figure, the difference and its interval", "rollouts-data.md"
    ),
    "validate": Verb(
        "publish", "here", "every fault of record files: schema, ids, joins, counts, metadata, leaks", "validate.md"
    ),
    "convert": Verb("publish", "image", "traces of any readable format, written in another", "formats.md"),
    "compact": Verb("publish", "image", "records in a few kilobytes each, with random access; and back", "rollouts.md"),
    "publish": Verb(
        "publish",
        "image",
        "a folder that load_dataset opens: tables, records, schemas, card; or its upload",
        "publish.md",
    ),
    "publish-rollouts": Verb(
        "publish", "image", "the same in the form of SWE-ZERO, under its earlier name", "publish.md"
    ),
    "release": Verb(
        "publish",
        "image",
        "a release that others can reproduce: folder, cassettes, verdicts, manifest; its signature and its check",
        "publish.md",
        needs="sign",
    ),
    "replay": Verb(
        "reproduce",
        "host",
        "a record file run again from its cassette, without a model, compared by the byte",
        "reproducibility.md",
    ),
    "reproduce": Verb(
        "reproduce",
        "host",
        "a released file planned again here: ids, prompts, order and metadata compared",
        "reproducibility.md",
    ),
    "determinism": Verb(
        "reproduce",
        "host",
        "whether runs of one campaign part, and where: several, a new server each",
        "reproducibility.md",
    ),
    "judge": Verb(
        "reproduce", "host", "the verdicts of a record file, computed again; nothing else changes", "tasks.md"
    ),
    "doctor": Verb("keep", "here", "what this machine has, what is pinned, what differs and what to do", "images.md"),
    "images": Verb("keep", "host", "the images, built where out of date, and their environment digests", "images.md"),
    "verify-fixture": Verb(
        "keep",
        "host",
        "whether the NL2Bash fixture is the same in testdata/, in the image and after a reset",
        "fixture.md",
    ),
    "probe-sandbox": Verb(
        "keep", "host", "the sandbox attacked in named ways, under both policies, and what held", "sandbox.md"
    ),
    "completion": Verb("keep", "here", "what bash, zsh or tcsh needs to complete verbs and options", "faq.md"),
    "clean": Verb("keep", "host", "an engine without anything of the kit; record files stay", "faq.md"),
}
"""By group, in the order in which they are listed."""

WRITTEN = ("output", "outdir", "json")
"""Names of arguments that are paths to write; every other path among a verb's arguments is read."""


def module_of(name: str) -> str:
    """Return the module of a verb."""
    return f"agenttrace.verbs.{name.replace('-', '_')}"
