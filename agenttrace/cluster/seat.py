"""Shards, made by today's campaign loop on this machine: into parts in the store, and a manifest at the end of each."""

from __future__ import annotations

import contextlib
import tempfile
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agenttrace import __version__
from agenttrace.campaign.conditions import Conditions
from agenttrace.campaign.display import CampaignDisplay, console
from agenttrace.campaign.environment import image_digests, observe
from agenttrace.campaign.loop import Campaign
from agenttrace.campaign.plan import make_plan, request_part
from agenttrace.campaign.server_load import SERVER_LOAD, ServerLoad
from agenttrace.campaign.session import get_server, get_workers
from agenttrace.cluster.attempts import Attempted
from agenttrace.cluster.endpoints import PATIENCE_S, Endpoints
from agenttrace.cluster.nodetrees import NodeTrees
from agenttrace.cluster.objects import check_store
from agenttrace.cluster.parts import ShardLog
from agenttrace.cluster.pinned import EndpointLog, PinnedModels
from agenttrace.cluster.prepare import KeptTasks, bring
from agenttrace.cluster.runs import begin_run
from agenttrace.cluster.shards import shard_plan
from agenttrace.errors import UsageError
from agenttrace.serving.endpoint import answers
from agenttrace.serving.tape import Recorder
from agenttrace.show import printable
from agenttrace.tasks import task_set
from agenttrace.tasks.swe.task_set import SweTasks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Self

    from agenttrace.campaign.options import Options
    from agenttrace.campaign.session import ServedModel, Surroundings
    from agenttrace.cluster.attempts import AttemptEnd
    from agenttrace.cluster.endpoints import Address, Endpoint
    from agenttrace.cluster.objects import Store
    from agenttrace.cluster.shards import ShardPlan

CHECK_S = 5.0
"""So long an endpoint may take to say what it is, before the next one is asked."""
_SAME = ("chat_template_sha256", "quantization", "weights_bytes", "n_params", "n_ctx_train", "context_length")
"""What the servers of one run say alike of what they serve, also where the run spec, which knows a model by its name
alone, does not."""


