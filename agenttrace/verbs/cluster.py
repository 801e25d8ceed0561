"""`agenttrace cluster`: a campaign over several machines: prepared, driven, checked, merged, gathered, cleaned."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING

from agenttrace.errors import EXIT_INTERRUPTED, AgentTraceError, UsageError, command
from agenttrace.show import counted, say, tell
from agenttrace.verbs import asked
from agenttrace.verbs.output import add_json, check_json, write_json

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from agenttrace.cluster.driver import Figures
    from agenttrace.cluster.local_ray import LocalCluster
    from agenttrace.cluster.orders import Order
    from agenttrace.cluster.runs import StoredRun

_SHOWN = 10
_WHAT = ["prepare", "run", "shard", "status", "check", "merge", "gather", "clean", "up", "down"]
_AT_ONCE = 1000
"""Objects that are removed by one request, where a store can do that."""


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    from agenttrace.campaign.options import Options  # noqa: PLC0415

    parser.add_argument(
        "what",
        metavar="|".join(_WHAT),
        choices=_WHAT,
        help="prepare: put the trees of tasks over checkouts into the store, as many machines as it is started on "
        "together; run: make all shards on the nodes of a Ray cluster; shard: make one, with the sandbox workers of "
        "this machine; status: how many are done; check: read everything and name what is damaged; merge: write it as "
        "a record file with its cassette; gather: make compacted files of its records in the store, on the nodes of a "
        "Ray cluster where one is named, and with -o bring them as one; clean: say, or with --yes remove, what counts "
        "for nothing; up, down: start and end a cluster on this machine, to try it out",
    )
    parser.add_argument("number", nargs="?", metavar="NUMBER", help="shard: which one, from 0 on")
    parser.add_argument(
        "--store", metavar="URL", help="s3://BUCKET/PATH, gs://BUCKET/PATH, az://CONTAINER/PATH or a shared folder"
    )
    parser.add_argument(
        "-o", "--output", type=Path, metavar="FILE", help="merge: the record file (.jsonl); gather: (.jsonl.zst)"
    )
    parser.add_argument("--rows-per-file", type=int, metavar="N", help="gather: records of a file, about")
    parser.add_argument("--shard-rollouts", type=int, default=100, metavar="N", help="rollouts of a shard at most")
    workers = "tasks run at a time in a shard (default: 1; run: half of a node's, at most 8; up: 4 for each node)"
    parser.add_argument("--workers", type=int, metavar="W", help=workers)
    where = "where sandbox workers listen (default: what AGENTTRACE_SOCKETS says on the node, or /run/agenttrace)"
    parser.add_argument("--sockets", type=Path, metavar="DIR", help=where)
    trees = "prepared tasks that bring trees (default: what AGENTTRACE_TREES says on the node, or /trees)"
    parser.add_argument("--trees", type=Path, metavar="DIR", help=trees)
    room = "bytes of trees that a node fetches and keeps (default: what its disk has)"
    parser.add_argument("--trees-max-bytes", type=int, metavar="N", help=room)
    parser.add_argument("--endpoints", type=Path, metavar="FILE", help="endpoints as --base-url names them, one a line")
    parser.add_argument("--patience", type=float, default=600.0, metavar="S", help="all may be gone so long (600)")
    flight = "requests that an endpoint has at a time, of all nodes together (shard: of this one)"
    parser.add_argument("--in-flight", type=int, metavar="N", help=flight)
    head = "run, gather: of the cluster's head (default: that of `up`, for gather without --store; run: or auto)"
    parser.add_argument("--ray", metavar="ADDRESS", help=head)
    live = "run: keep its figures there while it goes"
    parser.add_argument("--progress-json", type=Path, metavar="FILE", help=live)
    parser.add_argument("--metrics-port", type=int, metavar="PORT", help="run: serve its figures to Prometheus there")
    parser.add_argument("--yes", action="store_true", help="clean: remove what it names")
    parser.add_argument("--nodes", type=int, default=2, metavar="N", help="up: how many (default: %(default)s)")
    add_json(parser)
    asked.add_campaign(parser, Options(), datasets=False, endpoints=True)


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked for; 4 where something is not done, 1 where something is damaged."""
    from agenttrace.campaign.options import check_run_id  # noqa: PLC0415

    check_json(arguments.json)
    what = arguments.what
    if what != "shard" and arguments.number is not None:  # the word after `run` or `up` is the model
        arguments.model, arguments.number = arguments.number, None
    if what in {"up", "down"}:
        return _local(arguments)
    if what == "run" or (what != "shard" and arguments.store is None):
        _as_local(arguments)
    if arguments.store is None or arguments.run_id is None:
        raise UsageError("--store URL and --run-id ID are needed: several machines write into one run")
    check_run_id(arguments.run_id)
    if what in {"prepare", "shard", "run"}:
        return {"prepare": _prepare, "shard": _shard, "run": _run}[what](arguments)
    from agenttrace.cluster.objects import Store  # noqa: PLC0415
    from agenttrace.cluster.runs import open_run  # noqa: PLC0415

    opened = open_run(Store(arguments.store, make=False), arguments.run_id)
    verbs = {"status": _status, "check": _check, "merge": _merge, "gather": _gather, "clean": _clean}
    return verbs[what](arguments, opened)


