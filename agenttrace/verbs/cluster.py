"""`agenttrace cluster`: one shard of a campaign into an object store, and all of them merged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from agenttrace.errors import UsageError, command
from agenttrace.show import counted, tell
from agenttrace.verbs import asked
from agenttrace.verbs.output import add_json, check_json, write_json

if TYPE_CHECKING:
    import argparse

    from agenttrace.cluster.objects import Store

_SHOWN = 10


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    from agenttrace.campaign.options import Options  # noqa: PLC0415

    parser.add_argument(
        "what",
        metavar="shard|merge",
        choices=["shard", "merge"],
        help="shard: make one shard with the sandbox workers and the endpoint of this machine; merge: write what is in "
        "the store as a record file with its cassette",
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
    """Make a shard, or merge; 4 where something is not done."""
    check_json(arguments.json)
    if arguments.store is None or arguments.run_id is None:
        raise UsageError("--store URL and --run-id ID are needed: several machines write into one run")
    from agenttrace.cluster.objects import Store  # noqa: PLC0415

    store = Store(arguments.store)
    return _merge(arguments, store) if arguments.what == "merge" else _shard(arguments, store)


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


def _merge(arguments: argparse.Namespace, store: Store) -> int:
    from agenttrace.campaign.session import EXIT_INCOMPLETE  # noqa: PLC0415
    from agenttrace.cluster.merge import merge  # noqa: PLC0415
    from agenttrace.cluster.runs import open_run  # noqa: PLC0415

    output: Path | None = arguments.output
    if output is None or output.suffix != ".jsonl":
        raise UsageError("name the record file to write: -o FILE.jsonl")
    run = open_run(store, arguments.run_id)
    found = merge(run, output)
    tell(f"{output}: {counted(found.records, 'record')} of {run.shards.count - len(found.missing)} shards")
    write_json(arguments.json, {"output": output, "records": found.records, "missing": found.missing})
    if not found.missing:
        return 0
    first = ", ".join(map(str, found.missing[:_SHOWN])) + (", ..." if len(found.missing) > _SHOWN else "")
    tell(f"{counted(len(found.missing), 'shard')} of {run.shards.count} not done: {first}")
    tell(f"make them ({command('cluster', 'shard', 'NUMBER')}) and merge into another file")
    return EXIT_INCOMPLETE
