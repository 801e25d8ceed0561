"""HTTP to a model server: one deadline for a whole answer, a limit of its size, and no redirect followed."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from agenttrace import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from concurrent.futures import Future
    from typing import Self

MOST_BYTES = 8 * 2**20
"""Of one answer, unpacked: far more than a model writes, and as Python's objects still less than a collector has."""
_CONNECT_S = 30.0

T = TypeVar("T")


class Answer(NamedTuple):
    """What a server answered; names of headers in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class WireError(Exception):
    """There is no answer.

    Attributes:
        overdue: the time was up before the answer was whole; else another try may have better luck.
        unreached: no connection could be made.
    """

    def __init__(self, message: str, *, overdue: bool = False, unreached: bool = False) -> None:
        super().__init__(message)
        self.overdue = overdue
        self.unreached = unreached


class Wire:
    """Connections to one server, kept open between requests; usable from any thread.

    Args:
        key: sent as the bearer token.
    """

    def __init__(self, key: str | None = None) -> None:
        import httpx2  # noqa: PLC0415 - heavy

        self._httpx = httpx2
        headers = {"User-Agent": f"agenttrace/{__version__}", "Content-Type": "application/json"}
        self._client = httpx2.AsyncClient(
            headers=headers | ({"Authorization": f"Bearer {key}"} if key else {}),
            timeout=httpx2.Timeout(None, connect=_CONNECT_S),
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
            follow_redirects=False,  # the request carries key and conversation, and another host must not get them
        )
        self._forgotten = weakref.finalize(self, _begin, self._client.aclose)
        self._forgotten.atexit = False

    def get(self, url: str, *, within_s: float) -> Answer:
        """Return the answer to a GET.

        Raises:
            WireError: there is none.
        """
        return self._do("GET", url, None, within_s)

    def post(self, url: str, body: bytes, *, within_s: float) -> Answer:
        """Return the answer to a POST of JSON.

        Raises:
            WireError: there is none.
        """
        return self._do("POST", url, body, within_s)

    def _do(self, method: str, url: str, body: bytes | None, within_s: float) -> Answer:
        try:
            return _begin(lambda: self._answered(method, url, body, within_s)).result()
        except TimeoutError:
            raise WireError(f"the answer was not whole within {within_s:g} s", overdue=True) from None
        except (self._httpx.HTTPError, self._httpx.InvalidURL, OSError, ValueError) as error:
            unreached = isinstance(error, (self._httpx.ConnectError, self._httpx.ConnectTimeout))
            what = f"{type(error).__name__}: {_first_cause(error)}".removesuffix(": ")
            raise WireError(what, unreached=unreached) from None

    async def _answered(self, method: str, url: str, body: bytes | None, within_s: float) -> Answer:
        # A limit for each read would let a server that sends a byte now and then take for ever.
        async with asyncio.timeout(within_s), self._client.stream(method, url, content=body) as answer:
            data = bytearray()
            async for part in answer.aiter_bytes():  # unpacks in small pieces
                data += part
                if len(data) > MOST_BYTES:
                    raise WireError(f"the answer has more than {MOST_BYTES >> 20} MiB")
            return Answer(answer.status_code, answer.headers, bytes(data))

    def close(self) -> None:
        """Close the connections."""
        if self._forgotten.detach():
            _begin(self._client.aclose).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _first_cause(error: BaseException) -> str:
    """Return what the system says, below what the libraries make of it."""
    while below := _below(error):
        error = below
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)


def _below(error: BaseException) -> BaseException | None:
    return error.exceptions[0] if isinstance(error, BaseExceptionGroup) else error.__cause__ or error.__context__


@functools.cache
def _loop() -> asyncio.AbstractEventLoop:
    """Return the loop in which every request runs, in a thread of its own."""
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="wire", daemon=True).start()
    return loop


_starting = threading.Lock()


def _begin(work: Callable[[], Coroutine[Any, Any, T]]) -> Future[T]:
    """Have some work done in the loop, from any other thread."""
    with _starting:
        loop = _loop()
    return asyncio.run_coroutine_threadsafe(work(), loop)
