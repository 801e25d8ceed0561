"""What verbs that read record files share."""

from __future__ import annotations

import errno
import json
import os
import shutil
from argparse import Namespace
from pathlib import Path

import pytest

from agenttrace.cli import main
from agenttrace.errors import StorageError, UsageError
from agenttrace.host import place
from agenttrace.verbs import output, reading

COLLECTED = Path(__file__).parents[1] / "data" / "records" / "demo.jsonl"


def test_a_pattern_does_not_take_in_failed_attempts(capsys):
    names = ("a.failures.jsonl", "a.jsonl", "b.jsonl")
    kept = reading.records_only([Path(name) for name in names])
    assert [path.name for path in kept] == ["a.jsonl", "b.jsonl"]
    assert capsys.readouterr().err.startswith(
        "agenttrace: a.failures.jsonl: attempts that ended in an infrastructure failure"
    )


def test_failed_attempts_named_alone_are_meant(capsys):
    failures = [Path("a.failures.jsonl"), Path("b.failures.jsonl")]
    assert reading.records_only(failures) == failures
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("verb", ["convert", "report", "publish", "validate"])
def test_a_name_cannot_drive_the_terminal(tmp_path, monkeypatch, capsys, verb):
    monkeypatch.chdir(tmp_path)
    name = "\x1b]0;P\x07\u202e.jsonl"
    shutil.copy(COLLECTED, tmp_path / name)
    more = {
        "convert": ["--to", "agenttrace-0.3", "-o", f"\x1b{name}"],
        "report": ["-o", f"{name}.html"],
        "publish": ["-o", name],
        "validate": [],
    }
    with pytest.raises(SystemExit):
        main([verb, name, *more[verb]])
    printed = capsys.readouterr()
    assert "\\x1b" in printed.out + printed.err
    assert not {"\x1b", "\x07", "\u202e"} & set(printed.out + printed.err)


def test_nor_can_the_name_of_a_release(tmp_path, capsys):
    folder = tmp_path / "\x1b]0;P\x07"
    (folder / "\x1b[2J").mkdir(parents=True)
    with pytest.raises(SystemExit) as ended:
        main(["release", "--verify", str(folder)])
    printed = capsys.readouterr()
    assert ended.value.code == 1
    assert "NOT whole" in printed.out
    assert not {"\x1b", "\x07"} & set(printed.out + printed.err)


def test_failed_attempts_are_in_no_converted_file(tmp_path, capsys):
    shutil.copy(COLLECTED, tmp_path / "a.jsonl")
    shutil.copy(COLLECTED, tmp_path / "a.failures.jsonl")
    with pytest.raises(SystemExit) as ended:
        main(
            [
                "convert",
                *map(str, sorted(tmp_path.glob("*.jsonl"))),
                "--to",
                "agenttrace-1.0",
                "-o",
                f"{tmp_path}/o.jsonl",
            ]
        )
    assert ended.value.code == 0
    assert (tmp_path / "o.jsonl").read_bytes().count(b"\n") == COLLECTED.read_bytes().count(b"\n")
    assert "left out" in capsys.readouterr().err


def test_an_analysis_is_never_written_over_the_records_it_is_of(tmp_path):
    path = tmp_path / "a.jsonl"
    shutil.copy(COLLECTED, path)
    (tmp_path / "link.txt").symlink_to(path)
    for written in (path, tmp_path / "link.txt"):
        with pytest.raises(SystemExit) as ended:
            main(["analyze", str(path), "--output", str(written)])
        assert ended.value.code == 2
    assert path.read_bytes() == COLLECTED.read_bytes()


def test_a_folder_is_no_file_to_write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, Path()):
        with pytest.raises(UsageError, match="it is a folder"):
            reading.deliver(Namespace(format="text", output=folder, json=None), {}, ())


@pytest.mark.parametrize("option", [["--private", ""], ["--allow", ""], ["--max", "-1"]])
def test_a_rule_that_says_nothing_is_refused(option):
    with pytest.raises(SystemExit) as ended:
        main(["validate", str(COLLECTED), *option])
    assert ended.value.code == 2


