"""Models of a run that has several endpoints: each conversation at the one that its task is pinned to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from agenttrace.errors import ModelServerError
from agenttrace.serving.model import NoReplyError, RequestRefusedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from agenttrace.campaign.loop import Log
    from agenttrace.cluster.endpoints import Endpoint, Endpoints
    from agenttrace.records import Trace
    from agenttrace.serving.model import Messages, Model, Reply
    from agenttrace.store.ids import IdIndex

T = TypeVar("T")


class PinnedModels:
    """Gives every trace a model at the endpoint that its task is pinned to; the next attempt goes to another one.

    Args:
        endpoints: of the run.
        keys: of every trace, by its id, what is pinned: its task.
    """

    def __init__(self, endpoints: Endpoints, keys: Mapping[str, str]) -> None:
        self._endpoints = endpoints
        self._keys = keys
        self._failed: dict[str, set[str]] = {}
        self._at: dict[str, tuple[Endpoint, dict[str, Any], int, int]] = {}

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
        taken = endpoint.load.taken if endpoint.load else 0
        self._at[trace_id] = (endpoint, server.environment, taken, endpoint.share.sent_away)
        model = server.models.for_trace(trace_id, seed=seed)
        return _PinnedModel(model, self._endpoints, endpoint, failed)

    def settle(self, trace_id: str, *, record: bool) -> dict[str, Any]:
        """Return what the environment of a trace says of its endpoint; of one that is a record, for the last time."""
        endpoint, said, taken, sent_away = self._at[trace_id]
        if record:
            self.forget(trace_id)
            endpoint.records += 1
        load = {} if endpoint.load is None else {"server_load": endpoint.load.since(taken)}
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
