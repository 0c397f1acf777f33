"""A disk that fills up, or turns read-only, in the middle of a run: it stops and says so; with room again it continues."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import neuface_ray
from neuface_ray.dataset.verify import verify
from tests.faults.disturbed import Command, compare
from tests.faults.processes import end


def mount(folder: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True, capture_output=True)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own, of 64 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    try:
        mount(folder, "size=64m")
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be mounted here: {error}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_run_stops_cleanly_and_continues_later(disk: Path, videos: Path, undisturbed: Path, tmp_path: Path):
    filler = disk / "filler"
    command = Command(videos, disk / "out", tmp_path / "log", ("ray.num_cpus=1",))
    first = stopped_by(lambda: fill(filler), command, "the disk is full")
    filler.unlink()
    second = stopped_by(lambda: mount(disk, "remount,ro"), command, "it is read-only")
    mount(disk, "remount,rw")
    assert 1 <= first < second < 9
    assert command.run() == 0, command.log.read_text()
    assert f"{second} done before" in command.log.read_text()
    assert not (difference := compare(command.output, undisturbed)), difference


def stopped_by(trouble: Callable[[], object], command: Command, words: str) -> int:
    """Starts the command, makes trouble after its next commit, and checks how it ends; the number of finished segments."""
    before = set(command.output.glob("_staged/*/*.committed"))
    command.log.unlink(missing_ok=True)
    process = command.start()
    try:
        while process.poll() is None and set(command.output.glob("_staged/*/*.committed")) <= before:
            time.sleep(0.02)
        trouble()
        assert process.wait(120) == 1, command.log.read_text()
    finally:
        end(process)
    shown = command.log.read_text()
    assert words in shown
    assert shown.splitlines()[-1].startswith("exit 1: ")
    assert "Traceback" not in shown
    assert not [problem for problem in verify(str(command.output)).problems if problem.code != "interrupted_publish"]
    return len(neuface_ray.open(str(command.output)).table("segments"))


def fill(path: Path) -> None:
    """Takes all room that is left."""
    with path.open("wb", buffering=0) as file:
        for size in (2**20, 4096):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
