"""Brings a published folder to the Hub in one commit: readers see the old data set or the new one, never a mixture."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from agenttrace.errors import DataError, StorageError, UsageError, command
from agenttrace.models.hub import connection_errors, in_clear_text
from agenttrace.publish.sums import CRATE, MANIFEST, SIGNATURE, SUMS, files, verified
from agenttrace.records.base import Record

if TYPE_CHECKING:
    from pathlib import Path

_VERDICTS = "verdicts/"
OURS = ("data/", "rollouts/", "trajectories/", "records/", "sessions/", "schema/", _VERDICTS)
"""Folders of the repository that hold this kit's files: what is in them and no longer in the folder is removed."""
_OF_A_RELEASE = frozenset({MANIFEST, SIGNATURE, CRATE})
"""Files that are removed likewise, from where verdicts say that a release was there."""
REVISION = "main"
_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}")
_UNAUTHORIZED, _FORBIDDEN, _NOT_FOUND, _CONFLICT, _OUTDATED = 401, 403, 404, 409, 412


class Uploaded(Record, frozen=True, kw_only=True):
    """What a commit did: its address, files in it, files it removed."""

    url: str
    added: int
    removed: int


def check_name(name: str) -> None:
    """Refuse what is no name of a repository.

    Raises:
        UsageError: it is not `OWNER/NAME`.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(f"--upload {name}: expected OWNER/NAME, as the Hub writes it")


def upload(folder: Path, name: str, *, private: bool) -> Uploaded:
    """Commit every file of the folder, and the removal of stale ones, to the data set repository `name`, at once.

    Only files that `SHA256SUMS` lists are sent, and of a release its manifest and signature; and only when all of them
    are as these say. The commit is made on top of the state whose files were looked at; if somebody else commits in
    between, the Hub refuses it and nothing changed.

    Args:
        folder: as `publish` made it.
        name: `OWNER/NAME`; made if it is not there.
        private: make a repository that is not there private, and refuse a public one; nothing else is changed.

    Raises:
        UsageError: there is no token, or it would be sent in clear text, or may not write there, the repository is
            public although a private one is wanted, or the folder is none of ours.
        DataError: a file is not what `SHA256SUMS` or the manifest of a release says.
        StorageError: the Hub cannot be reached, or refused the commit.
    """
    check_name(name)
    token = os.environ.get("HF_TOKEN", "").strip()
    if not token:
        raise UsageError("--upload needs the token of an account that may write there, in the variable HF_TOKEN")
    if in_clear_text():
        raise UsageError(
            "HF_ENDPOINT is an http:// address, and HF_TOKEN, which may write, would cross the network in clear text; "
            "name an https:// address"
        )
    paths = [*verified(folder), SUMS, *_of_a_release(folder)]
    return _commit(folder, name, paths, token, private=private)


def _of_a_release(folder: Path) -> list[str]:
    """Return the names of manifest and signature, where the folder is a release."""
    from agenttrace.publish.manifest import read_manifest  # noqa: PLC0415 - heavy

    if not os.path.lexists(folder / MANIFEST):
        return []
    try:
        listed = read_manifest(folder).files
    except DataError as error:
        raise DataError(f"{folder / MANIFEST}: {error}; nothing was uploaded") from error
    if listed != files(folder):
        raise DataError(
            f"{folder / MANIFEST} is not the list of these files; nothing was uploaded; what differs: "
            f"{command('release', '--verify', str(folder))}"
        )
    return [name for name in (MANIFEST, SIGNATURE) if (folder / name).is_file() and not (folder / name).is_symlink()]


def _commit(folder: Path, name: str, paths: list[str], token: str, *, private: bool) -> Uploaded:
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi, errors  # noqa: PLC0415 - heavy

    api = HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, token=token, library_name="agenttrace")
    try:
        api.create_repo(name, repo_type="dataset", private=private or None, exist_ok=True)
        info = api.dataset_info(name, revision=REVISION)
        if private and info.private is False:
            raise UsageError(
                f"a private repository was asked for, and {name} is there already and public; make it private on the "
                "Hub first; nothing was uploaded"
            )
        there = {entry.rfilename for entry in info.siblings or ()}
        released = any(path.startswith(_VERDICTS) for path in there)
        stale = sorted(one for one in there - set(paths) if _is_ours(one) or (released and one in _OF_A_RELEASE))
        operations: list[CommitOperationAdd | CommitOperationDelete] = [
            CommitOperationAdd(path_in_repo=path, path_or_fileobj=folder / path) for path in paths
        ]
        operations += [CommitOperationDelete(path_in_repo=path) for path in stale]
        done = api.create_commit(
            name, operations, commit_message="Publish records", repo_type="dataset", revision=REVISION,
            parent_commit=info.sha,
        )  # fmt: skip
    except errors.OfflineModeIsEnabled as error:
        raise UsageError("HF_HUB_OFFLINE forbids an upload; unset it") from error
    except errors.HfHubHTTPError as error:
        raise _refused(name, error.response.status_code, error.server_message or "") from error
    except connection_errors() as error:
        raise StorageError(f"cannot reach the Hub at {api.endpoint}: {error}; nothing was changed there") from error
    except (ValueError, RuntimeError) as error:
        raise StorageError(f"the upload failed: {error}; nothing was changed there") from error
    return Uploaded(url=str(done.commit_url), added=len(paths), removed=len(stale))


def _is_ours(path: str) -> bool:
    """Return whether a file of the repository is one of this kit's: in a folder of ours, or beside them by its name."""
    return path.startswith(OURS) or ("/" not in path and path.endswith((".run.json", ".tasks.tar")))


def _refused(name: str, status: int, said: str) -> UsageError | StorageError:
    mistakes = {
        _UNAUTHORIZED: "the Hub does not know the token in HF_TOKEN: make a new one",
        _FORBIDDEN: f"the token in HF_TOKEN may not write to {name}: give it that right",
        _NOT_FOUND: f"there is no data set {name} that the token in HF_TOKEN can see",
    }
    if status in mistakes:
        return UsageError(f"{mistakes[status]}; nothing was uploaded")
    if status in {_CONFLICT, _OUTDATED}:
        return StorageError(f"{name} was changed meanwhile; nothing was uploaded, run the same command again")
    return StorageError(f"the Hub refused the upload to {name} with status {status}: {said[:300]}; nothing was changed")
