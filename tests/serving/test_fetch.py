"""A model artifact is served with exactly the pinned bytes, or not at all."""

from __future__ import annotations

import hashlib

import msgspec
import pytest

from agenttrace.errors import DataError, UsageError
from agenttrace.serving import fetch as fetching
from agenttrace.serving import pins
from agenttrace.serving.fetch import fetch

CONTENT = b"weights" * 1000


@pytest.fixture
def pin(tmp_path, monkeypatch):
    bundled = tmp_path / "bundled"
    bundled.mkdir()
    (bundled / "m.gguf").write_bytes(CONTENT)
    monkeypatch.setattr(fetching, "BUNDLED", bundled)
    base = pins.model_pin(pins.DEFAULT_MODEL)
    sha256 = hashlib.sha256(CONTENT).hexdigest()
    return msgspec.structs.replace(base, artifact="m.gguf", bytes=len(CONTENT), sha256=sha256)


def test_the_bundled_model_of_this_checkout_has_the_pinned_bytes(tmp_path):
    pin = pins.model_pin(pins.DEFAULT_MODEL)
    assert fetch(pin, tmp_path).stat().st_size == pin.bytes
    assert pin.bytes <= 4 * 2**20


def test_a_missing_file_is_copied_whole_and_readable_by_the_server(pin, tmp_path):
    target = fetch(pin, tmp_path / "models")
    assert target.read_bytes() == CONTENT
    assert target.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_a_file_in_place_is_verified_and_kept(pin, tmp_path):
    first = fetch(pin, tmp_path)
    before = first.stat().st_mtime_ns
    assert fetch(pin, tmp_path).stat().st_mtime_ns == before


@pytest.mark.parametrize("wrong", [CONTENT[:-1], CONTENT[:-1] + b"X"], ids=["cut off", "changed"])
def test_wrong_bytes_in_place_are_set_aside_named_and_never_served(pin, tmp_path, wrong):
    target = fetch(pin, tmp_path)
    target.write_bytes(wrong)
    with pytest.raises(DataError, match="set aside as"):
        fetch(pin, tmp_path)
    assert not target.exists()
    assert target.with_name(f"{target.name}.wrong").read_bytes() == wrong
    assert fetch(pin, tmp_path).read_bytes() == CONTENT


def test_a_changed_source_is_refused_before_anything_is_written(pin, tmp_path):
    (fetching.BUNDLED / "m.gguf").write_bytes(b"other")
    with pytest.raises(DataError, match="pinned to"):
        fetch(pin, tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_a_missing_source_says_how_to_get_it_back(pin, tmp_path):
    (fetching.BUNDLED / "m.gguf").unlink()
    with pytest.raises(DataError, match="restore it from the repository"):
        fetch(pin, tmp_path / "models")


def test_a_source_that_is_not_bundled_is_refused(pin, tmp_path):
    with pytest.raises(UsageError, match="cannot fetch"):
        fetch(msgspec.structs.replace(pin, source="hub:x/y@z"), tmp_path)
