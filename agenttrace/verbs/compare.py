"""`agenttrace compare`: two runs in one table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from agenttrace.verbs.stats import add_common, options

if TYPE_CHECKING:
    import argparse


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    parser.add_argument("one", type=Path, metavar="A", help="record file (.jsonl, .jsonl.gz, .jsonl.zst)")
    parser.add_argument("other", type=Path, metavar="B", help="the run that is compared with A")
    add_common(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print or write the table."""
    from agenttrace.analysis.rollouts.compare import compare, compare_diversity  # noqa: PLC0415
    from agenttrace.analysis.rollouts.render import comparison_text  # noqa: PLC0415
    from agenttrace.analysis.rollouts.statistics import as_json, figures  # noqa: PLC0415
    from agenttrace.verbs.reading import deliver  # noqa: PLC0415

    paths = (arguments.one, arguments.other)
    (one, first), (other, second) = (figures(path, **options(arguments)) for path in paths)
    rows = compare(one, other) + (compare_diversity(first, second) if first and second else ())
    sizes = (one.rollouts, other.rollouts)
    if arguments.format == "json":
        values = {"runs": [str(path) for path in paths], "rollouts": sizes, "rows": [as_json(row) for row in rows]}
        deliver(json.dumps(values, indent=2) + "\n", arguments.output)
    else:
        deliver(comparison_text((arguments.one.name, arguments.other.name), sizes, rows), arguments.output)
    return 0
