"""`python -m agenttrace.inside VERB`: what the host has the kit's containers do; people type `agenttrace VERB`."""

from __future__ import annotations

import argparse
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from agenttrace.cli import end_with

if TYPE_CHECKING:
    from collections.abc import Callable

_KEPT = "every finished record is kept"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="agenttrace.inside", description="What the kit's containers do.")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(name: str, run: Callable[[argparse.Namespace], int], help_: str) -> argparse.ArgumentParser:
        one = verbs.add_parser(name, help=help_)
        one.set_defaults(run=run)
        return one

    collect = verb("collect", _collect, "run a campaign")
    plan = verb("plan", _plan, "say what campaigns would do, as JSON")
    for one in (collect, plan):
        one.add_argument("--options", default="[{}]", help="as a JSON list (see agenttrace.campaign.options.Options)")
        one.add_argument("--folder", type=Path, default=Path("/data"), help="where record files lie")
    collect.add_argument("--base-url", default="http://server:8080/v1", help="the model server (default: %(default)s)")
    collect.add_argument("--report", type=Path, metavar="FILE", help="write what the session cost, as JSON")
    collect.add_argument("--key-from-stdin", action="store_true", help="read the endpoint's key from standard input")
    replay = verb("replay", _replay, "run a record file again; run spec and cassette lie beside it")
    replay.add_argument("--repeat", type=int, default=1, help="replay every trace so often (default: %(default)s)")
    again = verb("reproduce", _reproduce, "plan a released campaign again and replay it")
    again.add_argument("--rows-only", action="store_true", help="no replay")
    again.add_argument("--anyway", action="store_true", help="go on although inputs are not those of the run spec")
    judge = verb("judge", _judge, "compute the verdicts of a record file again")
    judge.add_argument("--check", action="store_true", help="only compare; exit status 1 when a verdict differs")
    for one in (replay, again, judge):
        one.add_argument("file", type=Path, help="a record file (.jsonl)")
    for one in (collect, replay, again, judge):
        one.add_argument("--sockets", type=Path, default=Path("/run/agenttrace"), help="where sandbox workers listen")
        one.add_argument("--workers", type=int, default=1, help="tasks run at a time (default: %(default)s)")
    runs = verb("compare-runs", _compare_runs, "compare record files of several runs of one campaign, as JSON")
    runs.add_argument("files", type=Path, nargs="+", help="record files (.jsonl), compared with the first")
    runs.add_argument("--base-url", help="a model server whose /tokenize says where tokens are")
    prepare = verb("prepare", _prepare, "draw tasks over checkouts and make their trees")
    prepare.add_argument("--options", default="{}", help="as JSON (see agenttrace.tasks.swe.prepare.SweOptions)")
    prepare.add_argument("--cache", type=Path, default=Path("/repositories"), help="bare repositories")
    prepare.add_argument("--repositories", metavar="URL|FOLDER", help="where repositories come from")
    lay_out = verb("lay-out", _lay_out, "make the trees of a packed task set, which is read on standard input")
    check = verb("check-tasks", _check_tasks, "try the gold commands of a task set that was laid out, as JSON")
    check.add_argument("sha256", help="of the set")
    check.add_argument("--sockets", type=Path, default=Path("/run/agenttrace"), help="where sandbox workers listen")
    for one in (collect, plan, replay, again, judge, prepare, lay_out, check):
        one.add_argument("--trees", type=Path, default=Path("/trees"), help="prepared tasks that bring trees")
    fetch = verb("fetch", _fetch, "bring a model into the models folder and verify it")
    fetch.add_argument(
        "model", help="a pinned name, REPO@REVISION:FILE.gguf of the Hub, or a .gguf file; from the host: JSON"
    )
    fetch.add_argument("--size", type=int, metavar="BYTES", help="bytes that a model without a pin must have")
    fetch.add_argument("--sha256", metavar="HEX", help="digest that it must have")
    fetch.add_argument("--models-dir", type=Path, default=Path("/models"), help="default: %(default)s")
    fetch.add_argument("--mirror", type=Path, metavar="FOLDER", help="take it from this folder and from nowhere else")
    fetch.add_argument("--accept-terms", action="store_true", help="you have read, and agree to, the model's own terms")
    for one in (prepare, fetch):
        one.add_argument("--from-host", action="store_true", help="read settings and certificates on standard input")
    return parser


def main(argv: list[str] | None = None) -> NoReturn:
    """Run one verb and exit with its status; what went wrong is one message, never a traceback."""
    arguments = _parser().parse_args(argv)
    end_with(lambda: int(arguments.run(arguments)), kept=_KEPT if arguments.verb == "collect" else None)


def _collect(arguments: argparse.Namespace) -> int:
    from agenttrace.campaign.session import Surroundings, collect  # noqa: PLC0415
    from agenttrace.serving.endpoint import api_key  # noqa: PLC0415

    around = Surroundings(
        folder=arguments.folder,
        base_url=arguments.base_url,
        sockets=arguments.sockets,
        trees=arguments.trees,
        workers=arguments.workers,
        report=arguments.report,
        key=(sys.stdin.readline().strip() or None) if arguments.key_from_stdin else api_key(),
    )
    return collect(arguments.options, around)


