"""Makes the published JSON Schemas of run specs and records from the types, and compares them.

`nox -s schema` writes the files of this version (`agenttrace/records/schema/`) and `docs/schema.md`, `-- --check`
compares.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from agenttrace.errors import DataError
from agenttrace.records.base import SCHEMA_VERSION
from agenttrace.records.schema import FOLDER, KINDS, name

_DIALECT = "https://json-schema.org/draft/2020-12/schema"
_NOTES = ("title", "description", "examples", "$comment")
_ATTRIBUTE = re.compile(r"(\w+): (.*)")
_UNITS = {
    "_ns": "ns",
    "_ms": "ms",
    "_s": "s",
    "_bytes": "bytes",
    "_byte_seconds": "byte seconds",
    "_kib": "KiB",
    "_tokens": "tokens",
    "read_chars": "bytes",
    "write_chars": "bytes",
    "_chars": "characters",  # what the kernel calls a char is a byte
}


def document(kind: str) -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a kind.

    Every property carries its meaning from the class, `x-since`, and where they apply `x-unit` and `x-method`. What a
    type says by `msgspec.Meta(extra_json_schema=...)` is carried through.
    """
    (root,), components = msgspec.json.schema_components([KINDS[kind]], ref_template="#/$defs/{name}")
    notes = _field_notes()
    earlier = {
        **_earlier(notes["renamed"]),
        **{field: version for version, fields in notes["since"].items() for field in fields},
    }
    for struct, schema in components.items():
        text, meanings = _docstring(schema.pop("description", ""))
        schema["description"] = text
        for field, value in schema.get("properties", {}).items():
            value.update(_note(f"{struct}.{field}", meanings, notes))
            value["x-since"] = earlier.get(f"{struct}.{field}", SCHEMA_VERSION)
    whole = {"$schema": _DIALECT, "title": f"agenttrace {kind} {SCHEMA_VERSION}", **root, "$defs": components}
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(whole))  # defaults are tuples until now
    return plain


def encoded(kind: str) -> bytes:
    """Return the bytes of the published file of a kind."""
    return msgspec.json.format(msgspec.json.encode(document(kind)), indent=2) + b"\n"


def shape(schema: Any) -> Any:  # noqa: ANN401 - any JSON value
    """Return a schema without what only explains it: titles, descriptions and `x-` marks."""
    if isinstance(schema, dict):
        named = {key: value for key, value in schema.items() if key not in _NOTES and not key.startswith("x-")}
        below = {
            key: _members(value) if key in {"properties", "$defs"} else shape(value) for key, value in named.items()
        }
        return {**below, "required": sorted(below["required"])} if "required" in below else below
    return [shape(item) for item in schema] if isinstance(schema, list) else schema


def _members(value: dict[str, Any]) -> dict[str, Any]:
    return {key: shape(item) for key, item in value.items()}  # keys are names here, "title" may be one


def check_published(kind: str, folder: Path = FOLDER) -> None:
    """Compare the types with what was published of this version.

    Raises:
        DataError: nothing was, or the types have another shape; the message says what to do.
    """
    path = folder / name(kind)
    if not path.is_file():
        raise DataError(f"{path} does not exist: write it with `nox -s schema`")
    published = msgspec.json.decode(path.read_bytes())
    if shape(published) != shape(document(kind)):
        raise DataError(
            f"the types have another shape than {path.name}, which is published: raise SCHEMA_VERSION in "
            "agenttrace/records/base.py and run `nox -s schema`; remove the file first if that was never released"
        )


def _fields(kind: str) -> dict[str, dict[str, Any]]:
    """Return the schema of every field of a kind, by `Class.field`."""
    classes: dict[str, dict[str, Any]] = document(kind)["$defs"]
    return {
        f"{struct}.{field}": value
        for struct, schema in classes.items()
        for field, value in schema.get("properties", {}).items()
    }


def undescribed(kind: str) -> list[str]:
    """Return the fields (`Class.field`) without a meaning."""
    return [field for field, value in _fields(kind).items() if "description" not in value]


def stale_notes() -> list[str]:
    """Return the names in `fields.toml` that no type has."""
    notes = _field_notes()
    named = {*notes["method"], *notes["meaning"], *(field for fields in notes["since"].values() for field in fields)}
    return sorted(named.difference(*map(_fields, KINDS)))


def _field_notes() -> dict[str, Any]:
    return tomllib.loads((Path(__file__).parent / "fields.toml").read_text(encoding="utf-8"))


def _earlier(renamed: dict[str, str]) -> dict[str, str]:
    """Return in which published version each field stood first; the present one is not looked at."""
    found: dict[str, str] = {}
    files = [(tuple(map(int, path.stem.rpartition("-")[2].split("."))), path) for path in FOLDER.glob("*-[0-9]*.json")]
    for version, path in sorted(files):
        number = ".".join(map(str, version))
        if number != SCHEMA_VERSION:
            for struct, schema in msgspec.json.decode(path.read_bytes())["$defs"].items():
                for field in schema.get("properties", {}):
                    found.setdefault(f"{renamed.get(struct, struct)}.{field}", number)
    return found


def _note(field: str, meanings: dict[str, str], notes: dict[str, Any]) -> dict[str, str]:
    struct, _, member = field.partition(".")
    found: dict[str, str] = {}
    if meaning := meanings.get(member) or notes["meaning"].get(field):
        found["description"] = meaning
    if unit := next((unit for suffix, unit in _UNITS.items() if member.endswith(suffix)), None):
        found["x-unit"] = unit
    if member in {"bytes_total", "bytes_kept", "bytes"} or (struct, member) == ("StateChange", "size"):
        found["x-unit"] = "bytes"
    if method := notes["method"].get(field):
        found["x-method"] = method
    return found


def _docstring(text: str) -> tuple[str, dict[str, str]]:
    """Return what a class says of itself, on one line, and of each of its attributes."""
    head, _, attributes = text.partition("Attributes:")
    meanings: dict[str, str] = {}
    current = ""
    for line in attributes.splitlines():
        found = _ATTRIBUTE.fullmatch(line.strip())
        if found and len(line) - len(line.lstrip()) <= 8:  # noqa: PLR2004 - deeper lines go on
            current, meanings[found[1]] = found[1], found[2]
        elif current and line.strip():
            meanings[current] += f" {line.strip()}"
    return " ".join(head.split()), meanings
