"""The header of anyone's GGUF file is read within its bounds, or the file is refused."""

from __future__ import annotations

import hashlib
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agenttrace.errors import DataError
from agenttrace.models import pins
from agenttrace.models.gguf import read_facts, served_template

BUNDLED = pins.BUNDLED / "agenttrace-demo.gguf"


def text(value):
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def header(*pairs, version=3, count=None):
    body = b"".join(text(key) + struct.pack("<I", kind) + value for key, kind, value in pairs)
    return b"GGUF" + struct.pack("<IQQ", version, 0, len(pairs) if count is None else count) + body


@pytest.fixture
def written(tmp_path):
    def write(data):
        path = tmp_path / "x.gguf"
        path.write_bytes(data)
        return path

    return write


def test_the_bundled_model_says_what_its_pin_says():
    facts = read_facts(BUNDLED)
    pin = pins.model_pin(pins.DEFAULT_MODEL)
    assert (facts.quantization, facts.chat_template_sha256) == (pin.quantization, pin.chat_template_sha256)
    assert (facts.architecture, facts.context_length) == ("qwen3", 32768)


def test_values_of_every_kind_are_read_or_skipped(written):
    pairs = [
        ("general.architecture", 8, text("llama")),
        ("general.size_label", 8, text("1.7B")),
        ("general.file_type", 4, struct.pack("<I", 15)),
        ("a.float", 6, struct.pack("<f", 0.5)),
        ("a.flag", 7, b"\1"),
        ("a.words", 9, struct.pack("<IQ", 8, 2) + text("x") + text("yz")),
        ("a.numbers", 9, struct.pack("<IQ", 12, 3) + bytes(24)),
        ("llama.context_length", 10, struct.pack("<Q", 4096)),
        ("a.count", 2, struct.pack("<H", 3)),
        ("tokenizer.chat_template", 8, text("{{ x }}\r\n\n")),
    ]
    facts = read_facts(written(header(*pairs)))
    assert (facts.architecture, facts.size_label, facts.quantization) == ("llama", "1.7B", "Q4_K_M")
    assert facts.context_length == 4096
    assert facts.chat_template_sha256 == hashlib.sha256(b"{{ x }}\n").hexdigest()


def test_a_template_is_hashed_as_the_server_reports_it():
    assert served_template("a\r\nb\rc\n") == b"a\nb\nc"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "does not begin with GGUF"),
        (b"PK\3\4" * 9, "does not begin with GGUF"),
        (b"GGUF\3", "unpack"),
        (header(version=1), "version 1"),
        (header(count=1 << 60), "keys"),
        (header(("k", 8, struct.pack("<Q", 1 << 62))), "a text of"),
        (header(("k", 8, struct.pack("<Q", 100))), "cut off"),
        (header(("k", 9, struct.pack("<IQ", 8, 1 << 61))), "cut off"),
        (header(("k", 9, struct.pack("<IQ", 4, 1 << 61))), "cut off"),
        (header(("k", 9, struct.pack("<IQ", 9, 1))), "value type 9"),
        (header(("k", 77, b"")), "value type 77"),
        (header(("k", 8, struct.pack("<Q", 1) + b"\xff")), "can't decode"),
    ],
)
def test_a_damaged_header_is_refused_by_name(written, data, message):
    with pytest.raises(DataError, match=f"x.gguf is not a GGUF file .*{message}"):
        read_facts(written(data))


@settings(max_examples=150, deadline=None)
@given(at=st.integers(0, 2000), byte=st.integers(0, 255), end=st.integers(0, 40_000))
def test_no_damage_makes_anything_but_facts_or_a_refusal(tmp_path_factory, at, byte, end):
    data = bytearray(BUNDLED.read_bytes()[:end] if end % 2 else BUNDLED.read_bytes()[:60_000])
    data[at : at + 1] = bytes([byte])
    path = tmp_path_factory.mktemp("damaged") / "x.gguf"
    path.write_bytes(data)
    try:
        read_facts(path)
    except DataError as error:
        assert str(error).startswith("x.gguf is not")  # noqa: PT017 - either outcome is right
