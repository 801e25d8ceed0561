"""A run's figures as other programs read them: a file that is always whole, and Prometheus's own reader."""

from __future__ import annotations

import json
import threading
import time
import urllib.error
import urllib.request

import pytest

from agenttrace.cluster.attempts import Attempted, AttemptResult
from agenttrace.cluster.driver import Driver, Figures, Watcher
from agenttrace.cluster.exported import metrics_page, progress_file
from agenttrace.errors import StorageError, UsageError

pytest.importorskip("prometheus_client", reason="needs prometheus-client: it is in requirements/tests.txt")


def figures():
    found = Figures(shards=10, before=2, done=2, running=4, room=3, elapsed_s=8.0)
    found.add(
        AttemptResult(
            shard=3, how="attempted", node='n"1\n',
            attempted=Attempted(shard=3, end="committed", records=5, made=5, endpoints={"rack-1": 3, "rack-2": 2}),
        )
    )  # fmt: skip
    found.add(AttemptResult(shard=4, how="lost", node="n2"))
    found.given_up[7] = "poison"
    return found


def until(condition, within_s=30):
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_prometheus_reads_every_figure_as_it_is_when_it_asks():
    from prometheus_client.parser import text_string_to_metric_families

    found = figures()

    def read(port):
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as page:
            families = text_string_to_metric_families(page.read().decode())
        samples = [sample for family in families for sample in family.samples]
        assert {sample.labels.pop("run_id") for sample in samples} == {"r1"}
        return {(sample.name, *sample.labels.values()): sample.value for sample in samples}

    with metrics_page(0, "r1", found) as port:
        assert read(port) == {
            ("agenttrace_shards",): 10, ("agenttrace_shards_done",): 3, ("agenttrace_shards_given_up",): 1,
            ("agenttrace_shards_handed_out",): 4, ("agenttrace_shards_room",): 3, ("agenttrace_driver_seconds",): 8.0,
            ("agenttrace_records_total", "rack-1"): 3, ("agenttrace_records_total", "rack-2"): 2,
            ("agenttrace_attempts_total", "committed"): 1, ("agenttrace_attempts_total", "lost"): 1,
            ("agenttrace_node_attempts_total", 'n"1\n'): 1, ("agenttrace_node_attempts_total", "n2"): 1,
        }  # fmt: skip
        found.done = 4
        assert read(port)["agenttrace_shards_done",] == 4
        with pytest.raises(UsageError, match=f"--metrics-port {port}: Address already in use"):
            metrics_page(port, "r2", found).__enter__()
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics")
    with pytest.raises(UsageError, match="expected 0 to 65535"):
        metrics_page(70_000, "r1", found).__enter__()


def test_a_file_is_always_whole_follows_and_ends_with_the_last_state(tmp_path):
    path, found = tmp_path / "progress.json", figures()
    over = threading.Event()

    def change():  # as a driver does
        while not over.wait(0.001):
            found.endpoints[str(found.records % 100)] += 1
            found.records += 1

    changing = threading.Thread(target=change)
    with progress_file(path, "r1", found, tell=pytest.fail, every_s=0.01):
        first = json.loads(path.read_bytes())
        changing.start()
        for _ in range(50):
            assert json.loads(path.read_bytes())["run_id"] == "r1"
        until(lambda: json.loads(path.read_bytes())["records"] > first["records"])
        over.set()
        changing.join()
        found.done = 10
    said = json.loads(path.read_bytes())
    assert (said["done"], said["records"], said["failed"], said["given_up"]) == (10, found.records, 1, {"7": "poison"})
    assert first["eta_s"] == pytest.approx(6 * 8.0)
    assert first["endpoints"] == {"rack-1": 3, "rack-2": 2}


def test_a_file_that_cannot_be_written_is_an_error_at_the_beginning_and_said_once_later(tmp_path):
    with pytest.raises(StorageError):
        progress_file(tmp_path / "none" / "x.json", "r1", figures(), tell=pytest.fail).__enter__()
    folder, told = tmp_path / "there", []
    folder.mkdir()
    with progress_file(folder / "x.json", "r1", figures(), tell=told.append, every_s=0.01):
        (folder / "x.json").unlink()
        folder.rmdir()
        until(lambda: told)
        time.sleep(0.1)
    assert len(told) == 1
    assert told[0].startswith("--progress-json: ")


class One:
    """Machines on which each shard is done at once."""

    def room(self):
        return [2]

    def begin(self, shard):
        return shard

    def ended(self, attempts, *, within_s):
        shard = min(attempts)
        attempted = Attempted(shard=shard, end="committed", records=1, made=1)
        yield shard, AttemptResult(shard=shard, how="attempted", attempted=attempted)

    def stop(self, attempts):
        """Do nothing."""


def test_a_driver_counts_what_is_handed_out_and_what_there_is_room_for():
    driver = Driver(One(), count=9, done={0}, left_by=lambda _: 0, patience_s=1)
    seen = []

    class Looks(Watcher):
        def begun(self):
            seen.append((driver.figures.running, driver.figures.room))

    driver.run(Looks())
    assert seen[0] == (4, 2)
    assert (driver.figures.running, driver.figures.done) == (0, 9)
    assert driver.figures.said()["eta_s"] == 0
