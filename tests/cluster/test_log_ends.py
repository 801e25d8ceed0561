"""What the log of an attempt keeps, and says, where it ends because something went wrong."""

from __future__ import annotations

import shutil
import time

import pytest

from agenttrace.errors import ModelServerError, StorageError


def test_the_record_that_comes_when_the_store_has_refused_a_part_is_kept_too(s3, run_on, work):
    run = run_on("s3://bucket/x", patience_s=1)
    attempt = work(0, run=run, part_seconds=0.1)
    s3.refuse_put = 403
    attempt.make(1)
    deadline = time.monotonic() + 20
    while attempt.log._failure is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    with pytest.raises(StorageError, match="refuses it"):
        attempt.make(1)
    s3.refuse_put = 0
    attempt.__exit__(None, None, None)
    with work(0, run=run) as later:
        assert later.make() == 18


def test_what_went_wrong_first_is_told_where_the_records_cannot_be_kept_either(run, work):
    def lost():
        with work(0, run=run) as attempt:
            attempt.make(3)
            shutil.rmtree(attempt.log._scratch)
            raise ModelServerError("the endpoint is gone")

    with pytest.raises(ModelServerError, match="the endpoint is gone"):
        lost()
