"""What reading a foreign format keeps in `environment.imported`: the difference to what is written of the record.

A patch is `{"is": value}` (another value), `{"keys": [...], "in": {key: patch}}` (an object: its keys in order, and
what differs below) or `{"at": {index: patch}}` (a list of the same length). Types count: 1 is not 1.0 and not true.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.errors import DataError

if TYPE_CHECKING:
    from agenttrace.records import Trace

Json = Any
"""A JSON value as Python has it."""


def difference(before: Json, after: Json) -> dict[str, Json] | None:
    """Return the patch that makes `after` of `before`; `None` when they are the same, order of keys included."""
    if isinstance(before, dict) and isinstance(after, dict):
        inner = {k: difference(before[k], one) if k in before else {"is": one} for k, one in after.items()}
        changed = {key: patch for key, patch in inner.items() if patch is not None}
        if not changed and list(before) == list(after):
            return None
        keys = {} if list(before) == list(after) else {"keys": list(after)}
        return {**keys, "in": changed}
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        pairs = enumerate(zip(before, after, strict=True))
        found = {str(index): difference(left, right) for index, (left, right) in pairs}
        changed = {index: patch for index, patch in found.items() if patch is not None}
        return {"at": changed} if changed else None
    same = type(before) is type(after) and before == after
    return None if same else {"is": after}


def patched(value: Json, patch: dict[str, Json] | None) -> Json:
    """Return a value with a patch applied; parts of the patch that no longer fit the value are left out."""
    if not isinstance(patch, dict):
        return value
    if "is" in patch:
        return patch["is"]
    if isinstance(value, dict) and isinstance(inner := patch.get("in"), dict):
        keys = patch["keys"] if isinstance(patch.get("keys"), list) else list(value)
        order = [key for key in keys if isinstance(key, str) and (key in value or key in inner)]
        return {key: patched(value.get(key), inner.get(key)) for key in order}
    if isinstance(value, list) and isinstance(at := patch.get("at"), dict):
        return [patched(item, at.get(str(index))) for index, item in enumerate(value)]
    return value


def imported(trace: Trace, name: str | None = None) -> dict[str, Json]:
    """Return what reading a foreign file (of the format of that name) kept; empty for records from elsewhere."""
    kept = trace.environment.get("imported")
    return kept if isinstance(kept, dict) and name in {None, kept.get("format")} else {}


def with_patch(trace: Trace, written: Json, read: Json) -> Trace:
    """Return a record that was read of a value, with the patch that makes this value of what is written of it."""
    patch = difference(written, read)
    if patch is None:
        return trace
    kept = {**trace.environment["imported"], "patch": patch}
    return msgspec.structs.replace(trace, environment={**trace.environment, "imported": kept})


def as_read(value: dict[str, Json], trace: Trace, name: str) -> dict[str, Json]:
    """Return what is written of a record as it was read, if it was read from the format of that name.

    Raises:
        DataError: what an earlier reading kept has been changed so that no object comes of it.
    """
    found = patched(value, imported(trace, name).get("patch"))
    if not isinstance(found, dict):
        raise DataError(f"trace {trace.trace_id[:60]!r}: environment.imported.patch makes no row of it")
    return found
