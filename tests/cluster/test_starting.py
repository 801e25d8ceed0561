"""Nodes that end while they start, as Ray's do under load or before their head is there, are started anew."""

from __future__ import annotations

from pathlib import Path

import pytest

from agenttrace.cluster import local_ray, on_ray
from agenttrace.errors import AgentTraceError


class Starts:
    """Starts of a node, of which each either joins or ends; nothing runs."""

    def __init__(self, monkeypatch, tmp_path, *, joins_at):
        self.joins_at, self.count, self.kept = joins_at, 0, []
        self.cluster = local_ray.LocalCluster(address="a:1", token="", folder=str(tmp_path), size=1, workers=2)
        monkeypatch.setattr(local_ray, "start_node", self.start)
        monkeypatch.setattr(local_ray.Process, "runs", lambda process: process.pid == -self.joins_at)
        monkeypatch.setattr(on_ray, "nodes_have", lambda _: [2.0] if self.count >= self.joins_at else [0.0])

    def start(self, cluster, number):
        self.count += 1
        with Path(cluster.folder, f"node-{number}.log").open("a") as log:
            log.write(f"start {self.count}: the raylet did not register\n")
        return local_ray.Process(pid=-self.count, created_s=0.0)

    def join(self):
        return local_ray._with_node(self.cluster, 0, self.kept.append, None)


def test_a_node_that_ends_while_it_starts_is_started_anew(monkeypatch, tmp_path):
    starts = Starts(monkeypatch, tmp_path, joins_at=3)
    assert [node.pid for node in starts.join().nodes] == [-3]
    assert [[node.pid for node in cluster.nodes] for cluster in starts.kept] == [[-1], [-2], [-3]]


def test_one_that_never_joins_is_an_error_with_its_last_words(monkeypatch, tmp_path):
    starts = Starts(monkeypatch, tmp_path, joins_at=100)
    with pytest.raises(AgentTraceError, match=r"node 0 has not joined in 4 tries; .* start 4: the raylet did not"):
        starts.join()
    assert starts.count == local_ray._TRIES