class Seat:
    """Makes shards of a run, which is begun where it is new, one after the other; use it as a context.

    What it finds out of its endpoints it keeps from one shard to the next.

    Args:
        store: has the run.
        options: of the campaign, with its run id.
        around: where sandbox workers and trees are; its folder and its endpoint are not used.
        addresses: of the endpoints.
        shard_rollouts: rollouts of a shard at most, for the whole run.
        patience_s: so long all endpoints may be gone.
        trees_max_bytes: room of trees that are fetched from the store; `None` is what the disk has.
        made_by: for manifests, beside version and time.
        scratch: folder for what is removed at the end; `None` is the system's.

    Attributes:
        run: in its store.
        tasks: those of the shard that is made, or all that are known.

    Raises:
        AgentTraceError: with the reason.
    """

    def __init__(
        self,
        store: Store,
        options: Options,
        around: Surroundings,
        addresses: Iterable[Address],
        *,
        shard_rollouts: int,
        patience_s: float = PATIENCE_S,
        trees_max_bytes: int | None = None,
        made_by: dict[str, str] | None = None,
        scratch: Path | None = None,
    ) -> None:
        self._out = console()
        options = msgspec.structs.replace(options, output="shard.jsonl")
        with contextlib.ExitStack() as opened:
            made = tempfile.TemporaryDirectory(prefix="agenttrace-shard-", dir=scratch)
            self._scratch = Path(opened.enter_context(made))
            trees = bring(store, options.run_id, options.dataset, trees=around.trees, scratch=self._scratch)
            now = datetime.now(UTC)
            self._plan = make_plan(options, images=image_digests(), folder=self._scratch, now=now, trees=trees)
            check_store(store)
            self.run = begin_run(store, self._plan.spec, shard_rollouts=shard_rollouts)
            self.tasks = task_set(options.dataset, trees=trees)
            self._kept: KeptTasks | None = None
            if isinstance(self.tasks, SweTasks) and trees is not None and trees != around.trees:
                self._kept = KeptTasks(store, self.run.spec.run_id, trees, self.tasks)
            if (packed := self.tasks.packed()) is not None:
                self.run.keep_tasks(packed)
            self._open = opened.pop_all()
        self._node_trees: NodeTrees | None = None
        if around.trees is not None and trees != around.trees:
            folder = around.trees.resolve()
            self._node_trees = NodeTrees(store, self.run.spec.run_id, folder, most_bytes=trees_max_bytes)
        self._trees = trees
        self._around = msgspec.structs.replace(around, request_limit_s=options.request_limit_s, confined=True)
        self._made_by = made_by or {}
        self._endpoints = Endpoints(
            addresses,
            self._connect,
            answers=lambda url: answers(url, key=around.key),
            tell=self._warn,
            patience_s=patience_s,
        )

    def _connect(self, endpoint: Endpoint) -> ServedModel:
        """Return the server of an endpoint, checked."""
        at = msgspec.structs.replace(self._around, base_url=endpoint.address.url)
        found = get_server(self._plan.spec, at, self._out, within_s=CHECK_S, send=endpoint.share.ask)
        mine = {name: getattr(found.facts, name) for name in _SAME}
        first = self.run.first_server(mine)
        known = [name for name in _SAME if None not in {mine[name], first.get(name)}]
        if wrong := [f"{name}: {mine[name]!r} / {first[name]!r}" for name in known if mine[name] != first[name]]:
            raise UsageError(f"it is not like the first server of the run (here / there): {'; '.join(wrong)}")
        return found

    def make(self, number: int, *, in_flight: int | None = None) -> Attempted:
        """Make a shard and return what became of it; one that is done is left alone.

        Args:
            number: of the shard.
            in_flight: requests that each endpoint has of it at a time at most; `None` is what its workers make.

        Raises:
            AgentTraceError: with the reason, after every finished record is in the store.
        """
        run, part = self.run, self.part(number)
        if run.store.size(run.manifest(number)) is not None:
            self._out.print(f"nothing to do: shard {number} of {run.shards.count} is done")
            return Attempted(shard=number, end="done_before", records=part.size)
        with self._held_trees(part), tempfile.TemporaryDirectory(prefix=f"{number}-", dir=self._scratch) as scratch:
            self._endpoints.begin(in_flight or self._around.workers)
            return self._make(number, part, Path(scratch))

    def part(self, number: int) -> ShardPlan:
        """Return the plan of a shard, and have its tasks at hand."""
        plan, shards = self._plan, self.run.shards
        if self._kept is not None:
            index, _ = shards.place(shards.stretch(number).start)
            self.tasks = self._kept.of(plan.spec.dataset.offset + index)
            plan = msgspec.structs.replace(plan, tasks=self.tasks.listed)
        return shard_plan(plan, shards, number)

    @contextlib.contextmanager
    def _held_trees(self, plan: ShardPlan) -> Iterator[None]:
        """Have the trees of a shard on this machine meanwhile, where they come from the store."""
        with contextlib.ExitStack() as held:
            if self._node_trees is not None and self._trees is not None and isinstance(self.tasks, SweTasks):
                for task in plan.tasks:
                    path = held.enter_context(self._node_trees.hold(self.tasks.pristine(task)))
                    here = self._trees / path.name
                    here.symlink_to(path)
                    held.callback(here.unlink)
            yield

    def _make(self, number: int, plan: ShardPlan, scratch: Path) -> Attempted:
        run, out, spec = self.run, self._out, self._plan.spec
        keys = {plan.trace_id(job): str(job.task_id) for job in plan.jobs()}
        self._endpoints.pick(next(iter(keys.values()), ""))  # before anything waits for it
        sandbox = get_workers(spec, self._around)
        made_by = {"kit": __version__, "at": datetime.now(UTC).isoformat(timespec="seconds"), **self._made_by}
        before = self._records()

        def follow(endpoint: Endpoint) -> ServerLoad:
            at = endpoint.address
            return ServerLoad(at.url, scratch / f"{at.name}{SERVER_LOAD}", key=self._around.key)

        with (
            contextlib.closing(sandbox.pool),  # nobody asks for the worker that was checked where all is there
            PinnedModels(self._endpoints, keys, follow) as models,
            ShardLog(run, number, [*keys], scratch=scratch, facts=sandbox.recorded, made_by=made_by) as log,
        ):
            for line in log.unusable:
                self._warn(line)
            done = sum(trace_id in log.ids for trace_id in keys)
            out.print(f"shard {number} of {run.shards.count}: {plan.size} records, {done} are there")
            recorder = Recorder(models, request_part(spec), log.tapes, EndpointLog(log, models, records=True))
            display = CampaignDisplay(out, total=plan.size, done=done, agent=spec.agent, earlier=[])
            with display.bar:
                campaign = Campaign(
                    plan, self.tasks, recorder, sandbox.pool.connect, observe(sandbox.info), display,
                    conditions=Conditions(),
                )  # fmt: skip
                failures = EndpointLog(log.spoilt, models, records=False)
                summary = campaign.run(recorder, workers=self._around.workers, failures=failures)
            end = log.commit()
        self._tell(number, end, len(summary.abandoned), summary.appended)
        return Attempted(
            shard=number,
            end=end,
            records=plan.size,
            made=summary.appended,
            abandoned=len(summary.abandoned),
            endpoints=dict(self._records() - before),
        )

    def _warn(self, line: str) -> None:
        """Print a line in which there may be words of servers and names of a store."""
        self._out.print(printable(line), style="yellow", markup=False)

    def _records(self) -> Counter[str]:
        return Counter({one.address.name: one.records for one in self._endpoints.every})

    def _tell(self, number: int, end: AttemptEnd, abandoned: int, made: int) -> None:
        if end == "incomplete":
            self._out.print(
                f"[red]shard {number}: {abandoned} tasks were given up; their attempts are in "
                f"{self.run.spoilt(number)}, the same command tries again[/]"
            )
            return
        told = {"committed": "done", "lost_race": "done by another attempt, whose records stand"}
        self._out.print(f"shard {number}: {told[end]}, {made} records made here")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
