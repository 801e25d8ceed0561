"""Options that several verbs share: what a campaign is asked for, in one place, from the fields of `Options`."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from types import NoneType
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin, get_type_hints

import msgspec

from agenttrace.campaign.options import GROUPS, Options, described, flag_of
from agenttrace.errors import UsageError
from agenttrace.serving.template import TEMPLATES
from agenttrace.store.opening import content
from agenttrace.tasks import OWN, TASK_SETS
from agenttrace.verbs.output import add_json

if TYPE_CHECKING:
    from collections.abc import Callable

    from msgspec import Meta

    from agenttrace.host.checkouts import Places

    Arguments = argparse._ActionsContainer  # noqa: SLF001 - parsers and their groups

_LONGEST_PROMPT = 1 << 20
"""Bytes of a text of the user's own that every conversation begins with."""
_LONGEST_TEMPLATE = 1 << 16
"""It is an argument of the server, and no argument may be longer than 128 KiB."""
MODEL = "a pinned name, REPO@REVISION:FILE.gguf of the Hub, a .gguf file, or what the endpoint serves"


def add_weights(parser: Arguments) -> None:
    """Add what is said of weights that no table pins."""
    parser.add_argument("--size", type=int, metavar="BYTES", help="bytes that a model without a pin must have")
    parser.add_argument("--sha256", metavar="HEX", help="digest that it must have")
    parser.add_argument(
        "--accept-terms", action="store_true", help="you have read, and agree to, the model's own terms, if it has any"
    )


def add_checkouts(parser: Arguments, *, source: bool = True) -> None:
    """Add where tasks over checkouts come from."""
    if source:
        _add_field(parser, "source", described(Options)["source"], None)
    parser.add_argument(
        "--repositories", metavar="URL|FOLDER", help="URL with {repo} in it, or a folder of mirrors (default: GitHub)"
    )


def add_tasks(parser: argparse.ArgumentParser) -> None:
    """Add where a task set of somebody's own lies."""
    parser.add_argument(
        "--tasks", type=Path, metavar="PATH", help="a task set of one's own that does not lie beside its records"
    )


def add_again(parser: argparse.ArgumentParser) -> None:
    """Add how records are made again, and where what was found goes."""
    workers = min(4, os.cpu_count() or 1)
    parser.add_argument(
        "--workers", type=int, default=workers, metavar="W", help="tasks at a time (default: one per core, at most 4)"
    )
    add_json(parser)
    add_checkouts(parser)
    add_tasks(parser)


def add_campaign(parser: argparse.ArgumentParser, preset: Options, *, datasets: bool, endpoints: bool = False) -> None:
    """Add the options of a campaign, the described fields of `Options`, with the defaults of a preset.

    Args:
        parser: gets them.
        preset: gives the defaults.
        datasets: whether several task sets can be named, a file each.
        endpoints: whether several endpoints can be named.
    """
    parser.add_argument("model", nargs="?", default=preset.model, help=f"{MODEL} (default: %(default)s)")
    groups = {name: parser.add_argument_group(title) for name, title in GROUPS.items()}
    add_weights(groups["model"])
    if endpoints:
        url: dict[str, Any] = {"action": "append", "metavar": "[NAME=]URL", "help": "an endpoint; once for each"}
    else:
        url = {"metavar": "URL", "help": "an endpoint that runs already; no server is started"}
    groups["model"].add_argument("--base-url", **url)
    several = {"action": "extend", "nargs": "+", "default": None} if datasets else {"default": preset.dataset}
    named = ", ".join(name for name in TASK_SETS if name != OWN)
    default = "mbpp nl2bash; bundled model: demo" if datasets else preset.dataset
    groups["tasks"].add_argument(
        "--dataset", metavar="SET", help=f"task sets: {named}, or paths of your own (default: {default})", **several
    )
    for name, meta in described(Options).items():
        _add_field(groups[(meta.extra or {}).get("group", "agent")], name, meta, getattr(preset, name))
    add_checkouts(groups["checkouts"], source=False)