def _local(arguments: argparse.Namespace) -> int:
    from agenttrace.cluster import local  # noqa: PLC0415

    if arguments.what == "down":
        tell("the local cluster is gone; its runs stay" if local.down() else "there is no local cluster")
        return 0
    store = None if arguments.store is None else Path(arguments.store)
    workers = 4 if arguments.workers is None else arguments.workers
    local.tell(local.up(nodes=arguments.nodes, workers=workers, model=arguments.model, store=store))
    return 0


def _as_local(arguments: argparse.Namespace) -> None:
    """Take from the local cluster what was not said, where one runs and no other is named."""
    from agenttrace.cluster import local  # noqa: PLC0415

    cluster: LocalCluster | None = None if arguments.ray else local.found()
    if cluster is not None:
        cluster.enter()
        arguments.ray = cluster.address
        arguments.store = arguments.store or cluster.store
        if not arguments.base_url and not arguments.endpoints:
            arguments.base_url = [cluster.base_url]


def _order(arguments: argparse.Namespace) -> Order:
    """Return what the arguments ask machines to do."""
    from agenttrace.campaign.options import Options  # noqa: PLC0415
    from agenttrace.cluster.endpoints import read_addresses  # noqa: PLC0415
    from agenttrace.cluster.orders import Order  # noqa: PLC0415
    from agenttrace.serving.endpoint import api_key  # noqa: PLC0415

    workers = 1 if arguments.workers is None else arguments.workers
    counts = (arguments.shard_rollouts, workers, arguments.in_flight, arguments.trees_max_bytes)
    if min(count for count in counts if count is not None) < 1 or not 0 <= arguments.patience < math.inf:
        raise UsageError(
            "--shard-rollouts, --workers, --in-flight and --trees-max-bytes: expected 1 or more; --patience: a finite "
            "number of seconds"
        )
    addresses = read_addresses(arguments.base_url or (), arguments.endpoints)
    arguments.base_url = [one.url for one in addresses]  # no server is started, wherever they were named
    return Order(
        store=arguments.store,
        options=asked.campaign_options(arguments, Options(), arguments.dataset),
        addresses=addresses,
        shard_rollouts=arguments.shard_rollouts,
        workers=workers,
        in_flight=arguments.in_flight,
        patience_s=arguments.patience,
        sockets=arguments.sockets and str(arguments.sockets),
        trees=arguments.trees and str(arguments.trees),
        trees_max_bytes=arguments.trees_max_bytes,
        key=api_key(),
    )


def _prepare(arguments: argparse.Namespace) -> int:
    from agenttrace.campaign.options import Options  # noqa: PLC0415
    from agenttrace.cluster.objects import Store  # noqa: PLC0415
    from agenttrace.cluster.prepare import prepare_run  # noqa: PLC0415
    from agenttrace.tasks import SWE  # noqa: PLC0415

    if arguments.dataset != SWE:
        raise UsageError(f"cluster prepare --dataset {SWE}: trees are made of checkouts")
    workers = 1 if arguments.workers is None else arguments.workers
    if workers < 1:
        raise UsageError("--workers: repositories at a time, 1 or more")
    options = asked.campaign_options(arguments, Options(), arguments.dataset).of_checkouts
    store = Store(arguments.store)
    where = arguments.repositories
    made = prepare_run(store, arguments.run_id, options, repositories=where, workers=workers, report=say)
    ready = made.dataset.count - len(made.skipped)
    tell(
        f"{store.url}/{arguments.run_id}: {counted(ready, 'task')} with a tree, {len(made.skipped)} without; "
        "the nodes take them from there"
    )
    write_json(arguments.json, {"tasks": ready, "skipped": len(made.skipped)})
    return 0


