"""Commits of a described repository, made through git's plumbing: the same ids every time."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

from agenttrace.tasks.swe import git

if TYPE_CHECKING:
    from pathlib import Path

BRANCH = "refs/heads/main"
_AUTHOR = ("Miniature Author", "author@miniature.invalid")


class History:
    """A bare repository and the ids of its commits, by their messages.

    Args:
        description: the TOML file.
        folder: where the bare repository is made.

    Raises:
        ValueError: an edit's text does not occur exactly once.
    """

    def __init__(self, description: Path, folder: Path) -> None:
        self.described: dict[str, Any] = tomllib.loads(description.read_text(encoding="utf-8"))
        self.bare = folder
        self.commits: dict[str, str] = {}
        git.run(folder, ["init", "--quiet", "--bare", "--template=", "--object-format=sha1"])
        files: dict[str, str] = {}
        parent = None
        for commit in self.described["commit"]:
            files = _changed(files, commit)
            parent = self._commit(files, commit, parent)
            self.commits[commit["message"]] = parent
        git.run(folder, ["update-ref", BRANCH, str(parent)])
        git.run(folder, ["symbolic-ref", "HEAD", BRANCH])

    def bundle(self) -> bytes:
        """Return the whole history as one git bundle."""
        return git.run(self.bare, ["bundle", "create", "--quiet", "--version=2", "-", BRANCH])

    def diff(self, commit: str, *paths: str) -> str:
        """Return what a commit changed below `paths` (git's pathspecs), in the form of a rollout's patch."""
        return diff(self.bare, commit, *paths)

    def parent(self, commit: str) -> str:
        """Return the id of the commit before."""
        return git.run(self.bare, ["rev-parse", f"{commit}^"]).decode().strip()

    def _commit(self, files: dict[str, str], commit: dict[str, Any], parent: str | None) -> str:
        lines = []
        for path, content in sorted(files.items()):
            blob = git.run(self.bare, ["hash-object", "-w", "--stdin"], stdin=content.encode()).decode().strip()
            lines.append(f"{'100755' if content.startswith('#!') else '100644'} {blob}\t{path}\n")
        index = {"GIT_INDEX_FILE": str(self.bare / "scratch-index")}
        git.run(self.bare, ["read-tree", "--empty"], env=index)
        git.run(self.bare, ["update-index", "--add", "--index-info"], stdin="".join(lines).encode(), env=index)
        tree = git.run(self.bare, ["write-tree"], env=index).decode().strip()
        return written(self.bare, tree, parent, message=commit["message"], date=commit["date"], author=_AUTHOR)


def written(bare: Path, tree: str, parent: str | None, *, message: str, date: str, author: tuple[str, str]) -> str:
    """Write one commit of a tree that `bare` has, and return its id: a function of the arguments alone."""
    who = {
        f"GIT_{role}_{field}": value
        for role in ("AUTHOR", "COMMITTER")
        for field, value in (("NAME", author[0]), ("EMAIL", author[1]), ("DATE", date))
    }
    parents = ["-p", parent] if parent else []
    return git.run(bare, ["commit-tree", tree, *parents], stdin=f"{message}\n".encode(), env=who).decode().strip()


def diff(bare: Path, commit: str, *paths: str) -> str:
    """Return what a commit changed below `paths` (git's pathspecs), in the form of a rollout's patch."""
    shown = ("--patch", "--full-index", "--no-renames", "--no-color", "--src-prefix=a/", "--dst-prefix=b/")
    return git.run(bare, ["diff-tree", *shown, f"{commit}^", commit, "--", *paths]).decode("utf-8", "replace")


def _changed(files: dict[str, str], commit: dict[str, Any]) -> dict[str, str]:
    """Return the files after a commit."""
    after = {**files, **commit.get("files", {})}
    for edit in commit.get("edits", ()):
        if after[edit["path"]].count(edit["old"]) != 1:
            raise ValueError(f"{commit['message']}: {edit['old']!r} does not occur once in {edit['path']}")
        after[edit["path"]] = after[edit["path"]].replace(edit["old"], edit["new"])
    return after
