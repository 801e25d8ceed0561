"""The verbs of the command line: one table, and a module each with `add(parser)` and `run(arguments)`.

The module of `publish-rollouts` is `agenttrace.verbs.publish_rollouts`; it imports what is heavy inside `run`. The same
table makes the nox sessions.
"""

from __future__ import annotations

from typing import Literal, NamedTuple


class Verb(NamedTuple):
    """A verb.

    Attributes:
        where: `host` (on the user's machine, with its Docker engine), `image` (in the analysis image when a session
            runs it, right here with the package's `analysis` extra) or `here` (anywhere, without Docker).
        help: one line.
        kept: what an interrupt leaves and what to do next.
    """

    where: Literal["host", "image", "here"]
    help: str
    kept: str | None = None


_RECORDS_KEPT = "every finished record is kept, the same command goes on"

VERBS: dict[str, Verb] = {
    "collect": Verb("host", "run a model on a task set and write one trace per task; resumes", _RECORDS_KEPT),
    "rollouts": Verb("host", "the same with a preset: execution-free coding rollouts over checkouts", _RECORDS_KEPT),
    "fetch": Verb(
        "host", "bring a model's weights into the models volume", "what has come is kept, the same command goes on"
    ),
    "show": Verb("here", "print one trace as a readable transcript with the cost of each call"),
    "report": Verb("image", "write record files as one page that opens in any browser, without network"),
    "analyze": Verb(
        "image", "analyse record files: outcomes, time, tokens, cost per tool and command; several are compared"
    ),
    "plots": Verb("image", "draw record files: PDF, SVG and PNG, the same bytes for the same input"),
    "tables": Verb(
        "image", "write record files as three flat typed tables: runs.parquet, steps.parquet, spans.parquet"
    ),
    "stats": Verb(
        "image", "figures of a run: how tasks ended, turns, tokens, observations, commands, patches, diversity"
    ),
    "compare": Verb("image", "compare two runs: every figure of both, the difference and its interval (95 percent)"),
    "validate": Verb("here", "check record files: schema, ids, joins, counts, metadata, leaks; 1 where one is wrong"),
    "convert": Verb("image", "write traces of any readable format in another; docs/formats.md lists what is read"),
    "compact": Verb(
        "image", "store records compactly, with random access; given a compacted file and a new .jsonl, write its lines"
    ),
    "publish": Verb("image", "validate record files and make the folder to publish: tables, records, schemas, card"),
    "publish-rollouts": Verb(
        "image", "make the folder of rollouts to publish (SWE-ZERO's or mini-swe-agent's form), or upload it"
    ),
    "release": Verb(
        "image", "make a release of finished campaigns: published folder, cassettes, verdicts, manifest; or check one"
    ),
    "replay": Verb("host", "run a record file again from its cassette, without a model, and compare every byte"),
    "reproduce": Verb(
        "host", "plan a released file again here and compare ids, prompts, order and metadata byte for byte"
    ),
    "determinism": Verb("host", "run a campaign several times, with a new server each, and compare trajectories"),
    "judge": Verb("host", "compute the verdicts of a record file again; changes nothing else"),
    "verify-fixture": Verb(
        "host", "compare the NL2Bash fixture in testdata/, in the sandbox image and in a worker after a reset"
    ),
    "probe-sandbox": Verb("host", "attack the sandbox in named ways, under both policies, and say what held"),
    "images": Verb("host", "build the images that are out of date and print their environment digests"),
    "doctor": Verb("here", "say what this machine has, what is pinned, what differs and what to do"),
    "clean": Verb("host", "remove everything of the kit from the engine; record files stay"),
}
"""In the order in which `agenttrace --help` lists them."""

WRITTEN = ("output", "outdir", "json")
"""Names of arguments that are paths to write; every other path among a verb's arguments is read."""


def module_of(name: str) -> str:
    """Return the module of a verb."""
    return f"agenttrace.verbs.{name.replace('-', '_')}"
