"""One shard, made by today's campaign loop on this machine: into parts in the store, and a manifest at the end."""

from __future__ import annotations

import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from agenttrace import __version__
from agenttrace.campaign.conditions import Conditions
from agenttrace.campaign.display import CampaignDisplay, console
from agenttrace.campaign.environment import image_digests
from agenttrace.campaign.loop import Campaign
from agenttrace.campaign.plan import make_plan
from agenttrace.campaign.server_load import SERVER_LOAD, ServerLoad
from agenttrace.campaign.session import EXIT_INCOMPLETE, get_ready
from agenttrace.cluster.objects import check_store
from agenttrace.cluster.parts import ShardLog
from agenttrace.cluster.runs import begin_run
from agenttrace.cluster.shards import shard_plan
from agenttrace.serving.endpoint import answers
from agenttrace.serving.tape import Recorder
from agenttrace.tasks import task_set

if TYPE_CHECKING:
    from rich.console import Console

    from agenttrace.campaign.options import Options
    from agenttrace.campaign.session import Surroundings
    from agenttrace.cluster.objects import Store
    from agenttrace.cluster.runs import StoredRun
    from agenttrace.cluster.shards import ShardPlan


def make_shard(store: Store, options: Options, around: Surroundings, number: int, *, shard_rollouts: int) -> int:
    """Make a shard of a run, which is begun where it is new, and return the exit status.

    It is 0 where the shard is done, by this attempt or another, and 4 where tasks were given up.

    Args:
        store: has the run.
        options: of the campaign, with its run id.
        around: where server, sandbox workers and trees are; its folder is not used.
        number: of the shard.
        shard_rollouts: rollouts of a shard at most, for the whole run.

    Raises:
        AgentTraceError: with the reason, after every finished record is in the store.
    """
    out = console()
    with tempfile.TemporaryDirectory(prefix="agenttrace-shard-") as name:
        folder = Path(name)
        options = msgspec.structs.replace(options, output="shard.jsonl")
        plan = make_plan(options, images=image_digests(), folder=folder, now=datetime.now(UTC), trees=around.trees)
        check_store(store)
        run = begin_run(store, plan.spec, shard_rollouts=shard_rollouts)
        part = shard_plan(plan, run.shards, number)
        if store.size(run.manifest(number)) is not None:
            out.print(f"nothing to do: shard {number} of {run.shards.count} is done")
            return 0
        if (packed := task_set(options.dataset, trees=around.trees).packed()) is not None:
            run.keep_tasks(packed)
        around = msgspec.structs.replace(around, folder=folder, request_limit_s=options.request_limit_s, confined=True)
        return _make(run, part, number, options, around, out)


def _make(run: StoredRun, plan: ShardPlan, number: int, options: Options, around: Surroundings, out: Console) -> int:
    ready = get_ready(plan.spec, around, out)
    planned = [plan.trace_id(job) for job in plan.jobs()]
    load = ServerLoad(around.base_url, around.folder / f"shard{SERVER_LOAD}", key=around.key)
    made_by = {"kit": __version__, "at": datetime.now(UTC).isoformat(timespec="seconds")}
    with ShardLog(run, number, planned, scratch=around.folder, facts=ready.recorded, made_by=made_by) as log:
        for line in log.unusable:
            out.print(line, style="yellow", markup=False)
        done = sum(trace_id in log.ids for trace_id in planned)
        out.print(f"shard {number} of {run.shards.count}: {plan.size} records, {done} are there")
        recorder = Recorder(ready.models, ready.fixed, log.tapes, log)
        display = CampaignDisplay(out, total=plan.size, done=done, agent=plan.spec.agent, earlier=[])
        with display.bar, load:
            campaign = Campaign(
                plan, task_set(options.dataset, trees=around.trees), recorder, ready.pool.connect, ready.environment,
                display, lambda: answers(around.base_url, key=around.key), Conditions(load),
            )  # fmt: skip
            summary = campaign.run(recorder, workers=around.workers, failures=log.spoilt)
        end = log.commit()
    if end == "incomplete":
        out.print(
            f"[red]shard {number}: {len(summary.abandoned)} tasks were given up; their attempts are in "
            f"{run.spoilt(number)}, the same command tries again[/]"
        )
        return EXIT_INCOMPLETE
    told = {"committed": "done", "lost_race": "done by another attempt, whose records stand"}
    out.print(f"shard {number}: {told[end]}, {summary.appended} records made here")
    return 0
