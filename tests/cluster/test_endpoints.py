"""Endpoints as a set: who has which task, what is left alone, tried again, refused, and when all are gone."""

from __future__ import annotations

import contextlib
from collections import Counter
from types import SimpleNamespace

import pytest

from agenttrace.cluster.endpoints import FAILURES, OPEN_S, Endpoints, read_addresses
from agenttrace.cluster.pinned import EndpointLog, PinnedModels
from agenttrace.errors import ModelServerError, UsageError
from agenttrace.serving.model import ContextFullError, NoReplyError, RequestRefusedError

TASKS = [f"task-{number}" for number in range(600)]


class Served:
    """Stands where a server is that was checked; what it says is set by a test."""

    def __init__(self, name):
        self.name, self.environment, self.models = name, {"server_reported": {"build": name}}, self
        self.raises = None

    def for_trace(self, trace_id, *, seed):
        return self

    def complete(self, messages, *, max_tokens=None):
        if self.raises is not None:
            raise self.raises
        return self.name

    count = complete

    def over(self):
        """Do nothing."""


class World:
    """A clock, and servers that are there, away or others."""

    def __init__(self, urls, **options):
        self.now, self.checks, self.said = 0.0, Counter(), []
        self.away, self.others, self.served = set(), set(), {}
        self.endpoints = Endpoints(
            read_addresses(urls), self.connect, answers=lambda url: url not in self.away, tell=self.said.append,
            clock=lambda: self.now, sleep=self.sleep, **options,
        )  # fmt: skip

    def sleep(self, seconds):
        self.now += seconds

    def connect(self, endpoint):
        url = endpoint.address.url
        self.checks[url] += 1
        if url in self.others:
            raise UsageError(
                "this is not the server of the run spec: model: the server has 'b', the run spec names 'a'"
            )
        if url in self.away:
            raise ModelServerError(f"the model server at {url} is not ready after 5 s (connection refused)")
        return self.served.setdefault(url, Served(endpoint.address.name))

    def pick(self, task="t", avoid=()):
        return self.endpoints.pick(task, avoid).address.url


def urls(count):
    return [f"http://10.0.0.{number}:8000/v1" for number in range(count)]


@pytest.fixture
def world():
    return World(urls(4))


def test_tasks_are_spread_evenly_and_each_stays_where_it_is(world):
    placed = {task: world.pick(task) for task in TASKS}
    counts = Counter(placed.values())
    assert set(counts) == set(urls(4))
    assert all(100 < count < 200 for count in counts.values())
    assert {task: world.pick(task) for task in TASKS} == placed
    assert set(world.checks.values()) == {1}  # each was checked once, before its first task


def test_where_an_endpoint_goes_only_its_tasks_move_and_they_come_back(world):
    before = {task: world.pick(task) for task in TASKS}
    gone = urls(4)[2]
    world.away.add(gone)
    lost = next(one for one in world.endpoints.every if one.address.url == gone)
    world.endpoints.failed(lost, "connection refused")  # it does not answer at all: one failure is enough
    after = {task: world.pick(task) for task in TASKS}
    assert gone not in after.values()
    assert all(after[task] == place for task, place in before.items() if place != gone)
    assert len({after[task] for task, place in before.items() if place == gone}) == 3
    world.away.clear()
    world.now += OPEN_S
    mine = next(task for task in TASKS if before[task] == gone)
    assert world.pick(mine) == gone
    world.endpoints.answered(lost)
    assert {task: world.pick(task) for task in TASKS} == before
    assert len(world.said) == 2
    assert world.said[0].endswith(f"({gone}) is left alone for 30 s: connection refused")
    assert world.said[1].endswith(" answers again")


def test_the_same_endpoints_in_another_order_and_more_of_them_move_few_tasks():
    one, other = World(urls(4)), World([*reversed(urls(4))])
    assert [one.pick(task) for task in TASKS] == [other.pick(task) for task in TASKS]
    more = World(urls(5))
    moved = [task for task in TASKS if more.pick(task) != one.pick(task)]
    assert {more.pick(task) for task in moved} == {urls(5)[4]}
    assert 60 < len(moved) < 180


