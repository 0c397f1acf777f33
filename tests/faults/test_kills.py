"""Real SIGKILLs at random moments: afterwards the dataset holds what an undisturbed run makes, row for row."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.faults.cluster import Cluster
from tests.faults.disturbed import Command, compare, disturb, rows


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", [1])
def test_killed_annotators_and_drivers_lose_and_double_nothing(seed: int, videos: Path, undisturbed: Path, tmp_path: Path):
    command = Command(videos, tmp_path / "out", tmp_path / "log", ("ray.num_cpus=1",))
    result = disturb(command, ["actor", "publish", "driver", "actor"], random.Random(seed))
    assert (result.exit_code, result.problems) == (0, []), command.log.read_text()
    assert result.kills.total() >= 1
    assert not (difference := compare(tmp_path / "out", undisturbed)), difference


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_node_loses_and_doubles_nothing(videos: Path, undisturbed: Path, tmp_path: Path):
    with Cluster() as cluster:
        more = (f"ray.address={cluster.address}",)
        command = Command(videos, tmp_path / "out", tmp_path / "log", more, cluster.environment)
        result = disturb(command, ["node", "actor"], random.Random(3), cluster)
    assert (result.exit_code, result.problems) == (0, []), command.log.read_text()
    assert result.kills["node"] == 1
    assert not (difference := compare(tmp_path / "out", undisturbed)), difference


def test_a_difference_would_be_noticed(undisturbed: Path, tmp_path: Path):
    frames = sorted(rows(undisturbed, "frames"), key=str)
    assert len({(row["clip_id"], row["frame_index"]) for row in frames}) == 30
    assert frames == sorted(rows(undisturbed, "frames", published=True), key=str)
    (tmp_path / "out").mkdir()
    for path in undisturbed.rglob("*"):
        target = tmp_path / "out" / path.relative_to(undisturbed)
        target.mkdir(exist_ok=True) if path.is_dir() else target.write_bytes(path.read_bytes())
    assert not compare(tmp_path / "out", undisturbed)
    (public,) = (tmp_path / "out" / "frames").glob("*.parquet")
    (public.parent / "copy.parquet").write_bytes(public.read_bytes())
    difference = compare(tmp_path / "out", undisturbed)
    assert difference.duplicated == 30
    assert "copied_file" in difference.problems[0]
