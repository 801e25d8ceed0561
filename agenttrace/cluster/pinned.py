"""Models of a run that has several endpoints: each conversation at the one that its task is pinned to."""

from __future__ import annotations

import threading
from collections import deque
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from agenttrace.errors import ModelServerError
from agenttrace.serving.model import NoReplyError, RequestRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Self

    from agenttrace.campaign.loop import Log
    from agenttrace.campaign.server_load import ServerLoad
    from agenttrace.cluster.endpoints import Endpoint, Endpoints
    from agenttrace.records import Trace
    from agenttrace.serving.model import Messages, Model, Reply
    from agenttrace.store.ids import IdIndex

T = TypeVar("T")


class PinnedModels:
    """Gives every trace a model at the endpoint that its task is pinned to; the next attempt goes to another one.

    As a context it also follows the load of those endpoints that are used meanwhile, and of no other: a process meets
    all of a run in time, and thousands of processes that ask each of them once a second are a load of their own.

    Args:
        endpoints: of the run.
        keys: of every trace, by its id, what is pinned: its task.
        follow: returns what follows the load of an endpoint; `None` follows none.
    """

    def __init__(
        self,
        endpoints: Endpoints,
        keys: Mapping[str, str],
        follow: Callable[[Endpoint], ServerLoad] | None = None,
    ) -> None:
        self._endpoints = endpoints
        self._keys = keys
        self._follow = follow
        self._failed: dict[str, set[str]] = {}
        self._at: dict[str, deque[tuple[Endpoint, dict[str, Any], ServerLoad | None, int, int]]] = {}
        self._loads: dict[str, ServerLoad] = {}
        self._lock = threading.Lock()
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._follow = None
        self._open.close()

    def _load_of(self, endpoint: Endpoint) -> ServerLoad | None:
        """Return what follows the load of an endpoint, from its first conversation here on."""
        with self._lock:
            name = endpoint.address.name
            if name not in self._loads and self._follow is not None:
                self._loads[name] = self._open.enter_context(self._follow(endpoint))
            return self._loads.get(name)

    def for_trace(self, trace_id: str, *, seed: int) -> Model:
        """Return the model for one attempt at a trace, where any endpoint works.

        Raises:
            ModelServerError: none worked for as long as the patience lasts.
            UsageError: every one serves something else than the run spec names.
        """
        failed = self._failed.setdefault(trace_id, set())
        while True:
            endpoint = self._endpoints.pick(self._keys[trace_id], avoid=failed)
            if (server := endpoint.server) is not None:  # another thread may have lost it since
                break
        load = self._load_of(endpoint)
        taken = load.taken if load else 0
        # The next attempt may have begun before this one is settled, where the store takes its time.
        at = self._at.setdefault(trace_id, deque())
        at.append((endpoint, server.environment, load, taken, endpoint.share.sent_away))
        model = server.models.for_trace(trace_id, seed=seed)
        return _PinnedModel(model, self._endpoints, endpoint, failed)

    def settle(self, trace_id: str, *, record: bool) -> dict[str, Any]:
        """Return what an attempt at a trace says of its endpoint, one after the other; of a record, the last time."""
        endpoint, said, followed, taken, sent_away = self._at[trace_id].popleft()
        if record:
            self.forget(trace_id)
            endpoint.records += 1
        load = {} if followed is None else {"server_load": followed.since(taken)}
        away = endpoint.share.sent_away - sent_away
        return {"endpoint": endpoint.address.name, **said, **load, **({"requests_sent_away": away} if away else {})}

    def forget(self, trace_id: str) -> None:
        """Let go what is known of a trace."""
        self._failed.pop(trace_id, None)
        self._at.pop(trace_id, None)


class _PinnedModel:
    """A model for one attempt, that tells the set how its endpoint fares."""

    def __init__(self, model: Model, endpoints: Endpoints, endpoint: Endpoint, failed: set[str]) -> None:
        self._model = model
        self._endpoints = endpoints
        self._endpoint = endpoint
        self._failed = failed

    def count(self, messages: Messages) -> int:
        """Pass it on."""
        return self._noted(lambda: self._model.count(messages))

    def complete(self, messages: Messages, *, max_tokens: int | None = None) -> Reply:
        """Pass it on; an endpoint that refuses its first request ends the attempt, and not the shard."""
        reply = self._noted(lambda: self._model.complete(messages, max_tokens=max_tokens))
        self._endpoints.answered(self._endpoint)
        return reply

    def over(self) -> None:
        """Pass it on."""
        self._model.over()

    def _noted(self, ask: Callable[[], T]) -> T:
        try:
            return ask()
        except RequestRefusedError:
            self._endpoints.look_again(self._endpoint)
            raise
        except (NoReplyError, ModelServerError) as error:
            self._failed.add(self._endpoint.address.name)
            self._endpoints.failed(self._endpoint, str(error))
            raise NoReplyError(str(error)) from error


class EndpointLog:
    """Passes traces on, with their endpoint in their environment.

    Args:
        log: takes them.
        models: know the endpoint of each.
        records: whether they are records; else they are attempts that failed, after which another one may come.
    """

    def __init__(self, log: Log, models: PinnedModels, *, records: bool) -> None:
        self._log = log
        self._models = models
        self._records = records

    @property
    def ids(self) -> IdIndex:
        """Ids of the traces that the log has."""
        return self._log.ids

    def append(self, trace_id: str, trace: Trace) -> None:
        """Pass a trace on; what it raises is the log's."""
        said = self._models.settle(trace_id, record=self._records)
        self._log.append(trace_id, msgspec.structs.replace(trace, environment={**trace.environment, **said}))

    def give_up(self, trace_id: str) -> None:
        """Forget a trace that gets no record."""
        self._models.forget(trace_id)
        self._log.give_up(trace_id)

    def check(self) -> None:
        """Do nothing: no other program writes there."""
