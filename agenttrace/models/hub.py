"""Files of Hub repositories: what the Hub states of one, and its bytes, by huggingface_hub's public functions.

Addresses, token and the meaning of refusals are the library's, and so are `HF_ENDPOINT`, `HF_TOKEN` and
`HF_HUB_OFFLINE`. Its `hf_hub_download` (2.4) is good for small files but not for weights: every run of it writes to a
file of a new random name, so what a cut or killed one has left is never gone on with, and after a kill never removed.
So bytes are asked for here, from an offset on. Xet storage is read through the Hub's plain HTTP bridge.

The token goes to the endpoint alone: the client drops it when a redirect leaves the endpoint's origin. What must not be
seen (the token, a proxy's password) reaches a container on its standard input: on no command line, in no file, and in
no environment that the engine shows to whoever may ask it.
"""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import time
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit, urlunsplit

import msgspec

from agenttrace import __version__
from agenttrace.errors import AgentTraceError, DataError, UsageError
from agenttrace.records import Record

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator

    from agenttrace.models.reference import ModelRef

DEFAULT_ENDPOINT = "https://huggingface.co"
CONNECT_S = 5.0
TRIES = 5
"""Failures in a row without a new byte before a download is given up."""
_READ_S = 30.0
_LONGEST_WAIT_S = 60.0
_SHA256 = re.compile(r"[0-9a-f]{64}")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SECONDS = re.compile(r"\d{1,9}", re.ASCII)
_TOKEN = re.compile(r"[!-~]+")
_TRUE = {"1", "ON", "YES", "TRUE"}
_AGAIN = {408, 429, 500, 502, 503, 504}
_PARTIAL, _RANGE_REFUSED, _UNAUTHORIZED, _FORBIDDEN = 206, 416, 401, 403
_SHOWN_CHARS = 200
pause = time.sleep
"""Waits between two tries; a name of its own for the tests."""
PASSED_ON = (
    *("HF_ENDPOINT", "HF_TOKEN", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"),
    *("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"),
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"),
)
"""Variables of the user that reach the fetcher."""


class FetchError(AgentTraceError):
    """Weights cannot be had: unreachable, refused, missing, or offline (exit status 2)."""

    exit_code = 2


class TryAgainError(FetchError):
    """A failure that may pass by itself; `after_s` is how long the server asked to wait, if it did."""

    def __init__(self, message: str, *, after_s: float | None = None) -> None:
        self.after_s = after_s
        super().__init__(message)


class RangeRefusedError(DataError):
    """The server has nothing from the byte on at which a download was to go on, or says so (HTTP 416)."""


class Wanted(Protocol):
    """A file that is to be fetched: what it is called, and which bytes it must have.

    Attributes:
        name: for messages.
        artifact: file name.
        bytes: size; `None` is "not known".
        sha256: digest, likewise.
        digest_from: who said that; see `ModelPin`.
        described: all of it, for messages.
    """

    @property
    def name(self) -> str: ...  # noqa: D102
    @property
    def artifact(self) -> str: ...  # noqa: D102
    @property
    def bytes(self) -> int | None: ...  # noqa: D102
    @property
    def sha256(self) -> str | None: ...  # noqa: D102
    @property
    def digest_from(self) -> str: ...  # noqa: D102
    @property
    def described(self) -> str: ...  # noqa: D102


class HostSettings(Record, frozen=True, kw_only=True):
    """What the host hands to a container that may reach out, so that no secret stands where others can read it.

    Attributes:
        environment: variables of `PASSED_ON`.
        certificates: PEM text of the authorities to trust instead of the usual ones.
    """

    environment: dict[str, str]
    certificates: str | None = None


@contextlib.contextmanager
def host_settings(given: bytes | None) -> Iterator[None]:
    """Set what the host handed over (`HostSettings` as JSON), if anything.

    Raises:
        UsageError: it is not what was agreed.
    """
    if given is None:
        yield
        return
    try:
        asked = msgspec.json.decode(given, type=HostSettings)
    except msgspec.DecodeError as error:
        raise UsageError(f"--from-host: {error}") from error
    os.environ.update({name: value for name, value in asked.environment.items() if name in PASSED_ON})
    with tempfile.NamedTemporaryFile("w", suffix=".pem", encoding="utf-8") as bundle:
        bundle.write(asked.certificates or "")
        bundle.flush()
        if asked.certificates is not None:
            os.environ.update(SSL_CERT_FILE=bundle.name, GIT_SSL_CAINFO=bundle.name)
        yield


def offline() -> bool:
    """Return whether the user has forbidden the network."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in _TRUE


def endpoint() -> str:
    """Return the Hub's address, or the one that `HF_ENDPOINT` names instead."""
    return (os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")


def in_clear_text() -> bool:
    """Return whether what is sent to the endpoint, such as a token, crosses a network unencrypted."""
    try:
        parts = urlsplit(endpoint())
        host = parts.hostname or ""
    except ValueError:
        return False
    return parts.scheme == "http" and host not in {"localhost", "::1"} and not host.startswith("127.")


def _shown_endpoint() -> str:
    """Return the endpoint without any password in it, for messages."""
    try:
        parts = urlsplit(endpoint())
    except ValueError:
        return "HF_ENDPOINT"
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def connection_errors() -> tuple[type[Exception], ...]:
    """Return what the Hub's library raises when no answer comes: the errors of its HTTP client, and of the system."""
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415 - heavy

    # The library's own error derives from its client's, so the client (another one since 1.0) needs no name here.
    return tuple(base for base in HfHubHTTPError.__bases__ if issubclass(base, Exception))


def stated(ref: ModelRef) -> ModelRef:
    """Return the model with size, SHA-256 (large files only) and commit as the Hub states them now.

    A failure that may pass is tried once more.

    Raises:
        TryAgainError: no answer within some seconds, or one that says "later".
        FetchError: offline, or the Hub refuses, or has no such repository, revision or file.
    """
    try:
        return _head(ref)
    except TryAgainError as error:
        wait_or_raise(error, failures=1)
        return _head(ref)


def _head(ref: ModelRef) -> ModelRef:
    with _explained(ref):
        from huggingface_hub import get_hf_file_metadata  # noqa: PLC0415

        found = get_hf_file_metadata(
            _url(ref), token=_token(), timeout=CONNECT_S, library_name="agenttrace", library_version=__version__
        )
    return msgspec.structs.replace(
        ref,
        revision=found.commit_hash if _COMMIT.fullmatch(found.commit_hash or "") else ref.revision,
        bytes=found.size if found.size and found.size > 0 else None,
        sha256=found.etag if _SHA256.fullmatch(found.etag or "") else None,
    )


def pieces(ref: ModelRef, offset: int) -> Generator[bytes, None, None]:
    """Yield the file's bytes from `offset` on, as they come: a cut loses none.

    Raises:
        TryAgainError: the connection was cut, timed out, or the server says "later".
        FetchError: as `stated`.
        RangeRefusedError: the server's file ends before `offset`, or the server takes no such range.
    """
    with _explained(ref):
        from huggingface_hub import hf_raise_for_status  # noqa: PLC0415

        headers = {"authorization": f"Bearer {token}"} if (token := _token()) else {}
        yield from body_from(_url(ref), headers, offset, wanted=ref, check=hf_raise_for_status)


def body_from(
    url: str, headers: dict[str, str], offset: int, *, wanted: Wanted, check: Callable[[Any], object]
) -> Generator[bytes, None, None]:
    """Yield what lies at an address from byte `offset` on, as it comes; `check` raises where an answer is a refusal.

    Raises:
        TryAgainError: the server answers from another byte.
        RangeRefusedError: what it has ends before `offset`, or it takes no such range.
        Exception: what `check` and the library's HTTP client raise.
    """
    from huggingface_hub import get_session  # noqa: PLC0415 - heavy

    headers = {"user-agent": f"agenttrace/{__version__}", **headers}
    headers |= {"accept-encoding": "identity"}  # a compressed body has no offsets
    headers |= {"range": f"bytes={offset}-"} if offset else {}
    limits = (CONNECT_S, _READ_S, _READ_S, _READ_S)  # connect, read, write, a free connection
    with get_session().stream("GET", url, headers=headers, timeout=limits) as answer:
        if answer.status_code == _RANGE_REFUSED:
            raise RangeRefusedError(
                f"{wanted.name}: the server sends nothing from byte {offset} on, expected {wanted.described}"
            )
        check(answer)
        left_out = 0 if answer.status_code == _PARTIAL else offset  # the server knows no ranges
        if answer.status_code == _PARTIAL and f"bytes {offset}-" not in answer.headers.get("content-range", ""):
            raise TryAgainError(f"{wanted.name}: asked for byte {offset}, the server answered from another one")
        for piece in answer.iter_bytes():
            yield piece[left_out:]
            left_out = max(0, left_out - len(piece))


def wait_or_raise(error: TryAgainError, failures: int) -> None:
    """Wait as long as the server asked, or twice as long with each failure.

    Raises:
        TryAgainError: the error itself, where it came too often, or the server asks for more than a minute.
    """
    wait_s = error.after_s if error.after_s is not None else float(2 ** (failures - 1))
    if failures >= TRIES or wait_s > _LONGEST_WAIT_S:
        raise error
    pause(wait_s)


def _url(ref: ModelRef) -> str:
    from huggingface_hub import hf_hub_url  # noqa: PLC0415

    if offline():
        raise FetchError(
            f"{ref.name}: HF_HUB_OFFLINE forbids the network, and {ref.described} is not in the models folder "
            "yet. Unset it, or put the file into a folder and name that folder in AGENTTRACE_MODELS_MIRROR"
        )
    if not is_address(endpoint()):
        raise FetchError(f"HF_ENDPOINT is {_shown_endpoint()!r}, expected an address such as {DEFAULT_ENDPOINT}")
    return hf_hub_url(ref.repo or "", ref.in_repo, revision=ref.revision, endpoint=endpoint())


def is_address(text: str) -> bool:
    """Return whether a text is a web address that can be asked."""
    try:
        parts = urlsplit(text)
        return parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:  # brackets, or a port that cannot be
        return False


def _token() -> str | bool:
    from huggingface_hub import get_token  # noqa: PLC0415

    token = get_token()
    if token and not _TOKEN.fullmatch(token):
        raise FetchError("HF_TOKEN holds characters that no token has: set it again")
    return token or False


@contextlib.contextmanager
def _explained(ref: ModelRef) -> Iterator[None]:
    """Turn the library's errors into ours; addresses of redirects may hold signatures and are never shown."""
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # nothing is sent but what a download needs
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

    try:
        yield
    except HfHubHTTPError as error:
        raise _refused(ref, error) from error
    except connection_errors() as error:
        reason = printable(str(error)) or type(error).__name__
        if "CERTIFICATE_VERIFY_FAILED" in reason:
            raise FetchError(
                f"{_shown_endpoint()} (or a proxy before it) has a certificate that this machine does not trust; "
                "name the bundle of its authority in AGENTTRACE_CA_BUNDLE (SSL_CERT_FILE outside the containers)"
            ) from error
        if isinstance(error, OSError):  # certificates that cannot be read, among them
            raise FetchError(f"{ref.name}: no connection can be made: {reason}; is SSL_CERT_FILE right?") from error
        raise TryAgainError(
            f"{ref.name}: cannot reach {_shown_endpoint()} ({reason}). Check the network (behind a proxy: HTTPS_PROXY, "
            f"AGENTTRACE_CA_BUNDLE), name a mirror of the Hub in HF_ENDPOINT, or bring {ref.described} here some other "
            "way, put it into a folder and name that folder in AGENTTRACE_MODELS_MIRROR"
        ) from error


def _refused(ref: ModelRef, error: Any) -> FetchError:  # noqa: ANN401 - HfHubHTTPError
    from huggingface_hub import errors  # noqa: PLC0415

    status = error.response.status_code
    where = f"{_shown_endpoint()}/{ref.repo}"
    token = "HF_TOKEN was sent" if _token() else "no HF_TOKEN is set"
    if (passing := for_now(where, error.response)) is not None:
        return passing
    reasons = {
        errors.GatedRepoError: f" is gated ({token}): accept its terms on that page, then set HF_TOKEN to a token of "
        "that account",
        errors.RevisionNotFoundError: f" has no revision {ref.revision} (any more): its history may have been "
        "rewritten. Name another REPO@REVISION:FILE, or a folder that holds the file in AGENTTRACE_MODELS_MIRROR",
        errors.EntryNotFoundError: f" has no file {ref.in_repo} at revision {ref.revision}; look for its exact name",
        errors.RepositoryNotFoundError: f" does not exist, or is private and {token}: check the name, or set HF_TOKEN",
    }
    by_status = {
        404: reasons[errors.RepositoryNotFoundError],
        _UNAUTHORIZED: f": not allowed (status 401; {token}): check HF_TOKEN, it may be wrong or expired",
    }
    hint = "; the token may lack the right to read this repository" if status == _FORBIDDEN else ""
    other = f": refused with status {status} ({token}){hint}: {printable(str(error.server_message or ''))}"
    told = next((text for kind, text in reasons.items() if isinstance(error, kind)), by_status.get(status, other))
    return FetchError(where + told)


def for_now(where: str, answer: Any) -> TryAgainError | None:  # noqa: ANN401 - an answer of the library's HTTP client
    """Return what an answer says that may be another one later, or `None`."""
    status = answer.status_code
    if status not in _AGAIN:
        return None
    later = answer.headers.get("retry-after", "")
    what = "too many requests" if status == 429 else "the server has a fault"  # noqa: PLR2004
    return TryAgainError(
        f"{where}: {what} (status {status}); run the same command again later",
        after_s=float(later) if _SECONDS.fullmatch(later) else None,
    )


def printable(text: str) -> str:
    """Return a server's words for a message: nothing that moves a cursor, and not all of too many."""
    return "".join(char if char.isprintable() else " " for char in text)[:_SHOWN_CHARS]
