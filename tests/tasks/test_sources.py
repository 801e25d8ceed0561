"""Task files: pinned bytes or a clear error, and never half a file in the cache."""

from __future__ import annotations

import hashlib
import http.client
import http.server
import os

import pytest

from agenttrace.errors import AgentTraceError
from agenttrace.tasks import sources
from tests.listening import listening

DATA = b'{"a": 1}\n'


def source(data=DATA, url="https://example.invalid/x.json"):
    return sources.SourceFile(path="set/x.json", url=url, bytes=len(data), sha256=hashlib.sha256(data).hexdigest())


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.delenv(sources.MIRROR, raising=False)
    monkeypatch.setenv(sources.CACHE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    monkeypatch.setenv(sources.MIRROR, str(tmp_path))
    (tmp_path / "set").mkdir()
    return tmp_path / "set" / "x.json"


def never(*_):
    raise AssertionError("nothing may be downloaded")


def test_the_mirror_is_read_and_nothing_else(mirror):
    mirror.write_bytes(DATA)
    assert sources.read(source(), never) == DATA


def test_a_file_missing_in_the_mirror_says_which_and_what(mirror):
    with pytest.raises(sources.SourceError, match=r"x\.json does not exist.*AGENTTRACE_MIRROR.*9 bytes, SHA-256"):
        sources.read(source(), never)


@pytest.mark.parametrize(
    ("data", "says"),
    [(DATA[:4], "truncated or another file: 4 bytes"), (b"X" * 9, "not the pinned file"), (DATA * 2, "not the pinned")],
    ids=["truncated", "changed", "longer"],
)
def test_other_bytes_are_refused_with_what_was_expected(mirror, data, says):
    mirror.write_bytes(data)
    with pytest.raises(AgentTraceError, match=says) as caught:
        sources.read(source(), never)
    assert source().sha256 in str(caught.value)
    assert str(mirror) in str(caught.value)
    assert caught.value.exit_code == 2


def test_the_size_of_a_long_file_is_named_and_no_more_of_it_is_read_than_tells(mirror):
    with mirror.open("wb") as file:
        file.truncate(2**40)
    with pytest.raises(sources.SourceError, match="is not the pinned file: 1099511627776 bytes;"):
        sources.read(source(), never)


def test_the_version_of_before_august_2022_is_called_by_name(mirror, monkeypatch):
    mirror.write_bytes(b"older")
    monkeypatch.setattr(sources, "MBPP_OLDER", hashlib.sha256(b"older").hexdigest())
    with pytest.raises(sources.SourceError, match="is the version of before August 2022: 5 bytes"):
        sources.read(source(), never)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_regular_file_is_refused_and_not_waited_for(mirror, make):
    make(mirror)
    with pytest.raises(sources.SourceError, match=r"cannot read .*x\.json: it is a (pipe|folder)"):
        sources.read(source(), never)


@pytest.mark.parametrize("variable", [sources.MIRROR, sources.CACHE, "XDG_CACHE_HOME"])
def test_a_tilde_is_the_home_folder_and_that_of_nobody_is_a_clear_error(monkeypatch, tmp_path, variable):
    for name in (sources.MIRROR, sources.CACHE, "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv(variable, "~/x")
    more = "agenttrace/tasks" if variable.startswith("XDG") else ""
    assert sources.folder() == tmp_path / "x" / more
    monkeypatch.setenv(variable, "~no-such-user/x")
    with pytest.raises(sources.SourceError, match=rf"~no-such-user/x \({variable}\).*full path in AGENTTRACE_CACHE"):
        sources.read(source(), never)


def test_a_download_is_kept_and_used_again(cache):
    calls = []

    def download(url, most):
        calls.append((url, most))
        return DATA

    assert sources.read(source(), download) == DATA
    assert sources.read(source(), never) == DATA
    assert calls == [(source().url, len(DATA) + 1)]
    assert [path.name for path in (cache / "set").iterdir()] == ["x.json"]


@pytest.mark.parametrize("data", [DATA[:-1], b"", DATA + b"more", b"Y" * 9])
def test_a_wrong_download_leaves_nothing_in_the_cache(cache, data):
    with pytest.raises(sources.SourceError, match=r"expected 9 bytes.*AGENTTRACE_MIRROR"):
        sources.read(source(), lambda *_: data)
    assert not list(cache.rglob("*.json"))


def test_without_a_network_the_message_says_what_to_do(cache):
    def download(*_):
        raise OSError("no route")

    with pytest.raises(sources.SourceError, match=r"cannot download .*no route.*put it into a folder as set/x\.json"):
        sources.read(source(), download)


def test_a_connection_cut_in_the_middle_is_a_clear_error(cache):
    def cut(*_):
        raise http.client.IncompleteRead(b"abc")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "9")
            self.end_headers()
            self.wfile.write(DATA[:4])

    with (
        listening(Handler) as url,
        pytest.raises(sources.SourceError, match=r"truncated or another file: 4 bytes|cannot download"),
    ):
        sources.read(source(url=f"{url}/x.json"))
    assert not list(cache.rglob("*"))


def test_a_cache_that_cannot_be_written_is_named(cache):
    cache.write_text("a file, not a folder")
    with pytest.raises(sources.SourceError, match=r"cannot (read|write) .*AGENTTRACE_"):
        sources.read(source(), lambda *_: DATA)


def test_the_pins_are_those_of_the_files(task_files):
    for pinned in (*sources.NL2BASH, sources.MBPP):
        data = sources.read(pinned)
        assert (len(data), hashlib.sha256(data).hexdigest()) == (pinned.bytes, pinned.sha256)
