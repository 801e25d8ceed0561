"""One sitting of a run of rollouts inside its container: plan, check what is there, run, sum up."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from agenttrace.environment import image_digests, observe
from agenttrace.errors import DataError, StorageError, UsageError
from agenttrace.records import Record
from agenttrace.rollouts.campaign import Campaign, Resources
from agenttrace.rollouts.options import RolloutOptions, check_options
from agenttrace.rollouts.order import KEY
from agenttrace.rollouts.place import make_plan, write_spec
from agenttrace.rollouts.prepare import load_prepared
from agenttrace.rollouts.spec import spec_of, todo
from agenttrace.serving.budget import CountedChat, Counters
from agenttrace.serving.endpoint import answers, check_base_url, check_server, wait_until_ready
from agenttrace.sitting import EXIT_INCOMPLETE, WorkerPool, check_worker, patience_s, tell_checks
from agenttrace.store.jsonl import RecordLog, known_ids, write_whole
from agenttrace.store.read import run_spec_path

if TYPE_CHECKING:
    from pathlib import Path

    from rich.console import Console

    from agenttrace.records.rollout import RolloutSpec
    from agenttrace.rollouts.place import Plan
    from agenttrace.rollouts.prepare import Prepared
    from agenttrace.serving.chat import ChatModel


class Surroundings(Record, frozen=True, kw_only=True):
    """Where a sitting finds what it needs; none of it shapes a record.

    Attributes:
        folder: where record files lie.
        trees: folder of trees and tasks, as `rollouts-prepare` left it.
        base_url: the model server, up to and including `/v1`.
        sockets: where sandbox workers listen.
        concurrency: rollouts in flight at a time.
        report: gets what the sitting cost, as JSON (`None`: nothing is written).
        key: for the endpoint.
    """

    folder: Path
    trees: Path
    base_url: str
    sockets: Path
    concurrency: int = 1
    report: Path | None = None
    key: str | None = None


def parse_options(text: str) -> RolloutOptions:
    """Return options from their JSON.

    Raises:
        UsageError: they are not options, or no run can have them.
    """
    try:
        options = msgspec.json.decode(text, type=RolloutOptions)
    except msgspec.DecodeError as error:
        raise UsageError(f"--options: {error}") from error
    check_options(options)
    return options


def describe(options: RolloutOptions, around: Surroundings) -> dict[str, Any]:
    """Return what a run would do: its file, its run id, how many rollouts it has and how many are left."""
    plan, _ = _plan(options, around)
    done = known_ids(plan.path, key=KEY) if plan.path.exists() else {}
    return {
        "file": plan.path.name,
        "run_id": plan.spec.run_id,
        "rollouts": len(plan.jobs),
        "todo": len(todo(plan.spec, plan.jobs, done)),
    }


def rollouts(options: RolloutOptions, around: Surroundings) -> int:
    """Run to the end and return the exit status (0 when every rollout has a record).

    Raises:
        AgentTraceError: with the reason, after every finished record is on disk.
    """
    from agenttrace.progress import console  # noqa: PLC0415 - rich

    around = msgspec.structs.replace(around, base_url=check_base_url(around.base_url))
    plan, prepared = _plan(options, around)
    out = console()
    with RecordLog(plan.path, key=KEY) as log:
        if log.torn_bytes:
            out.print(f"cut off a torn last line of {log.torn_bytes} bytes, left by a killed sitting")
        left = len(todo(plan.spec, plan.jobs, log.ids))
        if not left:
            out.print(f"nothing to do: all {len(plan.jobs)} rollouts have a record in {plan.path.name}")
            return 0
        if plan.resumes:
            out.print(f"resuming {plan.path.name}: {len(plan.jobs) - left} rollouts done, {left} to do")
        try:
            write_spec(plan, prepared)
            return _run(plan, prepared, log, out, around)
        except BaseException:
            spoilt = plan.path.with_suffix(".failures.jsonl")
            # It never began: leave no empty run behind. Attempts that are kept need their run spec.
            if not (plan.resumes or plan.path.stat().st_size or spoilt.exists()):
                for path in (plan.path, run_spec_path(plan.path), plan.path.with_suffix(".skipped.json")):
                    path.unlink(missing_ok=True)
            raise


def _plan(options: RolloutOptions, around: Surroundings) -> tuple[Plan, Prepared]:
    if not os.access(around.folder, os.W_OK):
        raise StorageError(f"the folder for records ({around.folder}) is not writable by this user")
    prepared = load_prepared(around.trees)
    draft = spec_of(options, prepared, images=image_digests())
    return make_plan(draft, prepared, options, folder=around.folder, now=datetime.now(UTC)), prepared


def _run(plan: Plan, prepared: Prepared, log: RecordLog, out: Console, around: Surroundings) -> int:
    from agenttrace.rollouts.display import RolloutDisplay, closing_table  # noqa: PLC0415 - rich
    from agenttrace.rollouts.files import read  # noqa: PLC0415

    spec, key = plan.spec, around.key
    facts = wait_until_ready(around.base_url, timeout_s=patience_s(spec.serving), key=key)
    checks = check_server(facts, spec)
    tell_checks(checks, out)
    _check_context(spec, facts.context_length)
    conversations = ServedConversations(spec, around.base_url, key)
    out.print(f"prompt tokens are counted by: {conversations.route}")
    pool = WorkerPool(around.sockets)
    first = pool.connect()
    check_worker(first.info, spec)
    environment = {**observe(facts, checks, first.info), "token_count": conversations.route}
    pool.give_back(first)
    resources = Resources(
        conversations=conversations,
        connect=pool.connect,
        trees=around.trees,
        environment=environment,
        server_answers=lambda: answers(around.base_url, key=key),
    )
    done = len(plan.jobs) - len(todo(spec, plan.jobs, log.ids))
    with RolloutDisplay(out, total=len(plan.jobs), done=done) as display:
        summary = Campaign(plan, resources, display).run(log, concurrency=around.concurrency)
    if around.report is not None:
        costs = {**msgspec.to_builtins(summary), "abandoned": len(summary.abandoned)}
        write_whole(around.report, msgspec.json.encode(costs) + b"\n")
    out.print(closing_table(summary, read(plan.path), skipped=len(prepared.skipped)))
    if not log.ids:
        raise DataError(f"no rollout was made; the attempts are in {plan.path.with_suffix('.failures.jsonl').name}")
    if summary.abandoned:
        names = ", ".join(f"{job.ready.task.instance_id} #{job.index}" for job in summary.abandoned[:10])
        kept = plan.path.with_suffix(".failures.jsonl").name
        out.print(f"[red]without a record, the same command tries again: {names} (their attempts: {kept})[/]")
        return EXIT_INCOMPLETE
    return 0


def _check_context(spec: RolloutSpec, context_length: int | None) -> None:
    """Refuse a budget that the server cannot hold: its requests would be refused for their length.

    Raises:
        UsageError: it cannot.
    """
    if context_length is not None and spec.agent.max_total_tokens > context_length:
        raise UsageError(
            f"--max-total-tokens {spec.agent.max_total_tokens}: the server has room for {context_length} tokens"
        )


class ServedConversations:
    """Gives every rollout the model of a server, and a count of its prompts.

    Attributes:
        route: how prompts are counted.
    """

    def __init__(self, spec: RolloutSpec, base_url: str, key: str | None) -> None:
        from agenttrace.serving.chat import ChatModel  # noqa: PLC0415 - heavy

        self._chat: ChatModel = ChatModel(
            base_url,
            model=spec.model.name,
            sampler=spec.sampler,
            tools=(),
            cache_prompt=spec.serving.cache_prompt,
            api_key=key,
        )
        self._counters = Counters(base_url, model=spec.model.name, api_key=key)
        self.route = self._counters.route

    def for_rollout(self, seed: int) -> CountedChat:
        """Return the model for one conversation."""
        return CountedChat(self._chat.for_trace("", seed=seed), self._counters.new())
