"""The commands of the kit. `scripts/nox -l` lists them; `scripts/nox -s NAME -- ARGUMENTS` runs one."""

from __future__ import annotations

import nox

nox.needs_version = ">=2025.5"
nox.options.default_venv_backend = "venv"
nox.options.reuse_venv = "yes"
nox.options.sessions = ["collect"]

# Time for a campaign to stop its collector and to remove its containers after Ctrl-C.
STOP_S = 60.0


def _install(session: nox.Session, requirements: str) -> None:
    session.install("--quiet", "--require-hashes", "--no-deps", "--requirement", f"requirements/{requirements}.txt")


def _host(session: nox.Session, *arguments: str) -> None:
    """Run a host-side verb from this checkout with the locked packages."""
    _install(session, "host")
    session.run(
        "python",
        "-m",
        "agenttrace.host",
        *arguments,
        interrupt_timeout=STOP_S,
        terminate_timeout=STOP_S,
        env={"PYTHONPATH": "."},
    )


@nox.session(tags=["run"])
def collect(session: nox.Session) -> None:
    """Collect traces of a model on a task set: [MODEL] [--dataset D] [-n N] [--output FILE] ... (see -- --help)."""
    _host(session, "collect", *session.posargs)


@nox.session(tags=["run"])
def show(session: nox.Session) -> None:
    """Print one trace as a readable transcript with the cost of each call: FILE [TASK]."""
    _install(session, "host")
    session.run("python", "-m", "agenttrace", "show", *session.posargs, env={"PYTHONPATH": "."})


@nox.session(tags=["run"])
def images(session: nox.Session) -> None:
    """Build the images that are out of date and print their environment digests."""
    _host(session, "images", *session.posargs)


@nox.session(tags=["run"])
def clean(session: nox.Session) -> None:
    """Remove all containers, volumes and networks of the kit from the engine (with -- --images the images too)."""
    _host(session, "clean", *session.posargs)


@nox.session(tags=["check"])
def tests(session: nox.Session) -> None:
    """Run all tests, an end-to-end collection through the real containers among them."""
    _install(session, "tests")
    session.run("python", "-m", "pytest", *session.posargs, env={"PYTHONPATH": "."}, interrupt_timeout=STOP_S)


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
    _install(session, "tests")
    _install(session, "lint")
    session.run("mypy", *session.posargs)


@nox.session(default=False, tags=["maintenance"])
def lock(session: nox.Session) -> None:
    """Lock requirements/*.in again, with the hashes of every file."""
    session.install("uv==0.13.8")
    for name in ("collector", "host", "lint", "nox", "tests"):
        session.run(
            "uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes",
            "--no-emit-index-url", "--no-header", "--output-file", f"requirements/{name}.txt",
            f"requirements/{name}.in", *session.posargs,
        )  # fmt: skip


@nox.session(name="train-model", default=False, tags=["maintenance"])
def train_model(session: nox.Session) -> None:
    """Train the bundled demo model again: [--check] compares its digest with the pinned one."""
    session.install("--quiet", "--requirement", "requirements/train.in")
    session.run("python", "scripts/train-demo-model.py", *session.posargs)
