"""A segment that crashes every worker that takes it is given up after ``max_attempts``, and the others are not held up."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from neuface_ray.config import load
from neuface_ray.dataset.verify import verify
from neuface_ray.media import plan
from neuface_ray.pipeline.config import AnnotateConfig
from neuface_ray.pipeline.segment import AnnotationSession
from tests.faults.disturbed import OVERRIDES, Command, rows
from tests.faults.processes import annotators, end


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_segment_that_crashes_its_workers_is_given_up(videos: Path, undisturbed: Path, tmp_path: Path):
    output = tmp_path / "out"
    command = Command(videos, output, tmp_path / "log", ("ray.num_cpus=1", "max_attempts=3", "ray.actors=1"))
    config = load(AnnotateConfig, None, [f"input={videos}", f"output={output}", *OVERRIDES])
    poison = plan(config.input, AnnotationSession.load(config).media)[4].segment_id
    process, crashed = command.start(), set()
    try:
        deadline = time.monotonic() + 480
        while process.poll() is None and time.monotonic() < deadline:
            begun = {path.name for path in output.glob(f"_attempts/*/{poison}.*.annotate.*")}
            if begun - crashed and (workers := annotators(process.pid)):
                os.kill(workers[0], signal.SIGSEGV)  # as a bug in native code
                crashed |= begun
            time.sleep(0.005)
        assert process.wait(5) == 3, command.log.read_text()
    finally:
        end(process)
    assert len(crashed) == 3
    (row,) = rows(output, "quarantine")
    assert (row["segment_id"], row["error"], row["stage"]) == (poison, "worker_died", "annotate")
    assert "Segmentation fault" in row["message"]
    others = [row for row in rows(undisturbed, "frames") if row["segment_id"] != poison]
    assert sorted(rows(output, "frames"), key=str) == sorted(others, key=str)
    assert verify(str(output)).sound
    assert "1 of 9 segments are in quarantine" in command.log.read_text().splitlines()[-1]

    again = Command(videos, output, tmp_path / "again", ("ray.num_cpus=1", "retry=quarantined"))
    assert again.run() == 0, again.log.read_text()
    assert "1 of 1 done, 8 done before" in again.log.read_text()
    assert sorted(rows(output, "frames"), key=str) == sorted(rows(undisturbed, "frames"), key=str)
