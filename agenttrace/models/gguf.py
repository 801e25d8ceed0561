"""Reads what a GGUF file says of itself: architecture, context, tensor format, chat template.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md (versions 2 and 3, little endian). The file may be
anyone's, so every length is checked against the bytes that are there before anything is read or skipped.
"""

from __future__ import annotations

import hashlib
import os
import re
import struct
from typing import TYPE_CHECKING, Any, BinaryIO

from agenttrace.errors import DataError
from agenttrace.records import Record

if TYPE_CHECKING:
    from pathlib import Path

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_VERSIONS = {2, 3}
_MOST_KEYS = 65_536
_LONGEST_TEXT = 1 << 20
_FORMATS = {
    0: ("F32", "all F32"), 1: ("F16", "F16"), 2: ("Q4_0", "Q4_0"), 3: ("Q4_1", "Q4_1"), 7: ("Q8_0", "Q8_0"),
    8: ("Q5_0", "Q5_0"), 9: ("Q5_1", "Q5_1"), 10: ("Q2_K", "Q2_K - Medium"), 11: ("Q3_K_S", "Q3_K - Small"),
    12: ("Q3_K_M", "Q3_K - Medium"), 13: ("Q3_K_L", "Q3_K - Large"), 14: ("Q4_K_S", "Q4_K - Small"),
    15: ("Q4_K_M", "Q4_K - Medium"), 16: ("Q5_K_S", "Q5_K - Small"), 17: ("Q5_K_M", "Q5_K - Medium"),
    18: ("Q6_K", "Q6_K"), 19: ("IQ2_XXS", "IQ2_XXS - 2.0625 bpw"), 20: ("IQ2_XS", "IQ2_XS - 2.3125 bpw"),
    21: ("Q2_K_S", "Q2_K - Small"), 22: ("IQ3_XS", "IQ3_XS - 3.3 bpw"), 23: ("IQ3_XXS", "IQ3_XXS - 3.0625 bpw"),
    24: ("IQ1_S", "IQ1_S - 1.5625 bpw"), 25: ("IQ4_NL", "IQ4_NL - 4.5 bpw"), 26: ("IQ3_S", "IQ3_S - 3.4375 bpw"),
    27: ("IQ3_M", "IQ3_S mix - 3.66 bpw"), 28: ("IQ2_S", "IQ2_S - 2.5 bpw"), 29: ("IQ2_M", "IQ2_M - 2.7 bpw"),
    30: ("IQ4_XS", "IQ4_XS - 4.25 bpw"), 31: ("IQ1_M", "IQ1_M - 1.75 bpw"), 32: ("BF16", "BF16"),
    36: ("TQ1_0", "TQ1_0 - 1.69 bpw ternary"), 37: ("TQ2_0", "TQ2_0 - 2.06 bpw ternary"),
    38: ("MXFP4_MOE", "MXFP4 MoE"), 39: ("NVFP4", "NVFP4"), 40: ("Q1_0", "Q1_0"), 41: ("Q2_0", "Q2_0"),
}  # fmt: skip
"""`general.file_type`, enum `llama_ftype` of llama.h → its name, and what libllama (b11669) calls it.

What is not here is named by its number.
"""
_GUESSED = "(guessed) "
"""What libllama puts before the name where the file states none and the tensors had to say."""


class GgufFacts(Record, frozen=True, kw_only=True):
    """What a file's header states; `None` where it does not.

    Attributes:
        architecture: such as `qwen3`.
        size_label: such as `0.6B`.
        quantization: tensor format of most tensors, such as `Q8_0`.
        context_length: tokens the model was trained for.
        chat_template_sha256: digest of the template as llama-server reports it (see `served_template`).
        template_tools: whether that template shows tools to the model.
    """

    architecture: str | None
    size_label: str | None
    quantization: str | None
    context_length: int | None
    chat_template_sha256: str | None
    template_tools: bool | None


