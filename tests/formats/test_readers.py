"""Every readable format, through every verb that reads: it opens, or is refused with one line that says why."""

from __future__ import annotations

import copy
import gzip
import hashlib
import json
import random
import shutil
import sys
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from agenttrace.analysis.rows import entry
from agenttrace.analysis.runs import tally
from agenttrace.cli import main
from agenttrace.errors import DataError, UsageError
from agenttrace.formats import FORMATS, READERS, atif, mini_swe, reading
from agenttrace.formats.convert import convert
from agenttrace.formats.reading import kind, record_lines, to_trace, traces
from agenttrace.report.view import trace_view
from agenttrace.show import transcript
from agenttrace.validate import Validation

DATA = Path(__file__).parents[1] / "data"
SAMPLES = DATA / "foreign"
RECORDS = DATA / "records"
SAMPLE = {
    "agenttrace-1.0": RECORDS / "demo.jsonl",
    "rollouts-1.0": RECORDS / "1.0.0" / "rollouts.jsonl",
    "agenttrace-0.3": RECORDS / "agenttrace-0.3-composed.jsonl",
    "swe-zero": SAMPLES / "swe-zero-1k-32k.jsonl",
    "mini-swe-agent": SAMPLES / "mini-swe-agent-2.traj.json",
    "atif": SAMPLES / "atif-1.8.json",
    "swe-agent": SAMPLES / "octo__repo-1.traj",
    "otlp": SAMPLES / "otlp.jsonl",
    "claude-code": SAMPLES / "claude-code.jsonl",
    "codex": SAMPLES / "codex.jsonl",
    "pi": SAMPLES / "pi.jsonl",
    "gemini-cli": SAMPLES / "gemini-cli.json",
    "session-traces-parquet": SAMPLES / "teich-rows.jsonl",
    "inspect": SAMPLES / "inspect-log.json",
    "chat": SAMPLES / "chat-rows.jsonl",
    "openhands": SAMPLES / "openhands.json",
    "openhands-rows": SAMPLES / "openhands-output.jsonl",
    "sharegpt": SAMPLES / "sharegpt.jsonl",
}
"""Format → a small file of it."""
VERBS = {
    "show": ["show", "IN"],
    "analyze": ["analyze", "IN"],
    "tables": ["tables", "IN", "--outdir", "OUT"],
    "stats": ["stats", "IN"],
    "compare": ["compare", "IN", "IN"],
    "validate": ["validate", "IN"],
    "report": ["report", "IN", "-o", "OUT.html"],
    "convert": ["convert", "IN", "--to", "agenttrace-1.0", "-o", "OUT.jsonl"],
}
"""Every verb that reads files of traces → how it is asked."""


def ask(verb, source, tmp_path):
    """The exit status of a verb over a file."""
    words = [word.replace("OUT", str(tmp_path / "out")).replace("IN", str(source)) for word in VERBS[verb]]
    with pytest.raises(SystemExit) as stopped:
        main(words)
    return stopped.value.code or 0


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


