"""`scripts/generate-testdata.py` makes the same tree anywhere, names what differs, and destroys nothing."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agenttrace.fixture.build import load
from agenttrace.fixture.version import released_version
from agenttrace.sandbox.runner import tree

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts/generate-testdata.py"
UMASKS = (0o000, 0o022, 0o077)


def run(*arguments, umask=0o022, script=SCRIPT, cwd="/"):
    # -I: no environment, no packages beside the standard library's are needed; -S: nor could any be found.
    return subprocess.run(
        [sys.executable, "-I", "-S", "-B", script, *arguments], capture_output=True, text=True, umask=umask, cwd=cwd
    )


def generate(folder, *arguments, **options):
    return run("--output", folder, *arguments, **options)


def check(folder, *arguments):
    return run("--output", folder, "--check", *arguments)


def digest(folder):
    return tree.digest(tree.listing(str(folder))[0])


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("generated") / "testdata"
    ended = generate(folder)
    assert (ended.returncode, ended.stderr) == (0, "")
    return folder


@pytest.fixture
def testdata(generated, tmp_path):
    folder = tmp_path / "my project" / "testdata"
    folder.parent.mkdir()
    subprocess.run(["cp", "-a", generated, folder], check=True)
    assert digest(folder) == released_version("nl2bash")
    return folder


@pytest.mark.parametrize("umask", UMASKS)
@pytest.mark.parametrize("name", ["nl2bash", "demo"])
def test_the_tree_has_the_released_digest_whatever_the_umask(tmp_path, umask, name):
    folder = tmp_path / "a b"
    assert generate(folder, "--fixture", name, umask=umask).returncode == 0
    assert digest(folder) == released_version(name)
    ended = check(folder, "--fixture", name)
    assert ended.returncode == 0
    assert ended.stdout.splitlines()[-1].endswith(f"digest {released_version(name)}")


def mend(printed, cwd):
    command = printed.rpartition("To mend it: ")[2]
    assert command
    return subprocess.run(["sh", "-c", command], cwd=cwd, capture_output=True, text=True)


@pytest.mark.parametrize("named", ["testdata", "../my project/testdata", "-testdata"])
def test_what_mends_it_can_be_pasted_where_it_was_printed(testdata, named):
    if named.startswith("-"):
        testdata = testdata.rename(testdata.with_name(named))
    (testdata / "index.html").unlink()
    script = os.path.relpath(SCRIPT, testdata.parent)
    ended = run(f"--output={named}", "--check", script=script, cwd=testdata.parent)
    assert ended.returncode == 1
    again = mend(ended.stdout, testdata.parent)
    assert (again.returncode, again.stderr) == (0, "")
    assert check(testdata).returncode == 0


def test_only_a_tree_as_git_left_it_is_said_to_be_one(testdata):
    (testdata / "system/MANIFEST").touch()
    assert "Git carries" not in check(testdata).stdout


def test_an_empty_name_is_refused_and_nothing_is_touched(tmp_path):
    (tmp_path / "system").mkdir(mode=0o500)
    for more in ((), ("--check",)):
        ended = run("--output", "", *more, cwd=tmp_path)
        assert ended.returncode == 2
        assert "--output: the name is empty" in ended.stderr
    assert (tmp_path / "system").stat().st_mode & 0o777 == 0o500


def test_where_a_link_leads_is_printed(testdata):
    link = testdata.parent.parent / "link"
    link.symlink_to(testdata.parent)
    ended = check(link / "testdata")
    assert ended.returncode == 0
    assert f"{link}/testdata (that is {testdata}) is the fixture" in ended.stdout


def test_a_second_run_writes_no_file(testdata):
    before = {path: path.lstat().st_ino for path in testdata.rglob("*")}
    assert generate(testdata, umask=0o077).returncode == 0
    assert {path: path.lstat().st_ino for path in testdata.rglob("*")} == before
    assert digest(testdata) == released_version("nl2bash")


CHANGES = {
    "touch": (lambda root: (root / "system/MANIFEST").touch(), ["time     system/MANIFEST"]),
    "touched folder": (lambda root: (root / "testbed").touch(), ["time     testbed  "]),
    "touched root": (lambda root: root.touch(), ["time     .  ("]),
    "root with another mode": (lambda root: root.chmod(0o700), ["mode     .  (0700, should be 0755)"]),
    "chmod": (lambda root: (root / "workspace/dir1/all.txt").chmod(0o755), ["mode     workspace/dir1/all.txt"]),
    "locked folder": (lambda root: (root / "testbed/dir1").chmod(0), ["mode     testbed/dir1  "]),
    "changed byte": (
        lambda root: (root / "workspace/dir1/file.c").write_bytes(bytes(2047) + b"x"),
        ["content  workspace/dir1/file.c"],
    ),
    "missing file": (lambda root: (root / "index.html").unlink(), ["missing  index.html"]),
    "missing folder": (
        lambda root: shutil.rmtree(root / "workspace/test"),
        ["missing  workspace/test  (an empty folder)", "missing  workspace/test/2dir"],
    ),
    "file with a space": (
        lambda root: (root / "system/folder2/special text3.txt").write_text(""),
        ["content  system/folder2/special text3.txt"],
    ),
}
FOREIGN = {
    "added empty folder": (lambda root: (root / "testbed/new folder").mkdir(), ["extra    testbed/new folder"]),
    "extra file": (lambda root: (root / "extra").write_text("mine"), ["extra    extra"]),
    "extra link": (lambda root: (root / "way out").symlink_to("/"), ["extra    way out  (a link to '/')"]),
    "file for a folder": (
        lambda root: ((root / "workspace/test/2dir").rmdir(), (root / "workspace/test/2dir").write_text("")),
        ["type     workspace/test/2dir"],
    ),
    "pipe for a file": (
        lambda root: ((root / "index.html").unlink(), os.mkfifo(root / "index.html")),
        ["type     index.html  (is neither file, folder nor link, should be a file)"],
    ),
}


@pytest.mark.parametrize("case", [*CHANGES, *FOREIGN])
def test_check_names_the_path(testdata, case):
    change, lines = (CHANGES | FOREIGN)[case]
    change(testdata)
    ended = check(testdata)
    if case == "locked folder":
        (testdata / "testbed/dir1").chmod(0o755)
    assert ended.returncode == 1
    assert all(line in ended.stdout for line in lines), ended.stdout


@pytest.mark.parametrize("case", CHANGES)
def test_generating_again_mends_it(testdata, case):
    CHANGES[case][0](testdata)
    assert check(testdata).returncode == 1
    assert generate(testdata).returncode == 0
    assert digest(testdata) == released_version("nl2bash")
    assert check(testdata).returncode == 0


@pytest.mark.parametrize("case", FOREIGN)
def test_what_is_not_the_fixture_s_is_named_and_never_touched(testdata, case):
    change, lines = FOREIGN[case]
    change(testdata)
    (testdata / "backup/file.txt").unlink()
    before = digest(testdata)
    ended = generate(testdata)
    assert ended.returncode == 1
    assert "nothing was written" in ended.stderr
    assert all(line in ended.stderr for line in lines)
    assert digest(testdata) == before


def test_a_link_in_the_place_of_a_file_is_named_and_not_followed(testdata, tmp_path):
    (tmp_path / "outside").write_text("mine")
    (testdata / "system/MANIFEST").unlink()
    (testdata / "system/MANIFEST").symlink_to(tmp_path / "outside")
    assert "type     system/MANIFEST  (is a link to" in check(testdata).stdout
    assert generate(testdata).returncode == 1
    assert (tmp_path / "outside").read_text() == "mine"


def test_a_link_in_the_place_of_a_folder_is_named_and_not_followed(testdata, tmp_path):
    (testdata / "system").rename(tmp_path / "elsewhere")
    (testdata / "system").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/MANIFEST").unlink()
    (tmp_path / "elsewhere/folder1").chmod(0o500)
    assert "type     system  (is a link to" in check(testdata).stdout
    assert generate(testdata).returncode == 1
    assert not (tmp_path / "elsewhere/MANIFEST").exists()
    assert (tmp_path / "elsewhere/folder1").stat().st_mode & 0o777 == 0o500


def test_a_link_in_the_place_of_the_tree_is_refused(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "testdata").symlink_to("real")
    for ended in (generate(tmp_path / "testdata"), check(tmp_path / "testdata")):
        assert ended.returncode == 1
        assert "testdata is a link" in ended.stderr
    assert list((tmp_path / "real").iterdir()) == []


def test_a_file_with_a_second_name_is_written_anew(testdata, tmp_path):
    os.link(testdata / "system/text1.txt", tmp_path / "mine")
    (tmp_path / "mine").write_text("mine")
    assert generate(testdata).returncode == 0
    assert (tmp_path / "mine").read_text() == "mine"
    assert digest(testdata) == released_version("nl2bash")


def test_a_replaced_link_is_named_and_mended(tmp_path):
    folder = tmp_path / "demo"
    assert generate(folder, "--fixture", "demo").returncode == 0
    (folder / "latest.log").unlink()
    (folder / "latest.log").symlink_to(tmp_path)
    ended = check(folder, "--fixture", "demo")
    assert ended.returncode == 1
    assert "link     latest.log" in ended.stdout
    assert f"--fixture demo --output {folder}" in ended.stdout
    assert generate(folder, "--fixture", "demo").returncode == 0
    assert digest(folder) == released_version("demo")


def test_a_run_that_was_cut_off_is_repeated(testdata):
    paths = [entry.path for entry in load("nl2bash").entries if entry.type == "file"]
    for path in paths[::3]:
        (testdata / path).unlink()
    for path in paths[1::3]:
        (testdata / path).chmod(0o600)
        (testdata / path).write_bytes(b"")
    assert generate(testdata).returncode == 0
    assert digest(testdata) == released_version("nl2bash")


def test_the_finder_s_files_do_not_count(testdata):
    (testdata / ".DS_Store").write_bytes(b"\0")
    (testdata / "testbed/._hello.c").write_bytes(b"\0")
    assert generate(testdata).returncode == 0
    ended = check(testdata)
    assert ended.returncode == 0
    assert "note: '.DS_Store' is the Finder's" in ended.stdout
    assert "note: 'testbed/._hello.c' is the Finder's" in ended.stdout
    assert (testdata / ".DS_Store").exists()


def test_the_fixture_s_own_ds_store_counts(testdata):
    (testdata / "system/.DS_Store").write_bytes(b"Bud1")
    ended = check(testdata)
    assert ended.returncode == 1
    assert "content  system/.DS_Store" in ended.stdout


def test_nothing_there_and_no_such_fixture(tmp_path):
    ended = check(tmp_path / "testdata")
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "is missing" in ended.stderr
    assert "known: demo, " in generate(tmp_path / "testdata", "--fixture", "other").stderr
    assert not (tmp_path / "testdata").exists()


def test_the_manifest_is_json_lines_with_owners():
    ended = run("--manifest")
    entries = [json.loads(line) for line in ended.stdout.splitlines()]
    assert tree.digest(entries) == released_version("nl2bash")
    assert {entry["owner"] for entry in entries} == {"agent"}
    assert set(entries[0]) == {"path", "type", "mode", "owner", "mtime_ns", "size", "sha256", "target"}


@pytest.mark.parametrize("umask", UMASKS)
def test_a_clone_lacks_what_git_does_not_carry_and_gets_it_back(tmp_path, umask):
    origin, clone = tmp_path / "origin", tmp_path / "a clone"
    origin.mkdir()
    for name in ("scripts/generate-testdata.py", ".gitignore", ".gitattributes"):
        (origin / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, origin / name)
    for name in ("agenttrace/__init__.py", "agenttrace/fixture", "agenttrace/sandbox"):
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        (origin / name).parent.mkdir(exist_ok=True)
        copy(ROOT / name, origin / name)
    script = origin / "scripts/generate-testdata.py"
    assert run(script=script).returncode == 0
    change(origin / "agenttrace/fixture/released.toml", released_version("nl2bash"), "0" * 64)
    ended = run("--check", script=script)
    assert ended.returncode == 1
    assert "nl2bash.toml describes" in ended.stdout
    change(origin / "agenttrace/fixture/released.toml", "0" * 64, released_version("nl2bash"))
    git(tmp_path, "init", "--quiet", str(origin))
    git(origin, "config", "core.autocrlf", "true")
    git(origin, "add", ".")
    git(origin, "-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "--quiet", "-m", "all")
    git(tmp_path, "-c", "core.autocrlf=true", "clone", "--quiet", str(origin), str(clone), umask=umask)

    script = clone / "scripts/generate-testdata.py"
    ended = run("--check", script=script)
    assert ended.returncode == 1
    assert "missing  testbed/dir1/subdir2  (an empty folder)" in ended.stdout
    assert "mode     workspace/dir1/readonly.txt" in ended.stdout
    assert "time     index.html" in ended.stdout
    assert "content" not in ended.stdout
    assert "Git carries no times" in ended.stdout
    assert mend(ended.stdout, tmp_path).returncode == 0
    assert run("--check", script=script).returncode == 0
    assert run(script=script, umask=umask).returncode == 0
    assert run("--check", script=script).returncode == 0
    assert digest(clone / "testdata") == released_version("nl2bash")
    assert git(clone, "status", "--porcelain", "testdata").stdout == ""


def change(path, old, new):
    path.write_text(path.read_text().replace(old, new))


def git(cwd, *arguments, umask=-1):
    return subprocess.run(["git", *arguments], cwd=cwd, check=True, capture_output=True, text=True, umask=umask)


def test_the_repository_has_every_file_of_the_tree():
    """Times, modes and empty folders are for the generator; the bytes must be right in every checkout."""
    for entry in load("nl2bash").entries:
        if entry.type == "file":
            assert (ROOT / "testdata" / entry.path).read_bytes() == entry.content, entry.path
