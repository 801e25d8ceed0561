"""Models on tape: one that records what another says, and one that says what was recorded."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

import msgspec
from msgspec import UNSET, UnsetType

from agenttrace.errors import DataError
from agenttrace.records.compare import Difference, record_differences
from agenttrace.serving.cassette import Exchange, request_digest
from agenttrace.serving.model import ContextFullError, Reply, RequestRefusedError, UnparsableReplyError
from agenttrace.store.append import ChangedFileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from agenttrace.records import Trace
    from agenttrace.serving.cassette import Kind
    from agenttrace.serving.model import Messages, Model, Models
    from agenttrace.store.ids import IdIndex

_ERRORS: dict[Kind, type[Exception]] = {
    "context_full": ContextFullError,
    "refused": RequestRefusedError,
    "unparsable": UnparsableReplyError,
}
_CLOCKS = frozenset({"start_ns", "end_ns", "elapsed_ns"})
"""Fields of a reply that are ours, not the model's: a replay has its own."""


class RecordingModel:
    """Passes requests on to a model and keeps them with what came of them.

    Args:
        model: what answers.
        fixed: what the model sends with every request.

    Attributes:
        turns: so far, in order.
    """

    def __init__(self, model: Model, fixed: dict[str, Any]) -> None:
        self._model = model
        self._fixed = fixed
        self.turns: list[Exchange] = []

    def count(self, messages: Messages) -> int:
        """Return the model's count; it stands in the turn that follows, or in one of its own."""
        counted = self._model.count(messages)
        self.turns.append(
            Exchange(fixed=self._fixed, messages=tuple(messages), kind="counted", result=None, counted=counted)
        )
        return counted

    def complete(self, messages: Messages, *, max_tokens: int | None = None) -> Reply:
        """Return the model's reply; errors that shape a record are kept as well, and raised."""
        asked = tuple(messages)
        limit = UNSET if max_tokens is None else max_tokens
        counted: int | UnsetType = UNSET
        if self.turns and self.turns[-1].kind == "counted":
            counted = self.turns.pop().counted

        def keep(kind: Kind, result: object) -> None:
            self.turns.append(
                Exchange(fixed=self._fixed, messages=asked, kind=kind, result=result, max_tokens=limit, counted=counted)
            )

        try:
            reply = self._model.complete(messages, max_tokens=max_tokens)
        except tuple(_ERRORS.values()) as error:
            keep(next(name for name, one in _ERRORS.items() if isinstance(error, one)), str(error))
            raise
        keep("reply", {name: value for name, value in msgspec.to_builtins(reply).items() if name not in _CLOCKS})
        return reply

    def over(self) -> None:
        """Pass it on."""
        self._model.over()


class ReplayingModel:
    """Says what was recorded, turn by turn, and notes the first request that is another one than then.

    Args:
        turns: of one trace.
        fixed: what a live model would send with every request now.
        differs: called with the number of the step and what differs, once at most.
    """

    def __init__(
        self, turns: tuple[Exchange, ...], fixed: dict[str, Any], differs: Callable[[int, list[Difference]], None]
    ) -> None:
        self._turns = turns
        self._fixed = fixed
        self._differs = differs
        self._step = 0
        self._told = False

    def count(self, messages: Messages) -> int:  # noqa: ARG002 - another prompt is told of when it is sent
        """Return what was counted of the prompt that had this place; 0 where nothing was, so that it is sent."""
        turn = self._turns[self._step] if self._step < len(self._turns) else None
        if turn is None or turn.counted is UNSET:
            return 0
        self._step += turn.kind == "counted"
        return turn.counted

    def complete(self, messages: Messages, *, max_tokens: int | None = None) -> Reply:
        """Return the recorded reply to the request that had this place.

        Raises:
            ContextFullError: more is asked for than was recorded, or the context was full then.
            RequestRefusedError: the request was refused then.
            UnparsableReplyError: the server could not parse the reply then.
            DataError: the recorded reply is not one.
        """
        self._step += 1
        if self._step > len(self._turns):
            self._tell([Difference(field="request", recorded="(absent)", found="a request that was never made")])
            raise ContextFullError(f"the replay ends here: step {self._step} was not recorded")
        turn = self._turns[self._step - 1]
        limit = {} if max_tokens is None else {"max_tokens": max_tokens}
        if request_digest({**self._fixed, **limit}, messages) != turn.request_sha256:
            self._tell(_request_differences(turn, {**self._fixed, **limit}, messages))
        if turn.kind in _ERRORS:
            raise _ERRORS[turn.kind](turn.result)
        now = time.time_ns()
        try:
            return msgspec.convert({**turn.result, "start_ns": now, "end_ns": now, "elapsed_ns": 0}, Reply)
        except (msgspec.ValidationError, TypeError) as error:
            raise DataError(f"the recorded reply of step {self._step} is not a reply: {error}") from error

    def over(self) -> None:
        """Do nothing: a recording waits for nobody."""

    def left(self) -> int:
        """Return how many recorded turns were not asked for."""
        return max(0, len(self._turns) - self._step)

    def _tell(self, found: list[Difference]) -> None:
        if not self._told:
            self._told = True
            self._differs(self._step, found)


