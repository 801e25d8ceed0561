"""`scripts/nox` and `scripts/install-engine.sh` on machines that lack something."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from agenttrace.verbs import VERBS
from bench.__main__ import BENCHES

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ("cat", "cksum", "dirname", "grep", "head", "mkdir", "readlink", "rm", "sed", "sh", "tr", "uname")


@pytest.fixture
def machine(tmp_path):
    """A folder with spaces that holds a checkout whose nox is a stand-in, and a PATH without Docker."""
    project = tmp_path / "my project"
    (project / "scripts").mkdir(parents=True)
    (project / "requirements").mkdir()
    (project / "agenttrace/verbs").mkdir(parents=True)
    scripts = ("scripts/nox", "scripts/install-engine.sh", "scripts/add-trixie.sh")
    for name in (*scripts, "requirements/nox.txt", "agenttrace/verbs/__init__.py"):
        shutil.copy(ROOT / name, project / name)
    programs = tmp_path / "bin"
    programs.mkdir()
    for command in COMMANDS:
        found = shutil.which(command)
        assert found, command
        (programs / command).symlink_to(found)
    install(programs / "python3", f'exec "{sys.executable}" "$@"')
    install(programs / "id", 'case "$1" in -u) echo 1000 ;; *) echo someone ;; esac')
    locked = (ROOT / "requirements/nox.txt").read_bytes()
    sums = subprocess.run(["cksum"], input=locked, capture_output=True, check=True).stdout
    environment = project / ".nox/bootstrap" / "-".join(sums.decode().split())
    (environment / "bin").mkdir(parents=True)
    install(environment / "bin/python", '[ "$2" = -c ] || printf "%s\\n" "$@"')
    return project, programs


def install(path, code):
    path.unlink(missing_ok=True)
    path.write_text(f"#!/bin/sh\n{code}\n")
    path.chmod(0o755)


def entry(machine, *arguments, command=None, **environ):
    project, programs = machine
    return subprocess.run(
        [command or project / "scripts/nox", *arguments],
        env={"PATH": str(programs), **environ},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


def fake_docker(machine, code):
    install(machine[1] / "docker", code)


@pytest.mark.parametrize(
    "arguments",
    [["-l"], ["--list"], ["--help"], ["-s", "lint"], ["-s", "lint", "typing", "--", "-s", "x"], ["--session=lock"]],
)
def test_sessions_without_docker_start_without_docker(machine, arguments):
    ended = entry(machine, *arguments)
    assert ended.stderr == ""
    assert ended.stdout.splitlines() == ["-P", "-m", "nox", "-f", f"{machine[0]}/noxfile.py", *arguments]


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["-s", "collect", "--dataset", "demo"], "collect -- --dataset demo"),
        (["-s", "report", "a.jsonl", "-o", "x.html"], "report -- a.jsonl -o x.html"),
        (["-s", "fetch", "Qwen/Qwen3-0.6B"], "fetch -- Qwen/Qwen3-0.6B"),
        (["-s", "show", "27"], "show -- 27"),
        (["show", "--", "27"], "show -- 27"),
        (["show"], "show"),
    ],
)
def test_words_in_a_wrong_place_are_told_where_they_stand(machine, arguments, meant):
    ended = entry(machine, *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"agenttrace: a verb stands after -s, its words after --: scripts/nox -s {meant}\n"


@pytest.mark.parametrize(
    "arguments", [["-s", "show", "-R"], ["-s", "show", "--no-install", "--", "-o", "x"], ["-s", "shwo"]]
)
def test_what_nox_knows_is_left_to_it(machine, arguments):
    fake_docker(machine, "echo 26.1.5 buildx compose ''")
    assert entry(machine, *arguments).stdout.splitlines()[5:] == arguments


def sessions():
    """Return the names of all sessions, and the source of each that noxfile.py has by hand."""
    tree = ast.parse((ROOT / "noxfile.py").read_text())
    by_hand = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.decorator_list:
            named = [word.value.value for word in node.decorator_list[0].keywords if word.arg == "name"]
            by_hand[named[0] if named else node.name] = ast.unparse(node)
    assigned = [node for node in tree.body if isinstance(node, ast.Assign)]
    (benches,) = (node.value for node in assigned if ast.unparse(node.targets[0]) == "BENCHES")
    return {*VERBS, *ast.literal_eval(benches), *by_hand}, by_hand


def sessions_without_docker():
    """Yield the sessions that start neither a verb of the host or its image, nor a bench on it, nor its tests."""
    names, by_hand = sessions()
    for name in names:
        if name in VERBS:
            free = VERBS[name].where == "here"
        elif name in BENCHES:
            of_host = r'agenttrace\.host(?! import engine$)|engine\.check|"scripts" / "nox"'  # `engine` starts all
            free = not re.search(of_host, source(BENCHES[name][0]), re.MULTILINE)
        else:
            free = name != "tests" and not re.search(r"_bench\(|agenttrace\.host", by_hand[name])
        if free:
            yield name


def source(module):
    path = ROOT.joinpath(*module.split("."))
    files = sorted(path.glob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    return "".join(file.read_text() for file in files)


def test_every_verb_and_every_bench_is_a_session():
    names, by_hand = sessions()
    assert {*BENCHES} <= names
    assert not {*by_hand} & {*VERBS}


def test_the_sessions_that_need_no_docker_start_without_it_and_no_other_does(machine):
    free = {*sessions_without_docker()}
    assert {"show", "validate", "doctor", "formats-check", "cluster-crash-check", "bench-analysis", "quick"} <= free
    for name in sessions()[0]:
        assert (entry(machine, "-s", name).stderr == "") is (name in free), name


@pytest.mark.parametrize("arguments", [[], ["-s", "collect"], ["-s", "lint", "tests"], ["--", "-l"], ["-t", "check"]])
def test_other_sessions_say_what_is_missing(machine, arguments):
    ended = entry(machine, *arguments)
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert "Docker is not installed" in ended.stderr
    assert "administrator" in ended.stderr or "brew install" in ended.stderr


def test_through_a_symbolic_link(machine, tmp_path):
    link = tmp_path / "a link"
    link.symlink_to("my project/scripts/nox")
    assert f"{machine[0]}/noxfile.py" in entry(machine, "-l", command=link).stdout


@pytest.mark.parametrize(
    ("docker", "expected"),
    [
        ("echo permission denied >&2; exit 1", "no permission to use the Docker engine"),
        ("echo Cannot connect >&2; exit 1", "the Docker engine does not run"),
        ("echo '26.1.5 compose '", "buildx is not installed"),
        ("echo '26.1.5 buildx '", "compose (version 2) is not installed"),
    ],
)
def test_each_fault_of_docker_is_named(machine, docker, expected):
    fake_docker(machine, docker)
    ended = entry(machine, "-s", "collect")
    assert ended.returncode == 2
    assert expected in ended.stderr


def test_what_the_group_of_docker_means_is_said(machine):
    fake_docker(machine, "echo permission denied >&2; exit 1")
    assert "a member of that group can do what root can" in entry(machine, "-s", "collect").stderr


def test_what_podman_cannot_do_is_left_to_the_verb(machine):
    fake_docker(machine, '[ "$1" = --version ] && echo podman version 5.4.2')
    assert entry(machine, "-s", "collect").stderr == ""


def test_an_engine_elsewhere_is_never_replaced(machine):
    fake_docker(machine, "echo Cannot connect >&2; exit 1")
    install(machine[1] / "id", "echo 0")
    ended = entry(machine, DOCKER_HOST="ssh://elsewhere")
    assert ended.returncode == 2
    assert "DOCKER_HOST is ssh://elsewhere" in ended.stderr


def test_all_well_is_quiet(machine):
    fake_docker(machine, "echo '26.1.5 buildx compose '")
    ended = entry(machine, "-s", "collect", "--", "a b")
    assert ended.stderr == ""
    assert ended.stdout.splitlines()[-1] == "a b"


def test_on_a_mac_it_names_docker_desktop_and_colima(machine):
    install(machine[1] / "uname", "echo Darwin")
    ended = entry(machine)
    assert ended.returncode == 2
    assert "brew install colima docker docker-compose docker-buildx" in ended.stderr


def test_no_python_that_is_new_enough(machine):
    install(machine[1] / "python3", "exit 1")
    shutil.rmtree(machine[0] / ".nox")
    ended = entry(machine, "-l")
    assert ended.returncode == 2
    assert "Python 3.11 or newer" in ended.stderr


def test_an_incomplete_checkout(machine):
    (machine[0] / "requirements/nox.txt").unlink()
    ended = entry(machine, "-l")
    assert ended.returncode == 2
    assert "whole checkout" in ended.stderr


def test_installing_needs_root(machine):
    if not Path("/etc/os-release").exists():
        pytest.skip("no /etc/os-release: not a Linux machine")
    ended = entry(machine, command=machine[0] / "scripts/install-engine.sh")
    assert ended.returncode == 2
    assert "needs root" in ended.stderr or "Debian and Ubuntu only" in ended.stderr


def test_scripts_pass_shellcheck():
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    run = [ROOT / "scripts" / name for name in ("nox", "install-engine.sh", "enable-emulation.sh")]
    scripts = [*run, ROOT / "scripts/add-trixie.sh", *sorted((ROOT / "docker").glob("*.sh"))]
    ended = subprocess.run(["shellcheck", "-x", *scripts], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout
    assert all(os.access(script, os.X_OK) for script in run)
