"""A second opinion before an upload: gitleaks, where it is installed, looks at the files with its own rules.

It reads text. What is packed (Parquet, gzip, Zstandard) it passes over; the kit's own rule has read that.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agenttrace.errors import AgentTraceError, DataError
from agenttrace.host import engine
from agenttrace.show import say

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PROGRAM = "gitleaks"
_FOUND = 42
"""Exit status that is asked for where something is found: 1 is that of any failure."""
_SHOWN = 10
_TIMEOUT_S = 3600.0


class _Finding(msgspec.Struct):
    """One finding of its JSON report; the texts in it are redacted."""

    rule: str = msgspec.field(name="RuleID")
    file: str = msgspec.field(name="File")
    line: int = msgspec.field(name="StartLine")


def search(paths: Sequence[Path], *, keep: bool) -> None:
    """Have gitleaks look at files and folders, and say what it found.

    Args:
        paths: what is to be uploaded, and what that was made of.
        keep: whether findings are told only.

    Raises:
        DataError: it found something; nothing was uploaded.
        AgentTraceError: it failed.
    """
    if shutil.which(PROGRAM) is None:
        say("gitleaks is not installed, so the kit's own leak check alone has looked (a second opinion: install it)")
        return
    found = [finding for path in paths if path.exists() for finding in _findings(path)]
    if not found:
        say("gitleaks found nothing")
        return
    more = f"\n  and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
    lines = "".join(f"\n  {one.file}, line {one.line}: {one.rule}" for one in found[:_SHOWN])
    if not keep:
        raise DataError(
            f"gitleaks found what looks like a secret:{lines}{more}\nNothing was uploaded. --keep-findings uploads it."
        )
    say(f"gitleaks found what looks like a secret, which --keep-findings uploads:{lines}{more}")


def _findings(path: Path) -> Iterator[_Finding]:
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        words = [PROGRAM, "detect", "--no-git", "--no-banner", "--redact", "--source", str(path)]
        words += ["--report-format", "json", "--report-path", str(report), "--exit-code", str(_FOUND)]
        ended = engine.run(words, check=False, timeout_s=_TIMEOUT_S)
        if ended.returncode not in {0, _FOUND}:
            last = (ended.stderr.strip().splitlines() or ["no output"])[-1]
            raise AgentTraceError(f"gitleaks ended with status {ended.returncode}: {last}; nothing was uploaded")
        if ended.returncode == _FOUND:
            try:
                yield from msgspec.json.decode(report.read_bytes(), type=list[_Finding])
            except (OSError, msgspec.MsgspecError) as error:
                raise AgentTraceError(
                    f"gitleaks found something and its report cannot be read ({error}); nothing was uploaded"
                ) from error
