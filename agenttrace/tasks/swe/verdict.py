"""Whether a patch solves its task, as far as that can be said without running anything."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from agenttrace.records import Verdict
from agenttrace.tasks.swe import git, patches
from agenttrace.tasks.swe.rows import BUNDLED

if TYPE_CHECKING:
    from agenttrace.tasks.swe.task import SweTask

METHOD = "gold-tree-v1"
ASPECT = "patch"
NOT_RUN = "execution-free: tests are not run"


def judge(tree: Path, task: SweTask, patch: str | None, note: str | None, *, source: str) -> Verdict:
    """Return the verdict on a patch.

    Only the bundled tasks can be judged: each has one reference solution, and a patch passes when it gives exactly the
    same files (`gold-tree-v1`). Any other task would need its tests.

    Args:
        tree: the pristine tree, with its `.git`; only read.
        task: brings the reference solution.
        patch: what the rollout changed; `None` when that could not be found out.
        note: why there is no patch, or what it leaves out.
        source: of the task set.

    Raises:
        GitError: git failed over our own objects.
    """
    if source != BUNDLED or not task.patch.strip():
        return Verdict(aspect=ASPECT, verdict="not_gradable", method=METHOD, reason=NOT_RUN)
    if patch is None:
        return Verdict(aspect=ASPECT, verdict="not_gradable", method=METHOD, reason=note or "there is no patch")
    if not patch:
        return Verdict(aspect=ASPECT, verdict="failed", method=METHOD, reason="nothing was changed")
    if note not in {None, patches.BINARY}:
        return Verdict(
            aspect=ASPECT, verdict="failed", method=METHOD, reason=f"not all that was changed is in the patch: {note}"
        )
    if applied(tree, patch) == applied(tree, task.patch):
        return Verdict(aspect=ASPECT, verdict="passed", method=METHOD)
    reason = "the files differ from those that the reference solution gives"
    return Verdict(aspect=ASPECT, verdict="failed", method=METHOD, reason=reason)


def applied(tree: Path, patch: str) -> str:
    """Return the id of the tree object that a patch makes of the pristine tree; the tree itself stays as it is.

    Raises:
        GitError: the patch does not apply.
    """
    with tempfile.TemporaryDirectory(prefix="agenttrace-verdict-") as name:
        scratch = Path(name)
        (scratch / "objects").mkdir()
        env = {
            "GIT_INDEX_FILE": str(scratch / "index"),
            "GIT_OBJECT_DIRECTORY": str(scratch / "objects"),
            "GIT_ALTERNATE_OBJECT_DIRECTORIES": str(tree / ".git" / "objects"),
        }
        folder = tree / ".git"
        git.run(folder, ["read-tree", "HEAD"], env=env, cwd=scratch)
        arguments = ["apply", "--cached", "--whitespace=nowarn", "-"]
        git.run(folder, arguments, stdin=patch.encode(), env=env, cwd=scratch)
        return git.run(folder, ["write-tree"], env=env, cwd=scratch).decode().strip()
