"""Weights from a Hub: resumed, verified, and with one clear message for everything that can go wrong."""

from __future__ import annotations

import errno
import io
import os
import subprocess
import sys
import threading

import msgspec
import pytest
from rich.console import Console

from agenttrace.errors import DataError, StorageError
from agenttrace.inside import main
from agenttrace.models import pins
from agenttrace.models.fetch import _append, fetch
from agenttrace.models.hub import TRIES, FetchError
from agenttrace.models.reference import find
from agenttrace.models.transfer import Transfer

MODEL = "owner/tiny-GGUF@{}:tiny-Q8_0.gguf"
COMMIT = "c" * 40
KIB = 1024


@pytest.fixture
def ref(hub):
    """Return a complete pin of what the server holds: the bytes need not be a GGUF file then."""
    found = find(MODEL.format(COMMIT), size=len(hub.content), sha256=hub.sha256)
    return msgspec.structs.replace(
        found, size="tiny", quantization="Q8_0", chat_template_sha256="0" * 64, context_length=1, digest_from="pinned"
    )


@pytest.fixture
def models(tmp_path):
    return tmp_path / "models"


def part_of(models):
    return next(models.glob(".*.part"))


def test_a_file_comes_whole_verified_and_alone(hub, ref, models):
    path = fetch(ref, models).path
    assert path.read_bytes() == hub.content
    assert path.stat().st_mode & 0o777 == 0o644
    assert [child.name for child in models.iterdir()] == [path.name]


def test_a_file_that_is_there_needs_no_network(hub, ref, models, monkeypatch):
    fetch(ref, models)
    hub.seen.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    fetch(ref, models)
    assert hub.seen == []


def test_a_cut_download_goes_on_from_the_byte_where_it_was_cut(hub, ref, models, capsys):
    hub.cuts = [100 * KIB, 50 * KIB]
    assert fetch(ref, models, out=Console(stderr=True)).path.read_bytes() == hub.content
    assert hub.ranges_asked() == [None, f"bytes={100 * KIB}-", f"bytes={150 * KIB}-"]
    assert "cut off at 102,400 of 262,144 bytes" in capsys.readouterr().err


def test_the_next_fetch_goes_on_with_what_a_failed_one_left(hub, ref, models):
    hub.cuts = [100 * KIB] + [0] * 20
    with pytest.raises(FetchError):
        fetch(ref, models)
    assert part_of(models).stat().st_size == 100 * KIB
    hub.cuts, hub.seen = [], []
    assert fetch(ref, models).path.read_bytes() == hub.content
    assert hub.ranges_asked() == [f"bytes={100 * KIB}-"]


def test_a_download_that_brings_nothing_more_is_given_up(hub, ref, models, no_waiting):
    hub.cuts = [0] * 20
    with pytest.raises(FetchError):
        fetch(ref, models)
    assert len(hub.ranges_asked()) == TRIES
    assert no_waiting == [1.0, 2.0, 4.0, 8.0]


def test_a_part_that_is_whole_needs_no_network_any_more(hub, ref, models, monkeypatch):
    models.mkdir()
    (models / f".{pins.stored_file(ref.sha256, ref.artifact)}.part").write_bytes(hub.content)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    path = fetch(ref, models).path
    assert path.read_bytes() == hub.content
    assert [child.name for child in models.iterdir()] == [path.name]


def test_a_server_without_ranges_begins_anew(hub, ref, models):
    hub.ranges = False
    hub.cuts = [100 * KIB]
    assert fetch(ref, models).path.read_bytes() == hub.content


def test_a_server_without_ranges_that_always_cuts_is_given_up(hub, ref, models):
    hub.ranges = False
    hub.cuts = [100 * KIB] * 50
    with pytest.raises(FetchError):
        fetch(ref, models)
    assert len(hub.ranges_asked()) <= TRIES + 1


@pytest.mark.parametrize("length", [True, False], ids=["with length", "without length"])
def test_a_server_without_redirect_is_a_hub_too(hub, ref, models, length):
    hub.redirect, hub.length = False, length
    assert fetch(ref, models).path.read_bytes() == hub.content


