"""The commands of the kit. `scripts/nox -l` lists them; `scripts/nox -s NAME -- ARGUMENTS` runs one."""

from __future__ import annotations

import contextlib
import hashlib
import logging
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import nox
from nox.command import CommandFailed

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT))
from agenttrace.verbs import VERBS, Verb  # noqa: E402 - it is this checkout's

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["collect"]

# Time for a campaign to stop its collector and to remove its containers after Ctrl-C.
STOP_S = 60.0
_OF_OURS: dict[str, Any] = {
    "interrupt_timeout": STOP_S,
    "terminate_timeout": STOP_S,
    "stderr": None,  # its own, not standard output
    "env": {"PYTHONPATH": str(ROOT)},
}
CANNOT_EMULATE = 3
SIDE_BY_SIDE = ("-n", "2", "--dist", "worksteal")
# Without what Python keeps of modules every process of the tests rewrites all asserts again: seven seconds.
_OF_TESTS = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""}


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
        session.run("python", "-P", *arguments, **_OF_OURS)


def _bench(session: nox.Session, name: str, needs: str = "host") -> None:
    """Run a developers' bench or check (`bench/`) with the requirements that it needs."""
    _install(session, needs)
    _python(session, "-m", "bench", name, *session.posargs)


def _of_verbs(needs: str) -> Path:
    """Return the Python of the environment that verbs share which need the same, made once per state of its lock file.

    It gets its name when it is complete: a run that is cut off leaves nothing that looks usable, and of two at once the
    second takes what the first has made.
    """
    lock = ROOT / "requirements" / f"{needs}.txt"
    state = hashlib.sha256(lock.read_bytes() + sys.version.encode()).hexdigest()[:16]
    folder = ROOT / ".nox" / "verbs"
    found = folder / state
    if not (found / "bin" / "python").exists():
        sys.stderr.write("agenttrace: setting up what the verbs need in .nox/verbs\n")
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder, prefix="new-", ignore_cleanup_errors=True) as work:
            new = Path(work, "venv")
            install = ["-m", "pip", "install", "-qq", "--disable-pip-version-check", "--require-hashes", "--no-deps"]
            for words in ([sys.executable, "-m", "venv", new], [new / "bin/python", *install, "--requirement", lock]):
                if status := subprocess.run(words, check=False, stdout=sys.stderr).returncode:  # noqa: S603 - our own
                    raise SystemExit(status)
            with contextlib.suppress(OSError):
                new.rename(found)
    return found / "bin" / "python"


def _verb(name: str, verb: Verb) -> None:
    """Make the session of a verb of the command line; it ends with the verb's own exit status."""

    @nox.session(name=name, tags=[verb.group], venv_backend="none")
    def session(session: nox.Session) -> None:
        words = (str(_of_verbs(verb.needs)), "-P", "-m", "agenttrace.host", name, *session.posargs)
        with session.chdir(session.invoked_from):
            try:
                session.run(*words, external=True, **_OF_OURS)
            except CommandFailed as failed:
                raise SystemExit(failed.return_code) from None

    session.__doc__ = verb.help


