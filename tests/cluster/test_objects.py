"""What a store promises, over the real protocols, and what is said when it does not."""

from __future__ import annotations

import errno
import os
import sys
import threading
import time

import pytest

from agenttrace.cluster.objects import Store, check_store
from agenttrace.errors import DataError, StorageError, UsageError

THREADS, ROUNDS = 16, 20


def test_an_object_is_made_once_and_found_again(store):
    assert store.create("a/b/one", b"1")
    assert store.create("a/b/two", b"")
    assert not store.create("a/b/one", b"other")
    assert (store.get("a/b/one"), store.get("a/b/two"), store.get("a/none")) == (b"1", b"", None)
    assert (store.size("a/b/one"), store.size("a/none")) == (1, None)
    assert sorted(store.names("a")) == ["a/b/one", "a/b/two"]
    assert list(store.names("nothing")) == []


def test_an_object_of_more_bytes_than_there_can_be_is_not_read(store):
    store.create("x", bytes(100))
    assert store.get("x", most=100) == bytes(100)
    with pytest.raises(DataError, match=r"/x has more than 99 bytes and was not read; restore or remove it$"):
        store.get("x", most=99)
    assert not store.create("x", bytes(99))


def test_a_store_that_sends_without_end_is_not_listened_to_for_long(s3):
    store = Store("s3://bucket/p")
    store.create("x", bytes(100))
    s3.more = True
    with pytest.raises(DataError, match="more than 1000000 bytes"):
        store.get("x", most=1_000_000)


def test_of_sixteen_that_make_an_object_at_once_one_does(store):
    for number in range(ROUNDS):
        start, won = threading.Barrier(THREADS), []

        def race(me, start=start, won=won, name=f"race/{number}"):
            start.wait()
            if store.create(name, str(me).encode()):
                won.append(me)

        threads = [threading.Thread(target=race, args=(me,)) for me in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert [str(me).encode() for me in won] == [store.get(f"race/{number}")]


def test_a_store_that_refuses_what_is_there_passes_the_check_at_every_start(store):
    check_store(store)
    check_store(store)
    assert len(list(store.names(""))) == 1


def test_a_store_without_conditional_creation_is_refused_by_its_name(s3):
    s3.conditional = False
    with pytest.raises(UsageError, match=r"--store s3://bucket/p: this store makes an object that is there already"):
        check_store(Store("s3://bucket/p"))


def test_an_answer_that_was_lost_after_the_object_was_made_is_no_lost_race(s3):
    s3.cut_answers = 1
    assert Store("s3://bucket/p").create("x", b"mine")
    assert [method for method, _ in s3.seen].count("PUT") > 1  # it was sent again, and found what it had made
    assert not Store("s3://bucket/p").create("x", b"another's")


def test_an_upload_that_meets_one_which_comes_to_nothing_is_no_lost_race(s3):
    s3.conflicts = 2
    assert Store("s3://bucket/p").create("x", b"mine")
    assert s3.objects["p/x"] == b"mine"
    s3.conflicts = 10**6
    with pytest.raises(StorageError, match="cannot make y: it says that it is there, and has none"):
        Store("s3://bucket/p", patience_s=0.1).create("y", b"mine")


def test_a_store_that_is_overloaded_for_a_while_is_waited_for(s3):
    s3.overloaded = 3
    assert Store("s3://bucket/p").create("x", b"1")
    assert len(s3.seen) == 4


def test_a_slow_store_is_waited_for(s3):
    s3.slow_s = 0.5
    assert Store("s3://bucket/p").create("x", b"1")


def test_pages_of_a_long_list_are_all_read(s3):
    s3.page = 7
    s3.objects |= {f"p/many/{number:03}": b"" for number in range(50)}
    assert len(set(Store("s3://bucket/p").names("many"))) == 50


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (403, "cannot make x: the store refuses it (AccessDenied); it needs the right to read, list and make objects"),
        (507, "cannot make x: the store is full (XMinioStorageFull); what was written is kept, make room"),
        (503, "cannot make x: the store does not answer, or is overloaded (SlowDown)"),
    ],
)
def test_what_a_store_refuses_is_told_in_one_line(s3, status, said):
    s3.refuse = status
    with pytest.raises(StorageError) as told:
        Store("s3://bucket/p", patience_s=1).create("x", b"1")
    assert str(told.value).startswith(f"store s3://bucket/p: {said}")
    assert "\n" not in str(told.value)
    assert len(str(told.value)) < 600


def test_a_bucket_that_is_not_there_is_told(moto, monkeypatch, tmp_path):
    for name, value in {"AWS_ENDPOINT_URL": moto, "AWS_ALLOW_HTTP": "true", "AWS_ACCESS_KEY_ID": "a"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    store = Store("s3://nobody-made-this/p")
    for ask in (lambda: store.create("x", b"1"), lambda: list(store.names("x")), lambda: store.get("x")):
        with pytest.raises(StorageError, match="there is no such bucket or container"):
            ask()


def test_a_store_that_nobody_runs_is_told_after_a_while(monkeypatch, s3):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    begun = time.monotonic()
    with pytest.raises(StorageError, match="does not answer"):
        Store("s3://bucket/p", patience_s=1).get("x")
    assert time.monotonic() - begun < 20


def test_a_store_without_credentials_is_told_to_need_them(monkeypatch, s3):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", s3.url)  # a machine that has none to give
    s3.refuse = 403
    with pytest.raises(StorageError, match="there are no credentials; set AWS_ACCESS_KEY_ID"):
        Store("s3://bucket/p", patience_s=1).get("x")


def test_a_folder_that_is_only_read_is_not_made(tmp_path):
    with pytest.raises(UsageError, match="there is no such folder"):
        Store(str(tmp_path / "store"), make=False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("url", ["s4://x/y", "s3://", "://", "http//x://", "memory:///x", "file://x"])
def test_what_is_no_url_of_a_store_is_refused(url):
    with pytest.raises(UsageError, match="--store"):
        Store(url)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="cannot make the folder"):
        Store(str(tmp_path / "file" / "store"))


def test_secrets_of_a_url_are_not_told(s3):
    s3.refuse = 403
    with pytest.raises(StorageError) as told:
        Store("s3://user:secret@bucket/p?token=secret").get("x")
    assert "secret" not in str(told.value)
    with pytest.raises(UsageError, match=r"^--store s3://bucket/p: ") as told:
        Store("s3://user:a/secret@bucket/p")
    assert "secret" not in str(told.value)


def test_a_full_disk_is_told(small_disk):
    store = Store(str(small_disk(64)))
    with pytest.raises(StorageError, match="the store is full"):
        store.create("x", bytes(1 << 20))
    assert store.get("x") is None
    assert os.strerror(errno.ENOSPC) == "No space left on device"


def test_without_the_client_it_is_told_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(UsageError, match=r"in the checkout, pip install '\.\[cluster\]'"):
        Store("s3://bucket/p")
