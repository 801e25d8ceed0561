"""The command line: quick, and one message for a user's mistake."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from agenttrace.cli import VerbParser, main
from agenttrace.records import (
    NO_PROCESS,
    LLMStep,
    Outcome,
    Span,
    Telemetry,
    ToolCall,
    Trace,
    Verdict,
)
from agenttrace.show import printable
from agenttrace.verbs import VERBS, module_of

ROOT = Path(__file__).parents[1]

RELEASED = Path(__file__).parents[1] / "datasets/agenttrace-demo/records/agenttrace-demo.jsonl"


def trace(trace_id="aaaa-1", task_id=0, name="first", output="exit_code: 0"):
    telemetry = Telemetry(
        user_time_s=0.001, system_time_s=0.002, max_rss_bytes=3 << 20, read_bytes=0, write_bytes=4096,
        method="c-helper", cpu_user_ns=1_000_000, cpu_system_ns=2_000_000, leftover_count=1, leftover_names=("sleep",),
    )  # fmt: skip
    span = Span(
        span_id="s1", type="TOOL", tool_name="bash", tool_input='{"command":"ls"}', tool_output=output, start_ns=1,
        end_ns=2, duration_ms=1.5, telemetry=telemetry, exit_code=0, parent_span_id="p1", call_id="call_1_1",
        status="ok",
    )  # fmt: skip
    final = Span(
        span_id="s2", type="TOOL", tool_name="final_answer", tool_input='{"answer":"42"}', tool_output="42", start_ns=1,
        end_ns=2, duration_ms=0.0, telemetry=NO_PROCESS, exit_code=0, parent_span_id="p1", call_id="call_1_2",
        status="not_executed",
    )  # fmt: skip
    calls = (
        ToolCall(call_id="call_1_1", name="bash", arguments='{"command":"ls"}'),
        ToolCall(call_id="call_1_2", name="final_answer", arguments='{"answer":"42"}'),
    )
    step = LLMStep(
        step_id="p1", step_number=1, model_output=None, reasoning_content="I look.", tool_calls=calls, duration_ms=12.0,
        input_tokens=10, output_tokens=5, start_ns=1, end_ns=2, finish_reason="tool_calls",
    )  # fmt: skip
    verdict = Verdict(aspect="answer", verdict="failed", method="m", reason="expected '1', got '42'")
    return Trace(
        trace_id=trace_id, timestamp_utc="2026-11-02T00:00:00.000000+00:00", prompt="Do it.", model="m",
        spans=(span, final), llm_steps=(step,), total_duration_ms=20.0,
        metadata={"dataset_name": "demo", "task_id": task_id, "task_name": name}, environment={},
        outcome=Outcome(ended="final_answer", final_answer="42", verdicts=(verdict,), solved=False),
    )  # fmt: skip


@pytest.fixture
def records(tmp_path):
    path = tmp_path / "r.jsonl"
    rows = [trace(), trace("bbbb-2", 1, "second", "a\x1b[2Jb\u202e")]
    path.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
    return path


HEAVY = ("openai", "httpx2", "rich", "docker", "psutil", "asyncio", "pandas", "pyarrow", "huggingface_hub")


def test_help_imports_nothing_heavy():
    code = "import sys; sys.argv=['agenttrace','--help']\nfrom agenttrace.cli import main\n"
    code += "try: main()\nexcept SystemExit: pass\n"
    code += f"print([m for m in {('msgspec', *HEAVY)} if m in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ended.stdout.splitlines()[-1] == "[]"


def test_a_verb_has_a_module_and_its_help_imports_nothing_heavy():
    code = "import contextlib, io, sys\nfrom agenttrace.cli import main\n"
    code += f"for verb in {tuple(VERBS)}:\n"
    code += "    try:\n        with contextlib.redirect_stdout(io.StringIO()) as out: main([verb, '--help'])\n"
    code += "    except SystemExit as end: assert end.code == 0\n"
    code += "    assert out.getvalue().startswith(f'usage: agenttrace {verb} '), verb\n"
    code += f"    assert not (found := [m for m in {HEAVY} if m in sys.modules]), (verb, found)\n"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (0, "")
    for name in VERBS:
        module = importlib.import_module(module_of(name))
        assert callable(module.add)
        assert callable(module.run)


def test_show_prints_the_first_trace_with_conversation_cost_and_verdict(agenttrace, records):
    text = agenttrace("show", records).stdout
    for part in ("demo/0 first", "Do it.", "I look.", '{"command":"ls"}', "exit_code: 0", "CPU 3.0 ms", "peak 3.0 MiB"):
        assert part in text
    assert "1 left running and killed (sleep)" in text
    assert "no process" in text
    assert "answer: failed: expected '1', got '42'" in text


@pytest.mark.parametrize("wanted", ["1", "second", "bbbb"])
def test_show_finds_a_trace_by_task_name_or_id(agenttrace, records, wanted):
    assert "demo/1 second" in agenttrace("show", records, wanted).stdout


def test_show_escapes_what_could_drive_a_terminal(agenttrace, records):
    text = agenttrace("show", records, "second").stdout
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert r"a\x1b[2Jb\u202e" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no trace matches 'nothing'"),
        (["bbb"], "no trace matches"),
    ],
)
def test_show_says_how_to_name_a_trace(agenttrace, records, arguments, message):
    ended = agenttrace("show", records, *arguments)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


def test_show_escapes_names_titles_and_reasons_too(agenttrace, tmp_path):
    evil = "\x1b]0;PWN\x07"
    row = msgspec.to_builtins(trace(name=evil))
    row["model"] = evil
    row["llm_steps"][0]["finish_reason"] = evil
    row["spans"][0]["tool_name"] = evil
    row["spans"][0]["telemetry"]["leftover_names"] = [evil]
    row["outcome"]["verdicts"][0]["reason"] = evil
    path = tmp_path / "r.jsonl"
    path.write_bytes(msgspec.json.encode(row) + b"\n")
    text = agenttrace("show", path).stdout
    assert "PWN" in text
    assert "\x1b" not in text
    assert "\x07" not in text


def test_a_broken_line_is_named_with_its_number(agenttrace, records):
    records.write_bytes(records.read_bytes() + b'{"trace_id": 1}\n{"cut')
    ended = agenttrace("show", records, "nothing")
    assert ended.returncode == 1
    assert "line 3" in ended.stderr


def test_a_missing_or_empty_file_is_a_message(agenttrace, tmp_path):
    assert "No such file" in agenttrace("show", tmp_path / "none.jsonl").stderr
    (tmp_path / "empty.jsonl").touch()
    assert "no record yet" in agenttrace("show", tmp_path / "empty.jsonl").stderr


@pytest.mark.parametrize("words", [["{}", "-q", "27"], ["-q", "{}", "--json", "x.json", "27"], ["--", "{}", "27"]])
def test_an_option_may_stand_between_words(agenttrace, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    ended = agenttrace("show", *(word.format(RELEASED) for word in words))
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "oldest-user" in ended.stdout + "".join(path.read_text() for path in tmp_path.glob("x.json"))


def test_a_closed_pipe_is_no_error(records):
    reader, writer = os.pipe()
    os.close(reader)  # as `head` does when it has enough
    for words in (["show", str(records)], ["--help"]):
        command = [sys.executable, "-m", "agenttrace", *words]
        ended = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True)
        assert (ended.returncode, ended.stderr) == (0, "")
    os.close(writer)


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_what_who_starts_it_has_closed_leads_nowhere_and_is_no_error(records, closed):
    for words in (f"show {records}", f"validate {RELEASED}", "--help"):
        ended = subprocess.run(
            ["bash", "-c", f"{sys.executable} -m agenttrace {words} {closed}"], capture_output=True, text=True
        )
        assert (ended.returncode, ended.stderr) == (0, "")


@pytest.mark.parametrize(
    "words", ["tasks new loop", "tasks new loop/x", "tasks check loop", "show loop", "report loop"]
)
def test_links_in_a_circle_are_one_message(agenttrace, tmp_path, monkeypatch, words):
    monkeypatch.chdir(tmp_path)
    Path("loop").symlink_to("loop")
    ended = agenttrace(*words.split())
    assert ended.returncode in {2, 5}
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_what_takes_more_memory_than_there_is_is_one_message(records):
    code = "from agenttrace.cli import end_with\nend_with(lambda: len(b' ' * 2**62))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 5
    assert ended.stderr.startswith("agenttrace: not enough memory; ")


@pytest.mark.parametrize("verb", ["analyze", "report", "show", "tables"])
def test_a_record_file_whose_name_is_not_utf_8_is_read(tmp_path, verb):
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/r\xff.jsonl"))
    odd.write_bytes(RELEASED.read_bytes())
    ended = subprocess.run(
        [sys.executable, "-m", "agenttrace", verb, odd], cwd=tmp_path, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr


def test_a_result_cannot_have_a_name_that_is_not_utf_8_where_the_result_holds_it(tmp_path):
    called = [sys.executable, "-m", "agenttrace", "report", RELEASED, "-o", b"r\xff.html"]
    ended = subprocess.run(called, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "a name that is not UTF-8" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_full_disk_is_one_line_and_has_its_status(records):
    command = [sys.executable, "-m", "agenttrace", "show", str(records)]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert ended.returncode == 5
    assert ended.stderr == "agenttrace: No space left on device; what was written is kept, free some and run it again\n"


def test_the_overview_names_every_verb(agenttrace):
    for words in ([], ["--help"]):
        ended = agenttrace(*words)
        assert ended.returncode == 0
        assert all(f"\n    {name}" in ended.stdout for name in VERBS)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["nothing"], "there is no verb 'nothing'"),
        (["shwo"], "did you mean show?"),
        (["fetch"], "required: model"),
        (["show", "--jsno"], "there is no option --jsno (did you mean --json?); see agenttrace show --help"),
        (["report", "-x"], "there is no option -x; see"),
        (["report", "--port", "8000"], "--port is of --watch"),
        (["collect", "--temp", "1"], "there is no option --temp (did you mean --temperature?)"),
        (["collect", "--n", "1"], "there is no option --n (did you mean -n?)"),
        (["tasks"], "required: new|check, PATH"),
        (["compact", "a.jsonl", "-o", "x", "--fresh"], "there is no option --fresh"),
        (["doctor", "me"], "unexpected: me"),
        (["report", "a.jsonl", "-o", "x.html", "b.jsonl"], "cannot read a.jsonl"),
        (["show", "-q", "a.jsonl", "-q", "27", "28"], "unexpected: 28"),
        (["show", ""], "argument FILE: an empty name"),
        (["plots", "-o", ""], "argument -o/--output: an empty name"),
        (["fetch", ""], "unknown model ''"),
        (["publish", "none.jsonl", "-o", "out", "--title", "x" * 500], "cannot read none.jsonl"),
        (["collect", "--agent", "tool-calling"], "(did you mean tool_calling?)"),
        (["collect", "-n", "x"], "invalid int"),
    ],
)
def test_a_verb_or_argument_that_is_none_is_a_message(agenttrace, words, message):
    ended = agenttrace(*words)
    assert ended.returncode == 2
    assert message in ended.stderr
    assert "Traceback" not in ended.stderr


@pytest.mark.parametrize("name", VERBS)
def test_json_of_every_verb_goes_to_standard_output_where_no_file_is_named(name):
    parser = VerbParser(name, "")
    importlib.import_module(module_of(name)).add(parser)
    usage = " ".join(parser.format_usage().split())
    assert usage.count("--json") == usage.count("[--json [FILE]]")


IMAGE = [name for name, verb in VERBS.items() if verb.where == "image" and name != "report"]


@pytest.mark.parametrize("name", IMAGE)
def test_verbs_over_records_go_through_their_image_in_a_session_and_run_here_without(monkeypatch, tmp_path, name):
    monkeypatch.chdir(tmp_path)
    for file in ("a.jsonl", "b.jsonl"):
        Path(file).touch()
    module, seen = importlib.import_module(module_of(name)), []
    words = LEAST.get(name, ["a.jsonl"])

    monkeypatch.setattr("agenttrace.host.analysis.run", lambda verb, argv, **_: seen.append((verb, argv)) or 7)
    monkeypatch.setattr(module, "run", lambda _: seen.append("here") or 6)
    monkeypatch.setattr("agenttrace.verbs.validate.machine_facts", lambda: {"machine id": ["0123456789abcdef"]})
    private = "--private-text" if name == "publish-rollouts" else "--private"
    more = [f"{private}=0123456789abcdef", "--make-only"] if "publish" in name else []
    for session, expected, status in ((True, (name, [*words, *more]), 7), (False, "here", 6)):
        with pytest.raises(SystemExit) as ended:
            main([name, *words], session=session)
        assert (ended.value.code, seen.pop(0)[: len(expected)]) == (status, expected)


LEAST = {
    "convert": ["a.jsonl", "--to", "atif", "-o", "c"], "compare": ["a.jsonl", "b.jsonl"],
    "compact": ["a.jsonl", "b.jsonl.zst"], "tables": ["a.jsonl", "--outdir", "c"],
    "publish": ["a.jsonl", "-o", "c"], "publish-rollouts": ["a.jsonl", "-o", "c"], "release": ["--verify", "."],
}  # fmt: skip


def test_only_verbs_that_need_more_than_that_image_say_what_they_do_on_the_host():
    found = {name for name in VERBS if hasattr(importlib.import_module(module_of(name)), "on_host")}
    assert found == {"convert", "publish", "publish-rollouts", "release", "report"}


@pytest.mark.parametrize(
    ("name", "has_pyarrow", "where"),
    [("a.jsonl", False, "here"), ("a.parquet", False, "image"), ("a.parquet", True, "here"), (".", False, "image")],
)
def test_a_report_needs_the_image_for_parquet_alone(monkeypatch, tmp_path, name, has_pyarrow, where):
    monkeypatch.chdir(tmp_path)
    for file in ("a.jsonl", "a.parquet"):
        Path(file).touch()
    monkeypatch.setattr("agenttrace.host.analysis.run", lambda *_, **__: 7)
    monkeypatch.setattr("agenttrace.verbs.report.run", lambda _: 6)
    monkeypatch.setattr("agenttrace.verbs.report.find_spec", lambda _: has_pyarrow or None)
    with pytest.raises(SystemExit) as ended:
        main(["report", name], session=True)
    assert ended.value.code == {"here": 6, "image": 7}[where]


def test_a_verb_that_starts_containers_says_so_where_it_cannot(monkeypatch, capsys):
    monkeypatch.setattr("agenttrace.cli.find_spec", lambda name: None if name == "agenttrace.host" else name)
    with pytest.raises(SystemExit) as ended:
        main(["judge", __file__])
    assert ended.value.code == 2
    assert "this verb starts containers: run it outside of them" in capsys.readouterr().err


def test_printable_keeps_text_and_shows_the_rest():
    assert printable("Grüße 你好\n\tx") == "Grüße 你好\n\tx"
    assert printable("\r\x00\x9b\u2066") == r"\r\x00\x9b\u2066"


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_letter_that_the_terminal_lacks_is_escaped(tmp_path, encoding):
    line = (ROOT / "tests/data/records/demo.jsonl").read_text(encoding="utf-8").splitlines()[0]
    (tmp_path / "a.jsonl").write_text(line.replace("whole tree?", "whole \N{CJK UNIFIED IDEOGRAPH-6728}?") + "\n")
    ended = subprocess.run(
        [sys.executable, "-m", "agenttrace", "show", tmp_path / "a.jsonl"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding},
        capture_output=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert b"whole \\u6728?" in ended.stdout
