"""Stores of every kind, a plan of some shards, and records that were made up for it."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from datetime import UTC, datetime
from pathlib import Path

import pytest

pytest.importorskip("obstore", reason="needs obstore: it is in requirements/tests.txt")

from agenttrace.campaign.options import Options
from agenttrace.campaign.plan import make_plan
from agenttrace.cluster.objects import Store
from agenttrace.cluster.runs import begin_run
from agenttrace.cluster.shards import shard_plan
from bench.campaigns import s3 as s3_store

HERE = Path(__file__).parent

os.environ.setdefault("RAY_AUTH_MODE", "token")  # Ray keeps what it finds at its first import, by whichever test


def _made():
    spec = importlib.util.spec_from_file_location("cluster_made", HERE / "made.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


made = _made()


def _use(monkeypatch, url):
    for name, value in s3_store.variables(url).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def s3(monkeypatch):
    """Return a running store of ours, whose faults can be set; `s3://bucket` is in it."""
    with s3_store.running() as running:
        _use(monkeypatch, running.url)
        yield running


@pytest.fixture(scope="session")
def moto():
    """Return the address of moto's server: an S3 that others wrote."""
    pytest.importorskip("moto", reason="needs moto, which scripts/nox -s cluster-check has")
    pytest.importorskip("flask_cors", reason="needs flask-cors, which scripts/nox -s cluster-check has")
    argv = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    server = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        url = next(line for line in server.stderr if "http://" in line).split()[-1]
        drain = subprocess.Popen(["cat"], stdin=server.stderr, stdout=subprocess.DEVNULL)  # its log, a line a request
        for attempt in range(100):
            try:
                urllib.request.urlopen(urllib.request.Request(f"{url}/bucket", method="PUT")).close()
                break
            except urllib.error.URLError:
                assert attempt < 99
                time.sleep(0.1)
        yield url
    finally:
        server.kill()
        server.wait()
        server.stderr.close()
    drain.wait()


@pytest.fixture(params=["folder", "s3", "moto"])
def url(request, tmp_path, monkeypatch):
    """Return the URL of an empty folder of a store: on disk, in our stand-in for S3, and in moto's."""
    if request.param == "folder":
        return str(tmp_path / "store")
    if request.param == "s3":
        request.getfixturevalue("s3")
    else:
        _use(monkeypatch, request.getfixturevalue("moto"))
    return f"s3://bucket/{tmp_path.name}"


@pytest.fixture
def store(url):
    return Store(url)


@pytest.fixture
def small_disk(tmp_path):
    """Return what mounts a file system of so many KiB and returns its folder."""
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("needs Linux and root: a small file system is mounted")
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = []

    def mount(kib):
        words = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "none", str(folder)]
        if subprocess.run(words, capture_output=True).returncode:
            pytest.skip("needs the right to mount")
        mounted.append(folder)
        return folder

    yield mount
    for one in mounted:
        subprocess.run(["umount", str(one)], check=True)


@pytest.fixture
def plan(tmp_path):
    """Return a plan of 6 tasks with 7 rollouts each."""
    options = Options(count=6, rollouts=7, external=True, model="scripted", run_id="r1", output="demo.jsonl")
    return make_plan(options, images={}, folder=tmp_path, now=datetime(2026, 11, 2, tzinfo=UTC))


@pytest.fixture
def run(store, plan):
    """Return a run of that plan in shards of 20: 20, 20 and 2 records."""
    return begin_run(store, plan.spec, shard_rollouts=20)


@pytest.fixture
def run_on(plan):
    """Return what begins the same run in a store that a test names."""
    return lambda url, **options: begin_run(Store(url, **options), plan.spec, shard_rollouts=20)


@pytest.fixture
def work(request, plan, tmp_path):
    """Return what makes one attempt at a shard, of the run in the store of the test or of another: a `made.Attempt`."""

    def one(shard, *, run=None, **options):
        run = run or request.getfixturevalue("run")
        return made.Attempt(run, shard_plan(plan, run.shards, shard), shard, tmp_path, **options)

    return one


@pytest.fixture
def whole(run, work):
    """Return a run of 42 records whose three shards are done, each by an attempt of its own."""
    for shard in range(3):
        with work(shard, by="ab"[shard % 2], part_records=8) as attempt:
            attempt.make()
            attempt.log.commit()
    return run


@pytest.fixture
def made_up():
    return made


@pytest.fixture(scope="session")
def ray_here():
    """Skip where Ray is not installed."""
    if importlib.util.find_spec("ray") is None:
        pytest.skip("needs ray: it is in requirements/tests.txt")


@pytest.fixture(scope="session")
def analysis_here():
    """Skip where what analysis needs is not installed, as beside moto, whose client wants another python-dateutil."""
    if importlib.util.find_spec("numpy") is None:
        pytest.skip("needs numpy and more: they are in requirements/tests.txt")
