"""How the package hangs together: imports run one way, without circles, and none is of what is private."""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = Path(__file__).parents[1] / "agenttrace"
LAYERS = (
    ("errors",),
    ("show",),
    ("records",),
    ("store",),
    ("fixture", "sandbox", "telemetry"),
    ("models",),
    ("serving",),
    ("tasks",),
    ("agents",),
    ("campaign",),
    ("validate",),
    ("formats",),
    ("analysis",),
    ("report",),
    ("publish",),
    ("host",),
    ("probes",),
    ("cluster",),
    ("verbs",),
    ("api", "cli", "inside", "testing"),
)
"""Rooms from the bottom to the top; a room imports what is below it, or beside it in its layer."""
ENTRY_POINTS = {"agenttrace.__main__", "agenttrace.host.__main__"}
"""They hand over to the command line, which is above all."""


class Import(NamedTuple):
    """One name that a module imports; `late` is inside a function."""

    module: str
    name: str | None
    late: bool


def _imports(tree: ast.Module, package: str) -> list[Import]:
    found = []

    def visit(node: ast.AST, *, late: bool) -> None:
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            for one in node.orelse:
                visit(one, late=late)
        elif isinstance(node, ast.Import):
            found.extend(Import(alias.name, None, late) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join([*parts[: len(parts) - node.level + 1], node.module or ""]).strip(".")
            module = base if node.level else node.module or ""
            found.extend(Import(module, alias.name, late) for alias in node.names)
        else:
            within = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            for one in ast.iter_child_nodes(node):
                visit(one, late=within)

    visit(tree, late=False)
    return found


class Package:
    """Every module of the kit, and what each imports of it."""

    def __init__(self) -> None:
        self.trees, self.imports = {}, {}
        for path in sorted(PACKAGE.rglob("*.py")):
            parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
            name, package = ".".join(parts), ".".join(parts[:-1])
            self.trees[name.removesuffix(".__init__")] = tree = ast.parse(path.read_text(encoding="utf-8"))
            self.imports[name.removesuffix(".__init__")] = _imports(tree, package)

    def ours(self, name, *, late):
        """Modules of the kit that a module imports, when it is loaded, or late as well."""
        for one in self.imports[name]:
            if one.module.split(".")[0] == "agenttrace" and (late or not one.late):
                whole = f"{one.module}.{one.name}"
                yield whole if whole in self.trees else one.module


@pytest.fixture(scope="module")
def package():
    return Package()


def room(module):
    return module.split(".")[1] if "." in module else ""


def test_every_room_has_its_place():
    there = {path.stem for path in PACKAGE.iterdir() if (path / "__init__.py").exists() or path.suffix == ".py"}
    assert there - {"__init__", "__main__"} == {name for layer in LAYERS for name in layer}


def test_modules_exist_and_imports_are_seen(package):
    assert len(package.trees) > 150
    assert "agenttrace.campaign.plan" in set(package.ours("agenttrace.campaign.loop", late=False))
    assert "agenttrace.campaign.loop" not in set(package.ours("agenttrace.campaign.session", late=False))
    assert "agenttrace.campaign.loop" in set(package.ours("agenttrace.campaign.session", late=True))
    assert "agenttrace.sandbox.runner.settings" in set(package.ours("agenttrace.sandbox.runner.service", late=False))


def test_no_module_is_loaded_by_what_it_loads(package):
    graph = {name: sorted(set(package.ours(name, late=False))) for name in package.trees}
    state: dict[str, int] = {}

    def walk(name, path):
        state[name] = len(path)
        for below in graph.get(name, ()):
            assert below not in path, f"a circle: {' -> '.join([*path[path.index(below) :], below])}"
            if below not in state:
                walk(below, [*path, below])

    for name in graph:
        if name not in state:
            walk(name, [name])


def test_no_room_imports_one_above_it(package):
    rank = {name: number for number, layer in enumerate(LAYERS) for name in layer}
    upward = {
        (name, below)
        for name in package.trees
        if name not in ENTRY_POINTS and room(name)
        for below in package.ours(name, late=True)
        if room(below) and room(below) != room(name) and rank[room(below)] > rank[room(name)]
    }
    assert upward == set()


def test_only_its_verb_needs_what_several_machines_need(package):
    asking = {name for name in package.trees for one in package.ours(name, late=True) if room(one) == "cluster"}
    assert {name for name in asking if room(name) != "cluster"} <= {"agenttrace.verbs.cluster"}


def test_what_is_private_is_imported_by_nobody(package):
    private = [
        f"{name}: {one.module}.{one.name}"
        for name, found in package.imports.items()
        for one in found
        if one.name is not None and one.name.startswith("_") and not one.name.startswith("__")
    ]
    assert private == []


def test_the_runner_in_the_sandbox_needs_nothing_but_the_standard_library(package):
    runner = "agenttrace.sandbox.runner"
    for name, found in package.imports.items():
        if name.startswith(runner):
            for one in found:
                assert one.module.startswith(runner) or one.module.split(".")[0] in sys.stdlib_module_names, name


def test_no_public_class_has_the_name_of_another(package):
    named = defaultdict(list)
    for name, tree in package.trees.items():
        for one in ast.walk(tree):
            if isinstance(one, ast.ClassDef) and not one.name.startswith("_"):
                named[one.name].append(name)
    assert {name: where for name, where in named.items() if len(where) > 1} == {}
