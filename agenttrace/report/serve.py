"""Serves a report that is followed: to this machine alone, at an address that cannot be guessed."""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from agenttrace.errors import UsageError
from agenttrace.report.html import page

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from agenttrace.report.follow import Followed

LOOPBACK = "127.0.0.1"
LOOK_S = 1.0
_HOSTS = frozenset({LOOPBACK, "localhost"})
"""Names in `Host`; any port, for one forwarded by ssh. Any other name is of a page that was made to point here."""
_PATIENCE_S = 20


def follow(followed: Followed, title: str, *, port: int = 0, started: Callable[[str], object]) -> None:
    """Serve what is followed and look for more, until Ctrl-C.

    Args:
        followed: what is looked at.
        title: of the page.
        port: to listen at; 0 for one that is free.
        started: called with the address.

    Raises:
        UsageError: the port cannot be had.
    """
    with serving(followed, title, port=port) as address:
        started(address)
        with suppress(KeyboardInterrupt):
            while True:
                time.sleep(LOOK_S)
                followed.look()


@contextmanager
def serving(followed: Followed, title: str, *, port: int = 0) -> Iterator[str]:
    """Serve in a thread of its own; yields the address. Arguments and errors are those of `follow`."""
    try:
        server = _Server(followed, title, port)
    except (OSError, OverflowError) as error:
        raise UsageError(f"--port {port}: cannot listen there: {getattr(error, 'strerror', error)}") from error
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_port}/{server.token}/"
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 32

    def __init__(self, followed: Followed, title: str, port: int) -> None:
        self.followed = followed
        self.token = secrets.token_urlsafe(24)
        self.page = "".join(page(title=title, followed=True)).encode(errors="backslashreplace")
        super().__init__((LOOPBACK, port), _Request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a browser that went away in the middle of an answer."""


class _Request(BaseHTTPRequestHandler):
    server: _Server
    server_version = "agenttrace"
    sys_version = ""
    timeout = _PATIENCE_S

    def do_GET(self) -> None:
        """Answer with the page, with rows or with a chunk; with nothing to who does not know the address."""
        asked = urlsplit(self.path)
        token, _, name = asked.path.removeprefix("/").partition("/")
        host = self.headers.get("Host", "").rpartition(":")[0] or self.headers.get("Host", "")
        if host not in _HOSTS or not hmac.compare_digest(token.encode(), self.server.token.encode()):
            self._answer(HTTPStatus.NOT_FOUND)
            return
        given = {key: values[-1] for key, values in parse_qs(asked.query).items()}
        generation, followed = given.get("generation", ""), self.server.followed
        if name == "":
            self._answer(HTTPStatus.OK, self.server.page, "text/html; charset=utf-8")
        elif name == "rows":
            rows = followed.answer(generation, _number(given.get("from")), given.get("files", ""))
            self._answer(HTTPStatus.OK, rows, "application/json")
        elif name == "chunk" and (data := followed.chunk(generation, _number(given.get("number")))) is not None:
            self._answer(HTTPStatus.OK, data, "text/plain; charset=utf-8", encoding="gzip")
        else:
            self._answer(HTTPStatus.NOT_FOUND)

    def _answer(self, status: HTTPStatus, body: bytes = b"", kind: str = "text/plain", encoding: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if encoding:
            self.send_header("Content-Encoding", encoding)
        for name, value in _HEADERS.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Say nothing of requests."""


_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 10 else -1  # noqa: PLR2004
