"""`python -m bench.schema`: writes or compares the published schemas, the field reference, the table of verbs."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agenttrace.errors import AgentTraceError, DataError
from agenttrace.records import SCHEMA_VERSION
from agenttrace.records.schema import FOLDER, KINDS, name
from bench import artifact
from bench.schema import check_published, document, encoded, undescribed
from bench.verb_table import with_table

if TYPE_CHECKING:
    from collections.abc import Iterator

REFERENCE = FOLDER.parents[2] / "docs" / "schema.md"
SEMCONV = FOLDER.parents[2] / "docs" / "semconv.md"
README = FOLDER.parents[2] / "README.md"
ARTIFACT = FOLDER.parents[2] / "docs" / "artifact.md"
_UCUM = {
    "_byte_seconds": "By.s", "_ns": "ns", "_time_s": "s", "_bytes": "By", "_chars": "By", "refaults": "{page}",
    "faults": "{fault}", "switches": "{switch}", "calls": "{call}", "periods": "{period}", "processes": "{process}",
    "leftover": "{process}", "samples": "{sample}", "instructions": "{instruction}", "cycles": "{cycle}",
}  # fmt: skip
"""Part of a figure's name → its unit by UCUM; the first one that fits counts."""
_TITLES = {
    "trace": "Records (`NAME.jsonl`, one `Trace` a line)",
    "run-spec": "Run specs (`NAME.run.json`)",
}


def main(argv: list[str] | None = None) -> int:
    """Write what is out of date and return the exit status; with `--check` write nothing."""
    parser = argparse.ArgumentParser(
        prog="nox -s schema --",
        description="Write the JSON Schemas, the pages of docs/ that are made, and the README's table of verbs.",
    )
    parser.add_argument(
        "--check", action="store_true", help="only compare; exit status 1 when something is out of date"
    )
    arguments = parser.parse_args(argv)
    try:
        return _stale() if arguments.check else _write()
    except AgentTraceError as error:
        print(f"agenttrace: {error}", file=sys.stderr)  # noqa: T201 - this is a command line
        return error.exit_code


def files() -> dict[Path, bytes]:
    """Return every generated file with the content it must have."""
    readme = with_table(README.read_text(encoding="utf-8")).encode()
    return {
        **{FOLDER / name(kind): encoded(kind) for kind in KINDS},
        REFERENCE: page().encode(),
        SEMCONV: semconv().encode(),
        ARTIFACT: artifact.markdown().encode(),
        README: readme,
    }


def _stale() -> int:
    for kind in KINDS:
        check_published(kind)
    stale = [path for path, content in files().items() if not path.is_file() or path.read_bytes() != content]
    for path in stale:
        print(f"{path} is not what it is made from: write it with `nox -s schema`")  # noqa: T201
    return 1 if stale else 0


def _write() -> int:
    for kind in KINDS:
        if missing := undescribed(kind):
            raise DataError(
                f"no meaning given for {', '.join(missing)}: describe it under Attributes in the docstring of its class"
            )
        if (FOLDER / name(kind)).is_file():
            check_published(kind)
    for path, content in files().items():
        if not path.is_file() or path.read_bytes() != content:
            path.write_bytes(content)
            print(f"wrote {path}")  # noqa: T201
    return 0


