"""The `openai` client, bounded: one deadline for a whole answer, a limit of its size, and no redirect followed."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import httpx2
import openai

from agenttrace import __version__

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from concurrent.futures import Future
    from typing import Self

    _Asked = Callable[[], Coroutine[Any, Any, httpx2.Response]]

MOST_BYTES = 8 * 2**20
"""Of one answer, unpacked: far more than a model writes, and as Python's objects still less than a collector has."""
_CONNECT_S = 30.0
_OF_TRANSFER = frozenset({"content-encoding", "content-length", "transfer-encoding"})
"""Headers that say of a body what no longer holds when it is unpacked."""

_LOOK_S, _LOOKS = 10.0, 4
"""How often a server is asked for its progress: every so many seconds, and at least so often within a limit."""

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


class _WholeAnswers(httpx2.AsyncClient):
    """HTTP whose answers are read whole, up to a limit, before the client has them: it bounds no answer of an error."""

    async def send(self, request: httpx2.Request, **options: Any) -> httpx2.Response:  # noqa: ANN401 - httpx2's own
        answer = await super().send(request, **{**options, "stream": True})
        data = bytearray()
        try:
            async for part in answer.aiter_bytes():  # unpacks in small pieces
                data += part
                if len(data) > MOST_BYTES:
                    raise WireError(f"the answer has more than {MOST_BYTES >> 20} MiB")
        finally:
            await answer.aclose()
        headers = [(name, value) for name, value in answer.headers.multi_items() if name not in _OF_TRANSFER]
        return httpx2.Response(answer.status_code, headers=headers, content=bytes(data), request=request)


class Wire:
    """Connections to one server, kept open between requests; usable from any thread.

    Args:
        key: sent as the bearer token.
    """

    def __init__(self, key: str | None = None) -> None:
        http = _WholeAnswers(
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=None),
            follow_redirects=False,  # the request carries key and conversation, and another host must not get them
        )
        self._client = openai.AsyncOpenAI(
            api_key=key or "none",
            base_url="http://model.invalid",  # every request names its whole address
            default_headers={"User-Agent": f"agenttrace/{__version__}"},
            timeout=httpx2.Timeout(None, connect=_CONNECT_S),
            max_retries=0,
            http_client=http,
        )
        self._options: Any = {} if key else {"headers": {"Authorization": openai.omit}}
        self._forgotten = weakref.finalize(self, _begin, self._client.close)
        self._forgotten.atexit = False

    def get(self, url: str, *, within_s: float) -> Answer:
        """Return the answer to a GET.

        Raises:
            WireError: there is none.
        """
        return self._do(self._asked(url), within_s)

    def post(self, url: str, body: bytes, *, within_s: float, progress_at: str | None = None) -> Answer:
        """Return the answer to a POST of JSON.

        Args:
            url: where it goes.
            body: as it is sent.
            within_s: until the answer is whole.
            progress_at: a page of the server that changes while it works: the time then starts anew with every change.

        Raises:
            WireError: there is none.
        """
        how: Any = {"cast_to": httpx2.Response, "content": body, "options": self._options}
        look = None if progress_at is None else self._asked(progress_at)
        return self._do(lambda: self._client.post(url, **how), within_s, look)

    def _asked(self, url: str) -> _Asked:
        return lambda: self._client.get(url, cast_to=httpx2.Response, options=self._options)

    def _do(self, asked: _Asked, within_s: float, look: _Asked | None = None) -> Answer:
        try:
            return _begin(lambda: _answered(asked, within_s, look)).result()
        except TimeoutError:
            why = "" if look is None else " of the last progress"
            raise WireError(f"the answer was not whole within {within_s:g} s{why}", overdue=True) from None
        except (openai.APIConnectionError, httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
            below = error.__cause__ if isinstance(error, openai.APIConnectionError) and error.__cause__ else error
            unreached = isinstance(below, (httpx2.ConnectError, httpx2.ConnectTimeout))
            what = f"{type(below).__name__}: {_first_cause(below)}".removesuffix(": ")
            raise WireError(what, unreached=unreached) from None

    def close(self) -> None:
        """Close the connections."""
        if self._forgotten.detach():
            _begin(self._client.close).result()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


async def _answered(asked: _Asked, within_s: float, look: _Asked | None) -> Answer:
    try:
        # A limit for each read would let a server that sends a byte now and then take for ever.
        async with asyncio.timeout(within_s) as limit:
            watch = None if look is None else asyncio.create_task(_prolonged(limit, within_s, look))
            try:
                answer = await asked()
            finally:
                if watch is not None:
                    watch.cancel()
    except openai.APIStatusError as error:
        answer = error.response
    return Answer(answer.status_code, answer.headers, answer.content)


async def _prolonged(limit: asyncio.Timeout, within_s: float, look: _Asked) -> None:
    """Put off a limit as long as a page of the server changes; a server without that page has the limit as it is."""
    seen = b""
    while True:
        await asyncio.sleep(min(_LOOK_S, within_s / _LOOKS))
        try:
            page = await look()
        except openai.APIStatusError:
            return
        except (openai.APIConnectionError, httpx2.HTTPError, WireError, OSError, ValueError):
            continue
        if page.content != seen:
            seen = page.content
            limit.reschedule(asyncio.get_running_loop().time() + within_s)


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
