"""The floors of the house: no module imports one of a higher floor, no circle of files, Ray at the edge, imports cost what they
need. Imports within functions and under ``TYPE_CHECKING`` count."""

from __future__ import annotations

import ast
import graphlib
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = (
    ("types", "errors", "uri", "screen", "temporary", "machine", "version", "duration", "extras"),
    ("config_files", "config", "renamed", "sections", "former"),
    ("geometry",),
    ("heads", "media"),
    ("fitting", "networks", "metrics", "synthesis"),
    ("methods", "dataset", ""),  # "": neuface_ray/__init__.py, which opens datasets
    ("ray_session",),
    ("pipeline", "export", "visualization"),
    ("evaluation", "training"),
    ("cli",),
)
RAY = ("ray_session", "pipeline", "training")
"""Rooms that may import Ray; scripts beside the package may too."""
REFERENCE = re.compile(r"(neuface_ray(?:\.\w+)+):\w+")
"""How a module is named to be imported later."""


@cache
def modules() -> dict[str, ast.Module]:
    """The syntax tree of every module of the package by its dotted name."""
    trees = {}
    for file in (ROOT / "neuface_ray").rglob("*.py"):
        name = ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        trees[name] = ast.parse(file.read_text())
    return trees


def imports(name: str) -> Iterator[str]:
    """Dotted names that a module imports, anywhere in it: of modules of the package as precisely as can be told."""
    for node in ast.walk(modules()[name]):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: a relative import in line {node.lineno}"
            members = [f"{node.module}.{alias.name}" for alias in node.names]
            yield from (member if member in modules() else str(node.module) for member in members)


def references(name: str) -> Iterator[str]:
    """Modules of the package that a module names as ``module:Name``, to import them later."""
    for node in ast.walk(modules()[name]):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from REFERENCE.findall(node.value)


def room(name: str) -> str:
    return name.removeprefix("neuface_ray").lstrip(".").partition(".")[0]


def floor(name: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room(name) in rooms)


def test_every_room_has_a_floor():
    known = {name for rooms in FLOORS for name in rooms}
    assert {room(name) for name in modules()} <= known
    assert len(modules()) > 100


def test_no_arrow_points_up():
    arrows = [(name, other) for name in modules() for other in {*imports(name), *references(name)} if other in modules()]
    assert len(arrows) > 300
    wrong = sorted(f"{a} imports {b}" for a, b in arrows if floor(b) > floor(a))
    assert not wrong, "\n".join(wrong)


def test_there_is_no_circle_of_files():
    graph = {name: {b for b in imports(name) if b in modules()} for name in modules()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail("a circle: " + " is imported by ".join(error.args[1]))


def test_the_package_imports_no_script_and_no_test():
    beside = {"jobs", "tests", "benchmarks", "cluster"}
    assert not [name for name in modules() if beside & {other.partition(".")[0] for other in imports(name)}]


def test_ray_is_imported_at_the_edge_only():
    importers = {room(name) for name in modules() if "ray" in {other.partition(".")[0] for other in imports(name)}}
    assert importers
    assert importers <= set(RAY)


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("neuface_ray", {"numpy", "pyarrow", "torch", "ray"}),
        ("neuface_ray.dataset.reader", {"torch", "cv2", "mediapipe", "ray"}),
        ("neuface_ray.geometry.rotations", {"pyarrow", "cv2", "mediapipe", "ray"}),
        ("neuface_ray.training.run", {"mediapipe", "ray"}),
        ("neuface_ray.training.stream", {"torch", "mediapipe", "ray"}),
    ],
)
def test_importing_costs_what_it_needs(module, unwanted):
    code = f"import sys, {module}; print(*sorted({unwanted!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
