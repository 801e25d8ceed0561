"""What verbs that read record files share."""

from __future__ import annotations

import shutil
from argparse import Namespace
from pathlib import Path

import pytest

from agenttrace.cli import main
from agenttrace.errors import StorageError
from agenttrace.verbs import reading

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
    for output in (path, tmp_path / "link.txt"):
        with pytest.raises(SystemExit) as ended:
            main(["analyze", str(path), "--output", str(output)])
        assert ended.value.code == 2
    assert path.read_bytes() == COLLECTED.read_bytes()


def test_a_folder_is_no_file_to_write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in (tmp_path, Path()):
        with pytest.raises(StorageError, match="it is a folder"):
            reading.deliver(Namespace(format="text", output=folder), {}, ())


@pytest.mark.parametrize("option", [["--private", ""], ["--allow", ""], ["--max", "-1"]])
def test_a_rule_that_says_nothing_is_refused(option):
    with pytest.raises(SystemExit) as ended:
        main(["validate", str(COLLECTED), *option])
    assert ended.value.code == 2


def test_a_file_that_cannot_be_read_is_not_called_empty(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["validate", str(tmp_path)])
    assert "no file of traces in this folder" in capsys.readouterr().err