def test_a_file_that_cannot_be_read_is_not_called_empty(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["validate", str(tmp_path)])
    assert "no file of traces in this folder" in capsys.readouterr().err


@pytest.fixture
def runs(tmp_path, monkeypatch):
    """A checkout of its own with two campaigns, a release and what lies beside them."""
    monkeypatch.setattr(place, "ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("old", "new", "mine/records/released")):
        records = tmp_path / "datasets" / f"{name}.jsonl"
        records.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(COLLECTED, records)
        records.with_suffix(".run.json").touch()
        os.utime(records, ns=(number, number))
    shutil.copy(COLLECTED, tmp_path / "datasets/new.failures.jsonl")
    shutil.copy(COLLECTED, tmp_path / "datasets/without-run-spec.jsonl")
    os.utime(tmp_path / "datasets/mine/records/released.jsonl", ns=(0, 0))
    return tmp_path / "datasets"


@pytest.mark.parametrize("words", [["show"], ["analyze"], ["validate"], ["stats", "--no-diversity"], ["report"]])
def test_without_a_file_the_newest_record_file_is_read_and_named(agenttrace, runs, words):
    ended = agenttrace(*words)
    assert "agenttrace: reading datasets/new.jsonl, the newest record file\n" in ended.stderr
    assert agenttrace(*words, "--quiet").stderr == ""


def test_a_word_that_is_no_file_is_a_trace_of_the_newest(agenttrace, runs):
    assert agenttrace("show", "3").stdout == agenttrace("show", runs / "new.jsonl", "3").stdout
    assert "no trace matches 'nothing'" in agenttrace("show", "nothing").stderr
    name = json.loads((runs / "new.jsonl").read_bytes().splitlines()[0])["metadata"]["task_name"]
    assert f"(did you mean {name}?)" in agenttrace("show", name[:-1]).stderr


def test_validate_reads_a_file_once_that_is_named_in_several_ways(agenttrace, runs):
    ended = agenttrace("validate", runs / "new.jsonl", "datasets/new.j*", "datasets/new.jsonl")
    assert ended.stdout.count(" lines, ") == 1
    assert "is given twice; read once" in ended.stderr


@pytest.mark.parametrize("verb", ["plots", "tables"])
def test_a_file_where_a_folder_is_to_be_written_is_refused_and_not_said_to_be_replaced(agenttrace, runs, verb):
    before = (runs / "new.failures.jsonl").read_bytes()
    ended = agenttrace(verb, "-o", "datasets/new.failures.jsonl")
    assert ended.returncode == 2
    assert "argument -o/--output: datasets/new.failures.jsonl is a file: name a folder" in ended.stderr
    assert "replaced" not in ended.stderr
    assert (runs / "new.failures.jsonl").read_bytes() == before


def test_where_no_record_file_is_that_is_said_with_what_makes_one(agenttrace, tmp_path, monkeypatch):
    monkeypatch.setattr(place, "ROOT", tmp_path)
    ended = agenttrace("analyze")
    assert ended.returncode == 2
    assert f"no record file in {tmp_path}/datasets: name one, or make one first: agenttrace collect" in ended.stderr


@pytest.mark.parametrize(
    ("name", "meant"),
    [("datasets/nev.jsonl", "did you mean datasets/new.jsonl?"), ("nowhere/x.jsonl", "No such file or directory\n")],
)
@pytest.mark.parametrize("verb", ["show", "report", "validate", "judge", "replay"])
def test_a_file_that_is_not_there_is_answered_with_the_one_beside_it(agenttrace, runs, verb, name, meant):
    ended = agenttrace(verb, name)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert f"cannot read {name}: No such file or directory" in ended.stderr
    assert meant in ended.stderr


def test_a_pattern_in_quotes_is_expanded_also_for_the_container(runs, monkeypatch):
    seen = []
    monkeypatch.setattr("agenttrace.host.analysis.run", lambda *asked, **paths: seen.append((asked, paths)) or 0)
    for words in (["analyze", "--by", "model", "datasets/*w.jsonl"], ["analyze", "--by", "model"]):
        with pytest.raises(SystemExit) as ended:
            main(words, session=True)
        assert ended.value.code == 0
    (asked, paths), (newest, _) = seen
    assert asked == ("analyze", ["--by", "model", "datasets/new.jsonl"])
    assert paths["read"] == [Path("datasets/*w.jsonl")]
    assert newest == ("analyze", ["datasets/new.jsonl", "--by", "model"])


def test_a_file_that_nothing_can_read_is_refused_before_a_container(runs, monkeypatch, capsys):
    Path("notes.jsonl").write_text('{"run_id": "x", "agent": {}, "dataset": {}}\n')
    monkeypatch.setattr("agenttrace.host.analysis.run", lambda *_, **__: pytest.fail("a container was started"))
    with pytest.raises(SystemExit) as ended:
        main(["analyze", "notes.jsonl"], session=True)
    assert ended.value.code == 2
    assert "cannot read notes.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["analyze", "report"])
def test_a_file_that_is_given_twice_is_read_once_and_that_is_said(agenttrace, runs, verb):
    once = agenttrace(verb, "datasets/new.jsonl")
    twice = agenttrace(verb, "datasets/new.jsonl", "datasets/../datasets/new.jsonl", "datasets/n*.jsonl")
    assert (twice.returncode, twice.stdout) == (0, once.stdout)
    assert twice.stderr.count("is given twice; read once") == 2


def test_what_can_be_made_again_is_replaced_and_that_is_said(agenttrace, runs):
    assert "replaced" not in agenttrace("report").stderr
    assert "report.html was there already, and is replaced" in agenttrace("report").stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["a.jsonl", "--json"], ["a.jsonl", "--json"]),
        (["--json", "out.json", "a.jsonl"], ["--json", "out.json", "a.jsonl"]),
        (["--json", "a.jsonl"], ["--json=-", "a.jsonl"]),
        (["--json", "datasets"], ["--json=-", "datasets"]),
        (["--json", "datasets/*"], ["--json=-", "datasets/*"]),
        (["--json", "--quiet"], ["--json", "--quiet"]),
    ],
)
def test_json_never_goes_where_records_are(runs, words, expected):
    assert output.with_json_apart(words) == expected


