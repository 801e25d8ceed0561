"""The patch of a rollout, and whether it solves its task, as far as that can be said without running anything.

It is `git diff` from the harness's own objects, never through the tool's repository.

The final files are hashed into a scratch object store and an index of their own; nothing of them is checked out, no
link is followed, no attribute, filter or driver of the tree acts.
"""

from __future__ import annotations

import base64
import os
import re
import string
import tempfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from agenttrace.records import Verdict
from agenttrace.tasks.bench import judged
from agenttrace.tasks.swe import git
from agenttrace.tasks.swe.rows import BUNDLED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from agenttrace.sandbox.reports import Changed, Changes
    from agenttrace.tasks.swe.rows import SweTask

_ATTRIBUTES = "info/attributes"
LEFT_OUT = (".git",)
"""Top-level names that are no part of a patch: give them to `Worker.changes`."""
BINARY = "binary hunks, because a changed file is not UTF-8"
"""The one note on a patch that is whole."""
METHOD = "gold-tree-v1"
ASPECT = "patch"
NOT_RUN = "execution-free: tests are not run"
_SECTION = re.compile(rb"^(?=diff --git )", re.MULTILINE)  # a line of content begins with another letter
_HEADER = re.compile(rb"diff --git (?s:.*?)\nindex ([0-9a-f]+)\.\.([0-9a-f]+)[^\n]*\n")
_UNSEEN = dict.fromkeys([*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF])
"""Letters that HFS+ does not see in a name; git refuses such names everywhere (`core.protectHFS`)."""
_LINE, _LENGTHS = 52, string.ascii_uppercase + string.ascii_lowercase
"""Bytes of a line of a binary hunk, and the letters that say how many it has."""
_DIFF = (
    *("diff-index", "--cached", "--patch", "--binary", "--full-index", "--no-renames", "--no-ext-diff"),
    *("--no-textconv", "--no-color", "--src-prefix=a/", "--dst-prefix=b/"),
)


def diff(tree: Path, changes: Changes) -> tuple[str, str | None]:
    """Return the patch that turns the pristine tree into the final one, and what it leaves out, if anything.

    Args:
        tree: the pristine tree, with its `.git`; only read.
        changes: what differs, from `Worker.changes(without=LEFT_OUT)`.

    Raises:
        GitError: git failed.
    """
    kept, notes = _sorted_out(changes)
    if not kept:
        return "", "; ".join(notes) or None
    with tempfile.TemporaryDirectory(prefix="agenttrace-patch-") as name:
        scratch = Path(name)
        base, env = _workshop(tree / ".git", scratch)
        git.run(scratch, ["read-tree", base], env=env, cwd=scratch)
        lines = _index_lines(kept, _hashed(kept, scratch, env))
        git.run(
            scratch, ["update-index", "--add", "--replace", "-z", "--index-info"], stdin=lines, env=env, cwd=scratch
        )
        data = git.run(scratch, [*_DIFF, base], env=env, cwd=scratch)
        try:
            text = data.decode()
        except UnicodeDecodeError:  # text in another encoding: with binary hunks for it the patch still applies
            (scratch / _ATTRIBUTES).write_text("* -diff\n", encoding="ascii")
            binary = git.run(scratch, [*_DIFF, base], env=env, cwd=scratch)
            sections = zip(_SECTION.split(data)[1:], _SECTION.split(binary)[1:], strict=True)
            text = "".join(_readable(section) or _readable(other) or _link(section, scratch, env)
                           for section, other in sections)  # fmt: skip
            notes.append(BINARY)
    return text, "; ".join(notes) or None


def _readable(section: bytes) -> str:
    """Return what a patch says of one file; nothing where that is not UTF-8."""
    try:
        return section.decode()
    except UnicodeDecodeError:
        return ""


def _link(section: bytes, scratch: Path, env: dict[str, str]) -> str:
    """Return what a patch says of a link, which attributes do not reach, with a binary hunk."""
    header = _HEADER.match(section)
    if header is None:
        raise git.GitError("git wrote a patch that is not one")
    contents = (git.run(scratch, ["cat-file", "blob", oid.decode()], env=env) if oid.strip(b"0") else b""
                for oid in (header[2], header[1]))  # fmt: skip
    return f"{header[0].decode()}GIT binary patch\n{''.join(map(_literal, contents))}"