def test_an_answer_without_length_that_ends_early_is_continued(hub, ref, models):
    hub.length = False
    hub.cuts = [10 * KIB]
    assert fetch(ref, models).path.read_bytes() == hub.content
    assert hub.ranges_asked()[1] == f"bytes={10 * KIB}-"


def test_wrong_bytes_of_the_right_size_are_set_aside_and_named(hub, ref, models):
    hub.served = hub.content[:-1] + b"X"
    with pytest.raises(DataError, match=r"SHA-256 .* pinned to .*set aside as"):
        fetch(ref, models)
    (aside,) = models.iterdir()
    assert aside.name.endswith(".wrong")
    hub.served = None
    assert fetch(ref, models).path.read_bytes() == hub.content


@pytest.mark.parametrize("length", [True, False], ids=["with length", "without length"])
def test_more_bytes_than_expected_are_refused(hub, ref, models, length):
    hub.served, hub.length = hub.content + b"X", length
    with pytest.raises(DataError, match=r"has 262145 bytes, expected|more bytes come than the 262144"):
        fetch(ref, models)
    assert list(models.iterdir()) == []


def test_fewer_bytes_than_expected_are_refused(hub, ref, models):
    hub.served = hub.content[:-5]
    with pytest.raises(DataError, match=r"sends nothing from byte 262139 on, expected tiny-Q8_0\.gguf"):
        fetch(ref, models)
    assert hub.ranges_asked() == [None, "bytes=262139-"] * 2


def test_a_part_whose_range_is_refused_is_begun_again_once(hub, ref, models, capsys):
    models.mkdir()
    part = models / f".{pins.stored_file(ref.sha256, ref.artifact)}.part"
    part.write_bytes(hub.content[: 100 * KIB])
    hub.refused_ranges = 1
    assert fetch(ref, models, out=Console(stderr=True)).path.read_bytes() == hub.content
    assert hub.ranges_asked() == [f"bytes={100 * KIB}-", None]
    assert "does not go on from byte 102,400, beginning again" in capsys.readouterr().err
    assert not part.exists()


def test_a_server_that_refuses_every_range_is_given_up_and_the_next_fetch_begins_again(hub, ref, models):
    hub.refused_ranges, hub.cuts = 99, [100 * KIB, 50 * KIB]
    with pytest.raises(DataError, match="sends nothing from byte 51200 on"):
        fetch(ref, models)
    assert hub.ranges_asked() == [None, f"bytes={100 * KIB}-", None, f"bytes={50 * KIB}-"]
    assert fetch(ref, models).path.read_bytes() == hub.content


def test_another_file_under_the_same_revision_is_refused_before_a_byte_comes(hub, ref, models):
    hub.content = hub.content[::-1]
    with pytest.raises(DataError, match=rf"now has another tiny-Q8_0.gguf \(SHA-256 {hub.sha256}, expected"):
        fetch(ref, models)
    assert hub.ranges_asked() == []


@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (
            401,
            {},
            r"does not exist, or is private and no HF_TOKEN is set|not allowed \(status 401; no HF_TOKEN is set\)",
        ),
        (401, {"X-Error-Code": "GatedRepo"}, r"is gated \(no HF_TOKEN is set\): accept its terms on that page"),
        (403, {"X-Error-Code": "GatedRepo"}, "is gated"),
        (401, {"X-Error-Message": "Invalid credentials in Authorization header"}, "check HF_TOKEN, it may be wrong"),
        (403, {"X-Error-Message": "no\x1b[2J"}, r"refused with status 403 .*may lack the right"),
        (404, {"X-Error-Code": "RepoNotFound"}, "does not exist, or is private and no HF_TOKEN is set"),
        (404, {"X-Error-Code": "RevisionNotFound"}, rf"has no revision {COMMIT} \(any more\)"),
        (404, {"X-Error-Code": "EntryNotFound"}, "has no file tiny-Q8_0.gguf at revision"),
        (404, {}, "does not exist"),
        (451, {}, "refused with status 451"),
        (500, {}, r"the server has a fault \(status 500\)"),
        (503, {}, r"the server has a fault \(status 503\)"),
        (429, {"Retry-After": "7"}, r"too many requests \(status 429\)"),
    ],
)
def test_a_refusal_is_one_clear_message(hub, ref, models, status, headers, message):
    hub.refuse = (status, headers)
    with pytest.raises(FetchError, match=message) as refusal:
        fetch(ref, models)
    assert "\x1b" not in str(refusal.value)
    assert "owner/tiny-GGUF" in str(refusal.value)
    assert list(models.iterdir()) == []


