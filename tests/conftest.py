"""What several folders use: the task files, and a server that speaks the Hub's protocol, with its faults."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import os
import re
import signal
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agenttrace.tasks import sources

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that starts the tests in the background has it ignored, and every process under test would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

REPO = "owner/tiny-GGUF"
COMMIT = "c" * 40
FILE = "tiny-Q8_0.gguf"


@dataclass
class Hub:
    """What the server holds and how it behaves; tests set the fields."""

    content: bytes = b""
    served: bytes | None = None  # other bytes than the metadata says
    stated: bool = True  # whether HEAD states size and digest, as for files in large-file storage
    commit: str = COMMIT
    ranges: bool = True
    redirect: bool = True
    length: bool = True  # whether answers with bytes say how many
    refuse: tuple[int, dict] | None = None  # status and headers of every answer
    faults: list = field(default_factory=list)  # (status, headers), one per GET of bytes, before anything works
    cuts: list = field(default_factory=list)  # bytes after which a GET of bytes is cut, one per GET
    hold: threading.Event | None = None  # a GET of bytes sends half, then waits for it
    half_sent: threading.Event = field(default_factory=threading.Event)
    seen: list = field(default_factory=list)  # (server, method, path, headers)
    url: str = ""
    cdn: str = ""

    @property
    def sha256(self):
        return hashlib.sha256(self.content).hexdigest()

    def ranges_asked(self):
        """Return the Range header of every request for bytes, in order."""
        return [headers.get("Range") for where, method, _, headers in self.seen if (where, method) == ("cdn", "GET")]


class Handler(http.server.BaseHTTPRequestHandler):
    """One request to the Hub (`where` is `hub`) or to its content-delivery server (`cdn`)."""

    protocol_version = "HTTP/1.1"
    hub: Hub
    where: str

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, *, with_body):
        self.hub.seen.append((self.where, self.command, self.path, self.headers))
        if self.hub.refuse is not None:
            self.end(*self.hub.refuse)
        elif self.where == "cdn":
            self.send_content()
        elif code := self.missing():
            self.end(404, {"X-Error-Code": code})
        else:
            self.resolve(with_body=with_body)

    def missing(self):
        """Return the Hub's name for what is not there."""
        found = re.fullmatch(rf"/{REPO}/resolve/([^/]+)/(.+)", self.path)
        if not found:
            return "RepoNotFound"
        if found[1] not in {self.hub.commit, "main"}:
            return "RevisionNotFound"
        return "" if found[2] == FILE else "EntryNotFound"

    def resolve(self, *, with_body):
        headers = {"X-Repo-Commit": self.hub.commit, "ETag": '"0123456789"'}
        if self.hub.stated:
            headers |= {"X-Linked-Size": str(len(self.hub.content)), "X-Linked-ETag": f'"{self.hub.sha256}"'}
        if self.hub.redirect:
            self.end(302, {**headers, "Location": f"{self.hub.cdn}/blob?signature=do-not-show"})
        elif with_body:
            self.send_content()
        else:
            self.end(200, {**headers, "Content-Length": str(len(self.hub.content))})

    def end(self, status, headers):
        self.send_response(status)
        for name, value in {"Content-Length": "0", **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET" and "Content-Length" in headers:
            self.wfile.write(b"odd!")

    def send_content(self):
        hub = self.hub
        data = hub.content if hub.served is None else hub.served
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(asked[1]) if asked and hub.ranges else 0
        if hub.faults:
            self.end(*hub.faults.pop(0))
        elif start and start >= len(data):
            self.end(416, {"Content-Range": f"bytes */{len(data)}"})
        else:
            self.send_from(start, data)

    def send_from(self, start, data):
        hub = self.hub
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        if hub.length:
            self.send_header("Content-Length", str(len(data) - start))
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        rest = data[start:]
        if hub.cuts:
            rest = rest[: hub.cuts.pop(0)]
        with contextlib.suppress(ConnectionError):  # the client may be killed, or have seen enough
            if hub.hold is not None:
                self.wfile.write(rest[: len(rest) // 2])
                hub.half_sent.set()
                hub.hold.wait(30)
                rest = rest[len(rest) // 2 :]
            self.wfile.write(rest)

    def log_message(self, *_):
        """Keep quiet."""


@contextlib.contextmanager
def running(bind, address, tls=None):
    """Yield a running Hub that is reached under `address`, by https with an `ssl.SSLContext`."""
    hub = Hub(content=bytes(range(256)) * 1024)
    servers = [
        http.server.ThreadingHTTPServer((bind, 0), type("Bound", (Handler,), {"hub": hub, "where": where}))
        for where in ("hub", "cdn")
    ]
    for server in servers if tls else ():
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    scheme = "https" if tls else "http"
    hub.url, hub.cdn = (f"{scheme}://{address}:{server.server_address[1]}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        if hub.hold is not None:
            hub.hold.set()
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


@pytest.fixture
def make_hub():
    """Return the context manager that runs a Hub, for tests that need it at another address."""
    return running


@pytest.fixture
def hub(monkeypatch):
    """Return a running Hub with a content-delivery server beside it; HF_ENDPOINT names it."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN", "HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_TOKEN_PATH", "/nonexistent")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", "/nonexistent")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)
    with running("127.0.0.1", "127.0.0.1") as made:
        monkeypatch.setenv("HF_ENDPOINT", made.url)
        yield made


@pytest.fixture
def task_files(monkeypatch):
    """A folder with all task files; names it in AGENTTRACE_MIRROR."""
    named = os.environ.get(sources.MIRROR)
    candidates = [Path(named)] if named else [Path(__file__).parents[2] / "shared" / "data", sources.folder()]
    for folder in candidates:
        if all((folder / source.path).is_file() for source in (*sources.NL2BASH, sources.MBPP)):
            monkeypatch.setenv(sources.MIRROR, str(folder))
            return folder
    pytest.skip(f"needs the task files: name a folder that holds them in {sources.MIRROR} (see docs/tasks.md)")
