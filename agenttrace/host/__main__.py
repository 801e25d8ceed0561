"""`python -m agenttrace.host VERB`: what the nox sessions run on the user's machine."""

from __future__ import annotations

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import NoReturn

from agenttrace.errors import UsageError
from agenttrace.host import command, engine, reproducing, rollout_options
from agenttrace.serving import pins, profiles
from agenttrace.show import escape_what_no_terminal_here_shows
from agenttrace.tasks import DATASETS
from agenttrace.verbs import MODULES

_MODEL = "a pinned name, REPO@REVISION:FILE.gguf of the Hub, or a .gguf file"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nox -s", description="What the sessions do on this machine.")
    verbs = parser.add_subparsers(dest="verb", metavar="SESSION", required=True)
    collect = verbs.add_parser("collect", help="collect traces of a model on a task set", prog="nox -s collect --")
    collect.add_argument("model", nargs="?", default=pins.DEFAULT_MODEL, help=f"{_MODEL} (default: %(default)s)")
    _add_model(collect)
    collect.add_argument(
        "--dataset",
        action="extend",
        nargs="+",
        metavar="SET",
        help=f"task sets, one file each: {', '.join(DATASETS)} (default: mbpp nl2bash; bundled model: demo)",
    )
    collect.add_argument("-n", dest="count", type=int, metavar="N", help="number of tasks (default: all)")
    collect.add_argument("--offset", type=int, default=0, metavar="K", help="first task (default: 0)")
    collect.add_argument("--rollouts", type=int, default=1, metavar="R", help="runs of each task (default: 1)")
    collect.add_argument("--run-id", help="name of the campaign (default: made from model, date and data set)")
    collect.add_argument("--output", type=Path, metavar="FILE", help="record file (default: in datasets/)")
    collect.add_argument("--fresh", action="store_true", help="start a new campaign although one can be resumed")
    collect.add_argument("--workers", type=int, metavar="W", help="tasks run at a time (default: the profile's)")
    collect.add_argument(
        "--profile",
        default=profiles.DEFAULT_PROFILE,
        help=f"serving profile: {', '.join(profiles.profile_names())} (default: %(default)s)",
    )
    collect.add_argument(
        "--sampler",
        default=profiles.DEFAULT_SAMPLER,
        help=f"{' or '.join(profiles.SAMPLERS)} by the model's makers (default: %(default)s)",
    )
    collect.add_argument("--context", type=int, metavar="N", help="context length (default: the model's pin)")
    collect.add_argument("--base-url", metavar="URL", help="an endpoint that runs already; no server is started")
    collect.add_argument("--max-steps", type=int, default=10, metavar="N", help="generations per task (default: 10)")
    collect.add_argument(
        "--call-limit", type=_milliseconds, default=30_000, metavar="S", help="seconds per call (default: 30)"
    )
    fetch = verbs.add_parser("fetch", help="bring a model into the models volume", prog="nox -s fetch --")
    fetch.add_argument("model", help=_MODEL)
    _add_model(fetch)
    rollout_options.add(verbs)
    _add_images(verbs)
    fixture = verbs.add_parser(
        "verify-fixture", help="compare the NL2Bash fixture in its three places", prog="nox -s verify-fixture --"
    )
    fixture.add_argument("--testdata", type=Path, metavar="FOLDER", help="the repository's tree (default: testdata/)")
    judge = verbs.add_parser("judge", help="compute the verdicts of a record file again", prog="nox -s judge --")
    judge.add_argument("file", type=Path, help="a record file (.jsonl)")
    judge.add_argument("--check", action="store_true", help="only compare; exit status 1 when a verdict differs")
    reproducing.add(verbs)
    clean = verbs.add_parser("clean", help="remove containers, volumes and networks", prog="nox -s clean --")
    clean.add_argument("--images", action="store_true", help="remove the images as well")
    clean.add_argument("--all", action="store_true", help="also what running campaigns of other checkouts use")
    _add_probes(verbs)
    return parser


def _add_images(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    images = verbs.add_parser("images", help="build the images that are out of date", prog="nox -s images --")
    images.add_argument("targets", nargs="*", metavar="IMAGE", help="default: those of a campaign; the checks take all")
    images.add_argument("--all", action="store_true", help="all images, also those that only some sessions use")
    images.add_argument("--check-reproducible", action="store_true", help="build each twice from scratch, compare")
    images.add_argument("--sbom", type=Path, metavar="FOLDER", help="write a bill of materials per image (CycloneDX)")
    doctor = verbs.add_parser("doctor", help="what this machine has and what differs", prog="nox -s doctor --")
    doctor.add_argument("--network", action="store_true", help="also ask registry, Hub and task files for an answer")
    doctor.add_argument("--json", action="store_true", help="print it as JSON")


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, metavar="BYTES", help="bytes that a model without a pin must have")
    parser.add_argument("--sha256", metavar="HEX", help="digest that it must have")