def _literal(data: bytes) -> str:
    """Return one half of a binary hunk, whose form git documents only in its `diff.c`."""
    packed = zlib.compress(data)
    lines = [packed[at : at + _LINE] for at in range(0, len(packed), _LINE)]
    coded = "".join(f"{_LENGTHS[len(line) - 1]}{base64.b85encode(line, pad=True).decode()}\n" for line in lines)
    return f"literal {len(data)}\n{coded}\n"


def _workshop(pristine: Path, scratch: Path) -> tuple[str, dict[str, str]]:
    """Make a repository for one patch; return the pristine tree's id and the environment that git needs there.

    Its own attributes come before those of any `.gitattributes` in the tree, which would say what is shown as text.
    """
    base = git.run(pristine, ["rev-parse", "HEAD^{tree}"]).decode().strip()
    for folder in ("objects", "refs", "info"):
        (scratch / folder).mkdir()
    (scratch / "HEAD").write_text("ref: refs/heads/main\n", encoding="ascii")
    (scratch / "config").write_bytes((pristine / "config").read_bytes())  # it says how long an id is
    (scratch / _ATTRIBUTES).write_text("* !diff\n", encoding="ascii")
    return base, {"GIT_ALTERNATE_OBJECT_DIRECTORIES": _quoted(pristine / "objects")}


def _sorted_out(changes: Changes) -> tuple[list[Changed], list[str]]:
    """What goes into the patch, and notes on what does not."""
    notes = ["more changed than could be read"] if changes.truncated else []
    kept: list[Changed] = []
    for entry in changes.entries:
        if _is_of_git(entry):
            notes.append(f"left out: {os.fsdecode(entry.path)!r}, part of a repository")
        elif entry.type in {"file", "symlink"} and entry.content is None:
            notes.append(f"left out: {os.fsdecode(entry.path)!r}, too large")
        else:
            kept.append(entry)
    return kept, [note.encode(errors="backslashreplace").decode() for note in notes]


def _is_of_git(entry: Changed) -> bool:
    """Return whether git takes no such path, as it passes over it without a word: one that some system calls `.git`."""
    parts = [os.fsdecode(part).translate(_UNSEEN).lower() for part in entry.path.split(b"/")]
    return ".git" in parts or (entry.type == "symlink" and parts[-1] == ".gitmodules")


def _hashed(entries: Sequence[Changed], scratch: Path, env: dict[str, str]) -> list[str]:
    """Return the object id of each file and link, written to the scratch store, in order."""
    names = []
    for number, entry in enumerate(entry for entry in entries if entry.content is not None):
        (scratch / f"blob-{number}").write_bytes(entry.content or b"")
        names.append(f"blob-{number}")
    if not names:
        return []
    arguments = ["hash-object", "-w", "--no-filters", "--stdin-paths"]
    return git.run(scratch, arguments, stdin="\n".join(names).encode(), env=env, cwd=scratch).decode().split()


def _index_lines(entries: Sequence[Changed], oids: Sequence[str]) -> bytes:
    width = len(oids[0]) if oids else 40
    removed, added, ids = b"", b"", iter(oids)
    for entry in entries:
        if entry.content is None:
            removed += b"0 " + b"0" * width + b"\t" + entry.path + b"\0"
        else:
            executable = entry.mode is not None and int(entry.mode, 8) & 0o100
            mode = b"120000" if entry.type == "symlink" else b"100755" if executable else b"100644"
            added += mode + b" " + next(ids).encode() + b"\t" + entry.path + b"\0"
    return removed + added


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


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
        return _not_gradable(NOT_RUN)
    if patch is None:
        return _not_gradable(note or "there is no patch")
    return judged(ASPECT, METHOD, _problem(tree, task.patch, patch, note))


def _problem(tree: Path, reference: str, patch: str, note: str | None) -> str | None:
    if not patch:
        return "nothing was changed"
    if note not in {None, BINARY}:
        return f"not all that was changed is in the patch: {note}"
    try:
        made = applied(tree, patch)
    except git.GitError as error:
        return f"the patch does not apply: {error}"
    return None if made == applied(tree, reference) else "the files differ from those that the reference solution gives"


def _not_gradable(reason: str) -> Verdict:
    return Verdict(aspect=ASPECT, verdict="not_gradable", method=METHOD, reason=reason)


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
