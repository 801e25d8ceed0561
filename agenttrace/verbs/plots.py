"""`agenttrace plots`: figures of record files, ready for print."""

import argparse

from agenttrace.show import say
from agenttrace.verbs.output import add_json, write_json
from agenttrace.verbs.reading import add_files, add_folder, add_groups, load_or_stop


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    add_files(parser, strict=False)
    add_folder(parser, "figures")
    add_json(parser)
    add_groups(parser, "what gets a colour of its own")
    parser.add_argument(
        "--trace", metavar="ID", help="start of the trace id drawn as a timeline (default: a typical one)"
    )
    parser.add_argument(
        "--formats", nargs="+", choices=["pdf", "svg", "png"], default=["pdf", "svg", "png"], help="default: all"
    )


def run(arguments: argparse.Namespace) -> int:
    """Draw the figures and name those that cannot be drawn."""
    from agenttrace.analysis.plots import draw  # noqa: PLC0415

    tables = load_or_stop(arguments.files)
    drawn = draw(tables, arguments.output, by=arguments.by, trace=arguments.trace, formats=arguments.formats)
    for name, reason in drawn.left_out.items():
        say(f"{name}: not drawn: {reason}")
    say(f"{len(drawn.paths)} files in {arguments.output}")
    write_json(arguments.json, {"files": drawn.paths, "left_out": drawn.left_out})
    return 0
