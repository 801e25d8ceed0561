"""What `cluster` refuses of what it is asked for, in one line and before anything is begun."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "scripted", "--workers", "0"), "--workers"),
        (("shard", "0", "scripted", "--workers", "0"), "--workers"),
        (("shard", "0", "scripted", "--in-flight", "0"), "--in-flight"),
        (("shard", "0", "scripted", "--shard-rollouts", "0"), "--shard-rollouts"),
        (("shard", "0", "scripted", "--trees-max-bytes", "0"), "--trees-max-bytes"),
        (("run", "scripted", "--patience", "inf"), "--patience: a finite number"),
        (("run", "scripted", "--patience", "nan"), "--patience: a finite number"),
        (("shard", "9" * 5000, "scripted"), "cluster shard NUMBER"),
        (("shard", "-1", "scripted"), "cluster shard NUMBER"),
        (("shard", "one", "scripted"), "cluster shard NUMBER"),
        (("prepare", "--dataset", "swe", "--workers", "0"), "--workers"),
    ],
)
def test_a_figure_out_of_its_range_is_refused_before_anything_is_begun(agenttrace, tmp_path, words, said):
    store = tmp_path / "store"
    more = ["--base-url", "http://127.0.0.1:9/v1"] if words[0] != "prepare" else []
    ended = agenttrace("cluster", *words, "--store", store, "--run-id", "r1", *more)
    assert ended.returncode == 2
    assert said in ended.stderr
    assert "Traceback" not in ended.stderr
    assert len(ended.stderr.splitlines()) == 1
    assert not store.exists()
