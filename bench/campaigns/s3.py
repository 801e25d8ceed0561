"""A store that speaks as much S3 as its client asks for, and has faults where a test wants them; over HTTP.

    with s3.running() as store:
        os.environ |= store.variables

From there on `s3://bucket` is in it.
"""

from __future__ import annotations

import contextlib
import http.server
import re
import threading
import time
import urllib.parse
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BUCKET = "bucket"
CODES = {
    403: "AccessDenied", 404: "NoSuchKey", 409: "ConditionalRequestConflict", 412: "PreconditionFailed",
    503: "SlowDown", 507: "XMinioStorageFull",
}  # fmt: skip


@dataclass
class S3:
    """What the store holds and how it behaves; tests set the fields."""

    objects: dict[str, bytes] = field(default_factory=dict)
    conditional: bool = True  # whether `If-None-Match: *` holds
    refuse: int = 0  # status of every answer
    refuse_put: int = 0  # status of every answer to an upload
    overloaded: int = 0  # so many requests more are answered with 503
    slow_s: float = 0.0
    conflicts: int = 0  # so many uploads more meet another one of the same object, which comes to nothing
    cut_answers: int = 0  # so many uploads more are carried out, and then the connection is closed
    more: bool = False  # objects have no end, whatever is said of their length
    lists_all: bool = False  # whatever is asked for
    page: int = 1000
    seen: list[tuple[str, str]] = field(default_factory=list)  # method and path of every request
    lock: threading.Lock = field(default_factory=threading.Lock)
    url: str = ""

    @property
    def variables(self) -> dict[str, str]:
        """What a client needs in its environment to reach it."""
        return variables(self.url)


def variables(url: str) -> dict[str, str]:
    """Return what a client needs in its environment to reach a store at an address."""
    return {
        "AWS_ENDPOINT_URL": url, "AWS_ALLOW_HTTP": "true", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_REGION": "us-east-1", "NO_PROXY": "*", "no_proxy": "*",
    }  # fmt: skip


class _Server(http.server.ThreadingHTTPServer):
    """A server whose clients may be killed under a request."""

    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing of a client that went away."""


class Handler(http.server.BaseHTTPRequestHandler):
    """One connection to a store."""

    protocol_version = "HTTP/1.1"
    s3: S3

    def do_PUT(self) -> None:
        """Make or replace an object."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        s3 = self.s3
        if self._stopped() or (s3.refuse_put and self._end(s3.refuse_put)):
            return
        with s3.lock:
            if s3.conflicts > 0:
                s3.conflicts -= 1
                self._end(409)
                return
            there = self._name in s3.objects
            if there and s3.conditional and self.headers.get("If-None-Match") == "*":
                self._end(412)
                return
            s3.objects[self._name] = body
            cut = s3.cut_answers > 0
            s3.cut_answers -= cut
        if cut:
            self.close_connection = True
        else:
            self._end(200, b"", {"ETag": '"e"'})

    def do_HEAD(self) -> None:
        """Say whether there is an object."""
        self.do_GET()

    def do_GET(self) -> None:
        """Return an object, or list some."""
        if self._stopped():
            return
        query = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        if "list-type" in query:
            self._list(query)
        elif (data := self.s3.objects.get(self._name)) is None:
            self._end(404)
        else:
            self._end(200, data, {"ETag": '"e"', "Last-Modified": "Mon, 02 Nov 2026 00:00:00 GMT"}, more=self.s3.more)

    def do_POST(self) -> None:
        """Delete objects; only tests do, behind the back of the kit."""
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        names = re.findall(r"<Key>([^<]*)</Key>", body)
        for name in names:
            self.s3.objects.pop(name, None)
        done = "".join(f"<Deleted><Key>{escape(name)}</Key></Deleted>" for name in names)
        self._end(200, f"<DeleteResult>{done}</DeleteResult>".encode())

    def _list(self, query: Mapping[str, str]) -> None:
        prefix = "" if self.s3.lists_all else query.get("prefix", "")
        names = sorted(name for name in self.s3.objects if name.startswith(prefix))
        names = [name for name in names if name > query.get("continuation-token", "")]
        page, more = names[: self.s3.page], len(names) > self.s3.page
        entries = "".join(
            f"<Contents><Key>{escape(name)}</Key><Size>{len(self.s3.objects[name])}</Size>"
            "<LastModified>2026-11-02T00:00:00.000Z</LastModified></Contents>"
            for name in page
        )
        token = f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>" if more else ""
        text = f"<ListBucketResult><IsTruncated>{str(more).lower()}</IsTruncated>{token}{entries}</ListBucketResult>"
        self._end(200, text.encode())

    @property
    def _name(self) -> str:
        return urllib.parse.unquote(urllib.parse.urlsplit(self.path).path.removeprefix(f"/{BUCKET}/"))

    def _stopped(self) -> bool:
        s3 = self.s3
        s3.seen.append((self.command, self.path))
        time.sleep(s3.slow_s)
        with s3.lock:
            overloaded = s3.overloaded > 0
            s3.overloaded -= overloaded
        if status := s3.refuse or (503 if overloaded else 0):
            self._end(status)
        return bool(status)

    def _end(
        self, status: int, data: bytes | None = None, headers: Mapping[str, str] | None = None, *, more: bool = False
    ) -> bool:
        if data is None:
            data = f"<?xml version='1.0'?>\n<Error><Code>{CODES[status]}</Code><Message>m</Message></Error>".encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        if more and self.command != "HEAD":
            self.send_header("Transfer-Encoding", "chunked")  # which counts, and not the length
        self.end_headers()
        while more and self.command != "HEAD":
            self.wfile.write(b"10000\r\n" + bytes(0x10000) + b"\r\n")
        if self.command != "HEAD":
            self.wfile.write(data)
        return True

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


@contextlib.contextmanager
def running(host: str = "127.0.0.1") -> Iterator[S3]:
    """Run a store meanwhile, at an address of this machine."""
    s3 = S3()
    server = _Server((host, 0), type("Bound", (Handler,), {"s3": s3}))
    s3.url = f"http://{host}:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield s3
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