def test_an_endpoint_that_answers_with_errors_is_left_alone_after_three_in_a_row_and_then_tried_by_one(world):
    first = world.endpoints.order("t")[0]
    world.pick()
    for number in range(FAILURES - 1):
        world.endpoints.failed(first, "HTTP 500")
        assert world.pick() == first.address.url, number
    world.endpoints.answered(first)  # in between: the count begins anew
    for _ in range(FAILURES):
        assert world.pick() == first.address.url
        world.endpoints.failed(first, "HTTP 500")
    assert world.pick() != first.address.url
    world.now += OPEN_S
    assert world.pick() == first.address.url
    assert world.pick() != first.address.url  # one tries it, the next goes elsewhere
    assert world.checks[first.address.url] == 2
    world.endpoints.failed(first, "HTTP 500")
    world.now += OPEN_S - 1
    assert world.pick() != first.address.url


def test_one_that_serves_something_else_is_refused_by_its_name_and_never_used():
    world = World(urls(3))
    world.others.add(urls(3)[1])
    assert {world.pick(task) for task in TASKS} == {urls(3)[0], urls(3)[2]}
    assert world.checks[urls(3)[1]] == 1
    (line,) = world.said
    assert f"({urls(3)[1]}) is refused: this is not the server of the run spec: model: the server has 'b'" in line
    world.others.update(urls(3))
    alone = World(urls(1))
    alone.others.add(urls(1)[0])
    with pytest.raises(UsageError, match=r"http://10.0.0.0:8000/v1: this is not the server of the run spec"):
        alone.pick()


def test_one_that_comes_back_as_another_is_refused(world):
    first = world.endpoints.order("t")[0]
    assert world.pick() == first.address.url
    world.others.add(first.address.url)
    world.endpoints.look_again(first)  # what a refused request brings about
    assert world.pick() != first.address.url
    assert "is refused" in world.said[0]


def test_all_gone_for_the_patience_is_an_error_with_status_3_and_one_that_comes_back_in_time_is_none():
    world = World(urls(2), patience_s=100)
    world.away.update(urls(2))
    with pytest.raises(ModelServerError, match=r"no endpoint could be used for 100 s .*connection refused") as raised:
        world.pick()
    assert raised.value.exit_code == 3
    assert 100 <= world.now < 101
    world = World(urls(2), patience_s=100)
    world.away.update(urls(2))
    world.sleep = lambda seconds: (setattr(world, "now", world.now + seconds), world.now > 50 and world.away.clear())
    world.endpoints._sleep = world.sleep
    assert world.pick() in urls(2)
    assert 50 < world.now < 50 + OPEN_S + 1


def models(world, *tasks):
    return PinnedModels(world.endpoints, {f"id-{task}": task for task in tasks})


def failed_once(world):
    """Return models of which a first attempt has failed, and the endpoints of that and of the next one."""
    pinned = models(world, "t")
    first, second = world.endpoints.order("t")[:2]
    world.pick()
    world.served[first.address.url].raises = NoReplyError("does not answer after 5 tries (HTTP 500)")
    with pytest.raises(NoReplyError):
        pinned.for_trace("id-t", seed=0).complete([])
    return pinned, first, second


def test_the_next_attempt_at_a_trace_goes_elsewhere_and_its_record_names_where_it_was_made(world):
    pinned, first, second = failed_once(world)
    assert pinned.settle("id-t", record=False)["endpoint"] == first.address.name
    assert pinned.for_trace("id-t", seed=0).complete([]) == second.address.name
    said = pinned.settle("id-t", record=True)
    assert said == {"endpoint": second.address.name, "server_reported": {"build": second.address.name}}
    assert (first.records, second.records) == (0, 1)
    assert "10.0.0" not in str(said)


def test_what_is_said_of_an_attempt_is_of_its_endpoint_also_where_the_next_one_has_begun(world):
    pinned, first, second = failed_once(world)
    pinned.for_trace("id-t", seed=0)
    assert pinned.settle("id-t", record=False)["endpoint"] == first.address.name
    assert pinned.settle("id-t", record=True)["endpoint"] == second.address.name


def test_a_first_request_that_is_refused_ends_the_attempt_and_not_the_shard(world):
    pinned = models(world, "t")
    first = world.endpoints.order("t")[0]
    world.pick()
    world.served[first.address.url].raises = ModelServerError("refuses the first request: HTTP 404")
    with pytest.raises(NoReplyError, match="refuses the first request"):
        pinned.for_trace("id-t", seed=0).complete([])