def test_too_many_requests_are_waited_for_as_asked(hub, ref, models, no_waiting):
    hub.faults = [(429, {"Retry-After": "7"}), (503, {}), (500, {})]
    assert fetch(ref, models).path.read_bytes() == hub.content
    assert no_waiting == [7.0, 2.0, 4.0]


def test_a_wait_of_an_hour_is_left_to_the_user(hub, ref, models, no_waiting):
    hub.refuse = (429, {"Retry-After": "3600"})
    with pytest.raises(FetchError, match="run the same command again later"):
        fetch(ref, models)
    assert no_waiting == []


def test_offline_is_said_with_the_ways_out(hub, ref, models, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "yes")
    with pytest.raises(FetchError, match=r"HF_HUB_OFFLINE forbids .*AGENTTRACE_MODELS_MIRROR"):
        fetch(ref, models)
    assert hub.seen == []


def test_nothing_that_answers_is_said_after_two_tries(hub, ref, models, monkeypatch, no_waiting):
    monkeypatch.setenv("HF_ENDPOINT", "http://user:secret@127.0.0.1:9")
    with pytest.raises(FetchError, match=r"cannot reach http://127.0.0.1:9 .*AGENTTRACE_MODELS_MIRROR") as error:
        fetch(ref, models)
    assert "secret" not in str(error.value)
    assert ref.sha256 in str(error.value)
    assert len(no_waiting) == 1


def test_a_token_that_cannot_be_one_is_refused_and_not_shown(hub, ref, models, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "s\u00e9cret")
    with pytest.raises(FetchError, match="HF_TOKEN holds characters") as refusal:
        fetch(ref, models)
    assert "cret" not in str(refusal.value)


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Encoding": "gzip", "Content-Length": "4"},
        {"Content-Range": "bytes 5-9/\u00b2", "Content-Length": "4"},
        {"Content-Range": f"bytes {'9' * 5000}-1/*", "Content-Length": "4"},
        {"Location": "gopher://x", "Content-Length": "4"},
    ],
)
@pytest.mark.parametrize("status", [200, 206, 302, 429])
def test_odd_answers_end_in_one_message(hub, ref, models, status, headers):
    hub.faults = [(status, {**headers, "Retry-After": "\u00b2"})] * 30
    with pytest.raises((FetchError, DataError)):
        fetch(ref, models)
    assert not list(models.glob("*.gguf"))


@pytest.mark.parametrize("address", ["ftp://host", "host", "file:///etc", "http://[", "https://[::1"])
def test_an_endpoint_that_is_no_address_is_refused(hub, ref, models, monkeypatch, address):
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(FetchError, match="expected an address such as https://"):
        fetch(ref, models)


def test_the_token_goes_to_the_endpoint_and_nowhere_else(hub, ref, models, monkeypatch, capsys):
    monkeypatch.setenv("HF_TOKEN", "hf_verysecret")
    hub.cuts = [10 * KIB]
    got = fetch(ref, models, out=Console(stderr=True))
    sent = {where: headers.get("Authorization") for where, _, _, headers in hub.seen}
    assert sent == {"hub": "Bearer hf_verysecret", "cdn": None}
    shown = capsys.readouterr()
    assert "hf_verysecret" not in shown.out + shown.err + msgspec.json.encode(got.pin).decode()


