"""The lean form of a record's line: nothing is lost, whatever the record holds, and nothing in a file is believed."""

from __future__ import annotations

import functools
import json
import re
import uuid

import msgspec
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttrace.errors import DataError
from agenttrace.records import NAMESPACE, Trace, derived_id
from agenttrace.store.compact import Compacted, compact
from agenttrace.store.lean import FORM, NOTICE, lean, whole
from agenttrace.store.read import decode, read_traces
from bench.synthetic import rollouts
from tests.formats.hostile import DATA, OLD, OURS, hostile

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
    | st.sampled_from(["bash", "\\u00e4\\n", "call_1_1", "```bash\nls\n```", "Observation: x\n", [], {}, -0.0, 2**64]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=5,
)  # fmt: skip


@functools.cache
def collected():
    """Lines of records of both agents, and of those that were read from rollout files of schema 1.0.0."""
    made = [*read_traces(OURS), *rollouts.rollouts(rollouts.Corpus(rollouts=2)), *read_traces(OLD), hostile()]
    return [msgspec.json.encode(one).replace(b"x" * 300_000, b"x" * 30) + b"\n" for one in made]


NUMBERS = st.integers(0, len(collected()) - 1)


@pytest.mark.parametrize("number", range(len(collected())))
def test_a_record_becomes_lean_and_comes_back(number):
    line = collected()[number]
    made = lean(line)
    assert made.startswith(NOTICE)
    assert len(made) < len(line)
    assert whole(made) == line


def places(value, path=()):
    """Yield the path of everything in a JSON value."""
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*path, key))


def changed(data, record):
    """Return a record with other values, without a value, or with one more, in several places."""
    for path in data.draw(st.lists(st.sampled_from([*places(record)][1:]), min_size=1, max_size=4)):
        inner = record
        try:
            for key in path[:-1]:
                inner = inner[key]
            how = data.draw(st.sampled_from(("another", "gone", "new")))
            if how == "gone":
                del inner[path[-1]]
            elif how == "new" and isinstance(inner, dict):
                inner[data.draw(st.text(max_size=5))] = data.draw(VALUES)
            else:
                inner[path[-1]] = data.draw(VALUES)
        except (KeyError, IndexError, TypeError):
            continue  # what an earlier change took away
    return record


@settings(deadline=None)
@given(NUMBERS, st.data())
def test_every_line_comes_back_byte_for_byte(number, data):
    record = changed(data, json.loads(collected()[number]))
    separators = data.draw(st.sampled_from([(",", ":"), (", ", ": ")]))
    line = json.dumps(record, separators=separators, ensure_ascii=data.draw(st.booleans())) + "\n"
    line = line.encode("utf-8", "surrogatepass")
    assert whole(lean(line)) == line


@settings(deadline=None)
@given(NUMBERS, st.data())
def test_a_lean_line_that_someone_changed_is_read_or_refused(number, data):
    made = lean(collected()[number])
    record = changed(data, json.loads(b"{" + made.removeprefix(NOTICE + FORM)))
    line = NOTICE + FORM + json.dumps(record).encode()[1:] + b"\n"
    try:
        found = whole(line)
    except DataError as error:
        found = str(error)
    assert (
        re.match(r"its compacted form is damaged|compacted by a newer version", found)
        if isinstance(found, str)
        else (found.endswith(b"}\n"))
    )


@pytest.mark.parametrize("name", ["call.arguments", "step.model_output"])
def test_a_text_that_is_said_to_be_absent_is_damage(name):
    row = json.loads(b"{" + lean(collected()[0]).removeprefix(NOTICE + FORM))
    count = len(row["counts"]["call"]) if name.startswith("step") else sum(row["counts"]["call"])
    row["texts"][name] = [1] * count
    with pytest.raises(DataError, match="its compacted form is damaged"):
        whole(NOTICE + FORM + json.dumps(row).encode()[1:] + b"\n")


@pytest.mark.parametrize(
    ("counts", "kind"),
    [
        ({"call": [2**18 + 1]}, "Expected `int` <= 262144"),
        ({"call": [2**17, 2**17, 1]}, "more of call"),
        ({"stdout": [2]}, "more of stdout"),
        ({"stdout": [1] * (2**18 + 1)}, "more of stdout"),
    ],
)
def test_a_few_bytes_cannot_ask_for_a_large_record(counts, kind):
    line = lean(collected()[0])
    row = json.loads(b"{" + line.removeprefix(NOTICE + FORM))
    row["counts"] |= counts
    with pytest.raises(DataError, match=kind):
        whole(NOTICE + FORM + json.dumps(row).encode()[1:] + b"\n")


def test_a_later_form_is_refused_and_versions_before_this_one_refuse_ours(tmp_path):
    line = lean(collected()[0])
    with pytest.raises(msgspec.ValidationError, match="compacted by a newer version of agenttrace"):
        msgspec.json.decode(line, type=Trace)
    later = line.replace(FORM, b'"form":2,')
    path = tmp_path / "run.jsonl.zst"
    path.write_bytes(zstandard.compress(line + later))
    with pytest.raises(DataError, match=r"run\.jsonl\.zst: line 2: compacted by a newer version"):
        list(read_traces(path))
    problems = []
    assert list(read_traces(path, problems.append)) == [decode(collected()[0])]
    assert [str(one) for one in problems] == [
        f"{path}: line 2: compacted by a newer version of agenttrace; update agenttrace to read it"
    ]
    unknown = line.replace(b'"columns":{', b'"columns":{"span.later":[1],')
    with pytest.raises(DataError, match="newer version"):
        whole(unknown)


def test_a_file_that_an_earlier_version_compacted_is_read():
    """Kept: whole lines in the same frames, as every compacted file had them before there were lean ones."""
    path = DATA / "demo-compacted.jsonl.zst"
    records = {trace.trace_id: trace for trace in read_traces(OURS)}
    assert {trace.trace_id: trace for trace in read_traces(path)} == records
    with Compacted(path) as opened:
        assert not opened.frame(0).startswith(NOTICE)
        assert [opened.get(one) for one in records] == list(records.values())


def test_rollouts_take_a_fraction_of_their_lines(tmp_path):
    records, target = tmp_path / "run.jsonl", tmp_path / "run.jsonl.zst"
    rollouts.write(records, rollouts.spec(corpus := rollouts.Corpus(tasks=1, rollouts=40)), rollouts.rollouts(corpus))
    done = compact(records, target)
    plain = len(zstandard.compress(records.read_bytes(), 19))
    assert done.bytes_after < 0.6 * plain


@given(st.lists(st.text() | st.integers(), min_size=1))
def test_ids_are_those_of_the_standard_library(parts):
    assert derived_id(*parts) == str(uuid.uuid5(NAMESPACE, "\n".join(map(str, parts))))
