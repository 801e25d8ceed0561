"""Every readable format, through every verb that reads: it opens, or is refused with one line that says why."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import sys

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from agenttrace.cli import main
from agenttrace.errors import DataError, UsageError
from agenttrace.formats import FORMATS, READERS
from agenttrace.formats.convert import convert
from agenttrace.formats.reading import kind, record_lines, traces
from agenttrace.validate import Validation
from tests.formats.samples import RECORDS, SAMPLE, SAMPLES, VERBS, ask


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", SAMPLE)
def test_every_verb_opens_every_format(name, verb, tmp_path, capsys):
    assert ask(verb, SAMPLE[name], tmp_path) == 0, capsys.readouterr()
    assert kind(SAMPLE[name]).format == name


def as_columns(row):
    """A row as `datasets` writes one whose messages have no one type: they are JSON texts."""
    if "harness" not in row:
        return row
    lists = {name: list(map(json.dumps, row[name])) for name in ("messages", "tools")}
    return {**row, **lists, **{name: json.dumps(row[name]) for name in ("metadata", "trace")}}


def packed(path, how, tmp_path):
    """A sample in another container."""
    data = path.read_bytes()
    target = tmp_path / f"{path.stem}.{how}"
    if how == "jsonl.gz":
        target.write_bytes(gzip.compress(data))
    elif how == "jsonl.zst":
        target.write_bytes(zstandard.compress(data))
    elif how == "json":
        target.write_text(json.dumps([json.loads(line) for line in data.splitlines()], indent=2), encoding="utf-8")
    elif how == "parquet":
        pq.write_table(pa.Table.from_pylist([as_columns(json.loads(line)) for line in data.splitlines()]), target)
    else:
        target = tmp_path / "folder"
        (target / "deep").mkdir(parents=True)
        shutil.copy(path, target / "deep" / path.name)
        (target / "notes.json").write_text('{"not": "a trace"}', encoding="utf-8")
        (target / "README.md").write_text("# none")
    return target


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("how", ["jsonl.gz", "jsonl.zst", "json", "parquet", "folder"])
@pytest.mark.parametrize("name", ["swe-zero", "agenttrace-1.0", "session-traces-parquet"])
def test_every_verb_opens_every_container(name, how, verb, tmp_path, capsys):
    if (name, how) == ("agenttrace-1.0", "parquet"):  # records of ours as a table have a form of their own
        convert([SAMPLE[name]], "records-parquet", source := tmp_path / "records.parquet")
    else:
        source = packed(SAMPLE[name], how, tmp_path)
    assert ask(verb, source, tmp_path) == 0, capsys.readouterr().err


OTHERS = {
    "predictions.json": ('{"instance_id": "a", "model_patch": ""}', "this looks like predictions"),
    "odd.jsonl": ('{"a": 1}\n', "an object of no known format (its keys: 'a')"),
    "list.json": ("[1, 2]", "a JSON list is no trace"),
    "text.jsonl": ("id,name\n1,b\n", "this looks like text"),
    "half.json": ('{\n "messages": [\n', "not JSON, or cut off"),
    "half.parquet": ("PAR1 and no more", "a Parquet file, but not a whole one"),
    "log.eval": ("PK\x03\x04", "it is a zip file"),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", OTHERS)
def test_every_verb_says_what_a_file_is_instead(name, verb, tmp_path, capsys):
    text, said = OTHERS[name]
    (tmp_path / name).write_text(text)
    code = ask(verb, tmp_path / name, tmp_path)
    out, err = capsys.readouterr()
    assert code == (1 if verb == "validate" else 2)
    (line,) = [line for line in (out if verb == "validate" else err).splitlines() if said in line]
    assert name in line
    assert verb == "validate" or "readable are" in line or "a zip file" in line or "Parquet" in line
    assert not list(tmp_path.glob("out*"))


WRITTEN = ("parquet", "otlp-protobuf", "adp", "every-eval-ever", "perfetto", "mooncake", "aiperf")
"""Formats that are written and not read."""


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", WRITTEN)
def test_every_verb_says_of_a_format_that_is_only_written_which_it_is(name, verb, tmp_path, capsys):
    output = tmp_path / f"in{FORMATS[name].suffix}"
    convert([RECORDS / "demo.jsonl"], name, output)
    for path in [output] if output.is_file() else [one for one in output.rglob("*") if one.is_file()]:
        capsys.readouterr()
        code = ask(verb, path, tmp_path)
        out, err = capsys.readouterr()
        assert code == (1 if verb == "validate" else 2)
        (line,) = [line for line in (out if verb == "validate" else err).splitlines() if f"this is {name} (" in line]
        assert path.name in line
        assert "which is written here and not read" in line


def test_whatever_is_written_is_read_or_called_by_its_name():
    names = {name for name, found in FORMATS.items() if found.known is not None}
    families = {"mini-swe-agent-1.1": "mini-swe-agent", "session-traces": "pi"}
    families |= {"swe-zero-1k-32k": "swe-zero", "swe-zero-12m": "swe-zero"}
    assert {families.get(name, name) for name in FORMATS} - names <= set(READERS)
    assert names == set(WRITTEN)


def test_a_line_of_no_known_format_among_others_is_named_and_left_out(tmp_path):
    text = SAMPLE["swe-zero"].read_text(encoding="utf-8")
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n'.join(text.splitlines(keepends=True)), encoding="utf-8")
    seen = []
    assert len(list(traces(tmp_path / "a.jsonl", seen.append))) == 3
    assert [problem.line for problem in seen] == [2, 4]
    with pytest.raises(DataError, match=r"a\.jsonl, line 2: an object of no known format"):
        list(traces(tmp_path / "a.jsonl"))


def test_a_table_of_two_kinds_of_file_is_read_by_each(tmp_path):
    lines = [SAMPLE[name].read_text(encoding="utf-8") for name in ("chat", "swe-zero", "agenttrace-1.0")]
    (tmp_path / "mixed.jsonl").write_text("".join(lines), encoding="utf-8")
    kinds = [one.environment.get("imported", {}).get("format") for _, one in traces(tmp_path / "mixed.jsonl")]
    assert kinds == ["chat"] * 2 + ["swe-zero"] * 3 + [None] * 4


def test_events_of_openhands_in_a_file_each_are_told_of_and_as_one_file_are_a_run(tmp_path, capsys):
    events = json.loads((SAMPLES / "openhands-output.jsonl").read_text(encoding="utf-8").splitlines()[1])["history"]
    (tmp_path / "in" / "events").mkdir(parents=True)
    shutil.copy(SAMPLE["chat"], tmp_path / "in")
    for number, event in enumerate(events):
        (tmp_path / "in" / "events" / f"event-{number:05}-{number:08x}.json").write_text(json.dumps(event))
    assert ask("analyze", tmp_path / "in", tmp_path) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "OpenHands" in line]
    assert f"events: {len(events)} files, an event of OpenHands each; as one file they are read: jq -c . " in line
    (tmp_path / "run.jsonl").write_text("".join(f"{json.dumps(event)}\n" for event in events))
    ((_, trace),) = traces(tmp_path / "run.jsonl")
    assert len(trace.spans) == 3


def test_a_folder_without_traces_is_refused(tmp_path, capsys):
    (tmp_path / "notes.json").write_text("{}")
    assert ask("analyze", tmp_path, tmp_path) == 2
    assert "no file of traces in this folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name in SAMPLE if name != "agenttrace-0.3"])
def test_what_convert_makes_passes_validation(name, tmp_path):
    convert([SAMPLE[name]], "agenttrace-1.0", tmp_path / "ours.jsonl")
    assert not [found for found in Validation(tmp_path / "ours.jsonl") if found.rule != "leak"]


@pytest.mark.parametrize("name", [name for name in SAMPLE if name not in {"agenttrace-1.0", "rollouts-1.0"}])
def test_reading_a_file_is_reading_what_convert_makes_of_it(name, tmp_path):
    convert([SAMPLE[name]], "agenttrace-1.0", tmp_path / "ours.jsonl")
    converted = [one for _, one in traces(tmp_path / "ours.jsonl")]
    assert [one for _, one in traces(SAMPLE[name], sources=True)] == converted
    if name != "agenttrace-0.3":
        assert [line for _, line in record_lines(SAMPLE[name])] == [
            msgspec.json.encode(one) + b"\n" for _, one in traces(SAMPLE[name])
        ]
    for one in converted:  # which file a record is from is all that only `convert` says
        kept = one.environment["imported"]
        assert (kept.pop("file"), kept.pop("sha256")) == (
            SAMPLE[name].name, hashlib.sha256(SAMPLE[name].read_bytes()).hexdigest()
        )  # fmt: skip
    assert [one for _, one in traces(SAMPLE[name])] == converted


@pytest.mark.parametrize("verb", ["analyze", "stats"])
@pytest.mark.parametrize("name", [name for name in SAMPLE if name not in {"agenttrace-1.0", "rollouts-1.0"}])
def test_figures_are_the_same_before_and_after_a_conversion(name, verb, tmp_path, capsys):
    converted = tmp_path / "ours.jsonl"
    convert([SAMPLE[name]], "agenttrace-1.0", converted)
    said = []
    for path in (SAMPLE[name], converted):
        with pytest.raises(SystemExit):
            main([verb, str(path), "--format", "json"])
        said.append(json.loads(capsys.readouterr().out.replace(str(path), "FILE")))
    assert said[0] == said[1]


def test_a_parquet_file_without_pyarrow_says_what_to_do(tmp_path, monkeypatch):
    pq.write_table(pa.table({"messages": ["[]"]}), tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"needs pyarrow, which is not here; convert it first: .*convert"):
        list(traces(tmp_path / "a.parquet"))


def test_every_reader_has_its_module_and_what_it_needs():
    for name, reader in READERS.items():
        assert callable(getattr(reader.load(), "read" if reader.whole else "to_trace")), name
