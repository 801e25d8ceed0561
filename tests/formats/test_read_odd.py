"""Values of others that fit nothing: a record, or one message."""

from __future__ import annotations

import copy
import json
import random

import msgspec
import pytest

from agenttrace.analysis.rows import entry
from agenttrace.errors import DataError, UsageError
from agenttrace.formats import READERS, reading
from agenttrace.formats.checking import validation
from agenttrace.formats.convert import convert
from agenttrace.formats.reading import to_trace, traces
from agenttrace.report.view import trace_view
from agenttrace.show import transcript
from agenttrace.validate import Validation
from tests.formats.samples import SAMPLE, SAMPLES, ask

ODD = (None, 1, -1, 0, 2**70, 1e308, 1.5, "x", "", [], {}, [[]], [1], {"a": 1}, True, "9" * 50, ["x", {"type": "text"}])


def places(value, path=()):
    """Every place in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for key, one in inner for place in places(one, (*path, key)))]


def changed(value, path, odd):
    """The value with something else at a place."""
    if not path:
        return odd
    found = copy.deepcopy(value)
    owner = found
    for key in path[:-1]:
        owner = owner[key]
    owner[path[-1]] = odd
    return found


@pytest.mark.parametrize("name", [name for name in SAMPLE if SAMPLE[name].is_relative_to(SAMPLES)])
def test_odd_values_anywhere_are_a_record_or_one_message(name):
    text = SAMPLE[name].read_text(encoding="utf-8")
    whole = json.loads(text) if text.startswith(("{\n", "[\n")) else [json.loads(line) for line in text.splitlines()]
    values = whole if isinstance(whole, list) else [whole]
    root = values if READERS[name].whole else values[0]
    chance = random.Random(name)
    refused, paths = 0, places(root)[1:]
    for path in chance.sample(paths, min(60, len(paths))):
        for odd in chance.sample(ODD, 3):
            value = changed(root, path, odd)
            try:
                reader = READERS[name].load()
                parts = reader.parts(value) if READERS[name].parts else [value]
                whole = (
                    reader.read(enumerate(value, 1), "a.jsonl")
                    if READERS[name].whole
                    else enumerate(map(to_trace, parts))
                )
                for _, trace in whole:
                    entry(0, "a.jsonl", 1, msgspec.json.encode(trace) + b"\n")
                    list(transcript(trace))
                    assert trace_view(trace).calls is not None
            except DataError:
                refused += 1
    assert refused < 3 * min(60, len(paths))


@pytest.mark.parametrize("depth", [300, 800, 5000])
@pytest.mark.parametrize("verb", ["show", "validate", "convert", "analyze"])
def test_nesting_that_no_reader_can_follow_is_one_message(verb, depth, tmp_path, capsys):
    deep = "[" * depth + "]" * depth
    line = f'{{"type": "user", "sessionId": "s", "message": {{"role": "user", "content": {{"a": {deep}}}}}}}\n'
    (tmp_path / "a.jsonl").write_text(line * 2)
    status = ask(verb, tmp_path / "a.jsonl", tmp_path)
    out, err = capsys.readouterr()
    assert (status in {0, 1, 2}, "Traceback" in out + err) == (True, False)
    assert status == 0 or "a.jsonl" in out + err


@pytest.mark.parametrize("name", ["claude-code", "codex", "pi", "otlp"])
def test_a_session_beyond_all_measure_is_refused(name, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "LARGEST_TEXT", SAMPLE[name].stat().st_size - 1)
    with pytest.raises(UsageError, match=r"one session of more than .* split the file"):
        list(traces(SAMPLE[name]))
    assert list(traces(SAMPLE["swe-zero"]))


@pytest.mark.parametrize("kind", [[], {}, ["text"], None, 5])
def test_a_part_of_no_kind_is_read(kind, tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"messages": [{"role": "user", "content": [{"type": kind}]}]}) + "\n")
    assert len(list(traces(tmp_path / "a.jsonl"))) == 1


@pytest.mark.parametrize(
    ("said", "solved"), [(1.0, True), (0.0, False), (0, False), (0.5, None), ("1", None), ([], None)]
)
def test_whether_a_run_was_resolved_is_read_as_tables_write_it(said, solved, tmp_path):
    row = {"messages": [{"role": "user", "content": "go"}], "resolved": said}
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    ((_, trace),) = traces(tmp_path / "a.jsonl")
    assert trace.outcome.solved is solved


def test_validate_names_every_value_that_is_none_and_checks_the_rest(tmp_path):
    row = {"messages": [{"role": "user", "content": "my key: hf_" + "aB3dE" * 7}]}
    values = ({"messages": [{}]}, row, [1], row, "x")
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(one) + "\n" for one in values))
    checked, _ = validation(tmp_path / "a.jsonl")
    found = [(one.line, one.rule) for one in checked]
    leaked = [(2, "leak"), (4, "ids"), (4, "leak")]
    assert sorted(found) == sorted([(0, "file")] * 3 + leaked)
    assert checked.records == 2
    (tmp_path / "b.jsonl").write_text(json.dumps(values[0]) + "\n")
    checked, _ = validation(tmp_path / "b.jsonl")
    assert [one.message for one in checked] == ["line 1: not a row of chat messages: message 1 has no role"]
    assert "the file is empty" not in checked.notes


@pytest.mark.parametrize(("version", "is_read"), [("v1.0", True), ("v1.9", True), ("v2.0", False), ("", False)])
def test_atif_of_a_version_that_is_not_known_is_refused_by_name(version, is_read, tmp_path):
    run = json.loads(SAMPLE["atif"].read_bytes()) | {"schema_version": f"ATIF-{version}"}
    (tmp_path / "a.json").write_text(json.dumps(run))
    if is_read:
        assert len(list(traces(tmp_path / "a.json"))) == 1
    else:
        with pytest.raises(DataError, match=rf"a\.json, line 1: a trajectory of ATIF-{version}; ATIF v1\.0 to v1\.8"):
            list(traces(tmp_path / "a.json"))


def test_half_a_surrogate_pair_becomes_the_replacement_character(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"messages": [{"role": "user", "content": "\\ud800"}]}\n')
    ((_, trace),) = traces(tmp_path / "a.jsonl")
    assert trace.prompt == "\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("number", ["18446744073709551616", "-9223372036854775809", "1" + "0" * 30, "9" * 400])
def test_an_integer_that_no_record_can_hold_leaves_one_that_validates(number, tmp_path):
    run = json.loads(SAMPLE["atif"].read_bytes())
    run["steps"][0]["step_id"] = run["extra_number"] = "NUMBER"
    source, out = tmp_path / "in.json", tmp_path / "out.jsonl"
    source.write_text(json.dumps(run).replace('"NUMBER"', number))
    convert([source], "agenttrace-1.0", out)
    assert list(Validation(out)) == []