@pytest.mark.parametrize("error", [ContextFullError("too long"), RequestRefusedError("HTTP 400")])
def test_what_is_the_conversations_own_fault_does_not_count_against_an_endpoint(world, error):
    pinned = models(world, "t")
    first = world.endpoints.order("t")[0]
    world.pick()
    world.served[first.address.url].raises = error
    for _ in range(FAILURES + 1):
        with pytest.raises(type(error)):
            pinned.for_trace("id-t", seed=0).complete([])
    assert world.pick() == first.address.url
    assert world.said == []


def test_a_log_adds_the_endpoint_to_records_and_to_attempts(world, plan, made_up, work):
    pinned = models(world, "t")
    job = next(iter(plan.jobs()))
    trace = made_up.trace(plan, job)
    pinned._keys = {trace.trace_id: "t"}
    pinned.for_trace(trace.trace_id, seed=0)
    kept = []

    class Log:
        ids = ()

        def append(self, trace_id, record):
            kept.append(record)

    EndpointLog(Log(), pinned, records=True).append(trace.trace_id, trace)
    assert kept[0].environment["endpoint"] == world.endpoints.order("t")[0].address.name
    assert kept[0].environment["by"] == ""
    assert kept[0].metadata == trace.metadata


def test_addresses_are_read_from_words_and_from_a_file(tmp_path):
    file = tmp_path / "endpoints.txt"
    file.write_text("# ours\nrack-2=http://10.0.0.6:8000/v1/\n\nhttp://10.0.0.7:8000/v1 # spare\n")
    found = read_addresses(["http://10.0.0.5:8000/v1"], file)
    assert [one.url for one in found] == [f"http://10.0.0.{number}:8000/v1" for number in (5, 6, 7)]
    assert found[1].name == "rack-2"
    assert found[0].name.startswith("endpoint-")
    assert "10.0.0" not in found[0].name


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "no endpoint is named: --base-url URL, once for each"),
        (["ftp://x/v1"], "--base-url 'ftp://x/v1': expected an address such as"),
        (["http://u:p@x/v1"], "--base-url: the address must hold no name, password or query"),
        (["http://x/v1", "b=http://x/v1/"], "--base-url: the endpoint b=http://x/v1/ is named twice"),
        (["a=http://x/v1", "a=http://y/v1"], "named twice"),
        (["a b=http://x/v1"], "'a b' is no name for an endpoint"),
    ],
)
def test_an_address_that_is_none_is_told(given, said):
    with pytest.raises(UsageError) as raised:
        read_addresses(given)
    assert said in str(raised.value)


def test_a_line_of_a_file_that_is_no_address_is_told_with_its_number(tmp_path):
    file = tmp_path / "endpoints.txt"
    file.write_text("http://x/v1\nnot an address\n")
    with pytest.raises(UsageError, match=r"endpoints.txt, line 2 'not an address': expected an address"):
        read_addresses([], file)


@pytest.mark.parametrize("text", ["", "# http://x/v1\n", "\n \n"])
def test_a_file_that_names_no_endpoint_is_told_whatever_else_is_named(tmp_path, text):
    file = tmp_path / "endpoints.txt"
    file.write_text(text)
    with pytest.raises(UsageError, match=r"endpoints.txt: no line of it names an endpoint"):
        read_addresses(["http://x/v1"], file)


def test_a_file_as_editors_of_others_write_it_is_read(tmp_path):
    file = tmp_path / "endpoints.txt"
    file.write_bytes(b"\xef\xbb\xbfa=http://x/v1\r\n\x0c# one more\r\nb=http://y/v1")
    assert [one.name for one in read_addresses([], file)] == ["a", "b"]
    file.write_bytes(file.read_bytes() + b"\r\nhttp://[\r\n")
    with pytest.raises(UsageError, match=r"endpoints.txt, line 4: "):
        read_addresses([], file)


def test_the_load_of_an_endpoint_is_followed_while_it_is_used_for_a_shard_and_no_longer(world):
    followed = []

    @contextlib.contextmanager
    def follow(endpoint):
        followed.append(endpoint.address.url)
        yield SimpleNamespace(taken=5, since=lambda taken: {"samples": taken})
        followed.remove(endpoint.address.url)

    for task in TASKS[:20]:
        with PinnedModels(world.endpoints, {"a": task, "b": task}, follow) as models:
            assert not followed
            for trace_id in "ab":
                models.for_trace(trace_id, seed=1)
                assert followed == [world.pick(task)]
                assert models.settle(trace_id, record=True)["server_load"] == {"samples": 5}
        assert not followed
