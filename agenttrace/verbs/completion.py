"""`agenttrace completion`: what a shell needs to complete verbs, options and their values."""

import argparse
import sys
from importlib import import_module
from pathlib import Path

from agenttrace.verbs import VERBS, module_of

SHELLS = ("bash", "zsh", "tcsh")


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument(
        "shell",
        choices=SHELLS,
        help="bash: agenttrace completion bash >~/.local/share/bash-completion/completions/agenttrace; zsh: "
        "into a file _agenttrace in a folder of $fpath",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the script."""
    import shtab  # noqa: PLC0415

    sys.stdout.write(f"{shtab.complete(whole(shtab.FILE), shell=arguments.shell)}\n")
    return 0


def whole(path: object) -> argparse.ArgumentParser:
    """Return one parser with every verb, its options and their values.

    Args:
        path: how the library is told that an argument is the path of a file.
    """
    parser = argparse.ArgumentParser(prog="agenttrace")
    verbs = parser.add_subparsers()
    for name, verb in VERBS.items():
        one = verbs.add_parser(name, help=verb.help, description=verb.help)
        import_module(module_of(name)).add(one)
        one.add_argument("-q", "--quiet", action="store_true", help="say nothing but the result, and what is wrong")
        for action in one._actions:  # noqa: SLF001 - the library reads them likewise
            if action.type is Path:
                action.complete = path  # type: ignore[attr-defined] # the library's own way
    return parser
