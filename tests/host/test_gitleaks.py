"""gitleaks before an upload: the real one where it is installed, and a stand-in that speaks its command line."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap

import pytest

from agenttrace.errors import AgentTraceError, DataError
from agenttrace.host import gitleaks
from tests.validate.leak_samples import made

STAND_IN = textwrap.dedent(
    """\
    #!{python}
    import argparse, json, pathlib, sys
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("command", choices=["detect"])
    for flag in ("--no-git", "--no-banner", "--redact"):
        parser.add_argument(flag, action="store_true", required=True)
    for option in ("--source", "--report-format", "--report-path", "--exit-code"):
        parser.add_argument(option, required=True)
    asked = parser.parse_args()
    {more}
    source = pathlib.Path(asked.source)
    found = [
        {{"RuleID": "planted", "File": str(path), "StartLine": number, "Secret": "REDACTED", "Match": "REDACTED"}}
        for path in ([source] if source.is_file() else sorted(source.rglob("*.txt")))
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if "planted" in line
    ]
    pathlib.Path(asked.report_path).write_text(json.dumps(found))
    sys.exit(int(asked.exit_code) if found else 0)
    """
)


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that puts a stand-in first on the PATH, with more code in it."""

    def put(more=""):
        program = tmp_path / "bin" / "gitleaks"
        program.parent.mkdir()
        program.write_text(STAND_IN.format(python=sys.executable, more=more))
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)

    return put


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "clean.txt").write_text("nothing\n")
    return folder


def test_what_it_finds_stops_the_upload_with_file_line_and_rule(install, folder, capsys):
    install()
    gitleaks.search([folder], keep=False)
    assert "gitleaks found nothing" in capsys.readouterr().err
    (folder / "a.txt").write_text("fine\nplanted\n")
    with pytest.raises(DataError, match=r"a\.txt, line 2: planted\nNothing was uploaded") as told:
        gitleaks.search([folder, folder / "a.txt", folder / "none"], keep=False)
    assert str(told.value).count("line 2") == 2
    gitleaks.search([folder], keep=True)
    assert "which --keep-findings uploads" in capsys.readouterr().err


def test_many_findings_are_counted(install, folder):
    install()
    (folder / "a.txt").write_text("planted\n" * 25)
    with pytest.raises(DataError, match="line 10: planted\n  and 15 more"):
        gitleaks.search([folder], keep=False)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("sys.exit('FTL unable to load config')", "status 1: FTL unable to load config; nothing was uploaded"),
        ("sys.exit(int(asked.exit_code))", "its report cannot be read"),
    ],
)
def test_a_failure_of_it_is_no_clean_bill(install, folder, more, message):
    install(more)
    with pytest.raises(AgentTraceError, match=message):
        gitleaks.search([folder], keep=False)


def test_where_it_is_not_installed_that_is_said(folder, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    gitleaks.search([folder], keep=False)
    assert "gitleaks is not installed" in capsys.readouterr().err


@pytest.mark.skipif(shutil.which("gitleaks") is None, reason="gitleaks is not installed (apt-get install gitleaks)")
def test_the_real_one_finds_a_token_in_a_record(folder):
    gitleaks.search([folder], keep=False)
    token = "gh" + "p_" + made(36)
    (folder / "a.jsonl").write_text(json.dumps({"tool_output": f"export GH={token}"}) + "\n")
    with pytest.raises(DataError, match=r"a\.jsonl, line 1: github-pat") as told:
        gitleaks.search([folder], keep=False)
    assert token not in str(told.value)
