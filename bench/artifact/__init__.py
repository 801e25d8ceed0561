"""`artifact`: the claims of the README and docs/, each with the command that shows it, run, and what came of it.

The claims are data (`claims.toml`); docs/artifact.md is made from them by `nox -s schema`.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import tempfile
import time
import tomllib
from contextlib import suppress
from pathlib import Path
from typing import Literal

import msgspec

from agenttrace.errors import UsageError
from agenttrace.records.base import Record
from agenttrace.show import printable, say

ROOT = Path(__file__).resolve().parents[2]
_LIMIT_S = 3600.0
_ABSENT, _TOO_LONG = 127, 124
"""Exit status of a program that is not there, as shells have it, and of one that was ended, as `timeout` has it."""
_TO_END_S = 60.0
_ESCAPES = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
Verdict = Literal["as claimed", "DIFFERS", "not run"]


class Claim(Record, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A claim and how it is shown.

    Attributes:
        name: of the claim, for `--only`.
        says: the claim.
        where: the page that makes it.
        command: words after `scripts/nox -s`; `{root}` is the checkout.
        prints: regular expressions that are found in the output.
        absent: regular expressions that are not.
        minutes: on two quiet cores, images built.
        disk: what it needs beside them.
        after: claim whose files it reads.
        first: commands of the machine's own that are run before, such as one that makes a key.
        status: its exit status.
        full: it is no part of the short form.
    """

    name: str
    says: str
    where: str
    command: tuple[str, ...]
    prints: tuple[str, ...]
    minutes: float
    absent: tuple[str, ...] = ()
    disk: str = ""
    after: str | None = None
    first: tuple[tuple[str, ...], ...] = ()
    status: int = 0
    full: bool = False

    @property
    def shown(self) -> str:
        """The command as one types it in the checkout, and what is run before."""
        session, *words = (word.replace("{root}/", "") for word in self.command)
        command = f"scripts/nox -s {session}" + (f" -- {shlex.join(words)}" if words else "")
        return "; ".join([*map(shlex.join, self.first), command])


class Result(Record, frozen=True, kw_only=True):
    """What came of a claim: seconds, and why it differs."""

    name: str
    verdict: Verdict
    seconds: float = 0.0
    why: str = ""


