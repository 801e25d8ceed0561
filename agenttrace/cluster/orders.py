"""What a machine is told to make shards of a run, and the seat that it takes for that."""

from __future__ import annotations

import os
from pathlib import Path

from agenttrace.campaign.options import Options
from agenttrace.campaign.session import Surroundings
from agenttrace.cluster.endpoints import PATIENCE_S, Address
from agenttrace.cluster.objects import Store, mark
from agenttrace.cluster.seat import Seat
from agenttrace.cluster.shards import ROLLOUTS
from agenttrace.errors import StorageError
from agenttrace.records.base import Record

RESOURCE = "agenttrace_sandbox"
"""What a node has of sandbox workers, as Ray counts it: `ray start --resources '{"agenttrace_sandbox": 16}'`."""
SOCKETS, TREES = "AGENTTRACE_SOCKETS", "AGENTTRACE_TREES"
"""Where a machine has its sandbox workers' sockets and prepared trees: variables of its environment."""


class Order(Record, frozen=True, kw_only=True, tag="make"):
    """What a machine needs to know to make shards.

    Attributes:
        store: URL; who asks there, the machine's own environment says.
        mark: of the store as the driver sees it; nothing where no driver has begun the run.
        options: of the campaign, with its run id.
        addresses: of the endpoints.
        shard_rollouts: rollouts of a shard at most.
        workers: rollouts at a time.
        in_flight: requests that an endpoint may have of all machines at a time; `None` is as many as come.
        patience_s: so long all endpoints may be gone.
        sockets: where sandbox workers listen; `None` leaves it to the machine.
        trees: prepared tasks that bring trees; likewise.
        trees_max_bytes: room there for trees that are fetched.
        key: for the endpoints; recorded nowhere.
    """

    store: str
    options: Options
    addresses: tuple[Address, ...]
    shard_rollouts: int = ROLLOUTS
    workers: int = 1
    in_flight: int | None = None
    patience_s: float = PATIENCE_S
    sockets: str | None = None
    trees: str | None = None
    trees_max_bytes: int | None = None
    key: str | None = None
    mark: str = ""

    @property
    def takes(self) -> tuple[str, int]:
        """What Ray counts of a node for an attempt at a shard."""
        return RESOURCE, self.workers


def seat_of(order: Order, *, node: str = "", scratch: Path | None = None) -> Seat:
    """Return a seat on this machine; `node` is its name, for manifests, `scratch` a folder for what does not stay.

    Raises:
        AgentTraceError: the store cannot be used, or is another one than the driver's, or the run is another one.
    """
    store = Store(order.store)
    if order.mark and mark(store) != order.mark:  # what is made there would be found by nobody
        raise StorageError(
            f"--store {store.url} is another one on this machine than on the driver's: a folder has to be one that all "
            "machines share (is it mounted here?)"
        )
    around = Surroundings(
        folder=Path(),
        base_url="",
        sockets=Path(order.sockets or os.environ.get(SOCKETS) or "/run/agenttrace"),
        trees=Path(order.trees or os.environ.get(TREES) or "/trees"),
        workers=order.workers,
        key=order.key,
    )
    return Seat(
        store,
        order.options,
        around,
        order.addresses,
        shard_rollouts=order.shard_rollouts,
        patience_s=order.patience_s,
        trees_max_bytes=order.trees_max_bytes,
        made_by={"node": node} if node else {},
        scratch=scratch,
    )