def _plan(arguments: argparse.Namespace) -> int:
    import msgspec  # noqa: PLC0415

    from agenttrace.campaign.session import describe  # noqa: PLC0415

    plans = describe(arguments.options, folder=arguments.folder, trees=arguments.trees)
    print(msgspec.json.encode(plans).decode())  # noqa: T201 - the verb's result
    return 0


def _replay(arguments: argparse.Namespace) -> int:
    from agenttrace.campaign.replay.run import replay  # noqa: PLC0415

    return replay(
        arguments.file,
        sockets=arguments.sockets,
        workers=arguments.workers,
        repeats=arguments.repeat,
        trees=arguments.trees,
    )


def _reproduce(arguments: argparse.Namespace) -> int:
    from agenttrace.campaign.replay.run import reproduce  # noqa: PLC0415

    return reproduce(
        arguments.file,
        sockets=arguments.sockets,
        workers=arguments.workers,
        rows_only=arguments.rows_only,
        anyway=arguments.anyway,
        trees=arguments.trees,
    )


def _judge(arguments: argparse.Namespace) -> int:
    from agenttrace.campaign.judge import judge  # noqa: PLC0415

    return judge(arguments.file, sockets=arguments.sockets, trees=arguments.trees, check=arguments.check)


def _compare_runs(arguments: argparse.Namespace) -> int:
    import msgspec  # noqa: PLC0415

    from agenttrace.campaign.replay.divergence import compare_runs  # noqa: PLC0415
    from agenttrace.serving.budget import Counters  # noqa: PLC0415
    from agenttrace.serving.endpoint import wait_until_ready  # noqa: PLC0415

    if arguments.base_url is None:
        found = compare_runs(arguments.files)
    else:
        facts = wait_until_ready(arguments.base_url, timeout_s=600)
        with closing(Counters(arguments.base_url, model=(facts.models or ("",))[0])) as counters:
            found = compare_runs(arguments.files, None if counters.route == "estimate" else counters.tokens)
    print(msgspec.json.encode(found).decode())  # noqa: T201
    return 0


def _prepare(arguments: argparse.Namespace) -> int:
    """Make the trees and print what came of it, as JSON; progress goes to standard error."""
    import json  # noqa: PLC0415

    import msgspec  # noqa: PLC0415

    from agenttrace.errors import UsageError  # noqa: PLC0415
    from agenttrace.models.hub import host_settings  # noqa: PLC0415
    from agenttrace.show import say  # noqa: PLC0415
    from agenttrace.tasks.swe.prepare import PreparePlaces, SweOptions, prepare  # noqa: PLC0415

    try:
        options = msgspec.json.decode(arguments.options, type=SweOptions)
    except msgspec.DecodeError as error:
        raise UsageError(f"--options: {error}") from error
    places = PreparePlaces(trees=arguments.trees, cache=arguments.cache, repositories=arguments.repositories)
    with host_settings(sys.stdin.buffer.read() if arguments.from_host else None):
        prepared = prepare(options, places, say)
    print(json.dumps({"tasks": len(prepared.tasks), "skipped": len(prepared.skipped)}))  # noqa: T201
    return 0


def _lay_out(arguments: argparse.Namespace) -> int:
    from agenttrace.tasks.own.task_set import lay_out  # noqa: PLC0415

    lay_out(sys.stdin.buffer.read(), arguments.trees)
    return 0


def _check_tasks(arguments: argparse.Namespace) -> int:
    import msgspec  # noqa: PLC0415

    from agenttrace.campaign.try_tasks import try_tasks  # noqa: PLC0415

    found = try_tasks(arguments.sha256, sockets=arguments.sockets, trees=arguments.trees)
    print(msgspec.json.encode(found).decode())  # noqa: T201 - the verb's result
    return 0


def _fetch(arguments: argparse.Namespace) -> int:
    """Fetch a model and print where it lies and what it is; for the host, its pin as JSON."""
    import msgspec  # noqa: PLC0415

    from agenttrace.campaign.display import console  # noqa: PLC0415
    from agenttrace.errors import UsageError  # noqa: PLC0415
    from agenttrace.models.fetch import fetch  # noqa: PLC0415
    from agenttrace.models.hub import host_settings  # noqa: PLC0415
    from agenttrace.models.reference import ModelRef, check_terms, find, mirror_folder, told  # noqa: PLC0415

    try:
        ref = msgspec.json.decode(arguments.model, type=ModelRef) if arguments.from_host else None
    except msgspec.DecodeError as error:
        raise UsageError(f"--from-host: {error}") from error
    ref = ref or find(arguments.model, size=arguments.size, sha256=arguments.sha256)
    check_terms(ref, accepted=arguments.accept_terms)
    with host_settings(sys.stdin.buffer.read() if arguments.from_host else None):
        got = fetch(ref, arguments.models_dir, mirror_dir=arguments.mirror or mirror_folder(), out=console())
    people = "\n".join([str(got.path), *told(got.pin)])
    print(msgspec.json.encode(got.pin).decode() if arguments.from_host else people)  # noqa: T201
    return 0


if __name__ == "__main__":
    main()
