"""`python -m agenttrace.host VERB`: what the nox sessions run on the user's machine."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import NoReturn

from agenttrace.errors import AgentTraceError, UsageError, unusable
from agenttrace.host import engine, reproducing, rollout_options
from agenttrace.serving import pins, profiles
from agenttrace.show import escape_what_no_terminal_here_shows
from agenttrace.tasks import DATASETS
from agenttrace.verbs import MODULES

EXIT_INTERRUPTED = 130
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
    checked = verbs.add_parser(
        "tasks-check", help="run every reference of a task set in the sandbox", prog="nox -s tasks-check --"
    )
    checked.add_argument("sets", nargs="*", metavar="SET", help="nl2bash, mbpp (default: both)")
    checked.add_argument("--json", type=Path, metavar="FILE", help="write everything that was found")
    checked.add_argument(
        "--workers", type=int, metavar="W", help="sandboxes at a time (default: one per core, at most 4)"
    )
    judge = verbs.add_parser("judge", help="compute the verdicts of a record file again", prog="nox -s judge --")
    judge.add_argument("file", type=Path, help="a record file (.jsonl)")
    judge.add_argument("--check", action="store_true", help="only compare; exit status 1 when a verdict differs")
    reproducing.add(verbs)
    clean = verbs.add_parser("clean", help="remove containers, volumes and networks", prog="nox -s clean --")
    clean.add_argument("--images", action="store_true", help="remove the images as well")
    clean.add_argument("--all", action="store_true", help="also what running campaigns of other checkouts use")
    _add_checks(verbs)
    return parser


def _add_images(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    images = verbs.add_parser("images", help="build the images that are out of date", prog="nox -s images --")
    images.add_argument("targets", nargs="*", metavar="IMAGE", help="default: those of a campaign; the checks take all")
    images.add_argument("--all", action="store_true", help="all images, also those that only some sessions use")
    images.add_argument("--check-reproducible", action="store_true", help="build each twice from scratch, compare")
    images.add_argument("--sbom", type=Path, metavar="FOLDER", help="write a bill of materials per image (CycloneDX)")
    other = verbs.add_parser("arm64", help="compare the images of two architectures", prog="nox -s arm64 --")
    other.add_argument("--only", action="append", default=[], metavar="CHECK", help="one check, may be given again")
    doctor = verbs.add_parser("doctor", help="what this machine has and what differs", prog="nox -s doctor --")
    doctor.add_argument("--network", action="store_true", help="also ask registry, Hub and task files for an answer")
    doctor.add_argument("--json", action="store_true", help="print it as JSON")


def _add_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--size", type=int, metavar="BYTES", help="bytes that a model without a pin must have")
    parser.add_argument("--sha256", metavar="HEX", help="digest that it must have")


def _add_checks(verbs: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    check = verbs.add_parser("telemetry-check", help="check the figures of calls", prog="nox -s telemetry-check --")
    check.add_argument("--repeat", type=int, default=5, metavar="N", help="runs of each load (default: %(default)s)")
    check.add_argument("--only", action="append", default=[], metavar="PART", help="loads with this in their name")
    check.add_argument("--json", type=Path, metavar="FILE", help="write the findings there as well")
    bench = verbs.add_parser("bench-sandbox", help="measure the sandbox", prog="nox -s bench-sandbox --")
    bench.add_argument("--rounds", type=int, default=20, metavar="N", help="turns of each side (default: %(default)s)")
    bench.add_argument("--only", action="append", default=[], metavar="GROUP", help="calls, telemetry or resets")
    bench.add_argument("--soak", action="store_true", help="many calls in a row, alone unless --only names groups")
    bench.add_argument(
        "--calls", type=int, default=10_000, metavar="N", help="calls of the soak (default: %(default)s)"
    )
    bench.add_argument("--json", type=Path, metavar="FILE", help="write the rows there as well")
    bench.add_argument("--strict", action="store_true", help="status 1 when a target is missed")
    crash = verbs.add_parser("crash-check", help="kill campaigns, count the losses", prog="nox -s crash-check --")
    crash.add_argument("--kills", type=int, default=200, metavar="N", help="of a collector beside a scripted server")
    crash.add_argument("--real", type=int, default=10, metavar="N", help="of whole campaigns in the containers")
    crash.add_argument("--seed", type=int, help="chooses the moments (default: another one each time)")
    campaign = verbs.add_parser("bench-collect", help="measure campaigns", prog="nox -s bench-collect --")
    campaign.add_argument("--tasks", type=int, default=2000, metavar="N", help="demo tasks (default: %(default)s)")
    campaign.add_argument(
        "--records", type=int, default=10_000, metavar="N", help="of the resumed file; 0 leaves it out"
    )
    campaign.add_argument("--workers", type=int, metavar="W", help="tasks run at a time (default: the profile's)")
    campaign.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    wide = verbs.add_parser("bench-rollouts", help="measure rollouts", prog="nox -s bench-rollouts --")
    wide.add_argument("--rollouts", type=int, default=1000, metavar="N", help="of the wide run (default: %(default)s)")
    wide.add_argument("--at-a-time", type=int, default=64, metavar="W", help="sandboxes of it (default: %(default)s)")
    wide.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    budget = verbs.add_parser("budget-check", help="compare counted prompts", prog="nox -s budget-check --")
    budget.add_argument("--requests", type=int, default=10_000, metavar="N", help="default: %(default)s")
    budget.add_argument("--seed", type=int, default=1, help="of the texts (default: %(default)s)")
    probe = verbs.add_parser("probe-sandbox", help="attack the sandbox, say what held", prog="nox -s probe-sandbox --")
    probe.add_argument("--policy", action="append", choices=["shell", "execution_free"], help="default: both")
    probe.add_argument("-k", dest="named", metavar="NAME", help="only probes whose name contains this pattern")
    probe.add_argument("--json", type=Path, metavar="FILE", help="write the results there as well")


def _milliseconds(text: str) -> int:
    try:
        return round(float(text) * 1000)
    except (ValueError, OverflowError):  # not a number, or not a finite one
        raise argparse.ArgumentTypeError(f"{text!r}: expected a number of seconds") from None


def _check_json(path: object) -> None:
    """Refuse a place where the findings of a long run could not be written at its end."""
    if isinstance(path, Path) and (path.is_dir() or not os.access(path.parent, os.W_OK)):
        raise UsageError(
            f"--json {path}: "
            + ("a folder; name a file" if path.is_dir() else "its folder is not there, or not writable")
        )


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
        "arm64": _other_arch,
        "clean": _clean,
        "telemetry-check": _telemetry_check,
        "bench-sandbox": _bench_sandbox,
        "probe-sandbox": _probe_sandbox,
        "crash-check": _crash_check,
        "bench-collect": _bench_collect,
        "bench-rollouts": _bench_rollouts,
        "budget-check": _budget_check,
        "verify-fixture": _verify_fixture,
        "tasks-check": _check_tasks,
        "judge": _judge,
        "release": _release,
        **reproducing.VERBS,
    }
    try:
        _check_json(getattr(arguments, "json", None))
        status = verbs.get(arguments.verb, _analysis)(arguments)
    except AgentTraceError as error:
        engine.say(str(error))
        status = error.exit_code
    except OSError as error:
        engine.say(str(told := engine.refusal(error) or unusable(error)))
        status = told.exit_code
    except KeyboardInterrupt:
        kept = {
            "collect": "; every finished record is kept, the same command goes on",
            "rollouts": "; every finished record is kept, the same command goes on",
            "fetch": "; what has come is kept, the same command goes on",
        }
        engine.say(f"interrupted{kept.get(arguments.verb, '')}")
        status = EXIT_INTERRUPTED
    sys.exit(status)


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


def _other_arch(arguments: argparse.Namespace) -> int:
    from agenttrace.host import other_arch  # noqa: PLC0415

    return 0 if other_arch.check(only=arguments.only) else 1


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


def _check_tasks(arguments: argparse.Namespace) -> int:
    from agenttrace.host import check_tasks  # noqa: PLC0415

    return check_tasks.check(tuple(arguments.sets) or check_tasks.SETS, workers=arguments.workers, json=arguments.json)


def _judge(arguments: argparse.Namespace) -> int:
    from agenttrace.host.judge import judge  # noqa: PLC0415

    return judge(arguments.file, check=arguments.check)


def _analysis(arguments: argparse.Namespace) -> int:
    from agenttrace.host import analysis, publishing  # noqa: PLC0415

    if arguments.verb in publishing.VERBS:
        return publishing.run(arguments.verb, arguments.argv)
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


def _telemetry_check(arguments: argparse.Namespace) -> int:
    from agenttrace.checks import telemetry  # noqa: PLC0415

    return telemetry.check(repeats=arguments.repeat, only=arguments.only, json_file=arguments.json)


def _bench_sandbox(arguments: argparse.Namespace) -> int:
    from agenttrace.checks import bench  # noqa: PLC0415

    return bench.run(
        rounds=arguments.rounds,
        only=arguments.only,
        soak_calls=arguments.calls if arguments.soak else 0,
        json_file=arguments.json,
        strict=arguments.strict,
    )


def _crash_check(arguments: argparse.Namespace) -> int:
    from agenttrace.checks import crash  # noqa: PLC0415

    return crash.check(kills=arguments.kills, real_kills=arguments.real, seed=arguments.seed)


def _bench_collect(arguments: argparse.Namespace) -> int:
    from agenttrace.checks import bench_collect  # noqa: PLC0415

    return bench_collect.run(
        tasks=arguments.tasks, records=arguments.records, workers=arguments.workers, json_file=arguments.json
    )


def _bench_rollouts(arguments: argparse.Namespace) -> int:
    from agenttrace.checks import bench_rollouts  # noqa: PLC0415

    return bench_rollouts.run(rollouts=arguments.rollouts, at_a_time=arguments.at_a_time, json_file=arguments.json)


def _budget_check(arguments: argparse.Namespace) -> int:
    from agenttrace.checks import budget  # noqa: PLC0415

    return budget.check(requests=arguments.requests, seed=arguments.seed)


def _probe_sandbox(arguments: argparse.Namespace) -> int:
    from agenttrace.probes import report  # noqa: PLC0415

    outcome = report.probe_sandbox(only=arguments.policy or (), named=arguments.named)
    report.show(outcome)
    if arguments.json is not None:
        report.write(outcome, arguments.json)
    return outcome.exit_code


if __name__ == "__main__":
    main()
