"""`python -m bench NAME`: what the developers' sessions run on this machine."""

from __future__ import annotations

import argparse
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

from agenttrace.cli import end_with
from agenttrace.verbs.output import check_json

BENCHES = {
    "telemetry-check": ("bench.sandbox.telemetry_check", "check"),
    "bench-sandbox": ("bench.sandbox.bench_sandbox", "run"),
    "crash-check": ("bench.campaigns.crash_check", "check"),
    "cluster-crash-check": ("bench.campaigns.cluster_crash_check", "check"),
    "bench-cluster": ("bench.campaigns.bench_cluster", "run"),
    "bench-collect": ("bench.campaigns.bench_collect", "run"),
    "bench-serving": ("bench.campaigns.bench_serving", "run"),
    "bench-estimate": ("bench.campaigns.bench_estimate", "run"),
    "bench-rollouts": ("bench.campaigns.bench_rollouts", "run"),
    "budget-check": ("bench.campaigns.budget_check", "check"),
    "dry-run": ("bench.campaigns.dry_run", "run"),
    "bench-analysis": ("bench.analysis.bench_analysis", "run"),
    "bench-diversity": ("bench.analysis.bench_diversity", "run"),
    "tasks-check": ("bench.task_sets.tasks_check", "check"),
    "random-weights": ("bench.random_weights", "run"),
    "arm64": ("bench.arm64", "check"),
    "artifact": ("bench.artifact", "run"),
}
"""Session → module and function; the function gets the options by name and returns the exit status."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="nox -s", description="What the developers' sessions do on this machine.")
    names = parser.add_subparsers(dest="name", metavar="SESSION", required=True)

    def session(name: str, help_: str) -> argparse.ArgumentParser:
        return names.add_parser(name, help=help_, prog=f"nox -s {name} --")

    _add_sandbox(
        session("telemetry-check", "check the figures of calls"), session("bench-sandbox", "measure the sandbox")
    )
    _add_campaigns(
        session("crash-check", "kill campaigns, count the losses"),
        session("bench-collect", "measure campaigns"),
        session("bench-rollouts", "measure rollouts"),
        session("budget-check", "compare counted prompts"),
    )
    _add_cluster(
        session("cluster-crash-check", "kill what makes shards, count the losses"),
        session("bench-cluster", "measure runs over several machines"),
    )
    _add_serving(session("bench-serving", "measure prompt reuse and threads"))
    _add_estimate(
        session("bench-estimate", "measure what 700 tasks take"),
        session("random-weights", "write a file of a model's shape"),
    )
    _add_analysis(session("bench-analysis", "measure the analysis"), session("bench-diversity", "measure diversity"))
    tasks = session("tasks-check", "run every reference of a task set in the sandbox")
    tasks.add_argument("names", nargs="*", metavar="SET", help="nl2bash, mbpp (default: both)")
    tasks.add_argument("--json", dest="json_file", type=Path, metavar="FILE", help="write everything that was found")
    tasks.add_argument(
        "--workers", type=int, metavar="W", help="sandboxes at a time (default: one per core, at most 4)"
    )
    _add_artifact(session("artifact", "run the claims of README and docs/"))
    _add_dry_run(session("dry-run", "reckon a campaign of SWE-ZERO's size over a cluster"))
    other = session("arm64", "compare the images of two architectures")
    other.add_argument("--only", action="append", default=[], metavar="CHECK", help="one check, may be given again")
    return parser


def _add_sandbox(check: argparse.ArgumentParser, bench: argparse.ArgumentParser) -> None:
    check.add_argument(
        "--repeat", dest="repeats", type=int, default=5, metavar="N", help="runs of each load (default: %(default)s)"
    )
    check.add_argument("--only", action="append", default=[], metavar="PART", help="loads with this in their name")
    check.add_argument("--json", dest="json_file", type=Path, metavar="FILE", help="write the findings there as well")
    bench.add_argument("--rounds", type=int, default=20, metavar="N", help="turns of each side (default: %(default)s)")
    bench.add_argument("--only", action="append", default=[], metavar="GROUP", help="calls, telemetry or resets")
    bench.add_argument(
        "--work", type=Path, metavar="DIR", help="work trees of the resets lie there, on its file system"
    )
    bench.add_argument("--soak", action="store_true", help="many calls in a row, alone unless --only names groups")
    bench.add_argument(
        "--calls", type=int, default=10_000, metavar="N", help="calls of the soak (default: %(default)s)"
    )
    bench.add_argument("--json", dest="json_file", type=Path, metavar="FILE", help="write the rows there as well")
    bench.add_argument("--strict", action="store_true", help="status 1 when a target is missed")


def _add_campaigns(
    crash: argparse.ArgumentParser,
    campaign: argparse.ArgumentParser,
    wide: argparse.ArgumentParser,
    budget: argparse.ArgumentParser,
) -> None:
    crash.add_argument("--kills", type=int, default=200, metavar="N", help="of a collector beside a scripted server")
    crash.add_argument(
        "--real", dest="real_kills", type=int, default=10, metavar="N", help="of whole campaigns in the containers"
    )
    crash.add_argument("--seed", type=int, help="chooses the moments (default: another one each time)")
    campaign.add_argument("model", nargs="?", default="agenttrace-demo", help="as collect takes it (default: bundled)")
    campaign.add_argument("--dataset", default="demo", metavar="SET", help="default: %(default)s")
    campaign.add_argument("--tasks", type=int, default=2000, metavar="N", help="of it (default: %(default)s)")
    campaign.add_argument(
        "--records", type=int, default=10_000, metavar="N", help="of the resumed file; 0 leaves it out"
    )
    campaign.add_argument("--workers", type=int, metavar="W", help="tasks run at a time (default: the profile's)")
    campaign.add_argument("--max-steps", type=int, metavar="N", help="of a task (default: the agent's)")
    campaign.add_argument("--max-tokens", type=int, metavar="N", help="of a reply (default: the sampler's)")
    campaign.add_argument("--json", dest="json_file", type=Path, metavar="FILE", help="write the figures there as well")
    wide.add_argument("--rollouts", type=int, default=1000, metavar="N", help="of the wide run (default: %(default)s)")
    wide.add_argument("--at-a-time", type=int, default=64, metavar="W", help="sandboxes of it (default: %(default)s)")
    wide.add_argument("--json", dest="json_file", type=Path, metavar="FILE", help="write the figures there as well")
    budget.add_argument("--requests", type=int, default=10_000, metavar="N", help="default: %(default)s")
    budget.add_argument("--seed", type=int, default=1, help="of the texts (default: %(default)s)")


def _add_cluster(crash: argparse.ArgumentParser, cluster: argparse.ArgumentParser) -> None:
    crash.add_argument("--kills", type=int, default=50, metavar="N", help="on a Ray cluster (default: %(default)s)")
    crash.add_argument("--without-ray", type=int, default=0, metavar="N", help="of machines that make shards by number")
    crash.add_argument("--store", metavar="URL", help="where the latters' runs go, and stay (default: a new folder)")
    crash.add_argument("--seed", type=int, help="chooses what, and the moments (default: another one each time)")
    parts = "scaling, harness, driver, plan, single or records, may be given again (default: all)"
    cluster.add_argument("--only", action="append", default=[], metavar="PART", help=parts)
    cluster.add_argument("--rounds", type=int, default=3, metavar="N", help="turns of each side (default: %(default)s)")
    cluster.add_argument(
        "--per-node", type=int, default=128, metavar="N", help="rollouts of a node in scaling (default: %(default)s)"
    )
    cluster.add_argument("--json", dest="json_file", type=Path, metavar="FILE", help="write the rows there as well")


def _add_serving(serving: argparse.ArgumentParser) -> None:
    serving.add_argument("model", nargs="?", default="agenttrace-demo", help="as collect takes it (default: bundled)")
    serving.add_argument("--dataset", default="demo", metavar="SET", help="of the part prompts (default: %(default)s)")
    serving.add_argument(
        "-n", dest="tasks", type=int, default=8, metavar="N", help="tasks of it (default: %(default)s)"
    )
    serving.add_argument("--rounds", type=int, default=3, metavar="N", help="turns of each side (default: %(default)s)")
    serving.add_argument("--only", action="append", default=[], metavar="PART", help="prompts or threads")
    serving.add_argument(
        "--profiles",
        nargs="+",
        metavar="P",
        help="of the part prompts: names, or NAME@VERSION (default: stateless reproducible)",
    )
    serving.add_argument("--json", dest="json_file", type=Path, metavar="FILE", help="write the figures there as well")


def _add_artifact(artifact: argparse.ArgumentParser) -> None:
    artifact.add_argument("--full", action="store_true", help="the long ones as well")
    artifact.add_argument("--only", action="append", default=[], metavar="NAME", help="a claim, may be given again")
    artifact.add_argument("--folder", type=Path, metavar="DIR", help="where the commands run (default: a new one)")
    artifact.add_argument(
        "--json", dest="json_file", type=Path, metavar="FILE", help="write the verdicts there as well"
    )


def _add_estimate(estimate: argparse.ArgumentParser, weights: argparse.ArgumentParser) -> None:
    estimate.add_argument("model", metavar="MODEL", help="as collect takes it, of 0.6B or 1.7B")
    estimate.add_argument(
        "--rounds", type=int, default=3, metavar="N", help="turns of each side (default: %(default)s)"
    )
    estimate.add_argument(
        "--reply", type=int, default=128, metavar="N", help="tokens of a measured reply (default: %(default)s)"
    )
    estimate.add_argument(
        "--cores", type=int, nargs="*", default=[8], metavar="N", help="carry over to so many (default: 8)"
    )
    estimate.add_argument("--only", action="append", default=[], metavar="PROFILE", help="stateless or reproducible")
    estimate.add_argument("--json", dest="json_file", type=Path, metavar="FILE", help="write the figures there as well")
    weights.add_argument("model", metavar="MODEL", help="a pinned Qwen3")
    weights.add_argument("--output", type=Path, required=True, metavar="FILE", help="is written over")
    weights.add_argument("--seed", type=int, default=0, metavar="N", help="of the weights (default: %(default)s)")


def _add_dry_run(dry: argparse.ArgumentParser) -> None:
    for name, kind, what in (
        ("tasks", int, "of the plan"),
        ("rollouts", int, "of each task"),
        ("endpoints", int, "model servers"),
        ("in-flight", int, "rollouts in flight at each"),
        ("rate", float, "rollouts an hour of each with so many in flight, tool calls left out"),
        ("sigma", float, "spread of a rollout's time: the standard deviation of its logarithm"),
        ("slots", int, "sandbox workers of a node"),
        ("life-hours", float, "until a node is killed, on average; 0 is never"),
        ("gb-month", float, "US dollars for a gigabyte in the store and month"),
        ("thousand-puts", float, "US dollars for a thousand objects made"),
        ("seed", int, "of the simulation"),
    ):
        dry.add_argument(f"--{name}", type=kind, metavar="N", help=f"{what} (default: see the table)")
    dry.add_argument("--measure", dest="measured", action="store_true", help="measure bytes, trees and memory here")
    dry.add_argument("--json", dest="json_file", type=Path, metavar="FILE", help="write inputs and figures as well")


def _add_analysis(analysis: argparse.ArgumentParser, diversity: argparse.ArgumentParser) -> None:
    analysis.add_argument("--spans", type=int, default=1_000_000, metavar="N", help="default: %(default)s")
    analysis.add_argument(
        "--rounds", type=int, default=3, metavar="N", help="turns of each side (default: %(default)s)"
    )
    analysis.add_argument("--seed", type=int, default=20260928, help="default: %(default)s")
    analysis.add_argument(
        "--folder", type=Path, help="where the records go while it runs (3 GB; default: the system's)"
    )
    analysis.add_argument("--json", dest="json_file", type=Path, metavar="FILE", help="write all figures there as well")
    diversity.add_argument("--rollouts", type=int, default=100_000, help="texts (default: %(default)s)")
    diversity.add_argument("--slow", type=int, default=1_000, help="of these for the slow sides (default: %(default)s)")
    diversity.add_argument(
        "--signatures", type=int, default=1_000_000, help="made-up ones, in a file (default: %(default)s)"
    )
    diversity.add_argument("--json", dest="json_file", type=Path, metavar="FILE", help="write the rows there as well")


def main(argv: list[str] | None = None) -> NoReturn:
    """Run one bench or check and exit with its status; a user's mistake is one message, never a traceback."""
    end_with(partial(_run, argv))


def _run(argv: list[str] | None) -> int:
    options: dict[str, Any] = vars(_parser().parse_args(argv))
    check_json(options.get("json_file"))
    if "soak" in options:
        soak, calls = options.pop("soak"), options.pop("calls")
        options["soak_calls"] = calls if soak else 0
    module, function = BENCHES[options.pop("name")]
    return int(getattr(import_module(module), function)(**options))


if __name__ == "__main__":
    main()
