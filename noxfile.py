"""The commands of the kit. `scripts/nox -l` lists them; `scripts/nox -s NAME -- ARGUMENTS` runs one."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import nox

ROOT = Path(__file__).parent

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["collect"]

# Time for a campaign to stop its collector and to remove its containers after Ctrl-C.
STOP_S = 60.0
CANNOT_EMULATE = 3


def _install(session: nox.Session, *names: str) -> None:
    """Install locked requirements, once per state of the lock files."""
    files = [ROOT / "requirements" / f"{name}.txt" for name in names]
    state = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    marker = Path(session.virtualenv.location) / "installed"
    if marker.exists() and marker.read_text(encoding="ascii") == state:
        return
    for file in files:
        # Harbor asks for Python 3.12 and is read by 3.11 just as well: only its models of ATIF are used.
        older = ["--ignore-requires-python"] if file.stem == "formats-bare" else []
        session.install("--quiet", "--require-hashes", "--no-deps", *older, "--requirement", str(file))
    marker.write_text(state, encoding="ascii")


def _python(session: nox.Session, *arguments: str) -> None:
    """Run this checkout's code where the command was typed, so that relative paths mean what they say there."""
    with session.chdir(session.invoked_from):
        session.run(
            "python",
            "-P",
            *arguments,
            interrupt_timeout=STOP_S,
            terminate_timeout=STOP_S,
            env={"PYTHONPATH": str(ROOT)},
        )


def _host(session: nox.Session, *arguments: str) -> None:
    _install(session, "host")
    _python(session, "-m", "agenttrace.host", *arguments)


def _bench(session: nox.Session, name: str, needs: str = "host") -> None:
    """Run a developers' bench or check (`bench/`) with the requirements that it needs."""
    _install(session, needs)
    _python(session, "-m", "bench", name, *session.posargs)


def _analysis(session: nox.Session, verb: str) -> None:
    """Run a verb that reads records in the analysis image."""
    _host(session, verb, *session.posargs)


@nox.session(tags=["run"])
def collect(session: nox.Session) -> None:
    """Collect traces of a model on a task set (options: -- --help)."""
    _host(session, "collect", *session.posargs)


@nox.session(tags=["run"])
def fetch(session: nox.Session) -> None:
    """Bring a model's weights into the models volume, verified (-- MODEL)."""
    _host(session, "fetch", *session.posargs)


@nox.session(tags=["run"])
def rollouts(session: nox.Session) -> None:
    """Make execution-free coding rollouts over checkouts of repositories (options: -- --help)."""
    _host(session, "rollouts", *session.posargs)


@nox.session(tags=["run"])
def compact(session: nox.Session) -> None:
    """Store rollouts in a small file with random access (-- FILE.jsonl FILE.jsonl.zst)."""
    _analysis(session, "compact")


@nox.session(tags=["run"])
def show(session: nox.Session) -> None:
    """Print one trace of a record file as a transcript with the cost of each call (-- FILE [TRACE])."""
    _install(session, "host")
    _python(session, "-m", "agenttrace", "show", *session.posargs)


@nox.session(tags=["run"])
def validate(session: nox.Session) -> None:
    """Check record files, traces and rollouts: schema, ids, order, joins, counts, metadata, leaks (-- FILE...)."""
    _install(session, "host")
    _python(session, "-m", "agenttrace", "validate", *session.posargs)


@nox.session(tags=["run"])
def convert(session: nox.Session) -> None:
    """Write records in another format (-- FILE... --to FORMAT -o OUT)."""
    _analysis(session, "convert")


@nox.session(tags=["run"])
def publish(session: nox.Session) -> None:
    """Make the folder to publish: tables, records, schemas, card (-- FILE... -o DIR)."""
    _analysis(session, "publish")


@nox.session(tags=["run"])
def release(session: nox.Session) -> None:
    """Make a release with cassette, verdicts, manifest (-- FILE... -o DIR); -- --verify DIR checks one; -- --demo."""
    _analysis(session, "release")


@nox.session(tags=["run"])
def report(session: nox.Session) -> None:
    """Write record files as one page that opens in any browser (-- FILE... -o report.html)."""
    _analysis(session, "report")


@nox.session(tags=["run"])
def analyze(session: nox.Session) -> None:
    """Analyse record files: outcomes, time, tokens, cost per tool and command; several are compared (-- FILE…)."""
    _analysis(session, "analyze")


@nox.session(tags=["run"])
def plots(session: nox.Session) -> None:
    """Draw record files as PDF, SVG and PNG (-- FILE… --outdir figures)."""
    _analysis(session, "plots")


@nox.session(tags=["run"])
def tables(session: nox.Session) -> None:
    """Write record files as three Parquet tables: runs, steps, spans (-- FILE… --outdir FOLDER)."""
    _analysis(session, "tables")


@nox.session(tags=["run"])
def stats(session: nox.Session) -> None:
    """Print the figures of a run of rollouts: ends, turns, tokens, observations, commands, diversity (-- RUN)."""
    _analysis(session, "stats")


