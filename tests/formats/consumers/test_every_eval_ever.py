"""Results in the validator of Every Eval Ever, with all that it asks of a contribution to the shared store."""

from __future__ import annotations

import json

import msgspec
import pytest

pytest.importorskip("every_eval_ever", reason="scripts/nox -s formats-check installs every-eval-ever")

from every_eval_ever.validator.validation_core import validate_file

from agenttrace.formats.convert import convert
from tests.formats.hostile import OURS, hostile, spec, traces


def repository(folder):
    """The files of a folder by their path in it, as the validator asks for them."""
    return {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}


def test_every_file_is_valid_and_the_sums_are_those_of_the_records(records, tmp_path):
    assert sum(convert([records], "every-eval-ever", tmp_path / "o").values()) == 4
    files = repository(tmp_path / "o")
    assert len(files) == 2
    for name, path in files.items():
        report = validate_file(
            path,
            repo_path=name,
            available_files=set(files),
            read_repo_file=lambda one: files[one].read_text(encoding="utf-8"),
            run_semantic_checks=True,
        )
        assert report.valid, report.errors
        assert not report.warnings, report.warnings
    (summary,) = (json.loads(path.read_bytes()) for name, path in files.items() if name.endswith(".json"))
    assert summary["evaluation_results"][0]["score_details"]["score"] == 0.75
    assert summary["evaluation_results"][0]["generation_config"]["generation_args"]["top_k"] == spec().sampler.top_k
    (samples,) = (path for name, path in files.items() if name.endswith(".jsonl"))
    rows = [json.loads(line) for line in samples.read_bytes().splitlines()]
    assert sum(row["token_usage"]["total_tokens"] for row in rows) == sum(
        step.input_tokens + step.output_tokens for trace in traces() for step in trace.llm_steps
    )
    assert [row["sample_id"] for row in rows] == [str(trace.metadata["task_id"]) for trace in traces()]
    assert sum(row["evaluation"]["tool_calls_count"] for row in rows) == sum(
        len(step.tool_calls or ()) for trace in traces() for step in trace.llm_steps
    )
    assert sum(one["role"] == "tool" for row in rows for one in row["messages"]) == sum(
        len(trace.spans) for trace in traces()
    )


def test_its_validator_can_fail(tmp_path):
    convert([OURS], "every-eval-ever", tmp_path / "o")
    files = repository(tmp_path / "o")
    (samples,) = (path for name, path in files.items() if name.endswith(".jsonl"))
    samples.write_text(samples.read_text().replace('"score": 1.0', '"score": "good"', 1))
    assert not validate_file(samples).valid


def test_what_nobody_graded_is_no_result(tmp_path):
    from agenttrace.errors import DataError

    (tmp_path / "a.jsonl").write_bytes(msgspec.json.encode(hostile()) + b"\n")
    with pytest.raises(DataError, match="none is graded"):
        convert([tmp_path / "a.jsonl"], "every-eval-ever", tmp_path / "o")


def test_what_is_never_a_result_says_so(tmp_path):
    convert([OURS], "every-eval-ever", tmp_path / "o")
    (summary,) = (json.loads(path.read_bytes()) for path in tmp_path.rglob("*.json"))
    assert "never a result" in summary["evaluation_results"][0]["score_details"]["details"]["note"]
