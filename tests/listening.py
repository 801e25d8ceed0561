"""A local HTTP server of a test, as long as the test wants it."""

from __future__ import annotations

import contextlib
import http.server
import threading


@contextlib.contextmanager
def listening(handler):
    """The address of a server that answers as a subclass of `BaseHTTPRequestHandler` does, and prints nothing."""
    quiet = type("Quiet", (handler,), {"log_message": lambda *_: None})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), quiet)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
