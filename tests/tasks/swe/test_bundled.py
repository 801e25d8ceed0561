"""The bundled miniature repositories: made again the same, and whole tasks from tree to reference solution."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from agenttrace.sandbox.reports import Changed, Changes
from agenttrace.tasks.swe import git, patches, repositories, rows, trees

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))
from miniature_repositories.history import History  # noqa: E402 - no package of the kit, so it needs the path

SOURCE, TASKS = rows.load(rows.BUNDLED)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def bare(cache, task):
    source = repositories.source_of(task.repo, str(rows.BUNDLED_FOLDER))
    assert source.endswith(f"{task.repo.replace('/', '__')}.bundle")
    return repositories.ensure(cache, task.repo, task.base_commit, source=source)


def refs(bundle):
    """Commit ids of a bundle: its pack depends on the version of git and zlib, they do not."""
    header = bundle.read_bytes().partition(b"\n\n")[0]
    return [line for line in header.splitlines()[1:] if not line.startswith(b"-")]


def test_made_again_rows_and_commits_are_the_same(tmp_path):
    made = subprocess.run(
        [sys.executable, ROOT / "scripts/make-miniature-repositories.py", "--out", tmp_path],
        capture_output=True,
        text=True,
    )
    assert made.returncode == 0, made.stderr
    assert (tmp_path / "rows.jsonl").read_bytes() == (rows.BUNDLED_FOLDER / "rows.jsonl").read_bytes()
    bundles = sorted(path.name for path in tmp_path.glob("*.bundle"))
    assert bundles == sorted(path.name for path in rows.BUNDLED_FOLDER.glob("*.bundle"))
    for name in bundles:
        assert refs(tmp_path / name) == refs(rows.BUNDLED_FOLDER / name) != []


def test_an_edit_that_fits_nowhere_or_twice_is_refused(tmp_path):
    described = """
        [[commit]]
        message = "one"
        date = "2024-01-01T00:00:00+00:00"
        files = {a = "x x"}
        edits = [{path = "a", old = "%s", new = "z"}]
    """
    for number, old in enumerate("xy"):
        (tmp_path / "d.toml").write_text(described % old)
        with pytest.raises(ValueError, match=f"one: '{old}' does not occur once in a"):
            History(tmp_path / "d.toml", tmp_path / f"{number}.git")


def test_two_tasks_in_each_of_four_languages():
    assert SOURCE.source == "bundled"
    assert sorted(task.language for task in TASKS) == ["go", "go", "js", "js", "python", "python", "shell", "shell"]
    assert len({task.repo for task in TASKS}) == 4
    columns = {"created_at", "FAIL_TO_PASS", "PASS_TO_PASS", *rows.COLUMNS}
    for line in (rows.BUNDLED_FOLDER / "rows.jsonl").read_text().splitlines():
        assert set(json.loads(line)) == columns


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.instance_id)
def test_the_tree_has_the_bug_and_the_reference_solution_removes_it(tmp_path, cache, task):
    tree = trees.make(bare(cache, task), task, tmp_path, hidden_tests=False)
    folder = tmp_path / tree.name
    assert tree.files >= 5
    assert (folder / "README.md").is_file()
    assert (folder / "tests").is_dir()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and ".git" not in path.parts}
    pristine = subprocess.run(["cp", "-a", folder, tmp_path / "pristine"])
    assert pristine.returncode == 0
    subprocess.run(["git", "apply", "-"], cwd=folder, input=task.patch.encode(), check=True)
    entries = []
    for path, content in before.items():
        if path.read_bytes() != content:
            entries.append(
                Changed(
                    path=str(path.relative_to(folder)).encode(),
                    type="file",
                    mode=f"{path.stat().st_mode & 0o777:04o}",
                    content=path.read_bytes(),
                )
            )
    assert len(entries) == 1
    assert not entries[0].path.startswith(b"tests/")
    made, note = patches.diff(tmp_path / "pristine", Changes(entries=tuple(entries), truncated=False))
    assert (made, note) == (task.patch, None)


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.instance_id)
def test_the_hidden_tests_apply_and_the_tree_has_no_later_commit(tmp_path, cache, task):
    without = trees.make(bare(cache, task), task, tmp_path, hidden_tests=False)
    tree = trees.make(bare(cache, task), task, tmp_path, hidden_tests=True)
    assert tree.hidden_tests.applied
    assert tree.name != without.name
    assert tree.language == task.language
    log = git.run(tmp_path / tree.name / ".git", ["log", "--all", "--format=%s"]).decode()
    assert log == f"{task.repo} at {task.base_commit}\n"
    assert "diff --git a/tests/" in task.test_patch
    assert "tests/" not in task.patch
