"""JSON as files hold it: one text, several one after the other, a line; and what a file is that is none of these."""

from __future__ import annotations

import codecs
import json
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.errors import UsageError
from agenttrace.formats.foreign import parsed_with_constants
from agenttrace.formats.recognition import readable
from agenttrace.store.opening import MARK
from agenttrace.store.read import plain

if TYPE_CHECKING:
    from pathlib import Path

LARGEST_TEXT = 256 << 20
"""Bytes of one JSON text, or of a file that is one session, which are held whole; all else may be of any size."""
ERRORS = (msgspec.MsgspecError, ValueError, RecursionError)
"""What parsing raises of bytes that are no JSON."""
_BLANKS = 64
"""Characters between two JSON texts that are passed over at a time."""
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, b"{\0", b"[\0", b"\0{", b"\0[")
"""How UTF-16 begins: with its mark, or with what JSON begins with."""
_PACKED = {
    b"\xfd7zX": ("xz", "xz -dk"),
    b"BZh": ("bzip2", "bzip2 -dk"),
    b"\x04\x22M\x18": ("LZ4", "lz4 -dk"),
    b"7z\xbc\xaf": ("7-Zip", "7z x"),
}
"""How files begin that are packed in a way that is not read → the name of that and what unpacks them."""


def text_values(path: Path) -> list[Any]:
    """Return the value of a file that is one JSON text, the values of its list, or of its texts one after the other.

    Raises:
        UsageError: it is too large, or no JSON; the message says what it is.
    """
    parts, held = [], 0
    for part in plain(path):
        held += len(part)
        if held > LARGEST_TEXT:
            raise UsageError(
                f"cannot read {path}: one JSON text of more than {LARGEST_TEXT >> 20} MiB; write it as JSON Lines, "
                "such as with: jq -c '.[]'"
            )
        parts.append(part)
    text = b"".join(parts).removeprefix(MARK)
    try:
        value = parsed_with_constants(text)
    except ERRORS as error:
        if several := _texts(text):
            return several
        raise UsageError(f"cannot read {path}: {_no_text(text, error)}") from None
    return value if isinstance(value, list) else [value]


def is_json(line: bytes) -> bool:
    """Return whether a line is JSON by itself."""
    try:
        parsed_with_constants(line)
    except ERRORS:
        return False
    return True


def no_line(line: bytes, error: Exception) -> str:
    """Say why a line is no JSON."""
    if line.startswith(_UTF_16):
        return "not a trace record: this is UTF-16; save the file as UTF-8"
    torn = "" if line.endswith(b"\n") else "; the line is cut off"
    return f"not a trace record: not JSON: {error}{torn}"


def no_json(begin: bytes) -> str:
    """Say what a file is, and what to do, that by its first 4 bytes can hold no JSON as it stands; else nothing."""
    if begin.startswith(_UTF_16):
        return "this is UTF-16; save the file as UTF-8"
    packed = next((of for mark, of in _PACKED.items() if begin.startswith(mark)), None)
    return f"it is packed by {packed[0]}; unpack it ({packed[1]} FILE), or pack it as .gz or .zst" if packed else ""


def _no_text(text: bytes, error: Exception) -> str:
    """Say why bytes are no JSON text."""
    begins = text.lstrip()[:1] in {b"{", b"["}
    other = "these bytes are no text" if b"\0" in text else "this looks like text, not like JSON"
    return f"{f'not JSON, or cut off: {error}' if begins else other}; readable are {readable()}"


def _texts(text: bytes) -> list[Any]:
    """Return the values of several JSON texts that stand one after the other, as programs print them; else nothing."""
    found, decoder, at = [], json.JSONDecoder(), 0
    try:
        whole = text.decode("utf-8")
        while at < len(whole):
            begin = at + len(whole[at : at + _BLANKS]) - len(whole[at : at + _BLANKS].lstrip())
            if begin > at:
                at = begin
                continue
            _, at = decoder.raw_decode(whole, begin)
            found.append(parsed_with_constants(whole[begin:at].encode()))
    except ERRORS:
        return []
    return found
