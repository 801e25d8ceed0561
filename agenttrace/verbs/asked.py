"""Options that several verbs share: what a campaign is asked for, in one place, from the fields of `Options`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agenttrace.errors import StorageError, UsageError

if TYPE_CHECKING:
    from agenttrace.campaign.options import Options
    from agenttrace.host.checkouts import Places

MODEL = "a pinned name, REPO@REVISION:FILE.gguf of the Hub, a .gguf file, or what the endpoint serves"


def add_weights(parser: argparse.ArgumentParser) -> None:
    """Add what is said of weights that no table pins."""
    parser.add_argument("--size", type=int, metavar="BYTES", help="bytes that a model without a pin must have")
    parser.add_argument("--sha256", metavar="HEX", help="digest that it must have")


def add_checkouts(parser: argparse.ArgumentParser) -> None:
    """Add where tasks over checkouts come from."""
    parser.add_argument(
        "--source",
        metavar="ROWS",
        help="of tasks over checkouts: bundled, a .jsonl or .parquet file, a folder of them, or OWNER/NAME@REVISION of "
        "the Hub (default: bundled)",
    )
    parser.add_argument(
        "--repositories", metavar="URL|FOLDER", help="URL with {repo} in it, or a folder of mirrors (default: GitHub)"
    )


def add_again(parser: argparse.ArgumentParser) -> None:
    """Add how records are made again, and where what was found goes."""
    workers = min(4, os.cpu_count() or 1)
    parser.add_argument(
        "--workers", type=int, default=workers, metavar="W", help="tasks at a time (default: one per core, at most 4)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was found")
    add_checkouts(parser)


def add_campaign(parser: argparse.ArgumentParser, preset: Options, *, datasets: bool) -> None:
    """Add the options of a campaign with the defaults of a preset; their names are those of `Options`.

    Args:
        parser: gets them.
        preset: gives the defaults.
        datasets: whether several task sets can be named, a file each.
    """
    from agenttrace.agents import AGENTS, Observation  # noqa: PLC0415
    from agenttrace.serving import profiles  # noqa: PLC0415
    from agenttrace.tasks import TASK_SETS  # noqa: PLC0415

    parser.add_argument("model", nargs="?", default=preset.model, help=f"{MODEL} (default: %(default)s)")
    add_weights(parser)
    parser.add_argument("--base-url", metavar="URL", help="an endpoint that runs already; no server is started")
    several = {"action": "extend", "nargs": "+", "default": None} if datasets else {"default": preset.dataset}
    default = "mbpp nl2bash; bundled model: demo" if datasets else preset.dataset
    parser.add_argument(
        "--dataset", metavar="SET", help=f"task sets: {', '.join(TASK_SETS)} (default: {default})", **several
    )
    parser.add_argument("--agent", choices=[*AGENTS], default=preset.agent, help="default: that of the task set")
    for name, kind, metavar, text in (
        ("offset", int, "K", "first task (default: 0)"),
        ("rollouts", int, "R", f"runs of each task (default: {preset.rollouts})"),
        ("profile", str, "P", f"serving profile: {', '.join(profiles.profile_names())} (default: {preset.profile})"),
        ("sampler", str, "S", f"{' or '.join(profiles.SAMPLERS)} by the model's makers (default: {preset.sampler})"),
        ("temperature", float, "T", "instead of the sampler's (SWE-ZERO: 1.0)"),
        ("seed", int, "N", "of sampling, and of the draw of tasks (default: the sampler's)"),
        ("context", int, "N", "context length (default: the model's pin)"),
        ("max_output_tokens", int, "N", "of one generation (default: the sampler's or the agent's)"),
        ("max_total_tokens", int, "N", "of a conversation, for agents with a budget (default: the context)"),
        ("split", str, "NAME", f"of a data set on the Hub (default: {preset.split})"),
        ("repos", int, "N", "repositories to draw (default: all)"),
        ("per_repo", int, "N", "tasks of each (default: all)"),
        ("run_id", str, "ID", "name of the campaign (default: made from model, date and data set)"),
    ):
        flag = f"--{name.replace('_', '-')}"
        parser.add_argument(flag, type=kind, metavar=metavar, default=getattr(preset, name), help=text)
    parser.add_argument("-n", dest="count", type=int, metavar="N", help="number of tasks (default: all)")
    parser.add_argument(
        "--max-steps", "--max-turns", dest="max_steps", type=int, metavar="N", help="generations per task"
    )
    parser.add_argument(
        "--call-limit", dest="call_limit_ms", type=_milliseconds, metavar="S", help="seconds per call (default: 30)"
    )
    parser.add_argument(
        "--observation",
        choices=Observation.__args__,  # type: ignore[attr-defined]
        default=preset.observation,
        help="form of what a command printed, for the bash-block agent (default: %(default)s)",
    )
    parser.add_argument("--languages", nargs="+", default=(), metavar="NAME", help="only tasks whose rows name one")
    parser.add_argument("--hidden-tests", action="store_true", help="lay the hidden tests into the trees, as SWE-ZERO")
    add_checkouts(parser)


def campaign_options(arguments: argparse.Namespace, preset: Options, dataset: str) -> Options:
    """Return what the arguments of `add_campaign` ask for."""
    import msgspec  # noqa: PLC0415

    given: dict[str, Any] = {name: value for name, value in vars(arguments).items() if name in preset.__struct_fields__}
    given["dataset"] = dataset
    given["output"] = given["output"].name if given.get("output") else None
    given["source"] = arguments.source or preset.source
    given["languages"] = tuple(arguments.languages)
    given["external"] = arguments.base_url is not None
    return msgspec.structs.replace(preset, **given)


def places(arguments: argparse.Namespace) -> Places:
    """Return where rows and repositories lie, where they are on this machine."""
    from agenttrace.host.checkouts import Places  # noqa: PLC0415

    source = arguments.source
    on_disk = source not in {None, "bundled"} and os.path.lexists(source)
    return Places(source=Path(source) if on_disk else None, repositories=arguments.repositories)


def check_json(path: Path | None) -> None:
    """Refuse a place where the findings of a long run could not be written at its end.

    Raises:
        UsageError: says what is wrong with it.
    """
    if path is not None and (path.is_dir() or not os.access(path.parent, os.W_OK)):
        what = "a folder; name a file" if path.is_dir() else "its folder is not there, or not writable"
        raise UsageError(f"--json {path}: {what}")


def write_json(path: Path | None, found: bytes) -> None:
    """Write JSON that was found to where `--json` says, to be read; the path may be a pipe.

    Raises:
        StorageError: it cannot be written.
    """
    import msgspec  # noqa: PLC0415

    if path is None or not found:
        return
    try:
        path.write_bytes(msgspec.json.format(found, indent=2) + b"\n")
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror}") from error


def _milliseconds(text: str) -> int:
    try:
        return round(float(text) * 1000)
    except (ValueError, OverflowError):  # not a number, or not a finite one
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of seconds") from None
