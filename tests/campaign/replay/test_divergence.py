"""Runs of one campaign: equal, or the first place at which they part."""

from __future__ import annotations

import json

import msgspec
import pytest

from agenttrace import inside
from agenttrace.campaign.replay.divergence import TaskVerdict, compare_runs
from agenttrace.errors import DataError
from agenttrace.host.determinism import partings
from agenttrace.testing import ScriptedServer


@pytest.fixture
def other(recorded, tmp_path):
    def make(old, new, count=1):
        path = tmp_path / "other.jsonl"
        text = recorded.read_bytes()
        assert old in text
        path.write_bytes(text.replace(old, new, count))
        return path

    return make


def only(verdicts):
    (one,) = [one for one in verdicts if one.verdict != "equal"]
    return one


def test_equal_runs_are_equal(recorded):
    verdicts = compare_runs([recorded, recorded, recorded])
    assert [(one.verdict, one.equal_runs, one.runs) for one in verdicts] == [("equal", 3, 3)] * 3


def test_measured_fields_and_metadata_do_not_count(recorded, other):
    changed = other(b'"seed":', b'"seed":1', count=-1)
    assert all(one.verdict == "equal" for one in compare_runs([recorded, changed]))


@pytest.mark.parametrize("other_id", [b'"other":', b'"task_id":[1],"other":'])
def test_a_record_of_no_task_is_called_so(recorded, other, other_id):
    with pytest.raises(DataError, match="its metadata names no task"):
        compare_runs([other(b'"task_id":', other_id, count=-1)])


def test_another_reply_is_named_by_step_token_and_character(recorded, other):
    changed = other(b'"reasoning_content":"hm"', b'"reasoning_content":"ho"')
    one = only(compare_runs([recorded, changed], tokenize=lambda text: [ord(char) for char in text]))
    assert (one.verdict, one.equal_runs) == ("other reply", 1)
    assert (one.divergence.where, one.divergence.token, one.divergence.character) == ("step 1", 1, 1)
    assert one.divergence.first.startswith("hm")
    assert one.divergence.other.startswith("ho")


def test_another_tool_output_before_another_reply_is_the_cause(recorded, other):
    changed = other(b'"tool_output":"exit_code: 0', b'"tool_output":"exit_code: 9')
    one = only(compare_runs([recorded, changed]))
    assert one.verdict == "other tool result"
    assert (one.divergence.where, one.divergence.field) == ("span 1 (bash)", "tool_output")


def test_other_counts_are_told_apart_from_other_texts(recorded, other):
    one = only(compare_runs([recorded, other(b'"cached_n":0', b'"cached_n":7')]))
    assert one.verdict == "other field"
    assert one.divergence.field == "timings.cached_n"


def with_tokens(recorded, path, reply, **tokens):
    """Write the records with a first reply of these tokens."""
    rows = [json.loads(line) for line in recorded.read_text().splitlines()]
    rows[0]["llm_steps"][0] |= {"model_output": reply, "tokens": tokens}
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_gap_at_the_first_other_token_is_told_where_both_runs_have_it(recorded, tmp_path):
    one = with_tokens(recorded, tmp_path / "1.jsonl", "abc", output_ids=[1, 2, 3], margins=[5.0, 0.001, 2.0])
    two = with_tokens(recorded, tmp_path / "2.jsonl", "abd", output_ids=[1, 4, 3], margins=[5.0, 0.25, None])
    bare = with_tokens(recorded, tmp_path / "3.jsonl", "abd", output_ids=[1, 4, 3])
    found = only(compare_runs([one, two]))
    assert (found.divergence.token, found.divergence.margins) == (1, (0.001, 0.25))
    text = "\n".join(partings([found]))
    assert "log-probability over the next candidate: 0.001000 in run 1, 0.250000 in run 2" in text
    assert only(compare_runs([one, bare])).divergence.margins == (0.001, None)
    assert only(compare_runs([bare, with_tokens(recorded, tmp_path / "4.jsonl", "x")])).divergence.margins is None


def test_what_an_endpoint_of_others_had_in_its_cache_is_no_difference(recorded, tmp_path):
    text = recorded.read_text()
    assert '"serving_engine":"llama.cpp"' in text
    files = [tmp_path / "1.jsonl", tmp_path / "2.jsonl"]
    for file, cached in zip(files, (0, 7), strict=True):
        external = text.replace('"serving_engine":"llama.cpp"', '"serving_engine":"external"')
        file.write_text(external.replace('"cached_n":0', f'"cached_n":{cached}'))
    assert all(one.verdict == "equal" for one in compare_runs(files))


def test_a_task_that_one_run_lacks_is_named_whichever_that_is(recorded, tmp_path):
    part = tmp_path / "part.jsonl"
    part.write_bytes(b"".join(recorded.read_bytes().splitlines(keepends=True)[:2]))
    for files in ([recorded, part], [part, recorded]):
        assert only(compare_runs(files)).verdict == "missing"


@pytest.mark.parametrize("counts", ["llama-server", None])
def test_tokens_are_told_where_the_server_has_a_tokenizer(recorded, other, capfd, counts):
    changed = other(b'"reasoning_content":"hm"', b'"reasoning_content":"ho"')
    with ScriptedServer([], counts=counts) as server, pytest.raises(SystemExit) as ended:
        inside.main(["compare-runs", str(recorded), str(changed), "--base-url", server.base_url])
    assert ended.value.code == 0
    one = only(msgspec.json.decode(capfd.readouterr().out, type=list[TaskVerdict]))
    assert (one.divergence.token is None) == (counts is None)
