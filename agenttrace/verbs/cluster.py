"""`agenttrace cluster`: one shard of a campaign into a store; what is there, its check, and all of it merged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from agenttrace.errors import UsageError, command
from agenttrace.show import counted, tell
from agenttrace.verbs import asked
from agenttrace.verbs.output import add_json, check_json, write_json

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from agenttrace.cluster.objects import Store
    from agenttrace.cluster.runs import StoredRun

_SHOWN = 10


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    from agenttrace.campaign.options import Options  # noqa: PLC0415

    parser.add_argument(
        "what",
        metavar="shard|status|check|merge",
        choices=["shard", "status", "check", "merge"],
        help="shard: make one shard with the sandbox workers and the endpoint of this machine; status: how many are "
        "done; check: read everything and name what is damaged; merge: write it as a record file with its cassette",
    )
    parser.add_argument("number", nargs="?", type=int, metavar="NUMBER", help="shard: which one, from 0 on")
    parser.add_argument(
        "--store", metavar="URL", help="s3://BUCKET/PATH, gs://BUCKET/PATH, az://CONTAINER/PATH or a shared folder"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="merge: the record file (.jsonl)")
    parser.add_argument("--shard-rollouts", type=int, default=100, metavar="N", help="rollouts of a shard at most")
    parser.add_argument("--workers", type=int, default=1, metavar="W", help="tasks run at a time (default: 1)")
    where = "where sandbox workers listen (default: %(default)s)"
    parser.add_argument("--sockets", type=Path, default=Path("/run/agenttrace"), metavar="DIR", help=where)
    trees = "prepared tasks that bring trees (default: %(default)s)"
    parser.add_argument("--trees", type=Path, default=Path("/trees"), metavar="DIR", help=trees)
    add_json(parser)
    asked.add_campaign(parser, Options(), datasets=False)


def run(arguments: argparse.Namespace) -> int:
    """Do what was asked for; 4 where something is not done, 1 where something is damaged."""
    check_json(arguments.json)
    if arguments.store is None or arguments.run_id is None:
        raise UsageError("--store URL and --run-id ID are needed: several machines write into one run")
    from agenttrace.cluster.objects import Store  # noqa: PLC0415

    store = Store(arguments.store, make=arguments.what == "shard")
    if arguments.what == "shard":
        return _shard(arguments, store)
    from agenttrace.cluster.runs import open_run  # noqa: PLC0415

    found = open_run(store, arguments.run_id)
    return {"status": _status, "check": _check, "merge": _merge}[arguments.what](arguments, found)


def _shard(arguments: argparse.Namespace, store: Store) -> int:
    from agenttrace.campaign.options import Options  # noqa: PLC0415
    from agenttrace.campaign.session import Surroundings  # noqa: PLC0415
    from agenttrace.cluster.seat import make_shard  # noqa: PLC0415
    from agenttrace.serving.endpoint import api_key, check_base_url  # noqa: PLC0415

    if arguments.number is None or arguments.base_url is None:
        raise UsageError("cluster shard NUMBER --base-url URL: a shard needs its number and an endpoint that runs")
    if arguments.shard_rollouts < 1 or arguments.workers < 1:
        raise UsageError("--shard-rollouts and --workers: expected 1 or more")
    around = Surroundings(
        folder=Path(),
        base_url=check_base_url(arguments.base_url),
        sockets=arguments.sockets,
        trees=arguments.trees,
        workers=arguments.workers,
        key=api_key(),
    )
    options = asked.campaign_options(arguments, Options(), arguments.dataset)
    status = make_shard(store, options, around, arguments.number, shard_rollouts=arguments.shard_rollouts)
    write_json(arguments.json, {"shard": arguments.number, "status": status})
    return status


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


def _told_missing(found: StoredRun, missing: Sequence[int]) -> int:
    """Say which shards are not done, and return the exit status."""
    from agenttrace.campaign.session import EXIT_INCOMPLETE  # noqa: PLC0415

    if not missing:
        return 0
    first = ", ".join(map(str, missing[:_SHOWN])) + (", ..." if len(missing) > _SHOWN else "")
    again = command("cluster", "shard", "NUMBER")
    tell(f"{counted(len(missing), 'shard')} of {found.shards.count} not done: {first}; {again} makes one")
    return EXIT_INCOMPLETE
