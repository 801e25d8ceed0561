"""The endpoints of a run as a set: which one a task is asked of, and which of them work.

A task is pinned to an endpoint by rendezvous hashing (Thaler and Ravishankar 1998): its rollouts share the beginning of
a prompt, so they meet one prefix cache, and where an endpoint goes only its tasks move. Health is a circuit breaker:
after `FAILURES` in a row an endpoint is left alone for `OPEN_S`, then one conversation tries it.
"""

from __future__ import annotations

import hashlib
import re
import threading
import time
from typing import TYPE_CHECKING, NamedTuple

from agenttrace.cluster.share import EndpointShare
from agenttrace.errors import ModelServerError, UsageError
from agenttrace.serving.endpoint import check_base_url
from agenttrace.store.opening import MARK, content

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable
    from pathlib import Path

    from agenttrace.campaign.session import ServedModel

FAILURES = 3
OPEN_S = 30.0
PATIENCE_S = 600.0
"""So long all endpoints may be gone."""
_POLL_S = 0.2
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
_LONGEST_FILE = 1 << 20


class Address(NamedTuple):
    """An endpoint as it is given.

    Attributes:
        name: for people and records, in which no address stands: the user's, or the beginning of the address's digest.
        url: up to and including `/v1`.
    """

    name: str
    url: str


def read_addresses(given: Iterable[str], file: Path | None = None) -> tuple[Address, ...]:
    """Return endpoints from `URL` or `NAME=URL`, those of the command line first, then a file's, one a line.

    Raises:
        UsageError: one is no such address, or is there twice; or there is none.
    """
    said = [("--base-url", text) for text in given]
    if file is not None:
        lines = content(file, most=_LONGEST_FILE).removeprefix(MARK).decode("utf-8", "replace").split("\n")
        rows = [(f"{file}, line {number}", line.partition("#")[0].strip()) for number, line in enumerate(lines, 1)]
        said += (named := [(where, text) for where, text in rows if text])
        if not named:
            raise UsageError(f"{file}: no line of it names an endpoint (URL or NAME=URL, # begins a comment)")
    found: dict[str, Address] = {}
    for where, text in said:
        one = _address(text, where)
        if one.name in found or one.url in {other.url for other in found.values()}:
            raise UsageError(f"{where}: the endpoint {text} is named twice")
        found[one.name] = one
    if not found:
        raise UsageError("no endpoint is named: --base-url URL, once for each, or --endpoints FILE with one a line")
    return tuple(found.values())


def _address(text: str, where: str) -> Address:
    name, named, url = text.partition("=")
    if not named or "/" in name:
        name, url = "", text
    try:
        url = check_base_url(url)
    except UsageError as error:
        raise UsageError(str(error).replace("--base-url", where, 1)) from None
    if named and name and not _NAME.fullmatch(name):
        raise UsageError(f"{where}: {name!r} is no name for an endpoint: up to 40 letters, digits, dots, _ and -")
    return Address(name or f"endpoint-{hashlib.sha256(url.encode()).hexdigest()[:8]}", url)


class Endpoint:
    """One endpoint, and how it fares.

    Attributes:
        address: of it.
        share: how many requests it has of this machine at a time.
        server: as it was found; `None` before it is asked for the first time, and after it was lost.
        refused: why it is none of this run, for good; or nothing.
        records: that were made with it here.
    """

    def __init__(self, address: Address, share: EndpointShare) -> None:
        self.address = address
        self.share = share
        self.server: ServedModel | None = None
        self.refused = ""
        self.records = 0
        self.failures = 0
        self.open_until = 0.0
        self.why = "not asked yet"
        self.checking = threading.Lock()

    def weight(self, key: str) -> bytes:
        """Return what the endpoint counts for a key; the highest one has it."""
        return hashlib.sha256(f"{self.address.name}\0{key}".encode("utf-8", "surrogatepass")).digest()