def _add_field(parser: Arguments, name: str, meta: Meta, default: object) -> None:
    """Add a described field; other spellings of it are understood and not shown."""
    extra = meta.extra or {}
    kind, choices = _kind(get_type_hints(Options)[name])
    choices = extra.get("choices", choices)
    words: dict[str, Any] = {"dest": name, "default": default, "help": meta.description}
    if kind is bool:
        words["action"] = "store_true"
    else:
        words |= {"type": _READ.get(name, kind), "metavar": extra.get("metavar"), "choices": choices and [*choices]}
        words |= {"nargs": "+"} if get_origin(get_type_hints(Options)[name]) is tuple else {}
    if choices and words.get("metavar"):
        words["help"] = str(meta.description).format(choices=", ".join(choices))
    parser.add_argument(flag_of(name, meta), **words)
    for spelling in extra.get("also", ()):
        parser.add_argument(spelling, **words | {"default": argparse.SUPPRESS, "help": argparse.SUPPRESS})


def _kind(hint: Any) -> tuple[Callable[[str], Any], tuple[str, ...] | None]:  # noqa: ANN401 - a type
    """Return what reads an argument of a type, and the only values that a `Literal` has."""
    kinds = [hint] if get_origin(hint) is Literal else [one for one in get_args(hint) or (hint,) if one is not NoneType]
    if get_origin(kinds[0]) is Literal and len(kinds) == 1:
        return str, get_args(kinds[0])
    return (str if kinds[0] not in {bool, int, float} else kinds[0]), None


def campaign_options(arguments: argparse.Namespace, preset: Options, dataset: str) -> Options:
    """Return what the arguments of `add_campaign` ask for."""
    given: dict[str, Any] = {name: value for name, value in vars(arguments).items() if name in preset.__struct_fields__}
    given["dataset"] = dataset
    given["output"] = given["output"].name if given.get("output") else None
    given["source"] = arguments.source or preset.source
    given |= {name: tuple(given[name]) for name in ("languages", "reply_details")}
    given["external"] = arguments.base_url is not None
    return msgspec.structs.replace(preset, **given)


def places(arguments: argparse.Namespace) -> Places:
    """Return where rows and repositories lie, where they are on this machine."""
    from agenttrace.host.checkouts import Places  # noqa: PLC0415

    source = arguments.source
    on_disk = source not in {None, "bundled"} and os.path.lexists(source)
    return Places(
        source=Path(source) if on_disk else None,
        repositories=arguments.repositories,
        tasks=getattr(arguments, "tasks", None),
    )


def _milliseconds(text: str) -> int:
    try:
        return round(float(text) * 1000)
    except (ValueError, OverflowError):  # not a number, or not a finite one
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of seconds") from None


def _threads(text: str) -> tuple[int, int]:
    try:
        generation, *batch = map(int, text.split(","))
        (both,) = batch or (generation,)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of threads, or two with a comma") from None
    return generation, both


def _thinking(text: str) -> str | int:
    if text in {"on", "off"}:
        return text
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: expected on, off, or a number of tokens") from None


def _template_of(path: str) -> str:
    """Return the text of a chat template, or of the kit's own that has that name."""
    own = TEMPLATES / f"{path}.jinja"
    named = path in {one.stem for one in TEMPLATES.iterdir()}
    return _text_of(str(own) if named else path, most=_LONGEST_TEMPLATE)


def _text_of(path: str, *, most: int = _LONGEST_PROMPT) -> str:
    """Return the text of a file as it is sent: without line feeds at its end."""
    try:
        text = content(Path(path), most=most).decode().rstrip("\n")
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not UTF-8 text") from None
    if not text.strip():
        raise UsageError(f"{path}: holds no text")
    return text


_READ: dict[str, Callable[[str], Any]] = {
    "call_limit_ms": _milliseconds,
    "thinking": _thinking,
    "threads": _threads,
    "system_prompt": _text_of,
    "chat_template": _template_of,
}
"""Field → what makes its value of an argument, where that is not its type."""
