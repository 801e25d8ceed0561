"""The published JSON Schemas of run specs and records: one file per kind and version lies beside this module.

`rollout` and `rollout-spec` were kinds of 1.0.0 only. A published shape never changes: another shape is another
version. `nox -s schema` writes the files of this version from the types.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from agenttrace.records import RunSpec, Trace
from agenttrace.records.base import SCHEMA_VERSION

if TYPE_CHECKING:
    import msgspec

KINDS: dict[str, type[msgspec.Struct]] = {"trace": Trace, "run-spec": RunSpec}
"""What is published: name → type."""
FOLDER = Path(__file__).parent


def name(kind: str) -> str:
    """Return the file name of a kind at the present version, such as `trace-1.0.0.json`."""
    return f"{kind}-{SCHEMA_VERSION}.json"
