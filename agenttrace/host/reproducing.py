"""The sessions about reproducibility: `replay`, `determinism` and `reproduce`; their arguments."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from agenttrace.errors import UsageError
from agenttrace.models import pins
from agenttrace.serving import profiles
from agenttrace.tasks import DATASETS

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    Verbs = argparse._SubParsersAction[argparse.ArgumentParser]  # noqa: SLF001 - argparse has no public name for it


def add(verbs: Verbs) -> None:
    """Add the arguments of each session."""
    replay = verbs.add_parser("replay", help="run a record file again without a model", prog="nox -s replay --")
    replay.add_argument(
        "file",
        type=Path,
        nargs="?",
        help="a record file, its cassette beside it (default: the newest release)",
    )
    replay.add_argument("--workers", type=int, metavar="W", help="tasks at a time (default: one per core, at most 4)")
    replay.add_argument("--repeat", type=int, default=1, metavar="R", help="replay every trace R times (default: 1)")
    replay.add_argument("--json", type=Path, metavar="FILE", help="write everything that was found")
    again = verbs.add_parser("reproduce", help="make a released data set again", prog="nox -s reproduce --")
    again.add_argument("file", type=Path, nargs="?", help="a record file (default: those of the newest release)")
    again.add_argument("--live", action="store_true", help="with the model instead of the cassette")
    again.add_argument("--anyway", action="store_true", help="go on although inputs are not those of the run spec")
    again.add_argument("--workers", type=int, metavar="W", help="tasks at a time (default: one per core, at most 4)")
    again.add_argument("--json", type=Path, metavar="FILE", help="write everything that was found")
    _add_determinism(verbs)


def _add_determinism(verbs: Verbs) -> None:
    live = verbs.add_parser(
        "determinism", help="run a campaign several times and compare", prog="nox -s determinism --"
    )
    live.add_argument("model", nargs="?", default=pins.DEFAULT_MODEL, help="default: %(default)s (bundled)")
    live.add_argument("--dataset", default="demo", help=f"task set: {', '.join(DATASETS)} (default: %(default)s)")
    live.add_argument("-n", dest="count", type=int, metavar="N", help="number of tasks (default: all)")
    live.add_argument("--offset", type=int, default=0, metavar="K", help="first task (default: 0)")
    live.add_argument("--repeat", type=int, metavar="R", help="runs (default: 3; with --against: 1)")
    live.add_argument("--concurrency", default="1", metavar="C[,C…]", help="tasks at a time, R runs each (default: 1)")
    live.add_argument("--against", type=Path, metavar="FILE", help="compare with this record file; it says what is run")
    live.add_argument("--profile", default=profiles.DEFAULT_PROFILE, help="serving profile (default: %(default)s)")
    live.add_argument("--sampler", default=profiles.DEFAULT_SAMPLER, help="sampler (default: %(default)s)")
    live.add_argument("--temperature", type=float, metavar="T", help="instead of the sampler's")
    live.add_argument("--vary-seed", action="store_true", help="another seed in every run: shows a difference found")
    live.add_argument("--base-url", metavar="URL", help="an endpoint that runs already; it is not restarted")
    live.add_argument("--json", type=Path, metavar="FILE", help="write verdicts and divergences")
    live.add_argument("--keep", action="store_true", help="keep the record files also when all are equal")


def _replay(arguments: argparse.Namespace) -> int:
    from agenttrace.host import compose, engine  # noqa: PLC0415
    from agenttrace.host.replay import Request, replay  # noqa: PLC0415
    from agenttrace.host.reproduce import released  # noqa: PLC0415

    workers = _default_workers() if arguments.workers is None else arguments.workers
    files = released(compose.ROOT / "datasets") if arguments.file is None else [arguments.file]
    if arguments.json is not None and len(files) > 1:
        raise UsageError(f"--json {arguments.json}: the release holds {len(files)} record files, name one of them")
    statuses = []
    for file in files:
        if arguments.file is None:
            engine.say(f"replaying {file}")
        statuses.append(replay(Request(file=file, workers=workers, repeats=arguments.repeat, json=arguments.json)))
    return max(statuses)


def _determinism(arguments: argparse.Namespace) -> int:
    from agenttrace.host.determinism import Request, determinism  # noqa: PLC0415
    from agenttrace.plan import Options  # noqa: PLC0415

    try:
        concurrency = tuple(int(text) for text in arguments.concurrency.split(","))
    except ValueError:
        raise UsageError(f"--concurrency {arguments.concurrency}: expected numbers with commas, such as 1,4") from None
    options = Options(
        model=arguments.model,
        dataset=arguments.dataset,
        profile=arguments.profile,
        sampler=arguments.sampler,
        temperature=arguments.temperature,
        external=arguments.base_url is not None,
        offset=arguments.offset,
        count=arguments.count,
    )
    default = 3 if arguments.against is None else 1
    return determinism(
        Request(
            options=options,
            repeats=default if arguments.repeat is None else arguments.repeat,
            concurrency=concurrency,
            against=arguments.against,
            vary_seed=arguments.vary_seed,
            base_url=arguments.base_url,
            json=arguments.json,
            keep=arguments.keep,
        )
    )


def _default_workers() -> int:
    return min(4, os.cpu_count() or 1)


def _reproduce(arguments: argparse.Namespace) -> int:
    from agenttrace.host.reproduce import Request, reproduce  # noqa: PLC0415

    return reproduce(
        Request(
            file=arguments.file,
            live=arguments.live,
            anyway=arguments.anyway,
            workers=_default_workers() if arguments.workers is None else arguments.workers,
            json=arguments.json,
        )
    )


VERBS: dict[str, Callable[[argparse.Namespace], int]] = {
    "replay": _replay,
    "determinism": _determinism,
    "reproduce": _reproduce,
}
