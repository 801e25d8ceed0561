"""What users install: the package, and nothing of `bench`."""

import fnmatch
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from agenttrace.host import images
from bench.__main__ import BENCHES, main

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = sorted((ROOT / "agenttrace").rglob("*.py"))


def test_nothing_in_the_package_imports_a_bench_or_a_test():
    assert PACKAGE
    for path in PACKAGE:
        assert not re.search(r"^\s*(from|import) (bench|tests)\b", path.read_text(encoding="utf-8"), re.MULTILINE), path


def test_the_wheel_holds_the_package_and_what_images_are_built_from():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wheel = settings["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["packages"] == ["agenttrace"]
    assert all(inside.startswith("agenttrace/_context/") for inside in wheel["force-include"].values())
    assert not any(name.startswith(("bench", "tests", "scripts")) for name in wheel["force-include"])


def test_no_image_is_built_from_a_bench():
    context = (ROOT / ".dockerignore").read_text().splitlines()
    assert "*" in context
    assert not any(fnmatch.fnmatch("bench", line.removeprefix("!")) for line in context if line.startswith("!"))
    assert not any(name.startswith("bench") for inputs in images._INPUTS.values() for name in inputs)


@pytest.mark.parametrize("name", BENCHES)
def test_every_bench_says_what_it_takes(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith(f"usage: nox -s {name} --")


@pytest.mark.parametrize("name", BENCHES)
def test_neither_command_line_of_users_knows_a_bench(name):
    for module in ("agenttrace", "agenttrace.host"):
        ended = subprocess.run([sys.executable, "-m", module, name], capture_output=True, text=True)
        assert ended.returncode == 2
        assert f"there is no verb {name!r}" in ended.stderr
