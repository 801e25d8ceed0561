"""Files made of a run, by `merge` and by `gather -o`: theirs alone, whole, and there after a kill at any instant."""

from __future__ import annotations

from pathlib import Path

import pytest

from agenttrace.cluster.merge import making
from agenttrace.store.read import read_traces


@pytest.mark.parametrize("verb", ["gather", "merge"])
def test_a_name_that_cannot_be_written_to_is_refused_before_anything_is_made(whole, agenttrace, url, tmp_path, verb):
    ending = {"gather": ".jsonl.zst", "merge": ".jsonl"}[verb]

    def refused(file):
        ended = agenttrace("cluster", verb, "--store", url, "--run-id", "r1", "-o", file)
        assert ended.returncode == 2
        assert not [*whole.store.names("r1/gathered")]
        return ended.stderr

    assert f"{tmp_path / 'gone'}: there is no such folder" in refused(tmp_path / "gone" / f"all{ending}")
    kept = tmp_path / "all.tasks.tar"
    kept.write_bytes(b"another campaign's")
    assert "all.tasks.tar is there already" in refused(tmp_path / f"all{ending}")
    assert kept.read_bytes() == b"another campaign's"
    kept.rename(tmp_path / "all.run.json")
    assert "all.run.json is there already" in refused(tmp_path / f"all{ending}")


@pytest.mark.parametrize(("verb", "renames"), [("gather", 0), ("merge", 0), ("merge", 1), ("merge", 2)])
def test_what_is_killed_before_any_of_its_renames_is_done_by_the_same_command(
    whole, work, plan, made_up, agenttrace, url, tmp_path, monkeypatch, verb, renames
):
    file = tmp_path / {"gather": "all.jsonl.zst", "merge": "all.jsonl"}[verb]
    whole.keep_tasks(b"a user's own")
    with work(2) as attempt:
        job = next(iter(attempt.plan.jobs()))
        attempt.log.spoilt.append(plan.trace_id(job), made_up.trace(plan, job, ended="model_error"))
    words = ["cluster", verb, "--store", url, "--run-id", "r1", "-o", file]
    replace, done = Path.replace, []

    def killed(path, target):
        if path.parent.name == f".{file.name}.making" and target.parent == tmp_path:
            if len(done) == renames:
                raise KeyboardInterrupt
            done.append(target.name)
        return replace(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", killed)
        assert agenttrace(*words).returncode == 130
    assert done == ["all.failures.jsonl", "all.cassette.zst"][:renames]
    left = {path.name: path.read_bytes() for path in tmp_path.glob("*all*")}
    assert {*left} == {"all.run.json", "all.tasks.tar", *done}
    (tmp_path / f".{file.name}.making").mkdir()  # as kill -9 leaves it
    (tmp_path / f".{file.name}.making" / file.name).write_bytes(b"half")
    synced = []
    monkeypatch.setattr(f"agenttrace.cluster.{verb}.sync_folder", lambda folder: synced.append((folder, file.exists())))
    ended = agenttrace(*words)
    assert ended.returncode == 0, ended.stderr
    assert sum(1 for _ in read_traces(file)) == 42
    assert synced[-1] == (tmp_path, True)
    assert {name: (tmp_path / name).read_bytes() for name in left} == left
    assert not (tmp_path / f".{file.name}.making").exists()


def test_what_lies_beside_a_merge_and_is_not_of_it_stays_and_is_named(whole, agenttrace, url, tmp_path):
    theirs = [tmp_path / "all.cassette.zst", tmp_path / "all.failures.jsonl"]
    for path in theirs:
        path.write_bytes(b"another campaign's")
    ended = agenttrace("cluster", "merge", "--store", url, "--run-id", "r1", "-o", tmp_path / "all.jsonl")
    assert ended.returncode == 2
    assert f"{theirs[0]} and {theirs[1]}: there already, and not what this run has now" in ended.stderr
    assert [path.read_bytes() for path in theirs] == [b"another campaign's"] * 2
    assert sorted(path.name for path in tmp_path.glob("*all*")) == [path.name for path in theirs]


@pytest.mark.parametrize("verb", ["gather", "merge"])
def test_a_file_that_is_just_being_made_is_not_made_a_second_time(whole, agenttrace, url, tmp_path, verb):
    file = tmp_path / {"gather": "all.jsonl.zst", "merge": "all.jsonl"}[verb]
    with making(file) as folder:
        (folder / "half").write_bytes(b"half")
        ended = agenttrace("cluster", verb, "--store", url, "--run-id", "r1", "-o", file)
        assert (ended.returncode, "is just being made by another process" in ended.stderr) == (2, True)
        assert (folder / "half").exists()
    assert not folder.exists()