@nox.session(tags=["run"])
def compare(session: nox.Session) -> None:
    """Compare two runs of rollouts: both figures, the difference and its interval (-- A B)."""
    _analysis(session, "compare")


@nox.session(name="publish-rollouts", tags=["run"])
def publish_rollouts(session: nox.Session) -> None:
    """Make the folder of rollouts to publish, and upload it (-- RUN -o DIR [--upload OWNER/NAME])."""
    _analysis(session, "publish-rollouts")


@nox.session(name="bench-diversity", default=False, tags=["measure"])
def bench_diversity(session: nox.Session) -> None:
    """Measure signatures and near-duplicates beside datasketch and upstream's MD5 (options: -- --help)."""
    _bench(session, "bench-diversity", needs="bench")


@nox.session(name="bench-analysis", default=False, tags=["measure"])
def bench_analysis(session: nox.Session) -> None:
    """Measure reading and analysing a million spans beside pandas, and report pages (options: -- --help)."""
    _bench(session, "bench-analysis", needs="tests")


@nox.session(tags=["run"])
def images(session: nox.Session) -> None:
    """Build the images that are out of date (-- --check-reproducible: twice from scratch; -- --sbom FOLDER)."""
    _install(session, "host", *(["sbom"] if any(word.startswith("--sbom") for word in session.posargs) else []))
    _python(session, "-m", "agenttrace.host", "images", *session.posargs)


@nox.session(tags=["run"])
def doctor(session: nox.Session) -> None:
    """Say what this machine has, what is pinned, what differs and what to do (options: -- --help)."""
    _host(session, "doctor", *session.posargs)


@nox.session(default=False, tags=["check"])
def arm64(session: nox.Session) -> None:
    """Build every image for the other of amd64 and arm64, and compare what must be equal (options: -- --help)."""
    if not {"-h", "--help"} & {*session.posargs}:
        ended = subprocess.run(["sh", str(ROOT / "scripts/enable-emulation.sh")], check=False)  # noqa: S603, S607
        if ended.returncode == CANNOT_EMULATE:
            session.skip("this machine cannot run programs of the other architecture (the reason stands above)")
        if ended.returncode:
            session.error("scripts/enable-emulation.sh failed (see above)")
    _bench(session, "arm64")


@nox.session(name="verify-fixture", tags=["check"])
def verify_fixture(session: nox.Session) -> None:
    """Compare the NL2Bash fixture in testdata/, in the sandbox image and in a worker after a reset."""
    _host(session, "verify-fixture", *session.posargs)


@nox.session(name="tasks-check", tags=["check"])
def tasks_check(session: nox.Session) -> None:
    """Run every reference of the task sets in the sandbox: which are stable, which pass, which are broken (-- SET)."""
    _bench(session, "tasks-check")


@nox.session(tags=["run"])
def judge(session: nox.Session) -> None:
    """Compute the verdicts of a record file again (-- FILE; -- --check FILE only compares)."""
    _host(session, "judge", *session.posargs)


@nox.session(tags=["run"])
def replay(session: nox.Session) -> None:
    """Run a record file again from its cassette, without a model, and compare every byte (-- FILE)."""
    _host(session, "replay", *session.posargs)


@nox.session(tags=["check"])
def determinism(session: nox.Session) -> None:
    """Run a campaign several times, each with a new server, and compare trajectories (options: -- --help)."""
    _host(session, "determinism", *session.posargs)


@nox.session(tags=["check"])
def reproduce(session: nox.Session) -> None:
    """Make a released data set again and compare ids, prompts, order and metadata byte for byte (-- [FILE])."""
    _host(session, "reproduce", *session.posargs)


@nox.session(tags=["run"])
def clean(session: nox.Session) -> None:
    """Remove the kit's containers, volumes and networks from the engine (-- --images: its images as well)."""
    _host(session, "clean", *session.posargs)


@nox.session(name="probe-sandbox", tags=["run"])
def probe_sandbox(session: nox.Session) -> None:
    """Attack the sandbox with every probe and print what held (options: -- --help)."""
    _host(session, "probe-sandbox", *session.posargs)


@nox.session(tags=["check"])
def tests(session: nox.Session) -> None:
    """Run all tests, an end-to-end collection through the real containers among them."""
    _install(session, "tests")
    if not session.posargs or any("tests/analysis" in argument for argument in session.posargs):
        session.run("sh", str(ROOT / "scripts" / "install-browser.sh"), external=True)
    session.run("python", "-m", "pytest", *session.posargs, env={"PYTHONPATH": str(ROOT)}, interrupt_timeout=STOP_S)


@nox.session(default=False, tags=["check"])
def quick(session: nox.Session) -> None:
    """Run what needs no engine and is not slow, on two processes: the tests beside which one writes code."""
    _install(session, "tests")
    arguments = ["-m", "not docker and not slow", "-n", "2", "--dist", "worksteal", *session.posargs]
    session.run("python", "-m", "pytest", *arguments, env={"PYTHONPATH": str(ROOT)})