def _shard(arguments: argparse.Namespace) -> int:
    from agenttrace.campaign.session import EXIT_INCOMPLETE  # noqa: PLC0415
    from agenttrace.cluster.orders import seat_of  # noqa: PLC0415

    known = arguments.base_url or arguments.endpoints
    if not re.fullmatch(r"[0-9]{1,18}", arguments.number or "") or not known:
        raise UsageError("cluster shard NUMBER --base-url URL: a shard needs its number and an endpoint that runs")
    with seat_of(order := _order(arguments)) as seat:
        made = seat.make(int(arguments.number), in_flight=order.in_flight)
    status = 0 if made.is_done else EXIT_INCOMPLETE
    write_json(arguments.json, {"shard": made.shard, "status": status})
    return status


def _run(arguments: argparse.Namespace) -> int:
    from agenttrace.campaign.session import EXIT_INCOMPLETE  # noqa: PLC0415
    from agenttrace.cluster.drive import Drive  # noqa: PLC0415

    if "://" not in arguments.store:  # nodes have working directories of their own
        arguments.store = str(Path(arguments.store).resolve())
    drive = Drive(
        _order(arguments),
        arguments.ray or "auto",
        workers=arguments.workers,
        progress=arguments.progress_json,
        metrics_port=arguments.metrics_port,
    )
    status = 1
    try:
        status = EXIT_INCOMPLETE if drive.finish().given_up else 0
    except AgentTraceError as error:
        status = error.exit_code
        raise
    except KeyboardInterrupt:
        status = EXIT_INTERRUPTED
        raise
    finally:
        write_json(arguments.json, {"run_id": arguments.run_id, "status": status, **drive.figures.said()})
    _tell_figures(drive.run, drive.figures)
    return status


def _tell_figures(run: StoredRun, figures: Figures) -> None:
    made = f"{counted(figures.records, 'record')} made on {counted(len(figures.nodes), 'node')}"
    tell(f"{run.url}: {figures.done} of {counted(figures.shards, 'shard')} done, {made} in {figures.elapsed_s:.0f} s")
    for shard, why in sorted(figures.given_up.items())[:_SHOWN]:
        tell(f"given up: shard {shard} ({why})")
    if figures.given_up:
        tell(f"{counted(len(figures.given_up), 'shard')} given up; the same command tries again")
    else:
        tell(command("cluster", "merge", "--store", run.store.url, "--run-id", run.spec.run_id, "-o", "FILE.jsonl"))


def _status(arguments: argparse.Namespace, found: StoredRun) -> int:
    done = found.done()
    missing = [shard for shard in range(found.shards.count) if shard not in done]
    tell(f"{found.url}: {len(done)} of {counted(found.shards.count, 'shard')} done")
    write_json(arguments.json, {"shards": found.shards.count, "done": len(done), "missing": missing})
    return _told_missing(found, missing)


def _check(arguments: argparse.Namespace, found: StoredRun) -> int:
    from agenttrace.cluster.manifest import damage  # noqa: PLC0415

    damaged = []
    for line in damage(found):
        tell(line)
        damaged.append(line)
    tell(f"{found.url}: {counted(len(damaged), 'damaged shard')} of {len(found.done())} that are done")
    write_json(arguments.json, {"damaged": damaged})
    return 1 if damaged else 0