JSON = {"analyze": "groups", "stats": "statistics", "show": "trace_id", "validate": "valid", "report": "page"}


@pytest.mark.parametrize("verb", JSON)
def test_json_is_alone_on_standard_output_or_in_the_file(agenttrace, runs, verb):
    ended = agenttrace(verb, "--json", "datasets/new.jsonl")
    assert JSON[verb] in json.loads(ended.stdout)
    beside = agenttrace(verb, "datasets/new.jsonl", "--json", "found.json")
    assert JSON[verb] in json.loads(Path("found.json").read_text())
    assert not beside.stdout.startswith("{")


def test_json_that_cannot_be_written_leaves_the_earlier_one(tmp_path, monkeypatch):
    place = tmp_path / "found.json"
    output.write_json(place, {"a": 1})
    before = place.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left on device"):
        output.write_json(place, {"a": 2})
    assert place.read_bytes() == before
    assert list(tmp_path.iterdir()) == [place]


def test_json_goes_into_a_pipe_and_where_a_link_leads(tmp_path):
    (tmp_path / "link").symlink_to("place")
    output.write_json(tmp_path / "link", {"a": 1})
    assert json.loads((tmp_path / "place").read_text()) == {"a": 1}
    assert (tmp_path / "link").is_symlink()
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    output.write_json(tmp_path / "pipe", {"a": 2})
    assert json.loads(os.read(reader, 100)) == {"a": 2}
    os.close(reader)


def test_a_dash_is_standard_output(agenttrace, runs):
    assert agenttrace("analyze", "-o", "-").stdout == agenttrace("analyze").stdout != ""
    assert not Path("-").exists()