def page() -> str:
    """Return the Markdown text of the field reference."""
    lines = [
        f"# The record schema, version {SCHEMA_VERSION}",
        "",
        "Every field of a record and of a run spec. This page is written by `scripts/nox -s schema` from the types in",
        "`agenttrace/records/`; a test compares. The same facts for machines are JSON Schema files:",
        ", ".join(f"[`{name(kind)}`](../agenttrace/records/schema/{name(kind)})" for kind in KINDS) + ".",
        "",
        '- **null**: whether a field may be `null`, which means "not measured" or "does not apply"; 0 means zero.',
        "- **unit**: empty for names, texts and plain counts.",
        "- **method**: where a figure comes from; [telemetry.md](telemetry.md) has the known error of each. Fields",
        "  marked *measured* may differ between two runs of the same inputs; all others are the same in a replay.",
        "- **since**: `0.3.0` fields are those of AgentTrace 0.3.0. Fields of `1.1.0` and `1.2.0` are absent where a",
        "  record has no use for them or is older than they are.",
        "",
        "A published shape never changes: another shape is another version. How bytes, digests and",
        "ids come about is [specified](spec-records.md), as are [run specs](spec-run.md). Other formats are in",
        "[formats.md](formats.md); `agenttrace validate` checks files ([validate.md](validate.md)).",
    ]
    lines += ["", *(Path(__file__).parent / "agents.md").read_text(encoding="utf-8").splitlines()]
    for kind in KINDS:
        lines += ["", f"## {_TITLES.get(kind, kind)}"]
        for struct, schema in _in_order(kind):
            lines += ["", f"### {struct}", "", schema["description"]]
            lines += _table(schema)
    return "\n".join(lines) + "\n"


def semconv() -> str:
    """Return the Markdown text that proposes the figures of a call as attributes of OpenTelemetry."""
    head = (Path(__file__).parent / "semconv.md").read_text(encoding="utf-8")
    lines = ["| attribute | type | unit | meaning | source |", "|---|---|---|---|---|"]
    for field, value in document("trace")["$defs"]["Telemetry"]["properties"].items():
        kind = _attribute_type(value)
        unit = next((unit for part, unit in _UCUM.items() if part in field), "") if kind in {"int", "double"} else ""
        meaning = value["description"].replace(" (since 1.2.0, as all that follow)", "")
        cells = (f"`agenttrace.telemetry.{field}`", kind, unit, meaning, value.get("x-method", ""))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return head + "\n".join(lines) + "\n"


def _attribute_type(value: dict[str, Any]) -> str:
    told = _type(value).removesuffix(" or null")
    if told.startswith("list of list"):
        return "string (JSON)"
    if told.startswith("list of "):
        return f"{told.removeprefix('list of ')}[]"
    return {"integer": "int", "number": "double"}.get(told, "string")


def _in_order(kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the classes from the outermost inwards."""
    schemas = document(kind)["$defs"]
    waiting, seen = [KINDS[kind].__name__], set()
    while waiting:
        struct = waiting.pop(0)
        if struct not in seen:
            seen.add(struct)
            yield struct, schemas[struct]
            waiting += _references(schemas[struct].get("properties", {}))


def _references(value: Any) -> list[str]:  # noqa: ANN401 - any JSON value
    if isinstance(value, dict):
        own = [value["$ref"].rpartition("/")[2]] if "$ref" in value else []
        return own + [found for item in value.values() for found in _references(item)]
    return [found for item in value for found in _references(item)] if isinstance(value, list) else []


def _table(schema: dict[str, Any]) -> Iterator[str]:
    if not schema.get("properties"):
        return
    yield ""
    yield "| field | type | null | unit | meaning | method | since |"
    yield "|---|---|---|---|---|---|---|"
    for field, value in schema["properties"].items():
        cells = [
            f"`{field}`",
            _type(value).removesuffix(" or null"),
            "yes" if "null" in _type(value).split(" or ") else "",
            value.get("x-unit", ""),
            value.get("description", ""),
            ", ".join(
                part for part in ("measured" if value.get("x-measured") else "", value.get("x-method", "")) if part
            ),
            value["x-since"],
        ]
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type(value: dict[str, Any]) -> str:
    if "$ref" in value:
        struct = value["$ref"].rpartition("/")[2]
        return f"[{struct}](#{struct.lower()})"
    if "anyOf" in value:
        return " or ".join(sorted((_type(item) for item in value["anyOf"]), key="null".__eq__))
    if "enum" in value:
        return " or ".join("null" if item is None else f"`{json.dumps(item)}`" for item in value["enum"])
    kind = str(value.get("type", "any"))
    if kind == "array":
        return f"list of {_type(value.get('items', {}))}"
    return kind


if __name__ == "__main__":
    sys.exit(main())
