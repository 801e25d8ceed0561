"""The sessions through nox itself: how verbs end, what is printed around them, what is installed, the list."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agenttrace.verbs import GROUPS, VERBS

ROOT = Path(__file__).resolve().parents[2]
RECORDS = ROOT / "datasets/agenttrace-demo/records/agenttrace-demo.jsonl"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def nox():
    """The command of the locked nox, or of any that is there."""
    bootstrap = sorted(ROOT.glob(".nox/bootstrap/*/bin/python"))
    if not bootstrap and importlib.util.find_spec("nox") is None:
        pytest.skip("no nox: scripts/nox -l makes one in .nox/bootstrap")
    return [str(bootstrap[0]) if bootstrap else sys.executable, "-P", "-m", "nox", "-f", str(ROOT / "noxfile.py")]


def run(nox, *words, **more):
    return subprocess.run([*nox, *words], capture_output=True, text=True, check=False, **more)


def test_a_verb_prints_the_same_through_nox_and_ends_with_its_own_status(nox, tmp_path, agenttrace):
    run(nox, "-s", "show", "--", str(RECORDS))  # where it is the first of all, it says that it sets up its environment
    (tmp_path / "bad.jsonl").write_text("{}\n")
    for words, status in (
        (["show", str(RECORDS)], 0),
        (["show", "absent.jsonl"], 2),
        (["validate", "bad.jsonl"], 1),
        (["show", str(RECORDS), "nothing"], 2),
    ):
        through = run(nox, "-s", words[0], "--", *words[1:], cwd=tmp_path)
        direct = agenttrace(*words, cwd=tmp_path)
        assert (through.returncode, through.stdout, through.stderr) == (status, direct.stdout, direct.stderr)
        assert direct.returncode == status


def test_the_name_of_no_session_is_answered_with_the_verb_that_was_meant(nox):
    ended = run(nox, "-s", "shwo")
    assert ended.returncode != 0
    assert "Sessions not found: shwo (did you mean show?); -l lists all" in ended.stderr


@pytest.fixture
def checkout(nox, tmp_path):
    """The command of nox over this noxfile beside a package whose verbs do what a test writes into `host.py`."""
    shutil.copytree(ROOT / "agenttrace/verbs", tmp_path / "agenttrace/verbs")
    (tmp_path / "agenttrace/__init__.py").touch()
    (tmp_path / ".nox").mkdir()
    for name in ("noxfile.py", "requirements", ".nox/verbs"):
        (tmp_path / name).symlink_to(ROOT / name)
    return [*nox[:-1], str(tmp_path / "noxfile.py"), "-s", "collect", "--"], tmp_path / "agenttrace/host.py"


@pytest.mark.parametrize("status", [0, 1, 2, 3, 4, 5, 130])
def test_every_status_comes_through_without_a_word_of_nox(checkout, status):
    command, host = checkout
    host.write_text("import sys\nprint('done')\nsys.exit(int(sys.argv[2]))\n")
    ended = run(command, str(status))
    assert (ended.returncode, ended.stdout, ended.stderr) == (status, "done\n", "")


def test_ctrl_c_is_told_once_and_by_the_verb(checkout):
    command, host = checkout
    waits = "import sys, time\ntry:\n    print('waits', flush=True)\n    time.sleep(60)\n"
    waits += "except KeyboardInterrupt:\n    print('interrupted', file=sys.stderr)\n    sys.exit(130)\n"
    host.write_text(waits)
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True, start_new_session=True) as process:
        assert process.stdout.readline() == "waits\n"
        os.killpg(process.pid, signal.SIGINT)  # the whole group, as a terminal does
        _, told = process.communicate(timeout=30)
    assert (process.returncode, told) == (130, "interrupted\n")


def test_a_second_verb_installs_nothing(nox):
    run(nox, "-s", "show", "--", "--help")
    before = {path.name for path in (ROOT / ".nox").iterdir()}
    ended = run(nox, "-s", "doctor", "--", "--help")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout.startswith("usage: nox -s doctor -- ")
    assert {path.name for path in (ROOT / ".nox").iterdir()} == before


def test_the_list_has_the_verbs_first_by_group_then_checks_and_benches(nox):
    listed = run(nox, "-l").stdout.splitlines()
    tags = [line.split("[")[1].split("]")[0] for line in listed if line.startswith(("*", "-"))]
    assert list(dict.fromkeys(tags)) == [*GROUPS, "check", "measure", "maintenance"]
    for name, verb in VERBS.items():
        assert any(f" {name} [{verb.group}] -> {verb.help}" in line for line in listed), name
