"""The arguments of `nox -s rollouts`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from agenttrace.errors import UsageError
from agenttrace.models import pins
from agenttrace.rollouts.options import RolloutOptions
from agenttrace.serving import profiles
from agenttrace.tasks.swe.rows import BUNDLED

if TYPE_CHECKING:
    import argparse

_DEFAULTS = RolloutOptions()
_SAME_NAME = (
    *("profile", "sampler", "temperature", "context", "split", "hidden_tests", "repos", "per_repo", "rollouts", "seed"),
    *("max_turns", "max_output_tokens", "max_total_tokens", "observation", "run_id", "fresh"),
)


def add(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the session's parser."""
    one = verbs.add_parser("rollouts", help="make execution-free coding rollouts", prog="nox -s rollouts --")
    shown = "a pinned name, REPO@REVISION:FILE.gguf of the Hub, a .gguf file, or what the endpoint serves"
    one.add_argument("model", nargs="?", default=pins.DEFAULT_ROLLOUT_MODEL, help=f"{shown} (default: %(default)s)")
    one.add_argument("--size", type=int, metavar="BYTES", help="bytes that a model without a pin must have")
    one.add_argument("--sha256", metavar="HEX", help="digest that it must have")
    one.add_argument("--base-url", metavar="URL", help="an endpoint that runs already; no server is started")
    one.add_argument(
        "--profile", default=_DEFAULTS.profile, help=f"{', '.join(profiles.profile_names())} (default: %(default)s)"
    )
    one.add_argument(
        "--sampler", default=_DEFAULTS.sampler, help=f"{' or '.join(profiles.SAMPLERS)} (default: %(default)s)"
    )
    one.add_argument("--temperature", type=float, metavar="T", help="instead of the sampler's (SWE-ZERO: 1.0)")
    one.add_argument("--context", type=int, metavar="N", help="context length (default: the model's pin)")
    one.add_argument(
        "--source",
        default=BUNDLED,
        metavar="ROWS",
        help="bundled, a .jsonl or .parquet file, a folder of them, or OWNER/NAME@REVISION of the Hub",
    )
    one.add_argument("--split", default=_DEFAULTS.split, help="of a data set on the Hub (default: %(default)s)")
    one.add_argument(
        "--repositories", metavar="URL|FOLDER", help="URL with {repo} in it, or a folder of mirrors (default: GitHub)"
    )
    one.add_argument(
        "--languages", nargs="+", default=(), metavar="NAME", help="only tasks whose rows name one of these"
    )
    one.add_argument("--repos", type=int, metavar="N", help="repositories to draw (default: all)")
    one.add_argument("--per-repo", type=int, metavar="N", help="tasks of each (default: all)")
    one.add_argument(
        "--rollouts",
        type=int,
        default=_DEFAULTS.rollouts,
        metavar="R",
        help="attempts at each task (default: %(default)s)",
    )
    one.add_argument("--seed", type=int, default=_DEFAULTS.seed, help="of draw and sampling (default: %(default)s)")
    one.add_argument("--hidden-tests", action="store_true", help="lay the hidden tests into the trees, as SWE-ZERO did")
    one.add_argument(
        "--workers",
        "--concurrency",
        dest="workers",
        type=int,
        metavar="W",
        help="rollouts at a time, one sandbox each (default: the profile's)",
    )
    one.add_argument("--max-turns", type=int, default=_DEFAULTS.max_turns, metavar="N", help="default: %(default)s")
    one.add_argument(
        "--max-output-tokens", type=int, default=_DEFAULTS.max_output_tokens, metavar="N", help="default: %(default)s"
    )
    one.add_argument("--max-total-tokens", type=int, metavar="N", help="of a conversation (default: the context)")
    one.add_argument(
        "--observation",
        choices=("swe-zero", "mini-swe-agent"),
        default=_DEFAULTS.observation,
        help="form of what a command printed (default: %(default)s)",
    )
    one.add_argument(
        "--call-limit",
        type=float,
        default=_DEFAULTS.call_limit_ms / 1000,
        metavar="S",
        help="seconds per command (default: %(default)g)",
    )
    one.add_argument("--run-id", help="name of the run (default: made from model and date)")
    one.add_argument("--output", type=Path, metavar="FILE", help="record file (default: in datasets/)")
    one.add_argument("--fresh", action="store_true", help="start a new run although one can be resumed")


def run(arguments: argparse.Namespace) -> int:
    """Make rollouts as the arguments say."""
    from agenttrace.host.compose import ROOT  # noqa: PLC0415
    from agenttrace.host.rollouts import Request, rollouts  # noqa: PLC0415

    output: Path | None = arguments.output
    folder = ROOT / "datasets" if output is None else output.parent
    if not 0.0 < arguments.call_limit < float("inf"):
        raise UsageError(f"--call-limit {arguments.call_limit}: expected seconds")
    source = None if arguments.source == BUNDLED or not os.path.lexists(arguments.source) else Path(arguments.source)
    options = RolloutOptions(
        model=arguments.model,
        external=arguments.base_url is not None,
        source=arguments.source,
        languages=tuple(arguments.languages),
        call_limit_ms=round(arguments.call_limit * 1000),
        output=None if output is None else output.name,
        **{name: getattr(arguments, name) for name in _SAME_NAME},
    )
    return rollouts(
        Request(
            options=options,
            folder=folder,
            source=source,
            repositories=arguments.repositories,
            workers=arguments.workers,
            base_url=arguments.base_url,
            size=arguments.size,
            sha256=arguments.sha256,
        )
    )
