"""The published JSON Schemas of run specs and records: one file per kind and version lies beside this module.

`rollout` and `rollout-spec` were kinds of 1.0.0 only. A published shape never changes: another shape is another
version. `nox -s schema` writes the files of this version from the types.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agenttrace.records import RunSpec, Trace
from agenttrace.records.base import SCHEMA_VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

KINDS: dict[str, type[msgspec.Struct]] = {"trace": Trace, "run-spec": RunSpec}
"""What is published: name → type."""
VERSIONS = ("1.0.0", "1.1.0", SCHEMA_VERSION)
"""Versions whose records are read, oldest first."""
FOLDER = Path(__file__).parent


def name(kind: str) -> str:
    """Return the file name of a kind at the present version, such as `trace-1.0.0.json`."""
    return f"{kind}-{SCHEMA_VERSION}.json"


@cache
def fields(version: str) -> Mapping[str, frozenset[str]]:
    """Return class → names of its fields in a trace, as they were published with one of `VERSIONS`."""
    classes = msgspec.json.decode((FOLDER / f"trace-{version}.json").read_bytes())["$defs"]
    return {name: frozenset(found.get("properties", {})) for name, found in classes.items()}
