"""`release`: a release made or checked in the analysis image; `--demo` makes the one of the bundled model anew."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from agenttrace.campaign.options import Options
from agenttrace.errors import DataError, StorageError, UsageError
from agenttrace.host import analysis, campaign, compose, engine
from agenttrace.verbs.validate import local_rules

if TYPE_CHECKING:
    from collections.abc import Sequence

DEMO = "agenttrace-demo"
"""Name of the released data set of the bundled model: its folder in `datasets/`, its records, its run id."""
_TITLE = "agenttrace demo: traces of the bundled model"


def run(argv: Sequence[str]) -> int:
    """Make or check a release and return the exit status.

    Raises:
        UsageError: `--demo` is not alone, or a file or folder cannot be had.
        DataError: the campaign is not fit to be released.
    """
    if "--demo" in argv:
        if len(argv) > 1:
            raise UsageError("--demo collects and releases the bundled model's demo tasks: give it alone")
        return demo(compose.ROOT / "datasets" / DEMO)
    # The container does not know what is private to this machine.
    private = [] if "--verify" in argv else [f"--private={one.text}" for one in local_rules()[0]]
    return analysis.run("release", [*argv, *private])


def demo(folder: Path) -> int:
    """Collect the demo tasks with the bundled model, release them, check that, and put it in the place of `folder`.

    Raises:
        UsageError: this is no git checkout, or it has changes that are not committed.
        DataError: campaign or release did not come to a good end; `folder` is as it was.
        StorageError: it cannot be written.
    """
    if compose.git_state()["git_dirty"] is not False:
        raise UsageError("a release is collected from a git checkout without changes: commit them first")
    (compose.ROOT / ".nox").mkdir(exist_ok=True)
    # In the checkout, because that is what an engine in a virtual machine sees of this machine.
    with tempfile.TemporaryDirectory(prefix="release-", dir=compose.ROOT / ".nox") as name:
        work = Path(name)
        records, new = work / f"{DEMO}.jsonl", work / "release"
        options = Options(run_id=DEMO, output=records.name)
        _must(campaign.collect(campaign.Request(options=(options,), folder=work)), "the campaign is not complete")
        _must(run([str(records), "-o", str(new), "--title", _TITLE]), "it is not fit to be released")
        _must(run(["--verify", str(new)]), "the new release is not whole")
        try:
            _replace(folder, new, work / "old")
        except OSError as error:
            raise StorageError(f"cannot write {folder}: {error.strerror or error}") from error
    engine.say(f"released: {folder}; commit it")
    return 0


def _must(status: int, otherwise: str) -> None:
    if status:
        raise DataError(f"{otherwise} (see above): nothing was released")


def _replace(folder: Path, new: Path, old: Path) -> None:
    for path in (new, *new.rglob("*")):  # whatever the umask of this shell is, the release is readable
        path.chmod(0o755 if path.is_dir() else 0o644)
    if folder.exists():
        folder.rename(old)
    try:
        new.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
