"""What the documents show is run, block by block as a reader would, in a copy of the checkout with a home of its own.

Without an engine `scripts/nox -s VERB -- …` and `agenttrace VERB …` both become this Python's `python -m agenttrace
VERB …`; with one, they are the real launcher. Blocks that need what no test has are skipped by their name.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.documents.blocks import DOCUMENTS, NEEDS, ROOT, blocks

if TYPE_CHECKING:
    from pathlib import Path

WITHIN_S = 280
_RUNS = ("sh", "console", "python")
_LAUNCHER = """#!/bin/sh
# nox's own words around a verb: -s VERB -- ARGUMENTS
[ "$1" = -s ] || exit 2
verb=$2; shift 2; [ $# = 0 ] || shift
exec agenttrace "$verb" "$@"
"""


class Sandbox:
    """A copy of what git knows of the checkout, and how blocks are run in it."""

    def __init__(self, base: Path, *, engine: bool) -> None:
        self.root, self.bin, self.engine = base / "agenttrace", base / "bin", engine
        files = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            capture_output=True,
            check=True,
        ).stdout.decode()
        for name in filter(None, files.split("\0")):
            if (ROOT / name).exists() or (ROOT / name).is_symlink():
                (self.root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, self.root / name, follow_symlinks=False)
        for folder in (self.bin, base / "home"):
            folder.mkdir()
        python = shlex.quote(sys.executable)
        self._program("agenttrace", f'#!/bin/sh\nexec {python} -P -m agenttrace "$@"\n')
        for name in ("python", "python3"):
            self._program(name, f'#!/bin/sh\nexec {python} "$@"\n')
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
            "HOME": str(base / "home"),
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "PYTHONPATH": str(self.root),
            "HF_DATASETS_CACHE": str(base / "home" / "hub"),
            "COLUMNS": "100",
        }
        shutil.copy(self.root / "datasets/agenttrace-demo/records/agenttrace-demo.jsonl", self.root / "records.jsonl")
        if engine:
            (ROOT / ".nox").mkdir(exist_ok=True)
            (self.root / ".nox").symlink_to(ROOT / ".nox")
        else:
            self.env["DOCKER_HOST"] = "tcp://127.0.0.1:1"
            (self.root / "scripts" / "nox").write_text(_LAUNCHER, encoding="ascii")

    def _program(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text, encoding="utf-8")
        (self.bin / name).chmod(0o755)

    def run(self, block):
        """Run one block; return what it printed."""
        words = ["bash", "-euo", "pipefail", "-c", block.script]
        if block.language == "python":
            words = ["python", "-P", "-c", block.script]
        ended = subprocess.run(
            words,
            cwd=self.root,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=WITHIN_S,
        )
        assert ended.returncode == 0, f"{block.name}: status {ended.returncode}\n{block.script}\n{ended.stdout}"
        return ended.stdout


def check_printed(block, printed):
    """What a console shows is printed, line by line in this order; `...` stands for any lines."""
    lines = iter(line.rstrip() for line in printed.splitlines())
    for line in block.printed:
        if line != "...":
            assert line.rstrip() in lines, f"{block.name}: not printed (here): {line}\n{printed}"


def run_all(document, sandbox, subtests, *needs):
    for block in blocks(document):
        if block.language in _RUNS:
            with subtests.test(msg=block.name):
                if block.needs.split(" ")[0] not in needs:
                    pytest.skip(f"{block.name} needs: {block.needs}")
                check_printed(block, sandbox.run(block))


def has(document, *needs):
    return any(block.language in _RUNS and block.needs.split(" ")[0] in needs for block in blocks(document))


@pytest.mark.slow
@pytest.mark.parametrize("document", [one for one in DOCUMENTS if has(one, "", *NEEDS)])
def test_what_runs_anywhere_runs(document, tmp_path, subtests):
    run_all(document, Sandbox(tmp_path, engine=False), subtests, "")


@pytest.mark.docker
@pytest.mark.timeout(900)
@pytest.mark.parametrize("document", [one for one in DOCUMENTS if has(one, "engine")])
def test_what_needs_an_engine_runs_with_one(document, tmp_path, subtests):
    run_all(document, Sandbox(tmp_path, engine=True), subtests, "", "engine")
