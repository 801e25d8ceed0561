"""`agenttrace compare`: two runs in one table."""

import argparse
from pathlib import Path

from agenttrace.verbs.reading import deliver, records_only
from agenttrace.verbs.stats import add_common, options


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument("one", type=Path, metavar="A", help="file of traces, or folder of them")
    parser.add_argument("other", type=Path, metavar="B", help="the run that is compared with A")
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print or write the table."""
    from agenttrace.analysis.compare import compare_diversity, compare_runs, task_notes  # noqa: PLC0415
    from agenttrace.analysis.runs import figures  # noqa: PLC0415
    from agenttrace.analysis.sections import compared_section  # noqa: PLC0415

    paths = (arguments.one, arguments.other)
    (one, first), (other, second) = (figures(*records_only([path]), **options(arguments)) for path in paths)
    rows = compare_runs(one, other) + (compare_diversity(first, second) if first and second else ())
    sizes = (one.rollouts, other.rollouts)
    notes = task_notes(one, other)
    values = {"runs": [str(path) for path in paths], "rollouts": sizes, "notes": notes, "rows": rows}
    deliver(arguments, values, [compared_section((paths[0].name, paths[1].name), sizes, rows, notes)])
    return 0
