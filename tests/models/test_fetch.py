"""A model artifact is served with exactly the expected bytes, or not at all."""

from __future__ import annotations

import hashlib
import io
import struct

import msgspec
import pytest
from rich.console import Console

from agenttrace.campaign.options import Options, check_options
from agenttrace.errors import DataError, StorageError, UsageError
from agenttrace.models import fetch as fetching
from agenttrace.models import pins
from agenttrace.models.fetch import fetch
from agenttrace.models.reference import ModelRef, find
from agenttrace.models.transfer import Transfer

CONTENT = b"weights" * 1000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def ref(tmp_path, monkeypatch):
    bundled = tmp_path / "bundled"
    bundled.mkdir()
    (bundled / "m.gguf").write_bytes(CONTENT)
    monkeypatch.setattr(fetching, "BUNDLED", bundled)
    base = find(pins.DEFAULT_MODEL)
    return msgspec.structs.replace(base, artifact="m.gguf", bytes=len(CONTENT), sha256=SHA256)


@pytest.fixture
def from_mirror(tmp_path):
    """Return a model of the Hub and a mirror folder to put it into."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    pinned = find("Qwen/Qwen3-0.6B")
    return msgspec.structs.replace(pinned, bytes=len(CONTENT), sha256=SHA256), folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_the_bundled_model_of_this_checkout_has_the_pinned_bytes(tmp_path):
    got = fetch(find(pins.DEFAULT_MODEL), tmp_path)
    assert got.path.stat().st_size == got.pin.bytes
    assert got.pin == pins.model_pin(pins.DEFAULT_MODEL)
    assert got.pin.bytes <= 4 * 2**20


def test_a_missing_file_is_copied_whole_and_readable_by_the_server(ref, tmp_path):
    target = fetch(ref, tmp_path / "models").path
    assert target.read_bytes() == CONTENT
    assert target.stat().st_mode & 0o777 == 0o644
    assert names(target.parent) == [target.name]


def test_a_file_in_place_is_verified_and_kept(ref, tmp_path):
    first = fetch(ref, tmp_path).path
    before = first.stat().st_mtime_ns
    assert fetch(ref, tmp_path).path.stat().st_mtime_ns == before
    assert names(tmp_path) == sorted(["bundled", first.name])


@pytest.mark.parametrize("wrong", [CONTENT[:-1], CONTENT[:-1] + b"X"], ids=["cut off", "changed"])
def test_wrong_bytes_in_place_are_set_aside_named_and_never_served(ref, tmp_path, wrong):
    target = fetch(ref, tmp_path).path
    target.write_bytes(wrong)
    with pytest.raises(DataError, match="set aside as"):
        fetch(ref, tmp_path)
    assert not target.exists()
    assert target.with_name(f"{target.name}.wrong").read_bytes() == wrong
    assert fetch(ref, tmp_path).path.read_bytes() == CONTENT


def test_a_changed_source_is_refused_before_anything_is_written(ref, tmp_path):
    (fetching.BUNDLED / "m.gguf").write_bytes(b"other")
    with pytest.raises(DataError, match="pinned to"):
        fetch(ref, tmp_path / "models")
    assert not (tmp_path / "models").exists()


def test_a_missing_source_says_how_to_get_it_back(ref, tmp_path):
    (fetching.BUNDLED / "m.gguf").unlink()
    with pytest.raises(DataError, match="restore it from the repository"):
        fetch(ref, tmp_path / "models")


@pytest.mark.parametrize(
    "place",
    [
        "Qwen3-0.6B-Q8_0.gguf",
        "Qwen/Qwen3-0.6B-GGUF/Qwen3-0.6B-Q8_0.gguf",
        "models--Qwen--Qwen3-0.6B-GGUF/snapshots/23749fefcc72300e3a2ad315e1317431b06b590a/Qwen3-0.6B-Q8_0.gguf",
        "hub/models--Qwen--Qwen3-0.6B-GGUF/snapshots/23749fefcc72300e3a2ad315e1317431b06b590a/Qwen3-0.6B-Q8_0.gguf",
    ],
)
def test_a_mirror_folder_is_read_by_name_by_repository_and_in_the_hubs_own_layout(from_mirror, tmp_path, place):
    model, folder = from_mirror
    blob = folder / "blobs" / "x"
    blob.parent.mkdir()
    blob.write_bytes(CONTENT)
    (folder / place).parent.mkdir(parents=True, exist_ok=True)
    (folder / place).symlink_to(blob)
    assert fetch(model, tmp_path / "models", mirror_dir=folder).path.read_bytes() == CONTENT


def test_a_branch_is_followed_through_the_refs_of_the_hubs_layout(tmp_path):
    cached = tmp_path / "models--a--b"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("f" * 40)
    (cached / "snapshots" / ("f" * 40)).mkdir(parents=True)
    (cached / "snapshots" / ("f" * 40) / "c.gguf").write_bytes((pins.BUNDLED / "agenttrace-demo.gguf").read_bytes())
    pin = fetch(find("a/b@main:c.gguf"), tmp_path / "models", mirror_dir=tmp_path).pin
    assert (pin.digest_from, pin.sha256) == ("computed", pins.model_pin(pins.DEFAULT_MODEL).sha256)


def test_a_mirror_without_the_file_says_what_it_looked_for(from_mirror, tmp_path):
    model, folder = from_mirror
    with pytest.raises(
        UsageError, match=rf"does not hold Qwen3-0.6B-Q8_0.gguf \({len(CONTENT)} bytes, SHA-256 {SHA256}"
    ):
        fetch(model, tmp_path / "models", mirror_dir=folder)


def test_a_model_that_was_fetched_needs_its_mirror_no_more(from_mirror, tmp_path):
    model, folder = from_mirror
    (folder / model.artifact).write_bytes(CONTENT)
    fetch(model, tmp_path / "models", mirror_dir=folder)
    (folder / model.artifact).unlink()
    assert fetch(model, tmp_path / "models", mirror_dir=folder).path.read_bytes() == CONTENT


@pytest.mark.parametrize("wrong", [CONTENT[:-1], CONTENT[:-1] + b"X"], ids=["cut off", "changed"])
def test_wrong_bytes_of_a_mirror_are_refused(from_mirror, tmp_path, wrong):
    model, folder = from_mirror
    (folder / model.artifact).write_bytes(wrong)
    with pytest.raises(DataError, match=r"6999 bytes, but|set aside as"):
        fetch(model, tmp_path / "models", mirror_dir=folder)
    assert not (tmp_path / "models" / pins.stored_file(SHA256, model.artifact)).exists()


def test_an_unreadable_file_of_a_mirror_is_no_disk_error(from_mirror, tmp_path):
    model, folder = from_mirror
    (folder / model.artifact).symlink_to("/proc/self/mem")
    with pytest.raises(UsageError, match=r"does not hold|cannot read"):
        fetch(msgspec.structs.replace(model, sha256=None), tmp_path / "models", mirror_dir=folder)


def test_a_file_of_ones_own_is_a_model_with_its_digest_computed_and_its_header_read(tmp_path):
    copy = tmp_path / "my model (1).gguf"
    copy.write_bytes((pins.BUNDLED / "agenttrace-demo.gguf").read_bytes())
    pin = fetch(find(str(copy)), tmp_path / "models").pin
    demo = pins.model_pin(pins.DEFAULT_MODEL)
    same = ("bytes", "sha256", "quantization", "chat_template_sha256", "context_length")
    assert [getattr(pin, name) for name in same] == [getattr(demo, name) for name in same]
    assert (pin.name, pin.source, pin.digest_from, pin.demo) == ("my_model__1_.gguf", "file", "computed", False)
    assert str(tmp_path) not in msgspec.json.encode(pin).decode()


def test_a_file_of_ones_own_that_is_no_gguf_is_refused(tmp_path):
    (tmp_path / "a.gguf").write_bytes(CONTENT)
    with pytest.raises(DataError, match="does not begin with GGUF"):
        fetch(find(str(tmp_path / "a.gguf")), tmp_path / "models")


def test_a_given_digest_of_ones_own_file_is_held_against_it(tmp_path):
    (tmp_path / "a.gguf").write_bytes(CONTENT)
    with pytest.raises(DataError, match="said to have"):
        fetch(find(str(tmp_path / "a.gguf"), sha256="0" * 64), tmp_path / "models")


def test_a_folder_that_cannot_be_made_is_a_storage_error(ref, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match=r"cannot write .*; make the folder writable"):
        fetch(ref, tmp_path / "file" / "models")


def test_too_little_space_is_said_before_the_first_byte(from_mirror, tmp_path):
    model, folder = from_mirror
    huge = msgspec.structs.replace(model, bytes=1 << 60)
    with (folder / model.artifact).open("wb") as sparse:
        sparse.truncate(1 << 40)
    with pytest.raises(DataError, match="bytes, but"):
        fetch(huge, tmp_path / "models", mirror_dir=folder)
    with pytest.raises(StorageError, match=rf"needs {1 << 40:,} more bytes, the models folder has [\d,]+ free"):
        fetch(msgspec.structs.replace(model, bytes=1 << 40), tmp_path / "models", mirror_dir=folder)
    assert names(tmp_path / "models") == []


def test_lines_tell_share_rate_and_time_left():
    out = Console(file=io.StringIO(), force_terminal=False)
    shown = Transfer("m.gguf", 100_000_000, out)
    clock = iter([10.0, 10.0, 12.0, 14.0])
    shown.bar.get_time = lambda: next(clock)
    shown.at(20_000_000)
    assert shown.line() == "m.gguf: 20 %, 20.0/100.0 MB ? ETA -:--:--"
    shown.at(40_000_000)
    shown.at(60_000_000)
    assert shown.line() == "m.gguf: 60 %, 60.0/100.0 MB 10.0 MB/s ETA 0:00:04"


def test_a_terminal_gets_a_bar_with_rate_and_time_left():
    file = io.StringIO()
    shown = Transfer("m.gguf", 1000, Console(file=file, force_terminal=True, width=100))
    with shown.bar:
        shown.at(0)
        shown.at(1000)
    assert "m.gguf" in file.getvalue()
    assert "1.0/1.0 kB" in file.getvalue()
    assert "ETA" in file.getvalue()


def test_a_pin_made_of_a_table_row_is_the_one_the_planner_reads():
    for name in pins.model_names():
        assert fetching.provisional(find(name)) == pins.model_pin(name)
        assert isinstance(find(name), ModelRef)


def test_the_short_size_of_any_file_can_stand_in_a_run_id(tmp_path):
    whole = (pins.BUNDLED / "agenttrace-demo.gguf").read_bytes()
    named = struct.pack("<Q", 5) + b"qwen3"
    assert whole.count(named) == 1
    (tmp_path / "a.gguf").write_bytes(whole.replace(named, named[:8] + "éßa".encode()))
    pin = fetch(find(str(tmp_path / "a.gguf")), tmp_path / "models").pin
    check_options(Options(model=pin.name, pin=pin, run_id=f"collect-{pin.size}-x"))
    assert pin.size == "__a"
