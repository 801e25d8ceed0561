"""Two records are equal but for what the schema marks as measured."""

from __future__ import annotations

import json
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agenttrace.records import MEASURED, Record, Span, Telemetry, Trace
from agenttrace.records.compare import measured_fields, record_differences


class Inner(Record, frozen=True, kw_only=True):
    text: str
    cost_ns: Annotated[int | None, MEASURED] = None


class Outer(Record, frozen=True, kw_only=True):
    name: str
    wall_ns: Annotated[int, MEASURED] = 0
    items: tuple[Inner, ...] = ()
    one: Inner | None = None
    data: dict[str, Any] = {}  # noqa: RUF012 - msgspec copies it


def found(left, right):
    return [
        (one.field, one.recorded, one.found)
        for one in record_differences(Outer, json.dumps(left).encode(), json.dumps(right).encode())
    ]


BASE = {"name": "a", "wall_ns": 1, "items": [{"text": "x", "cost_ns": 5}], "one": None, "data": {"k": [1, {"d": 2}]}}


def test_measured_fields_are_passed_over_at_every_depth():
    other = {**BASE, "wall_ns": 99, "items": [{"text": "x", "cost_ns": None}]}
    assert found(BASE, other) == []


@pytest.mark.parametrize(
    ("change", "field", "recorded", "now"),
    [
        ({"name": "b"}, "name", '"a"', '"b"'),
        ({"items": [{"text": "y", "cost_ns": 1}]}, "items[0].text", '"x"', '"y"'),
        ({"items": []}, "items[0]", '{"text": "x", "cost_ns": 5}', "(absent)"),
        ({"one": {"text": "z"}}, "one", "null", '{"text": "z"}'),
        ({"data": {"k": [1, {"d": 3}]}}, "data.k[1].d", "2", "3"),
        ({"data": {"k": [1.0, {"d": 2}]}}, "data.k[0]", "1", "1.0"),
        ({"extra": 1}, "extra", "(absent)", "1"),
    ],
)
def test_every_other_difference_is_named_with_both_values(change, field, recorded, now):
    assert found(BASE, {**BASE, **change}) == [(field, recorded, now)]


@pytest.mark.parametrize("field", ["wall_ns", "items"])
def test_a_measured_field_is_passed_over_whether_or_not_both_have_it(field):
    other = {**BASE, "items": [{"text": "x"}]} if field == "items" else {k: v for k, v in BASE.items() if k != field}
    assert found(BASE, other) == found(other, BASE) == []


def test_the_order_of_the_other_keys_is_compared_where_one_side_lacks_a_measured_one():
    other = {name: BASE[name] for name in ("items", "name", "one", "data")}
    assert [field for field, _, _ in found(BASE, other)] == ["record (order of keys)"]


def test_another_order_of_keys_is_a_difference():
    assert found(BASE, dict(reversed(BASE.items())))[0][0] == "record (order of keys)"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(JSON, JSON)
def test_values_differ_exactly_when_their_bytes_do(left, right):
    one, other = ({"data": {"v": value}} for value in (left, right))
    assert bool(found(one, other)) == (json.dumps(left) != json.dumps(right))


def test_what_is_measured_stands_in_the_published_schema():
    schema = msgspec.json.schema(Trace)["$defs"]
    marked = {
        f"{kind}.{name}"
        for kind, body in schema.items()
        for name, field in body.get("properties", {}).items()
        if field.get("x-measured")
    }
    last = {path.replace("[]", "").split(".")[-1] for path in measured_fields(Trace)}
    assert {name.split(".")[1] for name in marked} == last
    assert "Span.duration_ms" in marked
    assert not {"Span.tool_output", "Span.exit_code", "LLMStep.model_output", "Trace.metadata"} & marked


def test_telemetry_is_measured_but_how_it_was_measured_is_not():
    fields = set(Telemetry.__struct_fields__)
    prefix = "telemetry."
    measured = {path.removeprefix(prefix) for path in measured_fields(Span) if path.startswith(prefix)}
    assert fields - measured == {"method"}
