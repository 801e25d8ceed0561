"""Claims and their commands: all can be run, and what speaks against one is told."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from agenttrace.errors import UsageError
from agenttrace.verbs import VERBS
from bench import __main__ as benches
from bench import artifact

ROOT = Path(__file__).resolve().parents[2]
STAND_IN = """#!/bin/sh
case "$2" in
  good) echo "3 of 3 hold" ;;
  coloured) printf '3 of \\033[1m3\\033[0m hold' ;;
  other) echo "2 of 3 hold" ;;
  fails) echo "3 of 3 hold"; exit 4 ;;
  where) pwd; echo "$4" ;;
  slow) echo "3 of 3 hold"; sleep 60; echo more ;;
esac
"""


def claim(name, **fields):
    fields = {"says": name, "where": "README.md", "command": (name,), "prints": ("3 of 3",), "minutes": 1.0} | fields
    return artifact.Claim(name=name, **fields)


@pytest.fixture
def run(tmp_path, monkeypatch, capfd):
    """Run claims with a stand-in for the launcher; return the status, the verdicts and what was printed."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "nox").write_text(STAND_IN)
    (tmp_path / "scripts" / "nox").chmod(0o755)
    monkeypatch.setattr(artifact, "ROOT", tmp_path)

    def start(*claims, full=False, only=()):
        monkeypatch.setattr(artifact, "claims", lambda: list(claims))
        file = tmp_path / "out.json"
        shutil.rmtree(tmp_path / "work", ignore_errors=True)
        status = artifact.run(full=full, only=list(only), folder=tmp_path / "work", json_file=file)
        found = {one["name"]: (one["verdict"], one["why"]) for one in json.loads(file.read_bytes())}
        return status, found, capfd.readouterr().out

    return start


def test_a_claim_holds_when_its_command_ends_well_and_prints_it(run, tmp_path):
    status, found, printed = run(claim("good"), claim("coloured"))
    assert (status, found) == (0, {"good": ("as claimed", ""), "coloured": ("as claimed", "")})
    assert "2 of 2 claims hold" in printed
    assert (tmp_path / "work" / "good.log").read_text() == "3 of 3 hold\n"


def test_what_speaks_against_a_claim_is_told_and_what_rests_on_it_is_not_run(run):
    status, found, printed = run(
        claim("other"),
        claim("fails"),
        claim("good", absent=("hold",)),
        claim("after", command=("good",), after="fails"),
    )
    assert status == 1
    assert found == {
        "other": ("DIFFERS", "not printed: 3 of 3"),
        "fails": ("DIFFERS", "exit status 4"),
        "good": ("DIFFERS", "printed: hold"),
        "after": ("not run", "it reads what fails writes"),
    }
    assert "0 of 4 claims hold" in printed


def test_a_claim_may_be_of_a_refusal_and_have_something_made_first(run, tmp_path):
    made = (("sh", "-c", "echo made > key"),)
    status, found, _ = run(
        claim("fails", status=4, first=made),
        claim("good", status=4),
        claim("coloured", first=(("false",),)),
        claim("absent", command=("good",), first=(("no-such-program", "x"),)),
    )
    assert (status, (tmp_path / "work" / "key").read_text()) == (1, "made\n")
    assert found == {
        "fails": ("as claimed", ""),
        "good": ("DIFFERS", "exit status 0"),
        "coloured": ("DIFFERS", "exit status 1"),
        "absent": ("DIFFERS", "exit status 127"),
    }
    assert claim("fails", first=made).shown == "sh -c 'echo made > key'; scripts/nox -s fails"


def test_a_command_that_does_not_end_is_ended_and_the_others_are_run(run, tmp_path, monkeypatch):
    monkeypatch.setattr(artifact, "_LIMIT_S", 0.5)
    monkeypatch.setattr(artifact, "_TO_END_S", 1.0)  # where Ctrl-C is ignored, as by what a shell runs behind itself
    status, found, _ = run(claim("slow"), claim("after", command=("good",), after="slow"), claim("good"))
    assert (status, found["slow"]) == (1, ("DIFFERS", "it took more than 0.00833333 minutes"))
    assert [found[name][0] for name in ("after", "good")] == ["not run", "as claimed"]
    assert (tmp_path / "work" / "slow.log").read_text() == "3 of 3 hold\n"


def test_a_folder_with_something_in_it_is_refused(tmp_path):
    (tmp_path / "traces.jsonl").touch()
    for place in (tmp_path, tmp_path / "traces.jsonl"):
        with pytest.raises(UsageError, match="name a new or an empty folder"):
            artifact.run(full=False, only=["validate"], folder=place)


def test_commands_run_in_their_folder_and_know_the_checkout(run, tmp_path):
    where = claim("where", command=("where", "{root}/datasets"), prints=(f"{tmp_path}/work\n{tmp_path}/datasets",))
    assert run(where)[:2] == (0, {"where": ("as claimed", "")})
    assert where.shown == "scripts/nox -s where -- datasets"


def test_named_claims_bring_those_whose_files_they_read(run):
    every = (claim("good"), claim("coloured", after="good"), claim("long", command=("good",), full=True))
    assert list(run(*every)[1]) == ["good", "coloured"]
    assert list(run(*every, full=True)[1]) == ["good", "coloured", "long"]
    assert list(run(*every, only=["coloured"])[1]) == ["good", "coloured"]
    assert list(run(*every, only=["long"])[1]) == ["long"]
    with pytest.raises(UsageError, match="--only none: known are good, coloured, long"):
        run(*every, only=["none"])


def test_every_claim_names_a_session_a_page_and_an_earlier_claim():
    seen = set()
    for one in artifact.claims():
        assert one.command[0] in {*VERBS, *benches.BENCHES, "telemetry", "formats-check", "cluster-check"}, one.name
        assert (ROOT / one.where).is_file(), one.name
        assert one.after is None or one.after in seen, one.name
        assert one.prints, one.name
        assert all(re.compile(text) for text in (*one.prints, *one.absent))
        assert one.name not in seen
        seen.add(one.name)