class TestSweZero:
    def test_its_figures_are_those_of_the_row(self):
        done, late, broken = (one for _, one in traces(SAMPLES / "swe-zero-1k-32k.jsonl"))
        assert [one.metadata["task_id"] for one in (done, late, broken)] == [
            "octo__repo-1", "octo__repo-1", "octo__repo-2"
        ]  # fmt: skip
        assert [one.total_duration_ms for one in (done, late, broken)] == [12_500, 33_250, 500]
        assert (done.totals.input_tokens, done.totals.output_tokens) == (2400, 96)
        assert [one.outcome.ended for one in (done, late, broken)] == ["final_answer", "unknown", "model_error"]
        assert broken.outcome.detail == "errored: API error at turn 0: HTTP 400"

    def test_the_first_block_is_the_call_and_nothing_unknown_is_a_number(self):
        _, done = next(traces(SAMPLES / "swe-zero-1k-32k.jsonl"))
        first, second = done.spans
        assert (first.tool_input, first.tool_output) == ('{"command":"ls"}', "Observation: loop.sh\n")
        assert (first.exit_code, first.duration_ms, done.timestamp_utc) == (None, None, None)
        assert (first.stdout.bytes_total, second.stdout.bytes_total) == (8, 0)
        assert [step.blocks for step in done.llm_steps] == [2, 0, 1, 1]
        assert done.llm_steps[1].answered.startswith("Please always")

    @pytest.mark.parametrize(
        ("command", "shown", "code"),
        [
            ("python x.py", "/bin/bash: line 1: python: command not found\n", 127),
            ("cd a && python x.py", "/bin/bash: line 1: python: command not found\n", 127),
            ("python x.py | head", "/bin/bash: line 1: python: command not found\n", None),
            ("python x.py; ls", "/bin/bash: line 1: python: command not found\n", None),
            ("python x.py || true", "/bin/bash: line 1: python: command not found\n", None),
            ("grep -r y", "a: /bin/bash: line 1: python: command not found\n", None),
            ("pytest", "command blocked: running code: this is the SWE-ZERO execution-free environment", 126),
            ("ls", "loop.sh\n", None),
        ],
    )
    def test_what_was_blocked_or_not_found_is_known_where_that_is_all(self, command, shown, code, tmp_path):
        row = json.loads((SAMPLES / "swe-zero-1k-32k.jsonl").read_text(encoding="utf-8").splitlines()[0])
        row["messages"] = [
            *row["messages"][:2],
            {"role": "assistant", "content": f"```bash\n{command}\n```"},
            {"role": "user", "content": f"Observation: {shown}"},
        ]
        (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
        ((_, trace),) = traces(tmp_path / "a.jsonl")
        assert trace.spans[0].exit_code == code
        assert tally([trace]).statistics().observations == {"useful" if code is None else "not_found": 1}

    def test_a_stopped_command_is_a_timeout(self):
        _, late = list(traces(SAMPLES / "swe-zero-1k-32k.jsonl"))[1]
        assert late.spans[0].status == "timeout"

    @pytest.mark.parametrize("form", ["swe-zero-1k-32k", "swe-zero-12m"])
    def test_written_again_it_is_as_it_was(self, form, tmp_path):
        rows = [json.loads(line) for line in (SAMPLES / f"{form}.jsonl").read_text(encoding="utf-8").splitlines()]
        rows = [row for row in rows if row["exit_status"] != "errored"]
        (tmp_path / "in.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
        convert([tmp_path / "in.jsonl"], form, tmp_path / "out.parquet")
        assert pq.read_table(tmp_path / "out.parquet").to_pylist() == rows
        assert [one for _, one in traces(tmp_path / "out.parquet")] == [one for _, one in traces(tmp_path / "in.jsonl")]

    def test_a_published_run_stands_beside_a_fresh_one_in_one_table(self, tmp_path, capsys):
        lines = (SAMPLES / "swe-zero-1k-32k.jsonl").read_text(encoding="utf-8").splitlines()
        _, fresh = next(traces(RECORDS / "1.0.0" / "rollouts.jsonl"))
        rows = [json.loads(line) | {"instance_id": fresh.metadata["task_id"]} for line in lines]
        pq.write_table(pa.Table.from_pylist(rows), tmp_path / "published.parquet")
        with pytest.raises(SystemExit):
            main(["compare", str(tmp_path / "published.parquet"), str(RECORDS / "1.0.0" / "rollouts.jsonl")])
        printed = capsys.readouterr().out
        assert "1 tasks are in both" in printed
        table = {line[:60].split("  ")[0]: line for line in printed.splitlines()}
        for name in (
            "errored: infrastructure failures, left out of all else", "Submitted", "turns (mean)", "seconds (mean)",
            "tokens, generated (mean)", "turns that gave: not found",
            "unique, upstream's greedy metric (in file order)",
        ):  # fmt: skip
            assert "not known" not in table[name], name
        for name in ("hours from first to last", "passed, of those judged", "tokens, conversation (mean)"):
            assert table[name].split("  ", 1)[1].split()[:2] == ["not", "known"], name

    def test_errored_rollouts_are_counted(self, tmp_path, capsys):
        ask("stats", SAMPLES / "swe-zero-1k-32k.jsonl", tmp_path)
        assert "left out: 1 (33.3 %) that ended in an infrastructure failure" in capsys.readouterr().out
        ask("compare", SAMPLES / "swe-zero-1k-32k.jsonl", tmp_path)
        assert "errored: infrastructure failures" in capsys.readouterr().out


class TestChatRows:
    def test_results_join_their_calls_by_id_and_a_repeated_id_by_order(self):
        _, trace = next(traces(SAMPLES / "chat-rows.jsonl"))
        assert [(span.tool_input, span.tool_output) for span in trace.spans] == [
            ('{"command": "ls"}', "loop.sh"), ('{"command": "cat loop.sh"}', "echo 1"), ('{"message": "done"}', "")
        ]  # fmt: skip
        assert [span.parent_span_id for span in trace.spans] == [
            trace.llm_steps[0].step_id, trace.llm_steps[0].step_id, trace.llm_steps[1].step_id
        ]  # fmt: skip
        assert (trace.model, trace.outcome.solved, trace.outcome.detail) == ("qwen", True, "submit")
        assert trace.llm_steps[0].reasoning_content == "two at once"
        assert trace.outcome.patch.startswith("diff --git")

    def test_what_a_user_says_later_stands_after_the_reply(self):
        _, trace = list(traces(SAMPLES / "chat-rows.jsonl"))[1]
        assert trace.prompt == "Which file?\n[image_url]"
        assert trace.llm_steps[0].answered == "The loop."

    @pytest.mark.parametrize(
        ("row", "said"),
        [
            ({"messages": 1, "trajectory": []}, "its messages are no list"),
            ({"messages": [{"content": "x"}]}, "message 1 has no role"),
            ({"messages": "not json"}, "not a row of chat messages"),
            ({"messages": ["x"]}, "message 1 has no role"),
        ],
    )
    def test_what_is_none_is_one_message(self, row, said, tmp_path):
        (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
        with pytest.raises((DataError, UsageError), match=said):
            list(traces(tmp_path / "a.jsonl"))

    def test_ten_thousand_calls_in_a_turn_take_time_by_their_number(self, tmp_path):
        calls = [{"id": "same", "function": {"name": "bash", "arguments": "{}"}} for _ in range(10_000)]
        results = [{"role": "tool", "tool_call_id": "same", "content": str(number)} for number in range(10_000)]
        messages = [{"role": "assistant", "content": "", "tool_calls": calls}, *results]
        (tmp_path / "a.jsonl").write_text(json.dumps({"messages": messages}) + "\n")
        ((_, trace),) = traces(tmp_path / "a.jsonl")
        assert [span.tool_output for span in trace.spans] == [str(number) for number in range(10_000)]
        assert len({span.call_id for span in trace.spans}) == 10_000


def test_a_table_of_our_records_is_read_as_they_were(tmp_path):
    convert([SAMPLE["agenttrace-1.0"]], "records-parquet", tmp_path / "a.parquet")
    assert kind(tmp_path / "a.parquet") == ("records-parquet", "row")
    assert [one for _, one in traces(tmp_path / "a.parquet")] == [one for _, one in traces(SAMPLE["agenttrace-1.0"])]


def test_a_table_of_rollouts_is_read_but_for_what_is_null_and_not_absent(tmp_path):
    convert([SAMPLE["rollouts-1.0"]], "records-parquet", tmp_path / "a.parquet")
    for (_, read), (_, ours) in zip(traces(tmp_path / "a.parquet"), traces(SAMPLE["rollouts-1.0"]), strict=True):
        assert (read.trace_id, read.spans, read.outcome.patch) == (ours.trace_id, ours.spans, ours.outcome.patch)
        assert [step.blocks for step in read.llm_steps] == [step.blocks for step in ours.llm_steps]


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


def test_a_parquet_file_without_pyarrow_says_what_to_do(tmp_path, monkeypatch):
    pq.write_table(pa.table({"messages": ["[]"]}), tmp_path / "a.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UsageError, match=r"needs pyarrow, which is not here; convert it first: .*convert"):
        list(traces(tmp_path / "a.parquet"))


def test_half_a_surrogate_pair_becomes_the_replacement_character(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"messages": [{"role": "user", "content": "\\ud800"}]}\n')
    ((_, trace),) = traces(tmp_path / "a.jsonl")
    assert trace.prompt == "\N{REPLACEMENT CHARACTER}"


def test_every_reader_has_its_module_and_what_it_needs():
    for name, reader in READERS.items():
        assert callable(getattr(reader.load(), "read" if reader.whole else "to_trace")), name


class TestMiniSweAgent:
    PATH = SAMPLES / "mini-swe-agent-2.traj.json"

    def test_calls_beside_the_text_have_their_results_and_return_codes(self):
        ((_, trace),) = traces(self.PATH)
        assert [(json.loads(span.tool_input)["command"], span.status, span.exit_code) for span in trace.spans] == [
            ("ls", "ok", 0), ("cat none", "ok", 1), ("sleep 60", "timeout", None)
        ]  # fmt: skip
        assert [span.stdout.bytes_total for span in trace.spans] == [8, 37, 0]

    def test_a_reply_that_was_refused_is_a_step_with_what_answered_it(self):
        ((_, trace),) = traces(self.PATH)
        assert [step.model_output for step in trace.llm_steps] == [
            "I look at two files.", "Let me think.", None, "Done."
        ]  # fmt: skip
        assert trace.llm_steps[1].answered == "No tool calls found in the response."

    def test_times_tokens_cost_and_ends_are_those_of_the_file(self):
        ((_, trace),) = traces(self.PATH)
        first = trace.llm_steps[0]
        assert (first.reasoning_content, first.finish_reason) == ("both at once", "tool_calls")
        assert [step.timings.cached_n for step in trace.llm_steps] == [0, 100, 160, 180]
        assert [step.duration_ms for step in trace.llm_steps] == [None, 2000, 2000, 2000]
        assert [span.duration_ms for span in trace.spans] == [None, None, 30_000]
        assert (trace.total_duration_ms, trace.totals.cost_usd) == (37_000, 0.03)
        assert trace.timestamp_utc == "2026-11-28T21:06:42.000000+00:00"

    def test_written_again_it_is_as_it_was(self):
        ((_, trace),) = traces(self.PATH)
        assert mini_swe.from_trace(trace) == json.loads(self.PATH.read_text(encoding="utf-8"))

    def test_replies_of_the_other_api_are_read(self):
        items = [
            {"type": "reasoning", "summary": [{"type": "summary_text", "text": "hm"}]},
            {"type": "message", "content": [{"type": "output_text", "text": "I look."}]},
            {"type": "function_call", "call_id": "c", "name": "bash", "arguments": '{"command": "ls"}'},
        ]
        messages = [
            {"role": "system", "content": "S"},
            {"role": "user", "content": "U"},
            {"object": "response", "output": items, "extra": {"response": {"usage": {"input_tokens": 3}}}},
            {"type": "function_call_output", "call_id": "c", "output": "a", "extra": {"returncode": 0}},
        ]
        trace = to_trace({"messages": messages, "trajectory_format": "mini-swe-agent-1.1"})
        (step,) = trace.llm_steps
        assert (step.model_output, step.reasoning_content, step.input_tokens) == ("I look.", "hm", 3)
        assert [(span.tool_output, span.exit_code, span.call_id) for span in trace.spans] == [("a", 0, "call_1_1")]


class TestAtif:
    PATH = SAMPLES / "atif-1.8.json"

    def test_results_that_name_no_call_stand_in_their_step(self, tmp_path, capsys):
        ((_, trace),) = traces(self.PATH)
        assert [(span.tool_name, span.call_id) for span in trace.spans] == [
            ("observation", None), ("bash_command", None), ("mark_task_complete", "c4")
        ]  # fmt: skip
        ask("show", self.PATH, tmp_path)
        printed = capsys.readouterr().out
        assert printed.index("loop.sh\n") < printed.index("step 2")
        assert printed.count("proposed nowhere") == 1  # of the step in which no model was asked

    def test_a_step_without_a_model_call_is_no_generation(self):
        ((_, trace),) = traces(self.PATH)
        assert [step.model_output for step in trace.llm_steps] == ["I look.", "I am done."]
        assert trace.spans[1].parent_span_id is None

    def test_cost_and_cached_tokens_are_those_of_the_file(self):
        ((_, trace),) = traces(self.PATH)
        assert [step.timings.cached_n for step in trace.llm_steps] == [60, 100]
        assert (trace.totals.cost_usd, trace.totals.cached_tokens) == (0.02, 160)
        assert (trace.spans[0].exit_code, trace.spans[0].duration_ms) == (None, None)

    def test_written_again_it_is_as_it_was(self):
        ((_, trace),) = traces(self.PATH)
        assert atif.from_trace(trace) == json.loads(self.PATH.read_text(encoding="utf-8"))


class TestSweAgent:
    def test_a_traj_file_has_actions_observations_times_and_cost(self):
        ((_, trace),) = traces(SAMPLES / "octo__repo-1.traj")
        assert [(json.loads(span.tool_input)["command"], span.status, span.duration_ms) for span in trace.spans] == [
            ("ls -F", "ok", 250), ("sleep 60", "timeout", 30_500), ("submit", "ok", 500)
        ]  # fmt: skip
        assert (trace.prompt, trace.metadata["task_id"], trace.model) == ("Fix the loop.", "octo__repo-1", "qwen")
        assert trace.llm_steps[1].answered == "Your output was not formatted correctly."
        assert (trace.totals.cost_usd, trace.totals.input_tokens) == (0.12, 900)
        assert (trace.outcome.ended, trace.outcome.patch[:10]) == ("final_answer", "diff --git")
        assert trace.environment["imported"]["system_prompt"] == "SETTING: a shell."

    def test_a_row_has_its_commands_in_the_last_block_of_a_reply(self):
        ((_, trace),) = traces(SAMPLES / "swe-agent-rows.jsonl")
        assert [(span.tool_input, span.tool_output[:7]) for span in trace.spans] == [('{"command":"ls -F"}', "loop.sh")]
        assert [len(step.tool_calls) for step in trace.llm_steps] == [1, 1]
        assert (trace.outcome.solved, trace.model) == (True, "swe-agent-llama-70b")

    @pytest.mark.parametrize("turns", [[{"action": 1}], [{"text": "x"}], [{"text": 1, "role": "ai"}]])
    def test_odd_turns_are_a_message(self, turns):
        with pytest.raises(DataError, match="not a trajectory of SWE-agent"):
            to_trace({"trajectory": turns})


class TestClaudeCode:
    def test_blocks_of_one_message_are_one_reply_although_results_stand_between(self):
        (_, trace), _ = traces(SAMPLES / "claude-code.jsonl")
        first, second = trace.llm_steps
        assert (first.reasoning_content, first.model_output) == ("Two things at once.", "I look.")
        assert (first.input_tokens, first.output_tokens, first.timings.cached_n) == (100, 25, 70)
        assert (first.finish_reason, first.duration_ms) == ("tool_use", 5000)
        assert [(span.tool_name, span.exit_code) for span in trace.spans] == [("Bash", None), ("Bash", 1)]
        assert {span.parent_span_id for span in trace.spans} == {first.step_id}
        assert second.model_output == "It is fixed."
        assert (trace.prompt, trace.model) == ("Fix the loop.", "claude-sonnet-4-5")

    def test_a_side_chain_is_a_record_of_its_own(self):
        _, (number, trace) = traces(SAMPLES / "claude-code.jsonl")
        assert (number, trace.prompt, trace.metadata["agent_id"]) == (9, "Look for other loops.", "agent-1")
        assert [step.model_output for step in trace.llm_steps] == ["There is none."]

    def test_a_session_that_is_still_written_is_partial(self, tmp_path):
        text = (SAMPLES / "claude-code.jsonl").read_bytes()
        (tmp_path / "a.jsonl").write_bytes(text + b'{"type": "user", "mess')
        seen = []
        assert len(list(traces(tmp_path / "a.jsonl", seen.append))) == 2
        assert [problem.line for problem in seen] == [13]

    def test_a_file_without_a_message_is_named(self, tmp_path):
        (tmp_path / "a.jsonl").write_text('{"type": "summary", "summary": "x", "leafUuid": "y"}\n')
        with pytest.raises(DataError, match=r"a session (of .*)?without a message"):
            list(traces(tmp_path / "a.jsonl"))


class TestCodex:
    def test_exit_codes_and_times_of_commands_are_those_of_the_text(self):
        ((_, trace),) = traces(SAMPLES / "codex.jsonl")
        assert [(span.tool_name, span.exit_code, span.duration_ms) for span in trace.spans] == [
            ("shell", 0, 100), ("exec_command", 1, 250), ("apply_patch", None, None)
        ]  # fmt: skip
        assert trace.spans[0].tool_output == "loop.sh\n"

    def test_what_came_at_once_is_one_reply_and_has_its_tokens(self):
        ((_, trace),) = traces(SAMPLES / "codex.jsonl")
        assert [len(step.tool_calls or ()) for step in trace.llm_steps] == [2, 1, 0]
        assert [step.input_tokens for step in trace.llm_steps] == [100, 150, None]
        assert (trace.llm_steps[0].timings.cached_n, trace.llm_steps[0].duration_ms) == (60, 2000)
        assert trace.prompt.endswith("Fix the loop.")
        assert (trace.model, trace.environment["imported"]["system_prompt"]) == ("gpt-5-codex", "You are Codex.")


class TestOpenHands:
    def test_calls_of_one_response_are_one_reply_with_its_tokens(self):
        ((_, trace),) = traces(SAMPLES / "openhands.json")
        first, second = trace.llm_steps
        assert [json.loads(call.arguments)["command"] for call in first.tool_calls] == ["ls", "cat none"]
        assert (first.model_output, first.input_tokens, first.timings.cached_n) == ("I look.", 100, 60)
        assert (first.duration_ms, second.input_tokens) == (3000, 150)
        assert [(span.tool_output[:7], span.exit_code) for span in trace.spans] == [("loop.sh", 0), ("cat: no", 1)]
        assert (trace.prompt, trace.model) == ("Fix the loop.", "claude-sonnet-4-5")
        assert (trace.totals.cost_usd, trace.totals.input_tokens) == (0.002, 250)
        assert (trace.outcome.ended, trace.outcome.final_answer) == ("final_answer", "It is fixed.")
        assert trace.environment["imported"]["system_prompt"] == "You are OpenHands."

    def test_rows_of_evaluations_have_task_patch_and_cost_in_both_generations(self):
        (_, old), (_, new) = traces(SAMPLES / "openhands-output.jsonl")
        assert [(span.tool_name, span.exit_code, span.parent_span_id) for span in old.spans] == [
            ("run", None, old.llm_steps[0].step_id)
        ]  # fmt: skip
        assert (old.metadata["task_id"], old.model, old.totals.cost_usd) == ("octo__repo-1", "openai/gpt-5", 0.5)
        assert (old.outcome.patch[:10], old.outcome.ended) == ("diff --git", "unknown")
        assert old.llm_steps[1].answered == "Please continue."
        assert [(span.status, span.exit_code) for span in new.spans] == [("ok", 0), ("timeout", None), ("ok", None)]
        assert [len(step.tool_calls) for step in new.llm_steps] == [2, 1]
        assert (new.llm_steps[0].reasoning_content, new.outcome.final_answer) == ("two at once", "It is fixed.")

    def test_ten_thousand_calls_of_one_response_take_time_by_their_number(self, tmp_path):
        row = json.loads((SAMPLES / "openhands-output.jsonl").read_text(encoding="utf-8").splitlines()[1])
        called, seen = row["history"][2], row["history"][4]
        row["history"] = [called | {"tool_call_id": f"c{n}"} for n in range(10_000)]
        row["history"] += [seen | {"tool_call_id": f"c{n}"} for n in range(10_000)]
        (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
        ((_, trace),) = traces(tmp_path / "a.jsonl")
        assert (len(trace.llm_steps), len(trace.spans)) == (1, 10_000)


class TestShareGpt:
    def test_thoughts_calls_and_results_stand_between_tags(self):
        (_, first), (_, second) = traces(SAMPLES / "sharegpt.jsonl")
        assert (first.llm_steps[0].reasoning_content, first.llm_steps[0].model_output) == ("two at once", "I look.")
        assert [(span.tool_input, span.tool_output) for span in first.spans] == [
            ('{"command":"ls"}', "loop.sh"), ('{"command":"cat loop.sh"}', "echo 1")
        ]  # fmt: skip
        assert [(span.tool_name, span.tool_output) for span in second.spans] == [("ls", "loop.sh")]
        assert second.environment["imported"]["system_prompt"] == "You help."

    def test_what_we_write_is_read_back(self, tmp_path):
        convert([RECORDS / "demo.jsonl"], "sharegpt", tmp_path / "a.jsonl")
        for (_, read), (_, ours) in zip(traces(tmp_path / "a.jsonl"), traces(RECORDS / "demo.jsonl"), strict=True):
            assert (read.prompt, read.model, read.outcome.solved) == (ours.prompt, ours.model, ours.outcome.solved)
            assert [call.name for step in read.llm_steps for call in step.tool_calls or ()] == [
                call.name for step in ours.llm_steps for call in step.tool_calls or ()
            ]


class TestPi:
    def test_the_branch_that_ends_with_the_last_entry_is_the_session(self):
        ((_, trace),) = traces(SAMPLES / "pi.jsonl")
        assert [step.model_output for step in trace.llm_steps] == ["I look.", "It is fixed."]
        assert [span.tool_output for span in trace.spans] == ["loop.sh\n", "cat: none\n\nCommand exited with code 1"]
        assert (trace.llm_steps[0].input_tokens, trace.totals.cost_usd) == (100, 0.02)

    def test_what_is_written_for_the_hub_is_read(self, tmp_path):
        convert([RECORDS / "demo.jsonl"], "session-traces", tmp_path / "out")
        ours = {one.trace_id: one for _, one in traces(RECORDS / "demo.jsonl")}
        for path in (tmp_path / "out").iterdir():
            ((_, read),) = traces(path)
            one = ours[path.stem]
            assert [span.tool_output for span in read.spans] == [span.tool_output for span in one.spans]
            assert [step.model_output or "" for step in read.llm_steps] == [
                step.model_output or "" for step in one.llm_steps
            ]

    def test_entries_that_point_at_each_other_end(self, tmp_path):
        lines = [
            {"type": "session", "id": "s"},
            {
                "type": "message",
                "id": "a",
                "parentId": "b",
                "message": {"role": "user", "content": "x", "timestamp": 1},
            },
            {"type": "message", "id": "b", "parentId": "a", "message": {"role": "assistant", "content": "y"}},
        ]
        (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        ((_, trace),) = traces(tmp_path / "a.jsonl")
        assert (trace.prompt, len(trace.llm_steps)) == ("x", 1)


class TestGeminiCli:
    def test_a_reply_has_its_calls_with_their_results_tokens_and_times(self):
        ((_, trace),) = traces(SAMPLES / "gemini-cli.json")
        first, last = trace.llm_steps
        assert (first.reasoning_content, first.model_output) == ("Looking\nTwo things at once.", "I look.")
        assert (first.input_tokens, first.output_tokens, first.timings.cached_n) == (100, 25, 60)
        assert (first.duration_ms, last.duration_ms, last.input_tokens) == (4000, 3000, None)
        assert [call.name for call in first.tool_calls] == ["run_shell_command", "run_shell_command", "read_file"]
        assert [(span.tool_output[:7], span.exit_code) for span in trace.spans] == [("loop.sh", None), ("Output:", 1)]
        assert (trace.prompt, trace.model) == ("Fix the loop.", "gemini-3-pro")

    def test_as_lines_a_message_grows_is_taken_back_and_the_rest_is_the_session(self, tmp_path):
        whole = json.loads((SAMPLES / "gemini-cli.json").read_bytes())
        head = {key: one for key, one in whole.items() if key != "messages"}
        info, user, reply, last = whole["messages"]
        gone = {**last, "id": "m9", "content": "A way that was left."}
        lines = [head, info, user, {**reply, "toolCalls": []}, reply, gone, {"$rewindTo": "m9"}, last]
        lines.append({"$set": {"summary": "x"}})
        (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        ((_, found),) = traces(tmp_path / "a.jsonl")
        ((_, trace),) = traces(SAMPLES / "gemini-cli.json")
        assert found == trace

    def test_rewinding_again_and_again_takes_time_by_the_number_of_lines(self, tmp_path):
        head = {"sessionId": "s", "projectHash": "p"}
        many = [{"id": f"m{number}", "type": "user", "content": "x"} for number in range(30_000)]
        lines = [head, *many, *({"$rewindTo": f"m{29_999 - number}"} for number in range(29_999))]
        (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
        ((_, trace),) = traces(tmp_path / "a.jsonl")
        assert trace.prompt == "x"

    @pytest.mark.parametrize(
        "line", [{}, {"messages": []}, {"$set": {"messages": []}}, {"type": "info", "content": "x"}]
    )
    def test_a_session_without_a_message_is_named(self, line, tmp_path):
        (tmp_path / "a.json").write_text(json.dumps({"sessionId": "s", "projectHash": "p", **line}))
        with pytest.raises(DataError, match=r"a session (of .*)?without a message"):
            list(traces(tmp_path / "a.json"))


class TestSessionRows:
    def test_rows_of_teich_are_the_sessions_that_they_were_made_of(self):
        for name, (_, row) in zip(("pi", "claude-code", "codex"), traces(SAMPLES / "teich-rows.jsonl"), strict=True):
            _, trace = next(traces(SAMPLES / f"{name}.jsonl"))
            assert (row.prompt, row.model, row.totals) == (trace.prompt, trace.model, trace.totals)
            assert [step.input_tokens for step in row.llm_steps] == [step.input_tokens for step in trace.llm_steps]
            assert [span.tool_output for span in row.spans] == [span.tool_output for span in trace.spans]

    @pytest.mark.parametrize("text", [None, 5, "", "x", "{}", "[]", '{"type": "session"}', '"\\ud800"'])
    def test_a_row_without_a_session_is_one_message(self, text):
        with pytest.raises(DataError, match=r"its `trace` is|a session (of .*)?without a message"):
            to_trace({"harness": "pi", "session_id": "s", "trace": text})


class TestOtlp:
    def test_spans_of_a_trace_are_gathered_from_all_requests(self):
        (_, trace), _ = traces(SAMPLES / "otlp.jsonl")
        first, second = trace.llm_steps
        assert (first.reasoning_content, first.timings.cached_n, first.duration_ms) == ("two at once", 60, 2000)
        assert second.model_output == "It is fixed."
        assert [(span.tool_output, span.exit_code, span.duration_ms) for span in trace.spans] == [
            ("loop.sh", 0, 1000), ("cat: none", None, None)
        ]  # fmt: skip
        assert (trace.prompt, trace.total_duration_ms, trace.metadata["agent"]) == ("Fix the loop.", 7000, "fixer")

    def test_openinference_is_read_and_a_result_counts_once(self):
        _, (_, trace) = traces(SAMPLES / "otlp.jsonl")
        assert [(span.tool_name, span.tool_input, span.tool_output) for span in trace.spans] == [
            ("find", '{"q": "loop"}', "loop.sh")
        ]  # fmt: skip
        assert (trace.environment["imported"]["system_prompt"], trace.llm_steps[0].input_tokens) == (
            "You are an agent.", 30
        )  # fmt: skip

    def test_what_we_write_is_read_back(self, tmp_path):
        convert([RECORDS / "demo.jsonl"], "otlp", tmp_path / "spans.jsonl")
        for (_, read), (_, ours) in zip(traces(tmp_path / "spans.jsonl"), traces(RECORDS / "demo.jsonl"), strict=True):
            assert (read.trace_id, read.prompt, read.model) == (ours.trace_id, ours.prompt, ours.model)
            assert [(span.tool_output, span.exit_code) for span in read.spans] == [
                (span.tool_output, None if span.status == "not_executed" else span.exit_code) for span in ours.spans
            ]
            assert [step.input_tokens for step in read.llm_steps] == [step.input_tokens for step in ours.llm_steps]
            assert [step.start_ns for step in read.llm_steps] == [step.start_ns for step in ours.llm_steps]

    @pytest.mark.parametrize(
        "spans",
        [
            1, [1], [{"attributes": 1}], [{"attributes": [{"key": "openinference.span.kind", "value": {}}]}],
            [{"startTimeUnixNano": "9" * 400, "attributes": [{"key": "a", "value": {"intValue": "9" * 5000}}]}],
        ],
    )  # fmt: skip
    def test_odd_spans_are_one_message(self, spans, tmp_path):
        request = {"resourceSpans": [{"scopeSpans": [{"spans": spans}]}]}
        (tmp_path / "a.jsonl").write_text(json.dumps(request) + "\n")
        with pytest.raises(DataError, match="no span of a model or a tool"):
            list(traces(tmp_path / "a.jsonl"))

    def test_deeply_named_and_nested_attributes_end(self, tmp_path):
        deep = {"stringValue": "x"}
        for _ in range(300):
            deep = {"arrayValue": {"values": [deep]}}
        pairs = [
            {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
            {"key": "llm.output_messages." + "0." * 50_000, "value": {"stringValue": "x"}},
            {"key": "gen_ai.output.messages", "value": deep},
        ]
        request = {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": "t", "attributes": pairs}]}]}]}
        (tmp_path / "a.jsonl").write_text(json.dumps(request) + "\n")
        ((_, trace),) = traces(tmp_path / "a.jsonl")
        assert len(trace.llm_steps) == 1


@pytest.mark.parametrize("number", ["18446744073709551616", "-9223372036854775809", "1" + "0" * 30, "9" * 400])
def test_an_integer_that_no_record_can_hold_leaves_one_that_validates(number, tmp_path):
    run = json.loads(SAMPLE["atif"].read_bytes())
    run["steps"][0]["step_id"] = run["extra_number"] = "NUMBER"
    source, out = tmp_path / "in.json", tmp_path / "out.jsonl"
    source.write_text(json.dumps(run).replace('"NUMBER"', number))
    convert([source], "agenttrace-1.0", out)
    assert list(Validation(out)) == []


@pytest.mark.parametrize("kind", [[], {}, [{"type": "text"}], None, 5])
@pytest.mark.parametrize("name", ["pi", "codex", "claude-code"])
def test_an_event_whose_type_is_no_text_is_passed_over(name, kind, tmp_path):
    lines = SAMPLE[name].read_text().splitlines()
    lines.insert(1, json.dumps({"type": kind}))
    source, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("\n".join(lines) + "\n")
    convert([source], "agenttrace-1.0", out)
    assert list(Validation(out)) == []


@pytest.mark.parametrize("more", [{"refusal": None, "provider_specific_fields": {}}, {"role": 5}, {"content": 7}])
def test_a_refused_reply_of_any_server_is_read(more, tmp_path):
    run = json.loads(SAMPLE["mini-swe-agent"].read_bytes())
    refused = [one for one in run["messages"] if (one.get("extra") or {}).get("interrupt_type") == "FormatError"]
    refused[0]["extra"]["response"]["choices"][0]["message"] |= more
    source, out = tmp_path / "in.traj.json", tmp_path / "out.jsonl"
    source.write_text(json.dumps(run))
    convert([source], "agenttrace-1.0", out)
    assert list(Validation(out)) == []
