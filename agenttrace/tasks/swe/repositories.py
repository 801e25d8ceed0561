"""Bare repositories, fetched once and kept: from a URL, a local repository or bundle, or a folder of mirrors."""

from __future__ import annotations

import fcntl
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from agenttrace.errors import UsageError
from agenttrace.tasks.swe import git

if TYPE_CHECKING:
    from collections.abc import Iterator

DEFAULT_SOURCE = "https://github.com/{repo}.git"


class RepositoryMissingError(git.GitError):
    """The folder of repositories does not have this one."""


class CommitMissingError(git.GitError):
    """The source was reached and does not have the commit."""


def source_of(repo: str, sources: str = DEFAULT_SOURCE) -> str:
    """Return where `OWNER/NAME` is fetched from.

    Args:
        repo: `OWNER/NAME`.
        sources: a URL with `{repo}` in it, or a folder that holds `OWNER/NAME`, `OWNER/NAME.git`, `OWNER__NAME.git`,
            `OWNER__NAME.bundle` (or `NAME` in each place of `OWNER__NAME`).

    Raises:
        UsageError: there is no such folder, or `{repo}` is missing.
        RepositoryMissingError: the folder has no such repository.
    """
    if "://" in sources:
        if "{repo}" not in sources:
            raise UsageError(f"repository source {sources}: expected {{repo}} in the URL, as in {DEFAULT_SOURCE}")
        return sources.replace("{repo}", repo)
    folder, flat, name = Path(sources), repo.replace("/", "__"), repo.partition("/")[2]
    if not folder.is_dir():
        raise UsageError(f"repository source {folder}: expected a folder of repositories, or a URL with {{repo}} in it")
    names = (repo, f"{repo}.git", flat, f"{flat}.git", f"{flat}.bundle", f"{name}.git", f"{name}.bundle", name)
    for candidate in (folder / one for one in names):
        if candidate.exists():
            return str(candidate.resolve())
    raise RepositoryMissingError(f"{folder} has no repository {repo}: expected one of {', '.join(names[:5])} in it")


def ensure(cache: Path, repo: str, commit: str, *, source: str) -> Path:
    """Return the bare repository of `repo` in `cache`, which holds `commit` with all of its files.

    Only that commit is fetched where the source allows it, else its branches and tags. Two processes do not fetch into
    one repository at a time.

    Raises:
        GitError: the source cannot be reached.
        CommitMissingError: it does not have the commit.
    """
    folder = cache / f"{repo.replace('/', '__')}.git"
    with _locked(folder):
        if not (folder / "HEAD").exists():
            shutil.rmtree(folder, ignore_errors=True)
            algorithm = "sha256" if len(commit) == 64 else "sha1"  # noqa: PLR2004 - digits of a SHA-256
            git.run(folder, ["init", "--quiet", "--bare", "--template=", f"--object-format={algorithm}"])
        if not _has(folder, commit):
            _fetch(folder, commit, source)
        return folder


def _fetch(folder: Path, commit: str, source: str) -> None:
    quiet = ["fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head"]
    try:
        git.run(folder, [*quiet, "--depth=1", "--", source, f"+{commit}:refs/agenttrace/{commit}"])
    except git.GitError:  # servers and bundles may refuse a bare commit id: then take what leads to it
        git.run(folder, [*quiet, "--", source, "+refs/heads/*:refs/from/heads/*", "+refs/tags/*:refs/from/tags/*"])
    if not _has(folder, commit):
        raise CommitMissingError(f"{source} has no commit {commit}: it may have been removed by a force push")


def _has(folder: Path, commit: str) -> bool:
    try:
        git.run(folder, ["cat-file", "-e", f"{commit}^{{tree}}"])
    except git.GitError:
        return False
    return True


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
