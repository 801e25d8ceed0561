"""Figures and nesting beyond what a format can hold: strict JSON comes out, or one message and no file."""

from __future__ import annotations

import json
import shutil
import zipfile

import pytest

from agenttrace.errors import DataError
from agenttrace.formats import FORMATS
from agenttrace.formats.columns import total
from agenttrace.formats.convert import convert
from agenttrace.formats.convert import read as convert_read
from agenttrace.report import write_report
from tests.formats.hostile import OURS

DEEP = "[" * 700 + "]" * 700
EXTREMES = {
    "spans.0.start_ns": ["-1", str(2**64), "1" + "0" * 400],
    "spans.0.end_ns": ["0", str(2**64), "1" + "0" * 400],
    "spans.0.duration_ms": ["1.7e308", "-1e308", "1e999"],
    "spans.0.exit_code": [str(2**70)],
    "spans.0.telemetry.user_time_s": ["1e308", "1e999"],
    "llm_steps.0.start_ns": ["-1", str(2**64), "1" + "0" * 400],
    "llm_steps.0.input_tokens": [str(2**70), "1" + "0" * 400],
    "total_duration_ms": ["1.7e308", "-5.0", "1e999"],
    "metadata.temperature": ["1" + "0" * 400, "1e999", DEEP],
    "metadata.run_id": [DEEP, "1e999"],
    "environment.platform": [DEEP],
}


def changed(path, text, *, half_a_character):
    """Return a record with another value at a path, as its JSON text; half a pair of surrogates is read another way."""
    row = json.loads(OURS.read_bytes().splitlines()[0])
    *way, last = [int(key) if key.isdigit() else key for key in path.split(".")]
    at = row
    for key in way:
        at = at[key]
    at[last] = "@@"
    row["prompt"] = "\ud800" if half_a_character else "p"
    return json.dumps(row).replace('"@@"', text)


def refuse(name):
    raise ValueError(f"{name} is no JSON")


def check(path):
    if path.suffix == ".eval":
        with zipfile.ZipFile(path) as archive:
            texts = [archive.read(name).decode() for name in archive.namelist()]
    elif path.suffix in {".parquet", ".binpb", ".pftrace"}:  # readers of these refuse what is not whole
        return
    else:
        texts = path.read_text(encoding="utf-8").splitlines()
    for text in texts:
        json.loads(text, parse_constant=refuse)


@pytest.mark.parametrize("times", [(0, 1.7e308), (-1e308, 5), (2**70, 2**71), (1e999, 1.0), (-62135596801.5, 0)])
def test_a_trajectory_whose_clock_is_none_has_no_times(tmp_path, times):
    messages = [
        {"role": "user", "content": "p", "timestamp": times[0]},
        {"role": "assistant", "content": "```bash\nls\n```", "timestamp": times[1]},
        {"role": "user", "content": "x"},
    ]
    value = {"trajectory_format": "mini-swe-agent-1", "messages": messages}
    (tmp_path / "a.json").write_text(json.dumps(value).replace("Infinity", "1e308"))
    convert([tmp_path / "a.json"], "agenttrace-1.0", tmp_path / "o.jsonl")
    (found,) = convert_read(tmp_path / "o.jsonl")
    took = found.trace.total_duration_ms
    assert took is None or 0 <= took < 1e12


def test_a_clock_beyond_all_numbers_is_one_message_of_the_report(tmp_path):
    (tmp_path / "a.json").write_text(changed("spans.0.start_ns", "1" + "0" * 400, half_a_character=False))
    with pytest.raises(DataError, match=r"a\.json, line 1: int too large"):
        write_report([tmp_path / "a.json"], tmp_path / "r.html")


@pytest.mark.parametrize("half_a_character", [False, True])
@pytest.mark.parametrize(("path", "text"), [(path, text) for path, texts in EXTREMES.items() for text in texts])
def test_what_comes_out_is_json_or_nothing(tmp_path, path, text, half_a_character):
    pb = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
    from google.protobuf import json_format

    source = tmp_path / "in.jsonl"
    source.write_text(changed(path, text, half_a_character=half_a_character) + "\n")
    said = []
    for name, found in FORMATS.items():
        output = tmp_path / f"out{found.suffix if found.layout != 'files' else ''}"
        try:
            convert([source], name, output)
        except DataError as error:
            said.append(str(error))
            assert not output.is_file()
            continue
        files = [output] if output.is_file() else [path for path in output.rglob("*") if path.is_file()]
        for file in files:
            check(file)
            if name == "otlp":
                json_format.Parse(file.read_text(encoding="utf-8"), pb.ExportTraceServiceRequest())
        output.unlink() if output.is_file() else shutil.rmtree(output)
    assert all("in.jsonl" in one or "a record cannot be written" in one or "its column" in one for one in said)
    seen = []
    write_report([OURS, source], tmp_path / "r.html", on_problem=seen.append)
    assert len(seen) <= 1


@pytest.mark.parametrize(
    ("figures", "known"),
    [([0.1] * 10, 1.0), ([1, 2], 3), ([], 0), ([0.1, None], None), ([1e308, 1e308], None), ([10**400, 0.5], None)],
)
def test_a_sum_is_rounded_once_whatever_python_sums(figures, known):
    found = total(figures, lambda one: one)
    assert (found, type(found)) == (known, type(known))
