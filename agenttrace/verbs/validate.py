"""`agenttrace validate`: whether record files are what they say they are, and give nothing away."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agenttrace.show import counted, tell

if TYPE_CHECKING:
    import argparse

    from agenttrace.validate.leaks import Word

_DISK_ID = re.compile(r"(?:uuid=(?:luks-)?|/by-uuid/)([0-9a-f-]{8,64})(?![\w-])", re.IGNORECASE)
"""Of the root file system, as a kernel's command line names it."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    from agenttrace.verbs.output import add_json  # noqa: PLC0415
    from agenttrace.verbs.reading import add_files  # noqa: PLC0415

    add_files(parser, strict=False)
    add_json(parser)
    parser.add_argument("--private", action="append", default=[], metavar="TEXT", help="a text that must not be in it")
    parser.add_argument("--allow", action="append", default=[], metavar="TEXT", help="a text that is no leak")
    parser.add_argument("--max", type=int, default=100, metavar="N", help="findings printed (default: %(default)s)")


def run(arguments: argparse.Namespace) -> int:
    """Print findings as `FILE:LINE: RULE: FIELD: what is wrong` and return 1 when there is one."""
    from agenttrace.errors import UsageError  # noqa: PLC0415
    from agenttrace.formats import READERS  # noqa: PLC0415
    from agenttrace.formats.checking import validation as checked  # noqa: PLC0415
    from agenttrace.formats.folders import files  # noqa: PLC0415
    from agenttrace.validate.findings import Finding  # noqa: PLC0415
    from agenttrace.validate.leaks import word  # noqa: PLC0415
    from agenttrace.verbs.output import write_json  # noqa: PLC0415
    from agenttrace.verbs.reading import once  # noqa: PLC0415

    if arguments.max < 0 or not all(arguments.private) or not all(arguments.allow):
        raise UsageError("--max: expected 0 or more; --private and --allow: expected a text that is not empty")
    local, common = local_rules()
    words: list[Word] = [*local, *(word("private text", text) for text in arguments.private)]
    total = 0
    checks: list[dict[str, Any]] = []
    for path in once(files(arguments.files, tell)):
        try:
            validation, other = checked(path, words=words, allowed=arguments.allow)
        except UsageError as error:
            message = str(error).removeprefix(f"cannot read {path}: ")
            tell(f"{path}: file: {message}")
            checks.append({"file": path, "findings": [Finding(0, "file", "", message)._asdict()]})
            total += 1
            continue
        if other is not None:
            tell(f"{path}: note: {READERS[other.format].about}: checked is what `convert` makes of it")
        before = total
        shown: list[dict[str, Any]] = []
        for finding in validation:
            total += 1
            if total <= arguments.max:
                shown.append(finding._asdict())
                place = f"{path}:{finding.line}" if finding.line else str(path)
                parts = (place, finding.rule, finding.where, finding.message)
                tell(": ".join(part for part in parts if part).replace("\n", "\\n"))
        for note in validation.notes:
            tell(f"{path}: note: {note}")
        tell(f"{path}: {counted(validation.records, 'line')}, {counted(total - before, 'finding')}")
        count = {"records": validation.records, "count": total - before, "notes": validation.notes}
        checks.append({"file": path, **count, "findings": shown})
    if total > arguments.max:
        tell(f"{total - arguments.max} more findings are not printed (--max {total})")
    if common:
        tell(f"note: not looked for among leaks, because too common: {', '.join(common)}")
    write_json(arguments.json, {"valid": not total, "files": checks})
    return 1 if total else 0


def local_rules() -> tuple[list[Word], list[str]]:
    """Return rules for what is private to this machine, and what is too common to be looked for."""
    from agenttrace.validate.leaks import local_words  # noqa: PLC0415

    return local_words(machine_facts())


def machine_facts() -> dict[str, list[str]]:
    """Return what is private to this machine: its names, the user's, folders, and the ids that a tool call can read."""
    import getpass  # noqa: PLC0415
    import socket  # noqa: PLC0415

    try:
        user = [getpass.getuser()]
    except (KeyError, OSError):  # a user id without a name
        user = []
    host = socket.gethostname()
    folders = {str(Path.home()), str(Path(__file__).resolve().parents[2]), str(Path.cwd())}
    private = sorted(folder for folder in folders if folder.count("/") > 1 and not folder.startswith("/opt/agenttrace"))
    return {
        "host name": [host, host.partition(".")[0]],
        "user name": user,
        "host path": private,
        "boot id": _text("/proc/sys/kernel/random/boot_id").split(),
        "machine id": [*_text("/etc/machine-id").split(), *_text("/var/lib/dbus/machine-id").split()],
        "id of a disk": _DISK_ID.findall(_text("/proc/cmdline")),
    }


def _text(path: str) -> str:
    """Return a small file of the system, empty where there is none (macOS)."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