class _WithoutVerbs(logging.Filter):
    """Leaves out what nox says of a verb, which says itself how it goes and ends; not what goes wrong in here.

    To the name of a session that is none it adds the verb that was meant.
    """

    of_verb = False

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a line is shown."""
        began = re.fullmatch(r"Running session (\S+)", record.getMessage())
        if began:
            self.of_verb = began[1] in VERBS
        if unknown := re.fullmatch(r"Sessions not found: (\S+)", record.getMessage()):
            from agenttrace.errors import did_you_mean  # noqa: PLC0415 - only who mistyped waits for it

            record.msg, record.args = f"{record.getMessage()}{did_you_mean(unknown[1], VERBS)}; -l lists all", ()
        return bool(record.exc_info) or not self.of_verb


logging.getLogger("nox").addFilter(_WithoutVerbs())
for _name, _one in VERBS.items():
    _verb(_name, _one)


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


@nox.session(tags=["check"])
def tests(session: nox.Session) -> None:
    """Run all tests, an end-to-end collection through the real containers among them."""
    _install(session, "tests")
    if not session.posargs or any("tests/report" in argument for argument in session.posargs):
        session.run("sh", str(ROOT / "scripts" / "install-browser.sh"), external=True)
    if not session.posargs:  # before two processes want the same image; without an engine (2) the tests say so
        words = ["python", "-m", "agenttrace.host", "images", "--all"]
        session.run(*words, env={"PYTHONPATH": str(ROOT)}, success_codes=[0, 2])
    # What starts containers has instances of its own and runs side by side, a file in one process, but for known loads
    # and what takes all there is.
    every = [
        ["-m", "not docker", *SIDE_BY_SIDE],
        ["-m", "docker and alone"],
        ["-m", "docker and not alone and not full_size", "-n", "2", "--dist", "loadfile"],
    ]
    for arguments in [session.posargs] if session.posargs else every:
        words = ["python", "-m", "pytest", *arguments]
        session.run(*words, env=_OF_TESTS, interrupt_timeout=STOP_S)


@nox.session(default=False, tags=["check"])
def quick(session: nox.Session) -> None:
    """Run what needs no engine and is not slow, on two processes: the tests beside which one writes code."""
    _install(session, "tests")
    arguments = ["-m", "not docker and not slow", "--hypothesis-profile", "few", *SIDE_BY_SIDE, *session.posargs]
    session.run("python", "-m", "pytest", *arguments, env=_OF_TESTS)


@nox.session(tags=["check"])
def telemetry(session: nox.Session) -> None:
    """Check how raw counters become telemetry: recorded samples of several kernels and properties; without Docker."""
    _install(session, "telemetry")
    session.run("python", "-m", "pytest", "tests/telemetry", *session.posargs, env={"PYTHONPATH": str(ROOT)})


@nox.session(name="cluster-check", tags=["check"])
def cluster_check(session: nox.Session) -> None:
    """Check what several machines share (stores, parts, manifests), over S3 as moto speaks it, too; without Docker."""
    _install(session, "cluster-check")
    names = session.posargs or ["tests/cluster"]
    session.run("python", "-m", "pytest", *names, env={"PYTHONPATH": str(ROOT)})


@nox.session(name="formats-check", tags=["check"])
def formats_check(session: nox.Session) -> None:
    """Open exports with their newest readers, such as Harbor, Inspect, mini-swe-agent and the Hub's; without Docker."""
    _install(session, "formats", "formats-bare")
    if not session.posargs:
        session.run("sh", str(ROOT / "scripts" / "install-browser.sh"), external=True)
    names = session.posargs or ["tests/formats/consumers"]
    session.run("python", "-m", "pytest", *names, env={"PYTHONPATH": str(ROOT)})


@nox.session(default=False, tags=["check"])
def docs(session: nox.Session) -> None:
    """Build the documentation as a site in site/, strictly: a broken link or anchor fails; without Docker."""
    _install(session, "docs")
    session.run(
        "sphinx-build", "--fresh-env", "--fail-on-warning", "--keep-going", "--quiet", "docs", "site", *session.posargs
    )


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


BENCHES = {
    "telemetry-check": ("host", "Run known loads through real sandbox workers and check their figures."),
    "tasks-check": (
        "host",
        "Run every reference of the task sets in the sandbox: which are stable, which pass, which are broken.",
    ),
    "bench-sandbox": ("host", "Measure calls, resets and limits of the sandbox beside their alternatives."),
    "bench-serving": ("host", "Measure prompt reuse inside a conversation, and threads beside other work."),
    "bench-estimate": ("host", "Measure how long 700 tasks take here with a model of the released data set."),
    "random-weights": ("bench", "Write a GGUF file of a pinned Qwen3's shape and size with random weights."),
    "bench-collect": ("host", "Measure a campaign beside a bare load generator, and the resume of a long record file."),
    "bench-rollouts": (
        "host",
        "Measure rollouts beside upstream's way: harness time, rate at full width, bytes stored.",
    ),
    "bench-analysis": ("tests", "Measure reading and analysing a million spans beside pandas, and report pages."),
    "bench-diversity": ("bench", "Measure signatures and near-duplicates beside datasketch and upstream's MD5."),
    "dry-run": ("tests", "Reckon a campaign of SWE-ZERO's size over a cluster: hours, nodes, bytes, cost."),
    "budget-check": ("host", "Compare counted prompts with the server's count on random conversations."),
    "crash-check": ("tests", "Kill campaigns at random instants and count what their records lost."),
    "cluster-crash-check": (
        "tests",
        "Kill or cut off what makes the shards of a run; count what its records lost.",
    ),
    "bench-cluster": ("tests", "Measure runs over several machines beside one: scaling, harness, memory, plan."),
    "artifact": ("host", "Run the claims of README and docs/ and say which hold (-- --full: the long ones as well)."),
}
"""Session of `bench/` → what it needs installed, what it does; `-- --help` has the options of each."""