def _clean(arguments: argparse.Namespace, found: StoredRun) -> int:
    import itertools  # noqa: PLC0415

    from agenttrace.cluster.clean import unnamed  # noqa: PLC0415

    count = size = 0
    damaged: list[str] = []
    every = unnamed(found, tell=damaged.append)
    while some := [*itertools.islice(every, _AT_ONCE)]:
        count, size = count + len(some), size + sum(one.bytes for one in some)
        if arguments.yes:
            found.store.remove([one.name for one in some])
    what = f"{counted(count, 'object')} of {size} bytes that no manifest names"
    tell(f"{found.url}: {what}{' removed' if arguments.yes else ''}")
    if count and not arguments.yes:
        tell(command("cluster", "clean", "--store", found.store.url, "--run-id", found.spec.run_id, "--yes"))
    for line in damaged:
        tell(f"left alone: {line}")
    write_json(arguments.json, {"objects": count, "bytes": size, "removed": arguments.yes, "damaged": damaged})
    return 1 if damaged else 0


def _merge(arguments: argparse.Namespace, found: StoredRun) -> int:
    from agenttrace.cluster.merge import merge  # noqa: PLC0415

    output: Path | None = arguments.output
    if output is None or output.suffix != ".jsonl":
        raise UsageError("name the record file to write: -o FILE.jsonl")
    merged = merge(found, output)
    tell(f"{output}: {counted(merged.records, 'record')} of {found.shards.count - len(merged.missing)} shards")
    if merged.failures:
        tell(f"{counted(merged.failures, 'attempt')} that the infrastructure spoilt beside it, which never count")
    for line in merged.unreadable:
        tell(f"left out: {line}")
    write_json(arguments.json, {"output": output, **merged._asdict()})
    return _told_missing(found, merged.missing)


def _gather(arguments: argparse.Namespace, found: StoredRun) -> int:
    from agenttrace.campaign.session import EXIT_INCOMPLETE  # noqa: PLC0415
    from agenttrace.cluster.gather import ROWS, Gatherer, GatherOrder  # noqa: PLC0415
    from agenttrace.cluster.merge import check_free  # noqa: PLC0415

    output: Path | None = arguments.output
    if output is not None and not output.name.endswith(".jsonl.zst"):
        raise UsageError("name the file to write: -o FILE.jsonl.zst")
    if output is not None:
        check_free(found, output)
    store = arguments.store if "://" in arguments.store else str(Path(arguments.store).resolve())
    rows = ROWS if arguments.rows_per_file is None else arguments.rows_per_file
    order = GatherOrder(store=store, run_id=found.spec.run_id, rows=rows)
    gatherer = Gatherer(order)
    if missing := gatherer.missing():
        write_json(arguments.json, {"missing": missing})
        tell(
            f"nothing was gathered: that is for a run that is whole; {command('cluster', 'merge')} writes what there is"
        )
        return _told_missing(found, missing)
    if arguments.ray:
        from agenttrace.cluster.drive import gather_on  # noqa: PLC0415

        if given_up := gather_on(arguments.ray, order, gatherer).given_up:
            for number, why in sorted(given_up.items())[:_SHOWN]:
                tell(f"given up: file {number} ({why})")
            write_json(arguments.json, {"given_up": given_up})
            return EXIT_INCOMPLETE
    else:
        done = gatherer.done()
        for number in range(len(gatherer.stretches)):
            if number not in done:
                made = gatherer.make(number)
                say(f"[{number + 1}/{len(gatherer.stretches)}] {counted(made.records, 'record')}")
    gathered = gatherer.finish()
    if output is not None:
        gatherer.fetch(gathered, output)
    files = f"{counted(gathered.records, 'record')} in {counted(len(gathered.files), 'file')} of {gathered.bytes} bytes"
    tell(f"{found.url}/gathered: {files}{'' if output is None else f', brought as {output}'}")
    write_json(arguments.json, gathered)
    return 0


def _told_missing(found: StoredRun, missing: Sequence[int]) -> int:
    """Say which shards are not done, and return the exit status."""
    from agenttrace.campaign.session import EXIT_INCOMPLETE  # noqa: PLC0415

    if not missing:
        return 0
    first = ", ".join(map(str, missing[:_SHOWN])) + (", ..." if len(missing) > _SHOWN else "")
    again = command("cluster", "shard", "NUMBER")
    tell(f"{counted(len(missing), 'shard')} of {found.shards.count} not done: {first}; {again} makes one")
    return EXIT_INCOMPLETE
