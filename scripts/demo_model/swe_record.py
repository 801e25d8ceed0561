"""Records what the commands of the bundled tasks print in their trees.

Start it in the root of the repository with `PYTHONPATH=.:scripts python -m demo_model.swe_record`.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from agenttrace.tasks.swe import repositories, rows, trees
from demo_model import swe_routes
from demo_model.turns import FOLDER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agenttrace.tasks.swe.rows import SweTask


def record(dialogue: swe_routes.SweDialogue, task: SweTask, folder: Path) -> dict[str, dict[str, str]]:
    """Return what each command prints: after which edit ("" is none) → command → output.

    Raises:
        ValueError: an edit that should solve the task does not, or one that should not, does.
    """
    bare = repositories.ensure(
        folder / "cache",
        task.repo,
        task.base_commit,
        source=repositories.source_of(task.repo, str(rows.BUNDLED_FOLDER)),
    )
    pristine = folder / trees.make(bare, task, folder, hidden_tests=False).name
    outputs = {"": _outputs(pristine, [], dialogue.before, folder)}
    for kind in ("edit", "wrong", "missed"):
        for edit in getattr(dialogue, kind):
            outputs[edit] = _outputs(pristine, [edit], dialogue.checks, folder)
            changed = _run(pristine, [edit], "git diff --full-index", folder)
            if (changed == task.patch) != (kind == "edit") or (not changed) != (kind == "missed"):
                raise ValueError(f"{dialogue.id}: {edit!r} is no edit of the kind {kind}: {changed}")
    return outputs


def main() -> None:
    """Write `swe_outputs.json`."""
    _, tasks = rows.load(rows.BUNDLED)
    recorded = {}
    for dialogue, task in zip(swe_routes.load_dialogues(), tasks, strict=True):
        with tempfile.TemporaryDirectory() as folder:
            recorded[dialogue.id] = record(dialogue, task, Path(folder))
    text = json.dumps(recorded, indent=1, ensure_ascii=False) + "\n"
    (FOLDER / "swe_outputs.json").write_text(text, encoding="utf-8")


def _outputs(pristine: Path, edits: list[str], commands: Sequence[str], folder: Path) -> dict[str, str]:
    own = {edit: _run(pristine, [], edit, folder) for edit in edits}
    return {**own, **{command: _run(pristine, edits, command, folder) for command in commands}}


def _run(pristine: Path, edits: list[str], command: str, folder: Path) -> str:
    """Return what the last command prints in a fresh copy of the tree, standard error after standard output."""
    with tempfile.TemporaryDirectory(dir=folder) as copy:
        subprocess.run(["cp", "-a", f"{pristine}/.", copy], check=True)  # noqa: S603, S607 - coreutils
        environment = {
            "PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "HOME": "/nonexistent",
            "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1",
        }  # fmt: skip
        for each in (*edits, command):
            done = subprocess.run(  # noqa: S603 - our own commands, on a throwaway tree
                ["bash", "-c", each],  # noqa: S607 - the shell of the machine
                cwd=copy,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=60,
                check=False,
            )
    return "\n".join(text for text in (done.stdout, done.stderr) if text)


if __name__ == "__main__":
    main()