def claims() -> list[Claim]:
    """Return all claims, in the order in which they are run."""
    text = (Path(__file__).parent / "claims.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text)["claim"], list[Claim])


def chosen(*, full: bool, only: list[str]) -> list[Claim]:
    """Return the claims of a form, or the named ones with those whose files they read.

    Raises:
        UsageError: there is no such claim.
    """
    every = {claim.name: claim for claim in claims()}
    if unknown := [name for name in only if name not in every]:
        raise UsageError(f"--only {unknown[0]}: known are {', '.join(every)}")
    wanted = set(only) or {claim.name for claim in every.values() if full or not claim.full}
    waiting = list(wanted)
    while waiting:
        if (before := every[waiting.pop()].after) is not None and before not in wanted:
            wanted.add(before)
            waiting.append(before)
    return [claim for claim in every.values() if claim.name in wanted]


def run(*, full: bool, only: list[str], folder: Path | None = None, json_file: Path | None = None) -> int:
    """Run the claims one after the other, print what came of each, and return 1 where one is not as claimed.

    Args:
        full: the long ones as well.
        only: names; all of the form when empty.
        folder: where commands write and their output is kept, a new or empty one; made when `None`.
        json_file: gets the results.

    Raises:
        UsageError: there is no such claim, or the folder is no empty one: a campaign in it would be resumed, not made.
    """
    asked = chosen(full=full, only=only)
    place = (folder or Path(tempfile.mkdtemp(prefix="agenttrace-artifact-"))).resolve()
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise UsageError(f"--folder {folder}: name a new or an empty folder: commands would go on with what lies there")
    place.mkdir(parents=True, exist_ok=True)
    say(f"{len(asked)} claims, about {sum(claim.minutes for claim in asked):.0f} min; output in {place}")
    results: dict[str, Result] = {}
    for claim in asked:
        results[claim.name] = found = _checked(claim, place, results)
        say(f"{found.verdict}, {found.seconds:.0f} s: {claim.says}" + (f" ({found.why})" if found.why else ""))
    _print(asked, results)
    if json_file is not None:
        json_file.write_bytes(msgspec.json.format(msgspec.json.encode([*results.values()]), indent=1) + b"\n")
    return int(any(found.verdict != "as claimed" for found in results.values()))


def _checked(claim: Claim, place: Path, results: dict[str, Result]) -> Result:
    if claim.after is not None and results[claim.after].verdict != "as claimed":
        return Result(name=claim.name, verdict="not run", why=f"it reads what {claim.after} writes")
    session, *words = (word.replace("{root}", str(ROOT)) for word in claim.command)
    say(f"{claim.name}: {claim.shown}")
    started = time.monotonic()
    command = [str(ROOT / "scripts" / "nox"), "-s", session, *(("--", *words) if words else ())]
    status, output = 0, ""
    for one in (*claim.first, command):
        if status == 0:
            status, output = _output([*one], place)
    seconds = time.monotonic() - started
    (place / f"{claim.name}.log").write_text(output, encoding="utf-8")
    why = _against(claim, status, output)
    return Result(name=claim.name, verdict="DIFFERS" if why else "as claimed", seconds=seconds, why=why)


def _output(command: list[str], place: Path) -> tuple[int, str]:
    """Return the exit status of a command and all that it printed, without colours."""
    variables = {**os.environ, "NO_COLOR": "1", "COLUMNS": "200"}
    try:
        process = subprocess.Popen(  # noqa: S603 - our own launcher, and words of claims.toml
            command, cwd=place, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    except FileNotFoundError:
        return _ABSENT, f"{command[0]}: there is no such program on this machine\n"
    try:
        output, status = process.communicate(timeout=_LIMIT_S)[0], process.returncode
    except subprocess.TimeoutExpired:
        output, status = _ended(process), _TOO_LONG
    except BaseException:
        _ended(process)
        raise
    return status, _ESCAPES.sub("", output.decode("utf-8", "replace"))


def _ended(process: subprocess.Popen[bytes]) -> bytes:
    """End a command and what it started, as Ctrl-C does or, where that does not, by force; return what it printed."""
    for number in (signal.SIGINT, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=_TO_END_S)[0]
    return b""


def _against(claim: Claim, status: int, output: str) -> str:
    """Return the first thing that speaks against a claim; empty where nothing does."""
    reasons = (
        *([f"it took more than {_LIMIT_S / 60:g} minutes"] if status == _TOO_LONG else []),
        *([f"exit status {status}"] if status != claim.status else []),
        *(f"not printed: {one}" for one in claim.prints if not re.search(one, output)),
        *(f"printed: {one}" for one in claim.absent if re.search(one, output)),
    )
    return reasons[0] if reasons else ""


def _print(asked: list[Claim], results: dict[str, Result]) -> None:
    from rich.console import Console  # noqa: PLC0415 - heavy
    from rich.table import Table  # noqa: PLC0415

    table = Table("claim", "verdict", "s", "stated, s", "why")
    for claim in asked:
        found = results[claim.name]
        table.add_row(
            claim.name, found.verdict, f"{found.seconds:.0f}", f"{60 * claim.minutes:.0f}", printable(found.why)
        )
    Console(width=None if os.isatty(1) else 160).print(table)
    held = sum(found.verdict == "as claimed" for found in results.values())
    print(f"{held} of {len(results)} claims hold")  # noqa: T201 - the session's result


def markdown() -> str:
    """Return the page that lists every claim."""
    short = [claim for claim in claims() if not claim.full]
    long = [claim for claim in claims() if claim.full]
    minutes = [sum(claim.minutes for claim in group) for group in (short, long)]
    return (Path(__file__).parent / "head.md").read_text(encoding="utf-8").format(
        short=len(short), short_min=f"{minutes[0]:.0f}", long=len(long), long_min=f"{sum(minutes):.0f}"
    ) + "\n".join([*_table(short), "", "The full form has these as well:", "", *_table(long), ""])


def _table(group: list[Claim]) -> list[str]:
    head = ["| claim | page | command | minutes | disk | it prints |", "|---|---|---|---:|---|---|"]
    return head + [
        f"| {claim.says} | [{claim.where.rpartition('/')[2]}]({_link(claim.where)}) | `{_cell(claim.shown)}` "
        f"| {claim.minutes:g} | {claim.disk} | {', '.join(_printed(claim))} |"
        for claim in group
    ]


def _printed(claim: Claim) -> list[str]:
    status = [f"exit status {claim.status}"] if claim.status else []
    return [*status, *(f"`{_cell(one)}`" for one in claim.prints if one)]


def _link(page: str) -> str:
    return page.removeprefix("docs/") if page.startswith("docs/") else "index.md"  # which is the README


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
