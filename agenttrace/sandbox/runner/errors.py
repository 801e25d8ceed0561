"""How a request fails: with a reply, or with a reply and the end of the worker."""

from __future__ import annotations


class RequestError(Exception):
    """The request cannot be served; the worker is as good as before.

    Attributes:
        kind: machine-readable reason, such as `bad_request` or `spawn`.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class FatalError(RequestError):
    """The worker can no longer promise a clean state: it replies and exits with status 3."""
