"""A task set of the user's own as a campaign knows it: its tasks, the trees they start from, and who judges."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from agenttrace.errors import UsageError
from agenttrace.fixture.version import fixture_version
from agenttrace.records import DatasetSpec
from agenttrace.store.jsonl import write_whole
from agenttrace.tasks import OWN, Judgement, Task, TaskSet
from agenttrace.tasks.own import checks
from agenttrace.tasks.own.loading import load, unpacked

if TYPE_CHECKING:
    from agenttrace.tasks import Finished
    from agenttrace.tasks.bench import Bench
    from agenttrace.tasks.own.format import OwnTask
    from agenttrace.tasks.own.loading import OwnSet

KIND = "own"
_EMPTY = "empty"
_DIGEST = re.compile(r"[0-9a-f]{64}")


class OwnTasks(TaskSet):
    """A task set of the user's own.

    Args:
        found: the set, read and checked.
    """

    brings_trees = True

    def __init__(self, found: OwnSet) -> None:
        self._set = found
        self.clock = found.clock
        self.fixture = _EMPTY if found.fixture is None else tree_name(found.fixture)
        self.listed = tuple(_task(one, found) for one in found.tasks)
        self.whole = DatasetSpec(
            name=found.name, split=OWN, source=OWN, sha256=found.sha256, offset=0, count=len(self.listed)
        )

    @classmethod
    def in_folder(cls, trees: Path | None, sha256: str) -> Self:
        """Return the set of a digest that `lay_out` left in a folder.

        Raises:
            UsageError: it is not there.
        """
        path = None if trees is None else pack_path(trees, sha256)
        if path is None or not path.is_file():
            raise UsageError(
                f"the task set with SHA-256 {sha256[:64]} is not here: it lies beside its records as NAME.tasks.tar"
            )
        return cls(load(path))

    def fixture_version(self) -> str:
        """Return the digest of the tree of tasks without one of their own."""
        return fixture_version(_EMPTY) if self._set.fixture is None else self._set.fixture

    def packed(self) -> bytes:
        """Return the set as it lies beside its records."""
        return self._set.packed()

    def texts(self) -> dict[str, Any]:
        """Return everything in it that can be read, by the name of the file."""
        files = {
            f"{tree_name(digest)}/{entry.path}": f"{entry.content.decode('utf-8', 'replace')}\n{entry.target}"
            for digest, tree in self._set.trees.items()
            for entry in tree.entries
        }
        return {"tasks.jsonl": [json.loads(line) for line in self._set.canonical.splitlines()], **files}

    def assess(self, task: Task, finished: Finished, bench: Bench) -> Judgement:
        """Return a verdict for each check of the task."""
        return Judgement(verdicts=checks.judge(task, finished, bench))


def _task(one: OwnTask, of: OwnSet) -> Task:
    own = one.fixture is not None and one.fixture != of.fixture
    return Task(
        task_id=one.id,
        name=str(one.id),
        prompt=one.prompt,
        kind=KIND,
        expect={"check": [*one.check], "gold": one.gold, "gold_answer": one.gold_answer},
        facts={"fixture_digest": one.fixture} if own else {},
        fixture=tree_name(str(one.fixture)) if own else None,
        fixture_digest=one.fixture if own else None,
    )


def tree_name(digest: str) -> str:
    """Return the name under which sandbox workers know a tree."""
    return f"own-{digest[:24]}"


def pack_path(trees: Path, sha256: str) -> Path:
    """Return where `lay_out` leaves a set.

    Raises:
        UsageError: that is no digest.
    """
    if not _DIGEST.fullmatch(sha256):
        raise UsageError(f"{sha256[:80]!r} is no SHA-256 of a task set; the run spec was edited")
    return trees / f"own-{sha256}.tar"


def lay_out(data: bytes, trees: Path) -> OwnSet:
    """Make the trees of a packed set below a folder, leave the set itself beside them, and return it.

    Raises:
        UsageError: it is not what it must be.
    """
    found = unpacked(data, "the packed task set")
    for digest, tree in found.trees.items():
        if not (trees / tree_name(digest)).exists():
            building = Path(tempfile.mkdtemp(prefix=".building-", dir=trees))
            try:
                tree.write(building / "tree")
                (building / "tree").rename(trees / tree_name(digest))
            finally:
                shutil.rmtree(building, ignore_errors=True)
    write_whole(pack_path(trees, found.sha256), found.packed())
    return found