def test_an_address_with_a_port_that_cannot_be_is_refused(hub, ref, models, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://localhost:99999999")
    with pytest.raises(FetchError):
        fetch(ref, models)


def test_a_signed_address_is_in_no_message(hub, ref, models):
    hub.faults = [(403, {})]
    with pytest.raises(FetchError) as refusal:
        fetch(ref, models)
    assert "do-not-show" not in str(refusal.value)


def test_a_full_disk_keeps_what_came_and_says_how_to_go_on(hub, ref, models):
    code = f"""
import resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({100 * KIB}, {100 * KIB}))
from agenttrace.inside import main
main(["fetch", "{MODEL.format(COMMIT)}", "--size", "{ref.bytes}", "--sha256", "{ref.sha256}",
      "--models-dir", {str(models)!r}])
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == StorageError.exit_code, ended.stderr
    assert f"tiny-Q8_0.gguf (262,144 bytes): {os.strerror(errno.EFBIG)}; make room and run again" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert part_of(models).stat().st_size == 100 * KIB
    hub.seen.clear()
    assert fetch(ref, models).path.read_bytes() == hub.content
    assert hub.ranges_asked() == [f"bytes={100 * KIB}-"]


def test_two_fetches_at_the_same_time_download_once(hub, ref, models):
    hub.hold = threading.Event()
    paths = []
    workers = [threading.Thread(target=lambda: paths.append(fetch(ref, models).path)) for _ in range(3)]
    for worker in workers:
        worker.start()
    assert hub.half_sent.wait(10)
    hub.hold.set()
    for worker in workers:
        worker.join()
    assert len(hub.ranges_asked()) == 1
    assert {path.read_bytes() == hub.content for path in paths} == {True}
    assert len(paths) == 3
    assert [child.name for child in models.iterdir()] == [paths[0].name]


def test_a_killed_fetch_is_gone_on_with(hub, ref, models):
    hub.hold = threading.Event()
    argv = [sys.executable, "-m", "agenttrace.inside", "fetch", MODEL.format(COMMIT), "--models-dir", str(models)]
    argv += ["--size", str(ref.bytes), "--sha256", ref.sha256]
    process = subprocess.Popen(argv, stderr=subprocess.DEVNULL)
    assert hub.half_sent.wait(30)
    while not (list(models.glob(".*.part")) and part_of(models).stat().st_size):
        assert process.poll() is None
    process.kill()
    process.wait()
    hub.hold.set()
    hub.hold = None
    had = part_of(models).stat().st_size
    assert 0 < had < len(hub.content)
    hub.seen.clear()
    assert fetch(ref, models).path.read_bytes() == hub.content
    assert hub.ranges_asked() == [f"bytes={had}-"]


def test_without_a_pin_the_hubs_own_statement_is_taken_reported_and_recorded(hub, models, capsys):
    hub.content = (pins.BUNDLED / "agenttrace-demo.gguf").read_bytes()
    with pytest.raises(SystemExit):
        main(["fetch", MODEL.format("main"), "--models-dir", str(models)])
    told = capsys.readouterr().out
    assert f"SHA-256 {hub.sha256} (as the Hub states it now, not pinned: give --sha256 and --size to hold it)" in told
    assert MODEL.format(COMMIT) in told
    pin = fetch(find(MODEL.format("main")), models).pin
    assert (pin.revision, pin.digest_from, pin.sha256, pin.bytes) == (COMMIT, "hub", hub.sha256, len(hub.content))
    assert pin.name == MODEL.format(COMMIT)


def test_a_statement_that_names_no_commit_is_not_taken_for_one(hub, models):
    hub.content = (pins.BUNDLED / "agenttrace-demo.gguf").read_bytes()
    hub.commit = "../../etc"
    assert fetch(find(MODEL.format("main")), models).pin.revision == "main"


def test_without_a_pin_and_without_a_statement_the_digest_must_be_given(hub, models):
    hub.stated = False
    with pytest.raises(FetchError, match="states no SHA-256 of this file; give --sha256"):
        fetch(find(MODEL.format("main")), models)


def test_a_branch_that_moved_away_from_the_given_digest_is_refused(hub, models):
    with pytest.raises(DataError, match=rf"SHA-256 {hub.sha256}, expected {'0' * 64}.*Name the commit"):
        fetch(find(MODEL.format("main"), sha256="0" * 64), models)


def test_a_disk_that_takes_less_than_it_is_given_loses_nothing(ref, tmp_path):
    class Nearly(io.FileIO):
        def write(self, data):
            return super().write(bytes(data)[: 1 + len(data) // 3])

    pieces = [b"a" * 1000, b"b" * 1000]
    with Nearly(tmp_path / "part", "ab+") as part:
        _append(part, pieces, msgspec.structs.replace(ref, bytes=2000), Transfer("x", 2000))
    assert (tmp_path / "part").read_bytes() == b"".join(pieces)
