"""The command line: `agenttrace VERB`, and the nox session of each verb. Thin; `agenttrace.verbs` has the verbs."""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NoReturn

from agenttrace import __version__
from agenttrace.command import end_with
from agenttrace.errors import UsageError
from agenttrace.verbs import VERBS, module_of

if TYPE_CHECKING:
    from agenttrace.verbs import Verb


def main(argv: list[str] | None = None, *, session: bool = False) -> NoReturn:
    """Run one verb and exit with its status; a user's mistake is one message, never a traceback.

    Args:
        argv: the words of the command line; default those of this process.
        session: a nox session runs it: verbs that read records then run in the analysis image.
    """
    given = sys.argv[1:] if argv is None else argv
    name = given[0] if given else ""
    if name not in VERBS:
        _overview().parse_args(given or ["--help"])
        sys.exit(2)  # pragma: no cover - the parser has ended it
    verb, module = VERBS[name], import_module(module_of(name))
    end_with(lambda: _run(name, verb, module, given[1:], session=session), kept=verb.kept)


def _overview() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="agenttrace",
        description="Collect and read traces of a tool-using model in which every tool call carries OS telemetry.",
        epilog="`agenttrace VERB --help` has the options of each.",
    )
    parser.add_argument("--version", action="version", version=f"agenttrace {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, verb in VERBS.items():
        verbs.add_parser(name, help=verb.help)
    return parser


def _run(name: str, verb: Verb, module: Any, words: list[str], *, session: bool) -> int:  # noqa: ANN401 - a module
    parser = argparse.ArgumentParser(
        prog=f"nox -s {name} --" if session else f"agenttrace {name}", description=verb.help
    )
    module.add(parser)
    arguments = parser.parse_args(words)
    if session and verb.where == "image":
        from agenttrace.host import analysis  # noqa: PLC0415

        found: int = module.on_host(arguments, words) if hasattr(module, "on_host") else analysis.run(name, words)
        return found
    if verb.where == "host" and (find_spec("agenttrace.host") is None or find_spec("docker") is None):
        raise UsageError("this verb starts containers: run it outside of them, with agenttrace[host] installed")
    from agenttrace.verbs.reading import spare_inputs  # noqa: PLC0415

    spare_inputs(arguments)
    return int(module.run(arguments))
