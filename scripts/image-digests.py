"""Writes digests of published images into docs/images.md: `image-digests.py COMMIT FILE...`, the newest commit first.

A file is JSON with `image`, `architecture`, `digest` and `environment` (64 hex digits), as .github/workflows/images.yml
writes one for each. Needs nothing but Python.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "images.md"
BEGIN, END = "<!-- digests -->\n", "<!-- end of digests -->\n"
HEAD = "| commit | image | for | digest | environment digest |\n|---|---|---|---|---|\n"
MOST = 10
"""Commits that the page has; Git has the others."""
FORMS = {
    "image": r"ghcr\.io/[a-z0-9][a-z0-9._/-]{0,200}", "architecture": r"amd64|arm64", "digest": r"sha256:[0-9a-f]{64}",
    "environment": r"[0-9a-f]{64}",
}  # fmt: skip


def row(commit: str, path: Path) -> str:
    """Return the row of one image.

    Raises:
        SystemExit: a value is not what it must be.
    """
    found = json.loads(path.read_text(encoding="utf-8"))
    for name, form in FORMS.items():
        if not re.fullmatch(form, str(found.get(name, ""))):
            raise SystemExit(f"{path}: {name} is {found.get(name)!r}, expected {form}")
    cells = (f"`{commit}`", found["image"], found["architecture"], f"`{found['digest']}`", f"`{found['environment']}`")
    return f"| {' | '.join(cells)} |\n"


def published(page: str, commit: str, rows: list[str]) -> str:
    """Return the page with the rows of a commit before those of earlier ones.

    Raises:
        SystemExit: the page has no place for them.
    """
    before, begun, rest = page.partition(BEGIN)
    table, ended, after = rest.partition(END)
    if not begun or not ended:
        raise SystemExit(f"{PAGE.name} has no {BEGIN.strip()} … {END.strip()}")
    earlier = [line for line in table.splitlines(keepends=True) if line.startswith("| `")]
    commits: dict[str, list[str]] = {commit: sorted(rows)}
    for line in earlier:
        name = line.split("`")[1]
        if name != commit:
            commits.setdefault(name, []).append(line)
    kept = [line for lines in list(commits.values())[:MOST] for line in lines]
    return before + BEGIN + HEAD + "".join(kept) + END + after


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.partition(":")[0])
    parser.add_argument("commit", help="40 hex digits")
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--page", type=Path, default=PAGE, help="default: docs/images.md")
    arguments = parser.parse_args()
    if not re.fullmatch("[0-9a-f]{40}", arguments.commit):
        parser.error(f"{arguments.commit}: expected the 40 hex digits of a commit")
    rows = [row(arguments.commit, path) for path in arguments.files]
    page = published(arguments.page.read_text(encoding="utf-8"), arguments.commit, rows)
    arguments.page.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
