"""The example of a task set, run by a scripted model on a real runner of this host: judged, replayed, planned again."""

from __future__ import annotations

import json
import tarfile
from datetime import UTC, datetime

import pytest

from agenttrace.campaign.judge import judge
from agenttrace.campaign.loop import Display
from agenttrace.campaign.options import Options, like
from agenttrace.campaign.plan import make_plan
from agenttrace.campaign.replay.run import Replay
from agenttrace.campaign.try_tasks import try_tasks
from agenttrace.publish.folder import publish
from agenttrace.publish.release import flaws
from agenttrace.store.read import read_run_spec, read_traces, run_spec_path
from agenttrace.tasks.own.example import write
from agenttrace.tasks.own.loading import load, sidecar
from agenttrace.tasks.own.task_set import lay_out
from agenttrace.testing import says
from agenttrace.validate import Validation
from agenttrace.validate.leaks import word

pytestmark = pytest.mark.slow

ROUTES = {
    "ERROR": ("grep -c ERROR logs/app.log", "3"),
    "sorted.txt": ("sort -u words.txt > sorted.txt", "Done."),
    ".tmp": ("rm cache.tmp; echo more >> words.txt", "done"),
    "mode 755": ("chmod 755 bin/hello.sh; echo x > /tmp/left", "done"),
    "total": ("echo 302 > data/total.txt; sleep 60 & ", "done"),
    "regular files": ("find . -type f | wc -l", "**2**"),
}
"""What the scripted model does and answers where the prompt holds the word; one thing too many for the `.tmp` files."""


def route(messages):
    return next(found for word, found in ROUTES.items() if word in messages[1]["content"])


def calls(messages):
    command, answer = route(messages)
    if messages[-1]["role"] == "tool":
        return says(calls=[("final_answer", json.dumps({"answer": answer}))])
    return says(calls=[("bash", json.dumps({"command": command}))])


def blocks(messages):
    command, answer = route(messages)
    said = command if len(messages) == 2 else f"echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT; echo '{answer}'"
    return says(f"```bash\n{said}\n```")


@pytest.fixture
def own(tmp_path, sandbox):
    """The example, laid out where a started sandbox looks for trees; returns the set and that folder."""
    write(tmp_path / "chores")
    trees, data = tmp_path / "trees", tmp_path / "data"
    trees.mkdir()
    data.mkdir()
    found = lay_out(load(tmp_path / "chores").packed(), trees)
    sandbox.start(trees=trees)
    return found, trees, data


def collected(own, sandbox, record, script, **fields):
    found, trees, data = own
    options = Options(
        model="scripted/model-1B", external=True, dataset=f"own:{found.sha256}", output="run.jsonl", **fields
    )
    return record(options, data, sandbox, script, trees=trees, counts="llama-server")


def verdicts(path):
    return {
        trace.metadata["task_id"]: {one.aspect: one.verdict for one in trace.outcome.verdicts}
        for trace in read_traces(path)
    }


@pytest.mark.parametrize(("agent", "script"), [("tool_calling", calls), ("bash_block", blocks)])
def test_an_own_set_is_collected_judged_replayed_and_planned_again(own, sandbox, record, agent, script):
    path = collected(own, sandbox, record, script, agent=agent)
    found, trees, data = own
    assert verdicts(path) == {
        "count-errors": {"answer": "passed"},
        "sort-words": {"gold": "passed", "answer": "passed"},
        "tidy-up": {"deleted": "passed", "words_untouched": "failed"},
        "make-executable": {"file": "passed", "runs": "passed"},
        "write-total": {"file": "passed", "exit_status": "passed"},
        "count-files": {"answer": "passed"},
    }
    spec = read_run_spec(run_spec_path(path))
    assert (spec.dataset.name, spec.dataset.sha256, spec.dataset.count) == ("chores", found.sha256, 6)
    assert str(data.parent) not in run_spec_path(path).read_text() + path.read_text()
    assert load(sidecar(path)).sha256 == found.sha256

    validation = Validation(path)
    assert list(validation) == []
    assert validation.notes == []

    assert judge(path, sockets=sandbox.sockets, trees=trees, check=True) == 0
    replayed = Replay(path, trees=trees).run(sandbox.connect, Display(), workers=1, repeats=1)
    assert replayed.findings == ()
    assert replayed.identical == 6

    (data / "again").mkdir()
    now = datetime(2030, 1, 1, tzinfo=UTC)
    again = make_plan(like(spec), images=spec.images, folder=data / "again", now=now, trees=trees)
    assert again.spec == spec


def test_the_set_beside_the_records_is_searched_compared_and_published_as_it_was_read(own, sandbox, record, tmp_path):
    path = collected(own, sandbox, record, calls)  # the last one starts from a tree of its own
    beside = sidecar(path)
    whole = beside.read_bytes()
    (leak,) = (one for one in Validation(path, words=[word("private text", "maple")]) if "words.txt" in one.where)
    assert (leak.rule, leak.where.rpartition("/")[2]) == ("leak", "words.txt")

    with tarfile.open(beside, "a") as tar:
        tar.addfile(tarfile.TarInfo("stray"))
    publish([path], tmp_path / "out")
    assert (tmp_path / "out" / "records" / "run.tasks.tar").read_bytes() == whole
    assert "in the `.tasks.tar` beside its run spec" in (tmp_path / "out" / "README.md").read_text()

    write(tmp_path / "other")
    beside.write_bytes(load(tmp_path / "other").packed())
    assert [one.message for one in Validation(path)] == ["run.tasks.tar is another task set than the run spec names"]
    beside.write_bytes(b"no tar")
    (finding,) = Validation(path)
    assert finding.message.startswith("run.tasks.tar: it cannot be read as an archive: ")
    beside.unlink()
    validation = Validation(path)
    assert list(validation) == []
    assert "no task set (run.tasks.tar) beside it: tasks are taken from the records' words" in validation.notes
    publish([path], tmp_path / "without")
    assert "a set of the makers' own, which is not in this folder" in (tmp_path / "without" / "README.md").read_text()
    assert "run.tasks.tar: is missing; without its tasks nobody can judge or replay the records" in set(flaws(path))


def test_golds_pass_and_an_untouched_tree_fails(own, sandbox):
    found, trees, _ = own
    tried = try_tasks(found.sha256, sockets=sandbox.sockets, trees=trees)
    assert [one.task_id for one in tried] == [one.id for one in found.tasks]
    assert [one.problems for one in tried] == [[]] * 6
