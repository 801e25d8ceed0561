"""`verify-fixture` on the real engine: three equal digests, or the path that differs."""

import shutil
import subprocess
import sys

import pytest

from agenttrace.fixture.build import load, write_tree
from agenttrace.fixture.version import released_version

pytestmark = pytest.mark.docker
RELEASED = released_version("nl2bash")


@pytest.fixture
def testdata(tmp_path):
    folder = tmp_path / "test data"
    write_tree(load("nl2bash"), folder)
    return folder


def verify(instance, folder):
    return subprocess.run(
        [sys.executable, "-m", "agenttrace.host", "verify-fixture", "--testdata", str(folder)],
        capture_output=True,
        text=True,
        env=instance.env,
        cwd="/",
        timeout=120,
    )


def test_three_equal_digests(instance, testdata):
    ended = verify(instance, testdata)
    assert ended.returncode == 0, ended.stderr
    *places, last = ended.stdout.splitlines()
    assert [line.split()[0] for line in places] == [RELEASED] * 3
    assert last == f"{RELEASED}  released: all equal"


def test_a_tree_as_git_left_it_is_completed_first(instance, testdata):
    for path in [testdata, *testdata.rglob("*")]:
        path.touch()
    (testdata / "workspace/dir1/all.txt").chmod(0o755)
    shutil.rmtree(testdata / "workspace/test")
    ended = verify(instance, testdata)
    assert ended.returncode == 0, ended.stderr
    assert "is as git left it" in ended.stderr
    assert ended.stdout.count(RELEASED) == 4


def test_a_change_is_named_and_left_alone(instance, testdata):
    (testdata / "system/MANIFEST").touch()
    ended = verify(instance, testdata)
    assert ended.returncode == 1
    first, difference, *others, last = ended.stdout.splitlines()
    assert RELEASED not in first
    assert difference.strip().startswith("time     system/MANIFEST")
    assert [line.split()[0] for line in others] == [RELEASED] * 2
    assert last.endswith("NOT equal")


def test_a_missing_tree_is_one_message(instance, tmp_path):
    ended = verify(instance, tmp_path / "nothing")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "nothing is missing" in ended.stderr
    assert "Traceback" not in ended.stderr