def read_facts(path: Path) -> GgufFacts:
    """Return what the header of a GGUF file states.

    Raises:
        DataError: it is no GGUF file of a version that llama-server reads, or its header is damaged.
    """
    try:
        with path.open("rb") as file:
            found = _Header(file, os.fstat(file.fileno()).st_size).values()
    except (struct.error, ValueError, RecursionError) as error:
        raise DataError(f"{path.name} is not a GGUF file that llama-server can read: {error}") from error
    architecture = _text(found.get("general.architecture"))
    kind = found.get("general.file_type")
    context = found.get(f"{architecture}.context_length")
    template = _text(found.get("tokenizer.chat_template"))
    return GgufFacts(
        architecture=architecture,
        size_label=_text(found.get("general.size_label")),
        quantization=_FORMATS.get(kind, (f"type {kind}", ""))[0] if isinstance(kind, int) else None,
        context_length=context if isinstance(context, int) and context > 0 else None,
        chat_template_sha256=hashlib.sha256(served_template(template)).hexdigest() if template else None,
        template_tools=shows_tools(template) if template else None,
    )


def shows_tools(template: str) -> bool:
    """Return whether a chat template reads the tools that a request brings: without that, no model sees them."""
    return re.search(r"\btools\b", template) is not None


def same_quantization(reported: str, pinned: str) -> bool | None:
    """Return whether a server's name for a tensor format is that of a pin: `Q4_K - Medium` is `Q4_K_M`.

    `None` for a name of the user's or of a newer llama.cpp, which cannot be compared; the file's digest still is.
    """
    said = reported.removeprefix(_GUESSED)
    served = dict(_FORMATS.values())
    return said in {pinned, served[pinned]} if pinned in served else None


def served_template(template: str) -> bytes:
    r"""Return a chat template as llama-server reports it: line ends are `\n`, one line end at its end is dropped.

    Measured with llama.cpp b11669, whose Jinja reader does so as Jinja itself does.
    """
    return template.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").encode()


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


class _Header:
    """The key-value part of one open file."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size

    def values(self) -> dict[str, Any]:
        """Return all scalars and strings; arrays (vocabularies) are skipped."""
        if self._file.read(4) != b"GGUF":
            raise ValueError("it does not begin with GGUF")
        version, _, count = self._number("I"), self._number("Q"), self._number("Q")
        if version not in _VERSIONS:
            raise ValueError(f"version {version} of the format")
        if count > _MOST_KEYS:
            raise ValueError(f"{count} keys")
        found: dict[str, Any] = {}
        for _ in range(count):
            key, kind = self._string(), self._number("I")
            found[key] = self._value(kind)
        return found

    def _value(self, kind: int) -> object:
        if kind == _STRING:
            return self._string()
        if kind != _ARRAY:
            return self._number(self._scalar(kind))
        inner, count = self._number("I"), self._number("Q")
        if inner == _STRING:
            self._left(8 * count)  # each has a length, so a count larger than the file is refused here
            for _ in range(count):
                self._skip(self._number("Q"))
        else:
            self._skip(count * struct.calcsize(self._scalar(inner)))
        return None

    @staticmethod
    def _scalar(kind: int) -> str:
        if kind not in _SCALARS:
            raise ValueError(f"value type {kind}")
        return _SCALARS[kind]

    def _number(self, code: str) -> Any:  # noqa: ANN401 - int, float or bool by its code
        return struct.unpack(f"<{code}", self._file.read(struct.calcsize(f"<{code}")))[0]

    def _string(self) -> str:
        length = self._number("Q")
        if length > _LONGEST_TEXT:
            raise ValueError(f"a text of {length} bytes")
        self._left(length)
        return self._file.read(length).decode("utf-8")

    def _skip(self, length: int) -> None:
        self._left(length)
        self._file.seek(length, os.SEEK_CUR)

    def _left(self, length: int) -> None:
        if length > self._size - self._file.tell():
            raise ValueError("its header is cut off")