def _measure(name: str, needs: str, what: str) -> None:
    """Make the session of a bench or check."""

    @nox.session(name=name, default=False, tags=["measure"])
    def session(session: nox.Session) -> None:
        _bench(session, name, needs)

    session.__doc__ = what


for _name, (_needs, _what) in BENCHES.items():
    _measure(_name, _needs, _what)


@nox.session(default=False, tags=["maintenance"])
def schema(session: nox.Session) -> None:
    """Write the JSON Schemas, the made pages of docs/ and the README's table of verbs (-- --check: only compare)."""
    _install(session, "host")
    _python(session, "-m", "bench.schema", *session.posargs)


@nox.session(default=False, tags=["maintenance"])
def results(session: nox.Session) -> None:
    """Write docs/results.md and its figures from releases (-- RELEASE...)."""
    _install(session, "analysis")
    _python(session, str(ROOT / "scripts" / "make-results.py"), *session.posargs)


@nox.session(name="package-repositories", default=False, tags=["maintenance"])
def package_repositories(session: nox.Session) -> None:
    """Make repositories and tasks for rollouts out of source packages of the index (-- FOLDER)."""
    _install(session, "collector")
    _python(session, str(ROOT / "scripts" / "make-package-repositories.py"), *session.posargs)


@nox.session(default=False, tags=["maintenance"])
def lock(session: nox.Session) -> None:
    """Lock requirements/*.in again, with the hashes of every file."""
    session.install("uv==0.13.8")
    for name in (
        *("collector", "analysis", "host", "sign", "lint", "nox", "cluster", "kuberay", "tests"),
        *("telemetry", "bench", "formats", "workflows", "docs", "cluster-check"),
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


@nox.session(name="newer-readers", default=False, tags=["maintenance"])
def newer_readers(session: nox.Session) -> None:
    """Say which readers of exports have a newer version than the one that `formats-check` opens files with."""
    session.install("uv==0.13.8")
    newer = []
    for name in ("formats.in", "formats-bare.in"):
        for line in (ROOT / "requirements" / name).read_text(encoding="ascii").splitlines():
            package, pinned, version = line.partition(";")[0].strip().partition("==")
            if not pinned:
                continue
            ask = ["uv", "pip", "compile", "-", "--no-deps", "--no-header", "--no-annotate", "--quiet"]
            ask += ["--python-version", "3.12", *(["--prerelease", "allow"] if not _is_final(version) else [])]
            found = subprocess.run(  # noqa: S603 - as every session
                [Path(session.bin) / "uv", *ask[1:]], input=package, capture_output=True, text=True, check=False
            )
            newest = found.stdout.strip().rpartition("==")[2]
            if not newest:
                session.error(f"{package}: {found.stderr.strip() or 'no version was found'}")
            session.log(f"{package}: {version}" + (f", newest {newest}" if newest != version else ", the newest"))
            newer += [package] if newest != version else []
    if newer:
        where = "requirements/formats*.in, then scripts/nox -s lock formats-check"
        session.error(f"newer than what exports are opened with: {', '.join(newer)} (pins: {where})")


def _is_final(version: str) -> bool:
    """Return whether a version is no alpha, beta or candidate."""
    return version.replace(".", "").replace("post", "").isdigit()


@nox.session(name="train-model", default=False, tags=["maintenance"])
def train_model(session: nox.Session) -> None:
    """Train a bundled demo model again (-- --model swe: that of rollouts; -- --check: compare the digest)."""
    session.install("--quiet", "--requirement", "requirements/train.in")
    session.run("python", "scripts/train-demo-model.py", *session.posargs)