class Endpoints:
    """All endpoints that one machine uses; safe to use from the threads that run tasks.

    Args:
        addresses: of them.
        connect: returns a server that was checked against the run spec.
        answers: whether there is a server at an address at all.
        tell: gets a line for people where something changes.
        patience_s: so long all of them may be gone.
        open_s: so long one that fails is left alone.
        clock: monotonic seconds (replaceable in tests).
        sleep: waits (likewise).
    """

    def __init__(
        self,
        addresses: Iterable[Address],
        connect: Callable[[Endpoint], ServedModel],
        *,
        answers: Callable[[str], bool],
        tell: Callable[[str], None],
        patience_s: float = PATIENCE_S,
        open_s: float = OPEN_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.every = tuple(
            Endpoint(one, EndpointShare(1, patience_s=patience_s, clock=clock, sleep=sleep)) for one in addresses
        )
        self._connect, self._answers, self._tell = connect, answers, tell
        self._patience_s, self._open_s = patience_s, open_s
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._gone_since: float | None = None

    def begin(self, in_flight: int) -> None:
        """Begin anew to be patient, at the beginning of a shard, with so many requests at a time to each endpoint."""
        for endpoint in self.every:
            endpoint.share.limit(in_flight)
        with self._lock:
            self._gone_since = None

    def order(self, key: str) -> list[Endpoint]:
        """Return all endpoints, the one that a key is pinned to first."""
        return sorted(self.every, key=lambda one: one.weight(key), reverse=True)

    def pick(self, key: str, avoid: Collection[str] = ()) -> Endpoint:
        """Return the first working endpoint for a key, checked; where none works, wait for one.

        Args:
            key: what is pinned.
            avoid: names of endpoints to take only where no other works.

        Raises:
            ModelServerError: none worked for as long as the patience lasts.
            UsageError: every one serves something else than the run spec names.
        """
        while True:
            for endpoint in sorted(self.order(key), key=lambda one: one.address.name in avoid):
                if self._usable(endpoint):
                    return endpoint
            self._wait()

    def _usable(self, endpoint: Endpoint) -> bool:
        """Return whether a conversation may begin there; one that is new, or was lost, is checked first."""
        with endpoint.checking:  # who wants the same one waits for what is found
            with self._lock:
                open_, now = endpoint.failures >= FAILURES, self._clock()
                if endpoint.refused or (open_ and now < endpoint.open_until):
                    return False
                if open_:  # this conversation tries it; the others wait for what it finds
                    endpoint.open_until = now + self._open_s
                else:
                    self._gone_since = None if endpoint.server else self._gone_since
            if endpoint.server is None:
                try:
                    endpoint.server = self._connect(endpoint)
                except UsageError as error:
                    endpoint.refused = str(error)
                    self._tell(f"{endpoint.address.name} ({endpoint.address.url}) is refused: {error}")
                except ModelServerError as error:
                    self._open(endpoint, str(error))
            return endpoint.server is not None

    def _wait(self) -> None:
        with self._lock:
            refused = [one for one in self.every if one.refused]
            if len(refused) == len(self.every):
                raise UsageError("; ".join(f"{one.address.url}: {one.refused}" for one in refused))
            now = self._clock()
            if self._gone_since is None:
                self._gone_since = now
            gone_s = now - self._gone_since
            if gone_s >= self._patience_s:
                told = "; ".join(f"{one.address.name}: {one.refused or one.why}" for one in self.every)
                raise ModelServerError(f"no endpoint could be used for {gone_s:.0f} s ({told})")
        self._sleep(_POLL_S)

    def answered(self, endpoint: Endpoint) -> None:
        """Note that an endpoint gave a reply."""
        with self._lock:
            came_back = endpoint.failures >= FAILURES
            endpoint.failures, endpoint.open_until, self._gone_since = 0, 0.0, None
        if came_back:
            self._tell(f"{endpoint.address.name} answers again")

    def failed(self, endpoint: Endpoint, why: str) -> None:
        """Note that an endpoint gave no reply; one that is gone altogether is left alone at once."""
        gone = not self._answers(endpoint.address.url)
        with self._lock:
            endpoint.failures += 1
            enough = endpoint.failures >= FAILURES
        if gone or enough:
            self._open(endpoint, why)

    def look_again(self, endpoint: Endpoint) -> None:
        """Have an endpoint checked before the next conversation: what it said may be another server's."""
        with self._lock:
            endpoint.server = None

    def _open(self, endpoint: Endpoint, why: str) -> None:
        with self._lock:
            new = endpoint.open_until <= self._clock()
            endpoint.failures = max(endpoint.failures, FAILURES)
            endpoint.open_until = self._clock() + self._open_s
            endpoint.server, endpoint.why = None, why
        if new:
            self._tell(
                f"{endpoint.address.name} ({endpoint.address.url}) is left alone for {self._open_s:.0f} s: {why}"
            )
