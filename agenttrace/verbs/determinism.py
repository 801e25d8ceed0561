"""`agenttrace determinism`: one campaign, several times."""

import argparse
from pathlib import Path

from agenttrace.errors import UsageError
from agenttrace.verbs import asked, output


def add(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of this verb."""
    from agenttrace.campaign.options import Options  # noqa: PLC0415

    asked.add_campaign(parser, Options(), datasets=False)
    parser.add_argument("--repeat", type=int, metavar="R", help="runs (default: 3; with --against: 1)")
    parser.add_argument(
        "--concurrency", default="1", metavar="C[,C…]", help="tasks at a time, R runs each (default: 1)"
    )
    parser.add_argument(
        "--against", type=Path, metavar="FILE", help="compare with this record file; it says what is run"
    )
    parser.add_argument("--vary-seed", action="store_true", help="another seed in every run: shows a difference found")
    output.add_json(parser)
    parser.add_argument("--keep", action="store_true", help="keep the record files also when all are equal")


def run(arguments: argparse.Namespace) -> int:
    """Run the campaign several times and say where runs part."""
    from agenttrace.campaign.options import Options  # noqa: PLC0415
    from agenttrace.host import determinism  # noqa: PLC0415
    from agenttrace.host.campaign import Request  # noqa: PLC0415
    from agenttrace.host.place import datasets  # noqa: PLC0415

    output.check_json(arguments.json)
    try:
        concurrency = tuple(int(text) for text in arguments.concurrency.split(","))
    except ValueError:
        raise UsageError(f"--concurrency {arguments.concurrency}: expected numbers with commas, such as 1,4") from None
    default = 3 if arguments.against is None else 1
    report = determinism.determinism(
        determinism.DeterminismRequest(
            each=Request(
                options=(asked.campaign_options(arguments, Options(), arguments.dataset),),
                folder=datasets(),
                base_url=arguments.base_url,
                size=arguments.size,
                sha256=arguments.sha256,
                accept_terms=arguments.accept_terms,
                places=asked.places(arguments),
            ),
            repeats=default if arguments.repeat is None else arguments.repeat,
            concurrency=concurrency,
            against=arguments.against,
            vary_seed=arguments.vary_seed,
            keep=arguments.keep,
        )
    )
    if arguments.json != output.STDOUT:
        determinism.show(report)
    output.write_json(arguments.json, report)
    return 0 if report.passed else 1
