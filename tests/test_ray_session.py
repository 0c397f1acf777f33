"""A local Ray session: private or refused, whatever the temporary folder is called, on the CPUs that it may use."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from neuface_ray.ray_session import LONGEST_FOLDER

SESSION = """
import json, os
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from neuface_ray.ray_session import RayConfig, ray_session
with ray_session(RayConfig()):
    import ray
    answer = ray.get(ray.remote(lambda: 42).remote())
    session = os.readlink(ray._private.worker._global_node.get_session_dir_path() + "/../session_latest")
    print(json.dumps([answer, ray.cluster_resources()["CPU"], os.path.dirname(session)]))
"""


def run(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")} | variables
    return subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120, check=False
    )


@pytest.fixture
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


@pytest.mark.slow
@pytest.mark.parametrize("length", [LONGEST_FOLDER - len("/ray"), 150])
def test_the_temporary_folder_may_have_any_length(folder: Path, length: int):
    place = str(folder / "x")
    place += "x" * (length - len(place))
    os.mkdir(place)
    ended = run(SESSION, TMPDIR=place)
    assert ended.returncode == 0, ended.stderr
    answer, cpus, used = json.loads(ended.stdout.splitlines()[-1])
    assert (answer, cpus) == (42, 1)
    assert (used == f"{place}/ray") is (length <= LONGEST_FOLDER - len("/ray"))
    assert os.path.exists(used) is (used == f"{place}/ray"), "the short folder is removed at the end"


def test_a_folder_that_was_asked_for_and_is_too_long_is_named(folder: Path):
    ended = run(SESSION, RAY_TMPDIR=str(folder / ("x" * 100)))
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("neuface_ray.errors.UsageError")
    assert "RAY_TMPDIR" in ended.stderr.splitlines()[-1]


def test_ray_imported_before_is_refused_unless_it_is_private():
    ended = run("import ray\n" + SESSION)
    assert ended.returncode == 1
    last = ended.stderr.splitlines()[-1]
    assert "UsageError: ray was imported before" in last
    assert "every network interface" in last


@pytest.mark.slow
def test_a_second_session_and_a_private_import_are_accepted():
    twice = SESSION + "\nos.sched_getaffinity(0)\nwith ray_session(RayConfig(num_cpus=1)):\n    print('again')"
    ended = run("import ray\n" + twice, RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0", RAY_AUTH_MODE="disabled")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "again"