@nox.session(tags=["check"])
def telemetry(session: nox.Session) -> None:
    """Check how raw counters become telemetry: recorded samples of several kernels and properties; without Docker."""
    _install(session, "telemetry")
    session.run("python", "-m", "pytest", "tests/telemetry", *session.posargs, env={"PYTHONPATH": str(ROOT)})


@nox.session(name="formats-check", tags=["check"])
def formats_check(session: nox.Session) -> None:
    """Open exports with their readers: Harbor, Inspect, mini-swe-agent, Phoenix's client; without Docker."""
    _install(session, "formats", "formats-bare")
    names = session.posargs or ["tests/formats/consumers"]
    session.run("python", "-m", "pytest", *names, env={"PYTHONPATH": str(ROOT)})


@nox.session(name="telemetry-check", tags=["measure"])
def telemetry_check(session: nox.Session) -> None:
    """Run known loads through real sandbox workers and check their figures (options: -- --help)."""
    _bench(session, "telemetry-check")


@nox.session(name="bench-sandbox", default=False, tags=["measure"])
def bench_sandbox(session: nox.Session) -> None:
    """Measure calls, resets and limits of the sandbox beside their alternatives (-- --soak: 10,000 calls in a row)."""
    _bench(session, "bench-sandbox")


@nox.session(name="budget-check", default=False, tags=["measure"])
def budget_check(session: nox.Session) -> None:
    """Compare counted prompts with the server's count on random conversations (-- --requests N)."""
    _bench(session, "budget-check")


@nox.session(name="bench-rollouts", default=False, tags=["measure"])
def bench_rollouts(session: nox.Session) -> None:
    """Measure rollouts beside upstream's way: harness time, rate at full width, bytes stored (options: -- --help)."""
    _bench(session, "bench-rollouts")


@nox.session(name="bench-collect", default=False, tags=["measure"])
def bench_collect(session: nox.Session) -> None:
    """Measure a campaign beside a bare load generator, and the resume of a long record file (options: -- --help)."""
    _bench(session, "bench-collect")


@nox.session(name="crash-check", default=False, tags=["check"])
def crash_check(session: nox.Session) -> None:
    """Kill campaigns at random instants and count what their records lost (-- --kills 200 --real 10)."""
    _bench(session, "crash-check", needs="tests")


@nox.session(tags=["check"])
def lint(session: nox.Session) -> None:
    """Check the code with ruff."""
    _install(session, "lint")
    session.run("ruff", "check", *session.posargs)


@nox.session(name="format", tags=["check"])
def format_(session: nox.Session) -> None:
    """Check the formatting; with -- --fix change it."""
    _install(session, "lint")
    session.run("ruff", "format", *([] if "--fix" in session.posargs else ["--check", "--diff"]))


@nox.session(tags=["check"])
def typing(session: nox.Session) -> None:
    """Check the types, strictly."""
    _install(session, "tests", "lint")
    session.run("mypy", *session.posargs)


@nox.session(default=False, tags=["check"])
def workflows(session: nox.Session) -> None:
    """Check the workflow of continuous integration with zizmor, offline."""
    _install(session, "workflows")
    session.run("zizmor", "--offline", "--persona", "pedantic", ".github/workflows", *session.posargs)


@nox.session(default=False, tags=["maintenance"])
def schema(session: nox.Session) -> None:
    """Write the JSON Schemas and docs/schema.md from the types (-- --check: only compare)."""
    _install(session, "host")
    _python(session, "-m", "agenttrace.records.schema", *session.posargs)


@nox.session(default=False, tags=["maintenance"])
def lock(session: nox.Session) -> None:
    """Lock requirements/*.in again, with the hashes of every file."""
    session.install("uv==0.13.8")
    for name in (
        *("collector", "analysis", "host", "lint", "nox", "tests"),
        *("telemetry", "bench", "formats", "sbom", "workflows"),
    ):
        session.run(
            "uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes",
            "--no-emit-index-url", "--no-header", "--output-file", f"requirements/{name}.txt",
            f"requirements/{name}.in", *session.posargs,
        )  # fmt: skip
    session.run(
        "uv", "pip", "compile", "--quiet", "--universal", "--no-deps", "--python-version", "3.12", "--generate-hashes",
        "--no-emit-index-url", "--no-header", "--output-file", "requirements/formats-bare.txt",
        "requirements/formats-bare.in", *session.posargs,
    )  # fmt: skip


@nox.session(name="train-model", default=False, tags=["maintenance"])
def train_model(session: nox.Session) -> None:
    """Train a bundled demo model again (-- --model swe: that of rollouts; -- --check: compare the digest)."""
    session.install("--quiet", "--requirement", "requirements/train.in")
    session.run("python", "scripts/train-demo-model.py", *session.posargs)
