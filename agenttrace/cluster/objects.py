"""Objects: values under names in S3, Google Cloud Storage, Azure or a folder; made once, and never changed or removed.

The client is obstore (Rust's object_store): its retries with back-off, its time-outs and its credentials from the
environment are used as they are.
"""

from __future__ import annotations

import functools
import os
import re
import time
import uuid
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from agenttrace.errors import AgentTraceError, DataError, StorageError, UsageError, with_extra
from agenttrace.store.opening import LARGEST_SPEC

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")
PATIENCE_S = 180.0
"""So long a request is sent again while the store does not answer, or says that it is overloaded."""
MOST_BYTES = 1 << 30
"""Of an object that holds records, replies or files: as many as the largest tree and the longest records unpack to."""
_AGAIN_S = 0.5
_CHECKED = "agenttrace-store-check"
"""The one object that is made to see whether a store refuses to make it again; it has other bytes in every store."""
_MISSING = f"the store's client is not installed: {with_extra('cluster')}"
_FULL = re.compile(r"os error (28|122)\b|code: 507\b|QuotaExceeded|StorageFull|InsufficientStorage")
_FORBIDDEN = re.compile(r"(?i)code: 40[13]\b|os error (1|13|30)\b|AccessDenied|Forbidden|InvalidAccessKey|credential")
_NO_BUCKET = re.compile(r"NoSuchBucket|ContainerNotFound|bucket does not exist")
_NO_ANSWER = re.compile(r"(?i)code: (429|500|502|503|504)\b|error sending request|timed? ?out|HTTP error|SlowDown")
_NO_KEY = re.compile(r"latest/(api/token|meta-data)|computeMetadata|metadata/identity")
"""Where the client asks the machine for credentials, once it has found none in its variables."""
_CODE = re.compile(r"<Code>([A-Za-z0-9]{1,60})</Code>")
_SECRET = re.compile(r"(?<=//)(?:[^/@\s]+|[^/@:\s]+:[^@\s]*)@|\?\S*")
_LONGEST = 300


class Store:
    """A store, or a folder of one; its names are relative, with `/` between their parts. Safe to use from threads.

    Args:
        url: `s3://BUCKET/PATH`, `gs://BUCKET/PATH`, `az://CONTAINER/PATH` or another that obstore knows, or a folder.
            Where a service is and who asks is said by its own variables (`AWS_ENDPOINT_URL`, `AWS_ALLOW_HTTP`,
            `AWS_ACCESS_KEY_ID`, ...).
        patience_s: see `PATIENCE_S`.
        make: whether a folder that is not there is made.

    Raises:
        UsageError: it is no such URL, there is no such folder, or obstore is not installed.
        StorageError: the folder cannot be made.
    """

    def __init__(self, url: str, *, patience_s: float = PATIENCE_S, make: bool = True) -> None:
        self.url = _SECRET.sub("", url.rstrip("/"))
        self._patience_s = patience_s
        self._obstore, self._store = _opened(url, self.url, patience_s, make=make)

    def create(self, name: str, data: bytes) -> bool:
        """Make an object, unless there is one; return whether what is there now is `data`.

        The answer to a request may be lost after it was carried out, and the request sent again: so where an object is
        there, it is looked at. A request that meets another one for the same object may be refused, too (S3 answers 409
        then), and that other one may come to nothing: so where none is there, it is made again.

        Raises:
            StorageError: it could not be made.
        """

        def put() -> bool:
            try:
                self._obstore.put(self._store, name, data, mode="create", use_multipart=False)
            except self._obstore.exceptions.AlreadyExistsError:
                return False
            return True

        deadline = time.monotonic() + self._patience_s
        while not self._said("make", name, put):
            if (size := self.size(name)) is not None:
                return size == len(data) and self.get(name, most=len(data)) == data
            if time.monotonic() >= deadline:
                raise StorageError(f"store {self.url}: cannot make {name}: it says that it is there, and has none")
            time.sleep(_AGAIN_S)
        return True

    def get(self, name: str, *, most: int = LARGEST_SPEC) -> bytes | None:
        """Return the content of an object; `None` where there is none.

        Raises:
            DataError: it has more than `most` bytes, or the store sends more; they are not read.
            StorageError: it could not be read.
        """

        def read() -> bytes:
            found, pieces, left = self._obstore.get(self._store, name), [], most
            if found.meta["size"] <= most:
                for piece in found.stream():
                    pieces.append(piece)
                    if (left := left - len(piece)) < 0:
                        break
                else:
                    return b"".join(pieces)
            raise DataError(f"{self.url}/{name} has more than {most} bytes and was not read; restore or remove it")

        return self._said("read", name, read)

    def size(self, name: str) -> int | None:
        """Return the bytes of an object; `None` where there is none.

        Raises:
            StorageError: it could not be asked for.
        """
        return self._said("look at", name, lambda: int(self._obstore.head(self._store, name)["size"]))

    def names(self, folder: str) -> Iterator[str]:
        """Yield the names of all objects in a folder and in those below it, in no certain order; see `listed`."""
        return (name for name, _ in self.listed(folder))

    def listed(self, folder: str) -> Iterator[tuple[str, int]]:
        """Yield name and bytes of all objects in a folder and in those below it, in no certain order.

        What lies elsewhere is left out, whatever the store lists: what is listed may be removed.

        Raises:
            StorageError: they could not be listed.
        """
        root = folder.rstrip("/")
        stream = iter(self._obstore.list(self._store, root, chunk_size=1000))
        while chunk := self._said("list", root, lambda: next(stream, None)):
            found = ((one["path"], int(one["size"])) for one in chunk)
            yield from ((name, size) for name, size in found if not root or name.startswith(f"{root}/"))

    def remove(self, names: Sequence[str]) -> None:
        """Remove objects for good; no run does that.

        Raises:
            StorageError: they could not be removed.
        """
        self._said("remove", names[0], lambda: self._obstore.delete(self._store, names))

    def _said(self, what: str, name: str, ask: Callable[[], T]) -> T | None:
        """Return what the store answers; its errors become ours, in one line."""
        try:
            return ask()
        except FileNotFoundError as error:
            if what in {"read", "look at"} and not _NO_BUCKET.search(str(error)):
                return None
            raise _as_ours(self.url, what, name, error) from error
        except (self._obstore.exceptions.BaseError, OSError, ValueError) as error:
            raise _as_ours(self.url, what, name, error) from error


