"""Repositories out of source packages: the same commits every time, their steps as tasks, nothing unpinned."""

import hashlib
import http.server
import io
import json
import os
import subprocess
import sys
import tarfile
import threading
from functools import partial
from pathlib import Path

import pytest

from agenttrace.tasks.swe import repositories, rows, trees

ROOT = Path(__file__).resolve().parents[3]
CHANGES = "Changes\n=======\n{}\n1.0\n---\n\nFirst.\n"
VERSIONS = {
    "1.0": {"CHANGES.rst": CHANGES.format(""), "src/a.py": "A = 1\n", "PKG-INFO": "x", "a.egg-info/SOURCES.txt": "x"},
    "1.1": {
        "CHANGES.rst": CHANGES.format("\n1.1\n---\n\n- `A` is two.\n"),
        "src/a.py": "A = 2\n",
        "tests/test_a.py": "from a import A\n",
    },
    "1.2": {"CHANGES.rst": CHANGES.format("\n1.1\n---\n\n- `A` is two.\n"), "src/a.py": "A = 3\n"},
}


def source_package(version, files):
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        link = tarfile.TarInfo(f"a-{version}/link")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(link)
        for name, text in files.items():
            member = tarfile.TarInfo(f"a-{version}/{name}")
            member.size, member.mtime = len(text), 1_700_000_000 + int(version[-1])
            archive.addfile(member, io.BytesIO(text.encode()))
    return data.getvalue()


@pytest.fixture
def index(tmp_path):
    """Yield the address of an index of one package, and its releases as the table of packages has them."""
    folder = tmp_path / "index" / "a"
    folder.mkdir(parents=True)
    files, releases = [], []
    for version, content in VERSIONS.items():
        data = source_package(version, content)
        name, digest = f"a-{version}.tar.gz", hashlib.sha256(data).hexdigest()
        (folder / name).write_bytes(data)
        files.append(f'<a href="{name}#sha256={digest}">{name}</a>')
        releases.append({"version": version, "file": name, "bytes": len(data), "sha256": digest})
    (folder / "index.html").write_text("".join(files))
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), partial(http.server.SimpleHTTPRequestHandler, directory=folder.parent)
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", releases
    server.shutdown()
    server.server_close()


def make(tmp_path, index, releases, *more, out="out"):
    table = tmp_path / "packages.toml"
    said = [
        "{" + ", ".join(f"{key} = {json.dumps(value)}" for key, value in release.items()) + "}" for release in releases
    ]
    table.write_text(
        '[[package]]\nname = "a"\nrepo = "o/a"\nlicense = "MIT"\nlanguage = "python"\nchangelog = "CHANGES.rst"\n'
        f"releases = [{', '.join(said)}]\n"
    )
    return subprocess.run(
        [sys.executable, ROOT / "scripts/make-package-repositories.py", tmp_path / out, "--packages", table, *more],
        capture_output=True,
        text=True,
        env={**os.environ, "PIP_INDEX_URL": index, "PIP_FIND_LINKS": "", "PIP_EXTRA_INDEX_URL": "", "no_proxy": "*"},
    )


def test_a_step_between_versions_is_a_task_over_a_real_tree(tmp_path, index):
    address, releases = index
    made = make(tmp_path, address, releases[:2], "--bundled")
    assert made.returncode == 0, made.stderr
    [task] = [task for task in rows.load(str(tmp_path / "out" / "rows.jsonl"))[1] if task.repo == "o/a"]
    assert task.instance_id == "o__a-1.1"
    assert "- `A` is two." in task.problem_statement
    assert "First." not in task.problem_statement
    assert "+A = 2" in task.patch
    assert "tests/test_a.py" not in task.patch
    assert "tests/test_a.py" in task.test_patch
    source = repositories.source_of(task.repo, str(tmp_path / "out"))
    bare = repositories.ensure(tmp_path / "cache", task.repo, task.base_commit, source=source)
    (tmp_path / "trees").mkdir()
    tree = tmp_path / "trees" / trees.make(bare, task, tmp_path / "trees", hidden_tests=False).name
    files = sorted(str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file())
    assert [name for name in files if not name.startswith(".git/")] == ["CHANGES.rst", "src/a.py"]
    assert len(list((tmp_path / "out").glob("miniature__*.bundle"))) > 1
    again = make(tmp_path, address, releases[:2], "--bundled", out="again")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "again" / "rows.jsonl").read_bytes() == (tmp_path / "out" / "rows.jsonl").read_bytes()


@pytest.mark.parametrize(
    ("table", "told"),
    [
        (None, "No such file or directory"),
        ("# nothing", "has no [[package]]"),
        ("= 7", "not TOML"),
        ('[[package]]\nname = "a"', "package 'a' has no repo, license, language, changelog, releases"),
    ],
)
def test_a_table_that_is_none_is_one_line_and_nothing_is_made(table, told, tmp_path):
    path = tmp_path / "t.toml"
    if table is not None:
        path.write_text(table)
    words = [sys.executable, ROOT / "scripts/make-package-repositories.py", tmp_path / "out", "--packages", path]
    made = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (made.returncode, (tmp_path / "out").exists()) == (1, False)
    assert made.stderr.startswith("error: ")
    assert str(path) in made.stderr
    assert told in made.stderr
    assert len(made.stderr.splitlines()) == 1


def test_a_version_whose_changelog_says_nothing_is_no_task(tmp_path, index):
    address, releases = index
    made = make(tmp_path, address, releases)
    assert made.returncode == 1
    assert made.stderr == "error: a 1.2: CHANGES.rst says nothing new, so there is no task\n"


def test_other_bytes_than_the_pinned_ones_are_refused(tmp_path, index):
    address, releases = index
    (tmp_path / "index" / "a" / "a-1.0.tar.gz").write_bytes(source_package("1.0", {"CHANGES.rst": "x"}))
    made = make(tmp_path, address, releases[:2])
    assert made.returncode == 1
    assert made.stderr.startswith("error: a-1.0.tar.gz: the index sent other bytes")
    assert not list((tmp_path / "out").iterdir())


def test_a_package_that_the_index_lacks_is_named(tmp_path, index):
    made = make(tmp_path, index[0], [{**index[1][0], "file": "b-1.0.tar.gz"}])
    assert made.returncode == 1
    assert "has no b-1.0.tar.gz of a 1.0" in made.stderr
    assert "Traceback" not in made.stderr


def test_a_package_that_cannot_be_fetched_is_named(tmp_path, index):
    (tmp_path / "index" / "a" / "a-1.0.tar.gz").unlink()
    made = make(tmp_path, *index)
    assert made.returncode == 1
    assert made.stderr.startswith("error: a-1.0.tar.gz could not be fetched")
    assert "Traceback" not in made.stderr
