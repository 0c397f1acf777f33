"""A disk that fills up, or turns read-only, in the middle of a run: it stops and says so; with room again it continues."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
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
@pytest.mark.timeout(240)
@pytest.mark.parametrize(("trouble", "words"), [("full", "the disk is full"), ("ro", "it is read-only")])
def test_the_run_stops_cleanly_and_continues_later(trouble, words, disk: Path, videos: Path, undisturbed: Path, tmp_path: Path):
    output, filler = disk / "out", disk / "filler"
    command = Command(videos, output, tmp_path / "log", ("ray.num_cpus=1",))
    process = command.start()
    try:
        while process.poll() is None and not list(output.glob("_staged/*/*.committed")):
            time.sleep(0.02)
        if trouble == "full":
            fill(filler)
        else:
            subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        assert process.wait(120) == 1, command.log.read_text()
    finally:
        end(process)
    shown = command.log.read_text()
    assert words in shown
    assert shown.splitlines()[-1].startswith("exit 1: ")
    assert "Traceback" not in shown
    kept = len(neuface_ray.open(str(output)).table("segments"))
    assert 1 <= kept < 9
    assert not [problem for problem in verify(str(output)).problems if problem.code != "interrupted_publish"]

    if trouble == "full":
        filler.unlink()
    else:
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    again = Command(videos, output, tmp_path / "again", ("ray.num_cpus=1",))
    assert again.run() == 0, again.log.read_text()
    assert f"{kept} done before" in again.log.read_text()
    assert not (difference := compare(output, undisturbed)), difference


def fill(path: Path) -> None:
    """Takes all room that is left."""
    with path.open("wb", buffering=0) as file:
        for size in (2**20, 4096):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
