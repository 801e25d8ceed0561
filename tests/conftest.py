"""What several folders use: task files, sandbox workers, a browser, a server with the Hub's protocol and its faults."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from agenttrace.cli import main
from agenttrace.fixture.build import load, write_tree
from agenttrace.sandbox.client import acquire
from agenttrace.tasks import sources
from bench.analysis import browser

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell that starts the tests in the background has it ignored, and every process under test would inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)

with contextlib.suppress(ImportError):  # `nox -s formats-check` has no hypothesis
    from hypothesis import settings

    # How long an example takes is the machine's business; `nox -s quick` takes few of them.
    for name, examples in {"all": 100, "few": 20}.items():
        settings.register_profile(name, max_examples=examples, deadline=None)
    settings.load_profile("all")

REPO = "owner/tiny-GGUF"
COMMIT = "c" * 40
FILE = "tiny-Q8_0.gguf"


@dataclass
class Hub:
    """What the server holds and how it behaves; tests set the fields."""

    content: bytes = b""
    repo: str = REPO
    file: str = FILE
    digest: str | None = None  # stated instead of that of the content
    served: bytes | None = None  # other bytes than the metadata says
    stated: bool = True  # whether HEAD states size and digest, as for files in large-file storage
    commit: str = COMMIT
    ranges: bool = True
    refused_ranges: int = 0  # requests for a range that are answered with 416, although it lies within the file
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
        return self.digest or hashlib.sha256(self.content).hexdigest()

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
        found = re.fullmatch(rf"/{self.hub.repo}/resolve/([^/]+)/(.+)", self.path)
        if not found:
            return "RepoNotFound"
        if found[1] not in {self.hub.commit, "main"}:
            return "RevisionNotFound"
        return "" if found[2] == self.hub.file else "EntryNotFound"

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
        data = memoryview(hub.content if hub.served is None else hub.served)
        asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(asked[1]) if asked and hub.ranges else 0
        if hub.faults:
            self.end(*hub.faults.pop(0))
        elif start and (start >= len(data) or hub.refused_ranges):
            hub.refused_ranges = max(0, hub.refused_ranges - 1)
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


class Sandbox:
    """Real sandbox workers on this host that listen where a collector looks for them, and come back when they end.

    The folder `tools` comes first on the tools' PATH; `fixtures` may be changed before the first worker is started.
    """

    _numbers = itertools.count()

    def __init__(self, base):
        self.base, self.sockets = base, base / "sockets"
        base.chmod(0o755)
        for name in ("sockets", "tools"):
            (base / name).mkdir()
        for name in ("demo", "empty"):
            write_tree(load(name), base / "fixtures" / name)
        package = Path(__file__).parents[1] / "agenttrace" / "sandbox"
        self._runner = package / "runner"
        self._interpreter = shutil.copy(package / "tools" / "interpret.py", base)
        self._running = []

    def start(self, count=1, *, policy="shell", trees=None):
        """Start workers and return the folder of their sockets."""
        for _ in range(count):
            place = self.base / f"worker-{len(self._running)}"
            for name in ("work", "call"):
                (place / name).mkdir(parents=True)
            # The runner kills everything of that user.
            uid = 20_000 + (os.getpid() * 64 + next(self._numbers)) % 40_000
            flags = {
                "work": place / "work", "call-dir": place / "call", "fixtures": self.base / "fixtures",
                "interpreter": self._interpreter, "tool-uid": uid, "tool-gid": uid, "socket-dir": self.sockets,
                "socket-gid": os.getgid(), "helper": "python", "policy": policy,
                "path": f"{self.base / 'tools'}:/usr/bin:/bin", **({} if trees is None else {"trees": trees}),
            }  # fmt: skip
            argv = [sys.executable, "-I", "-S", "-B", str(self._runner)]
            argv += [str(part) for name, value in flags.items() for part in (f"--{name}", value)]
            again = ["sh", "-c", 'while true; do "$@" || exit; done', "sh", *argv]
            self._running.append(subprocess.Popen(again, stdout=subprocess.DEVNULL, start_new_session=True))
        return self.sockets

    def connect(self):
        """Return an idle worker, the first of all where there was none."""
        if not self._running:
            self.start()
        (worker,) = acquire(self.sockets, count=1, timeout_s=20)
        return worker

    def stop(self):
        while self._running:
            process = self._running.pop()
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture(scope="module")
def make_sandbox():
    """Return what makes a `Sandbox`; all of them end with the module."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs Linux and root: the runner switches to the tools' user")
    with contextlib.ExitStack() as stack:

        def make():
            base = Path(tempfile.mkdtemp(prefix="agenttrace-tests-", dir="/var/tmp"))
            stack.callback(shutil.rmtree, base, ignore_errors=True)
            made = Sandbox(base)
            stack.callback(made.stop)
            return made

        yield make


@pytest.fixture
def sandbox(make_sandbox):
    return make_sandbox()


@pytest.fixture
def agenttrace(capfd, monkeypatch):
    """Run one command line in this process; what it printed and the status it would exit with come back."""
    before = signal.getsignal(signal.SIGTERM)

    def run(*arguments, cwd=None):
        words = [*map(str, arguments)]
        capfd.readouterr()
        with monkeypatch.context() as patch:
            patch.chdir(cwd or Path.cwd())
            with pytest.raises(SystemExit) as ended:
                main(words)
        return subprocess.CompletedProcess(words, ended.value.code, *capfd.readouterr())

    yield run
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="session")
def chromium():
    missing = browser.missing()
    if missing and os.environ.get("AGENTTRACE_REQUIRE_BROWSER"):
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)
    with browser.started() as started:
        yield started
