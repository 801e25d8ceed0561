"""The command line: `agenttrace VERB`. Thin; heavy packages are imported by the verb that needs them."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from importlib import import_module
from pathlib import Path
from typing import NoReturn

from agenttrace import __version__
from agenttrace.errors import AgentTraceError, UsageError, unusable
from agenttrace.rollouts import verbs as rollout_verbs
from agenttrace.show import escape_what_no_terminal_here_shows, printable
from agenttrace.verbs import MODULES

EXIT_INTERRUPTED = 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="agenttrace",
        description="Collect and read traces of a tool-using model in which every tool call carries OS telemetry.",
        epilog="People start campaigns with 'scripts/nox -s collect', which runs these verbs in the pinned containers.",
    )
    parser.add_argument("--version", action="version", version=f"agenttrace {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    for name, path in MODULES.items():
        module = import_module(path)
        module.add(verbs.add_parser(name, help=module.HELP, description=module.HELP))

    collect = verbs.add_parser("collect", help="run a campaign (inside the collector container)")
    _add_campaign(collect)
    collect.add_argument("--base-url", default="http://server:8080/v1", help="the model server (default: %(default)s)")
    collect.add_argument("--sockets", type=Path, default=Path("/run/agenttrace"), help="where sandbox workers listen")
    collect.add_argument("--workers", type=int, default=1, help="tasks run at a time (default: %(default)s)")

    collect.add_argument("--report", type=Path, metavar="FILE", help="write what the sitting cost, as JSON")
    collect.add_argument("--key-from-stdin", action="store_true", help="read the endpoint's key from standard input")

    plan = verbs.add_parser("plan", help="say what a campaign would do, as JSON")
    _add_campaign(plan)

    replay = verbs.add_parser("replay", help="run a record file again (inside the collector container)")
    replay.add_argument("file", type=Path, help="a record file (.jsonl); run spec and cassette lie beside it")
    replay.add_argument("--sockets", type=Path, default=Path("/run/agenttrace"), help="where sandbox workers listen")
    replay.add_argument("--workers", type=int, default=1, help="tasks run at a time (default: %(default)s)")
    replay.add_argument("--repeat", type=int, default=1, help="replay every trace so often (default: %(default)s)")

    again = verbs.add_parser("reproduce", help="plan a released campaign again and replay it (inside the collector)")
    again.add_argument("file", type=Path, help="a record file (.jsonl); run spec and cassette lie beside it")
    again.add_argument("--sockets", type=Path, default=Path("/run/agenttrace"), help="where sandbox workers listen")
    again.add_argument("--workers", type=int, default=1, help="tasks replayed at a time (default: %(default)s)")
    again.add_argument("--rows-only", action="store_true", help="no replay")
    again.add_argument("--anyway", action="store_true", help="go on although inputs are not those of the run spec")

    runs = verbs.add_parser("compare-runs", help="compare record files of several runs of one campaign, as JSON")
    runs.add_argument("files", type=Path, nargs="+", help="record files (.jsonl), compared with the first")
    runs.add_argument("--base-url", help="a model server whose /tokenize says where tokens are")

    judge = verbs.add_parser("judge", help="compute the verdicts of a record file again (needs Docker)")
    judge.add_argument("file", type=Path, help="a record file (.jsonl)")
    judge.add_argument("--check", action="store_true", help="only compare; exit status 1 when a verdict differs")

    doctor = verbs.add_parser("doctor", help="say what this machine has, what is pinned, what differs")
    doctor.add_argument("--network", action="store_true", help="also ask registry, Hub and task files for an answer")
    doctor.add_argument("--json", action="store_true", help="print it as JSON")

    _add_fetch(verbs)
    rollout_verbs.add(verbs)
    return parser


def _add_fetch(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    fetch = verbs.add_parser("fetch", help="bring a model into the models folder and verify it")
    fetch.add_argument("model", help="a pinned name, REPO@REVISION:FILE.gguf of the Hub, or a .gguf file")
    fetch.add_argument("--size", type=int, metavar="BYTES", help="bytes that a model without a pin must have")
    fetch.add_argument("--sha256", metavar="HEX", help="digest that it must have")
    fetch.add_argument("--models-dir", type=Path, default=Path("/models"), help="default: %(default)s")
    fetch.add_argument("--from-host", action="store_true", help=argparse.SUPPRESS)


def _add_campaign(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--options", default="[{}]", help="campaign options as a JSON list (see agenttrace.plan.Options)"
    )
    parser.add_argument("--folder", type=Path, default=Path("/data"), help="where record files lie")


def main(argv: list[str] | None = None) -> NoReturn:
    """Run one verb and exit with its status; a user's mistake is one message, never a traceback."""
    escape_what_no_terminal_here_shows()
    arguments = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _as_interrupt)
    own = {
        "collect": _collect,
        "plan": _plan,
        "replay": _replay,
        "reproduce": _reproduce,
        "compare-runs": _compare_runs,
        "fetch": _fetch,
        "judge": _judge,
        "rollouts-prepare": rollout_verbs.prepare,
        "rollouts": rollout_verbs.rollouts,
        "doctor": _doctor,
    }
    try:
        status = own[arguments.verb](arguments) if arguments.verb in own else _run(arguments)
        sys.stdout.flush()
    except AgentTraceError as error:
        status = _tell(error)
    except KeyboardInterrupt:
        kept = "; every finished record is kept" if arguments.verb in {"collect", "rollouts"} else ""
        print(f"agenttrace: interrupted{kept}", file=sys.stderr)  # noqa: T201
        status = EXIT_INTERRUPTED
    except BrokenPipeError:  # `agenttrace show FILE | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except OSError as error:
        status = _tell(unusable(error))
    sys.exit(status)