class _Request(msgspec.Struct):
    """Any request: no field is known, so no field is passed over."""


def _request_differences(turn: Exchange, fixed: dict[str, Any], messages: list[dict[str, Any]]) -> list[Difference]:
    limit = {} if turn.max_tokens is UNSET else {"max_tokens": turn.max_tokens}
    recorded = {**turn.fixed, **limit}
    then, now = ({**one, "messages": list(said)} for one, said in ((recorded, turn.messages), (fixed, messages)))
    found = record_differences(_Request, *(msgspec.json.encode(one, order="sorted") for one in (then, now)))
    return [msgspec.structs.replace(one, field=f"request.{one.field}") for one in found]


class TapeLog(Protocol):
    """Takes the requests and replies of finished traces; see `agenttrace.serving.cassette.CassetteLog`."""

    def append(self, trace_id: str, turns: Iterable[Exchange]) -> None:
        """Keep the tape of one trace."""
        ...

    def check(self) -> None:
        """See that what was kept is there."""
        ...


class TraceLog(Protocol):
    """Takes finished traces; see `agenttrace.store.jsonl.RecordLog`."""

    @property
    def ids(self) -> IdIndex:
        """Ids of the traces it has."""
        ...

    def append(self, trace_id: str, record: Trace) -> None:
        """Keep one trace."""
        ...

    def check(self) -> None:
        """See that what was kept is there."""
        ...


class Recorder:
    """Gives every run a model on tape, and writes its tape before its record: no record is without its replies.

    Args:
        models: what answers; used from many threads.
        fixed: what is sent with every request, but for the seed.
        cassette: where the tapes go.
        log: where the records go.
    """

    def __init__(self, models: Models, fixed: dict[str, Any], cassette: TapeLog, log: TraceLog) -> None:
        self._models = models
        self._fixed = fixed
        self._cassette = cassette
        self._log = log
        self._tapes: dict[str, RecordingModel] = {}

    @property
    def ids(self) -> IdIndex:
        """Ids of the traces that have a record."""
        return self._log.ids

    def for_trace(self, trace_id: str, *, seed: int) -> Model:
        """Return the model for one attempt at a trace; an earlier attempt's tape is dropped."""
        live = self._models.for_trace(trace_id, seed=seed)
        tape = self._tapes[trace_id] = RecordingModel(live, {**self._fixed, "seed": seed})
        return tape

    def append(self, trace_id: str, trace: Trace) -> None:
        """Write tape and record of a finished trace and return when both are durable.

        Raises:
            ChangedFileError: one of the files is another one now; what it lacks is durable in its rescue.
            StorageError: one of them could not be written.
        """
        turns = self._tapes.pop(trace_id).turns
        _both(lambda: self._cassette.append(trace_id, turns), lambda: self._log.append(trace_id, trace))

    def check(self) -> None:
        """See that both files hold what was appended.

        Raises:
            ChangedFileError: one of them is another one now; what it lacks is in its rescue.
        """
        _both(self._cassette.check, self._log.check)

    def give_up(self, trace_id: str) -> None:
        """Drop the tape of a trace that gets no record before this run of the campaign ends."""
        self._tapes.pop(trace_id, None)


def _both(first: Callable[[], None], second: Callable[[], None]) -> None:
    """Call both, the second one also where the first one's file has changed, and raise what is to be said of both."""
    told = []
    for one in (first, second):
        try:
            one()
        except ChangedFileError as error:
            told.append(str(error))
    if told:
        raise ChangedFileError("\n".join(told))