def _add_probes(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    probe = verbs.add_parser("probe-sandbox", help="attack the sandbox, say what held", prog="nox -s probe-sandbox --")
    probe.add_argument("--policy", action="append", choices=["shell", "execution_free"], help="default: both")
    probe.add_argument("-k", dest="named", metavar="NAME", help="only probes whose name contains this pattern")
    probe.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well")


def _milliseconds(text: str) -> int:
    try:
        return round(float(text) * 1000)
    except (ValueError, OverflowError):  # not a number, or not a finite one
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of seconds") from None


def main(argv: list[str] | None = None) -> NoReturn:
    """Run one verb and exit with its status; a user's mistake is one message, never a traceback."""
    escape_what_no_terminal_here_shows()
    given = sys.argv[1:] if argv is None else argv
    if given and given[0] in MODULES:  # a verb that reads records: its own parser knows the arguments
        arguments = argparse.Namespace(verb=given[0], argv=given[1:])
    else:
        arguments = _parser().parse_args(given)
    verbs = {
        "collect": _collect,
        "rollouts": rollout_options.run,
        "fetch": _fetch,
        "images": _images,
        "doctor": _doctor,
        "clean": _clean,
        "probe-sandbox": _probe_sandbox,
        "verify-fixture": _verify_fixture,
        "judge": _judge,
        "release": _release,
        **reproducing.VERBS,
    }
    kept = {
        "collect": "every finished record is kept, the same command goes on",
        "rollouts": "every finished record is kept, the same command goes on",
        "fetch": "what has come is kept, the same command goes on",
    }
    work = partial(verbs.get(arguments.verb, _analysis), arguments)
    sys.exit(command.status(work, json=getattr(arguments, "json", None), kept=kept.get(arguments.verb)))


def _collect(arguments: argparse.Namespace) -> int:
    from agenttrace.host.campaign import Request, collect  # noqa: PLC0415
    from agenttrace.host.compose import ROOT  # noqa: PLC0415
    from agenttrace.plan import Options  # noqa: PLC0415

    output: Path | None = arguments.output
    folder = ROOT / "datasets" if output is None else output.parent
    if output is None:
        try:
            folder.mkdir(exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot make the folder for records {folder}: {error.strerror}") from error
    names = arguments.dataset or (["demo"] if arguments.model == pins.DEFAULT_MODEL else ["mbpp", "nl2bash"])
    options = tuple(
        Options(
            model=arguments.model,
            dataset=name,
            profile=arguments.profile,
            sampler=arguments.sampler,
            context=arguments.context,
            external=arguments.base_url is not None,
            offset=arguments.offset,
            count=arguments.count,
            rollouts=arguments.rollouts,
            max_steps=arguments.max_steps,
            call_limit_ms=arguments.call_limit,
            run_id=arguments.run_id,
            output=None if output is None else output.name,
            fresh=arguments.fresh,
        )
        for name in names
    )
    request = Request(
        options=options,
        folder=folder,
        workers=arguments.workers,
        base_url=arguments.base_url,
        size=arguments.size,
        sha256=arguments.sha256,
    )
    return collect(request)


def _fetch(arguments: argparse.Namespace) -> int:
    from agenttrace.host import weights  # noqa: PLC0415

    return weights.bring(arguments.model, size=arguments.size, sha256=arguments.sha256)


def _images(arguments: argparse.Namespace) -> int:
    from agenttrace.host import images, rebuild, sbom  # noqa: PLC0415

    known = (*images.TARGETS, *images.EXTRA_TARGETS)
    if unknown := [target for target in arguments.targets if target not in known]:
        raise UsageError(f"no image {', '.join(unknown)}; there are {', '.join(known)}")
    everything = arguments.all or arguments.check_reproducible or arguments.sbom is not None
    targets = tuple(arguments.targets) or (known if everything else images.TARGETS)
    engine.check()
    if arguments.check_reproducible and not rebuild.check_reproducible(targets):
        return 1
    if arguments.check_reproducible and arguments.sbom is None:
        return 0
    built = images.build(targets=targets)
    for target, name in built.names.items():
        print(f"{name}  environment {built.environment_digests[target]}")  # noqa: T201 - the session's result
    print(f"base: {built.base_origin}")  # noqa: T201
    for file in () if arguments.sbom is None else sbom.write(built, arguments.sbom):
        print(file)  # noqa: T201
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    from agenttrace.host import doctor  # noqa: PLC0415

    return doctor.run(network=arguments.network, json=arguments.json)


def _verify_fixture(arguments: argparse.Namespace) -> int:
    from agenttrace.fixture.version import released_version  # noqa: PLC0415
    from agenttrace.host import verify_fixture  # noqa: PLC0415

    released = released_version(verify_fixture.FIXTURE)
    places = verify_fixture.verify(arguments.testdata or verify_fixture.TESTDATA)
    for place in places:
        print(f"{place.digest}  {place.name}")  # noqa: T201 - the session's result
        for difference in place.differences:
            print(f"    {difference}")  # noqa: T201
    equal = all(place.digest == released and not place.differences for place in places)
    print(f"{released}  released: {'all equal' if equal else 'NOT equal'}")  # noqa: T201
    return 0 if equal else 1


def _judge(arguments: argparse.Namespace) -> int:
    from agenttrace.host.judge import judge  # noqa: PLC0415

    return judge(arguments.file, check=arguments.check)


def _analysis(arguments: argparse.Namespace) -> int:
    from agenttrace.host import analysis, publishing  # noqa: PLC0415

    if arguments.verb == publishing.VERB:
        return publishing.run(arguments.argv)
    return analysis.run(arguments.verb, arguments.argv)


def _release(arguments: argparse.Namespace) -> int:
    from agenttrace.host import release  # noqa: PLC0415

    return release.run(arguments.argv)


def _clean(arguments: argparse.Namespace) -> int:
    from agenttrace.host import cleaning  # noqa: PLC0415

    engine.check()
    report = cleaning.clean(images=arguments.images, everything=arguments.all)
    for line in report.lines:
        engine.say(line)
    return 0 if report.complete else 1


def _probe_sandbox(arguments: argparse.Namespace) -> int:
    from agenttrace.probes import report  # noqa: PLC0415

    outcome = report.probe_sandbox(only=arguments.policy or (), named=arguments.named)
    report.show(outcome)
    if arguments.json is not None:
        report.write(outcome, arguments.json)
    return outcome.exit_code


if __name__ == "__main__":
    main()