def _tell(error: AgentTraceError) -> int:
    print(f"agenttrace: {printable(_shown(str(error)))}", file=sys.stderr)  # noqa: T201 - this is the command line
    return error.exit_code


def _shown(message: str) -> str:
    """Return a message with the host's name of the records folder instead of the container's."""
    return message.replace("/data/", f"{os.environ.get('AGENTTRACE_SHOWN_FOLDER', '/data').rstrip('/')}/")


def _as_interrupt(*_: object) -> NoReturn:
    raise KeyboardInterrupt


def _run(arguments: argparse.Namespace) -> int:
    from agenttrace.verbs.reading import spare_inputs  # noqa: PLC0415

    spare_inputs(arguments)
    return int(import_module(MODULES[arguments.verb]).run(arguments))


def _collect(arguments: argparse.Namespace) -> int:
    from agenttrace.serving.endpoint import api_key  # noqa: PLC0415
    from agenttrace.sitting import Surroundings, collect  # noqa: PLC0415

    around = Surroundings(
        folder=arguments.folder,
        base_url=arguments.base_url,
        sockets=arguments.sockets,
        workers=arguments.workers,
        report=arguments.report,
        key=(sys.stdin.readline().strip() or None) if arguments.key_from_stdin else api_key(),
    )
    return collect(arguments.options, around)


def _plan(arguments: argparse.Namespace) -> int:
    from agenttrace.sitting import describe  # noqa: PLC0415

    print(json.dumps(describe(arguments.options, folder=arguments.folder)))  # noqa: T201
    return 0


def _replay(arguments: argparse.Namespace) -> int:
    from agenttrace.replay.sitting import replay  # noqa: PLC0415

    return replay(arguments.file, sockets=arguments.sockets, workers=arguments.workers, repeats=arguments.repeat)


def _reproduce(arguments: argparse.Namespace) -> int:
    from agenttrace.replay.sitting import reproduce  # noqa: PLC0415

    return reproduce(
        arguments.file,
        sockets=arguments.sockets,
        workers=arguments.workers,
        rows_only=arguments.rows_only,
        anyway=arguments.anyway,
    )


def _compare_runs(arguments: argparse.Namespace) -> int:
    import msgspec  # noqa: PLC0415

    from agenttrace.replay.divergence import compare_runs  # noqa: PLC0415
    from agenttrace.serving.endpoint import wait_until_ready  # noqa: PLC0415
    from agenttrace.serving.tokens import tokenizer  # noqa: PLC0415

    tokenize = None
    if arguments.base_url is not None:
        wait_until_ready(arguments.base_url, timeout_s=600)
        tokenize = tokenizer(arguments.base_url)
    print(msgspec.json.encode(compare_runs(arguments.files, tokenize)).decode())  # noqa: T201
    return 0


def _fetch(arguments: argparse.Namespace) -> int:
    from agenttrace.models import order  # noqa: PLC0415
    from agenttrace.progress import console  # noqa: PLC0415

    out, folder = console(), arguments.models_dir
    if arguments.from_host:
        print(order.for_the_host(sys.stdin.buffer.read(), folder, out=out))  # noqa: T201
    else:
        order.for_people(arguments.model, folder, size=arguments.size, sha256=arguments.sha256, out=out)
    return 0


def _judge(arguments: argparse.Namespace) -> int:
    _need_host()
    from agenttrace.host.judge import judge  # noqa: PLC0415

    return judge(arguments.file, check=arguments.check)


def _doctor(arguments: argparse.Namespace) -> int:
    _need_host()
    from agenttrace.host import doctor  # noqa: PLC0415

    return doctor.run(network=arguments.network, json=arguments.json)


def _need_host() -> None:
    """Refuse verbs that start sandboxes where no engine can be reached.

    Raises:
        UsageError: this is a container of the kit, or the engine's client is not installed.
    """
    from importlib.util import find_spec  # noqa: PLC0415

    if find_spec("agenttrace.host") is None or find_spec("docker") is None:
        raise UsageError("this verb starts sandboxes: run it outside the containers, with agenttrace[host] installed")