def _opened(url: str, shown: str, patience_s: float, *, make: bool) -> tuple[Any, Any]:
    """Return the client and a store of it."""
    try:
        import obstore  # noqa: PLC0415 - an extra
        import obstore.exceptions  # noqa: PLC0415
        import obstore.store  # noqa: PLC0415
    except ImportError as error:
        raise UsageError(f"--store {shown}: {_MISSING}") from error
    opening: Callable[[], object]
    if "://" not in url or url.startswith("file://"):
        folder = Path(url.removeprefix("file://"))
        if url.startswith("file://") and not folder.is_absolute():  # each machine would have another one
            raise UsageError(f"--store {shown}: expected file:///FOLDER, or the folder alone")
        if not (make or folder.is_dir()):
            raise UsageError(f"--store {shown}: there is no such folder")
        opening = functools.partial(obstore.store.LocalStore, folder, mkdir=True)
    elif url.startswith("memory:"):
        raise UsageError(f"--store {shown}: nothing of it would be left; name a bucket or a folder")
    else:
        # Later than its default, as an upload of a part takes long over a slow line.
        options: Any = {"timeout": timedelta(seconds=120)}
        if os.environ.get("AWS_ALLOW_HTTP", "").lower() in {"1", "true"}:  # what is given here overrules variables
            options["allow_http"] = True
        retry: Any = {"retry_timeout": timedelta(seconds=patience_s), "max_retries": 10_000}
        opening = functools.partial(obstore.store.from_url, url, client_options=options, retry_config=retry)
    try:
        return obstore, opening()
    except (obstore.exceptions.BaseError, OSError, ValueError) as error:
        if "://" in url and not url.startswith("file://"):
            raise UsageError(f"--store {shown}: {_first_line(error)}; expected s3://BUCKET/PATH or the like") from error
        raise _as_ours(shown, "make", "the folder", error) from error


def check_store(store: Store) -> None:
    """See that a store refuses to make an object that is there: all that keeps two machines apart.

    Raises:
        UsageError: it makes it again.
        StorageError: it cannot be used.
    """
    store.create(_CHECKED, uuid.uuid4().bytes)
    if store.create(_CHECKED, uuid.uuid4().bytes):
        raise UsageError(
            f"--store {store.url}: this store makes an object that is there already (it ignores `If-None-Match: *`), "
            "so records of one machine could replace those of another; nothing was begun. Choose a store that has "
            "conditional writes"
        )


def mark(store: Store) -> str:
    """Return what tells a store that was checked from all others: a folder may be another one on each machine.

    Raises:
        StorageError: it cannot be read.
    """
    return (store.get(_CHECKED) or b"").hex()


def _first_line(error: Exception) -> str:
    text = _SECRET.sub("", str(error).partition("\n")[0].partition("<?xml")[0])
    return text[:_LONGEST].strip(" :\t")


def _as_ours(url: str, what: str, name: str, error: Exception) -> AgentTraceError:
    """Return an error of a store in one line: what was tried, what the store says, what to do."""
    told = str(error).partition("Debug source:")[0]
    code = f" ({found[1]})" if (found := _CODE.search(told)) else ""
    where = f"store {url}: cannot {what} {name}"
    if _FULL.search(told):
        return StorageError(f"{where}: the store is full{code}; what was written is kept, make room and run it again")
    if _NO_BUCKET.search(told):
        return StorageError(f"{where}: there is no such bucket or container{code}; make it first, or correct --store")
    if _NO_KEY.search(told):
        return StorageError(
            f"{where}: there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or alike"
        )
    if type(error).__name__ in {"PermissionDeniedError", "UnauthenticatedError"} or _FORBIDDEN.search(told):
        return StorageError(f"{where}: the store refuses it{code}; it needs the right to read, list and make objects")
    if _NO_ANSWER.search(told):
        return StorageError(f"{where}: the store does not answer, or is overloaded{code}: {_first_line(error)}")
    return StorageError(f"{where}: {_first_line(error)}{code}")
