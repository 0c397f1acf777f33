"""Temporary data of one user alone: no other user's folder is accepted, no link followed, and nothing stays after a kill."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from neuface_ray import temporary
from neuface_ray.errors import NeufaceError
from neuface_ray.pipeline.time_limit import clear_trace, read_crash_trace, time_limit
from neuface_ray.temporary import open_private, process_folder, run_folder, sweep, temporary_data_of_run

CONTENT = b"a face, fetched" * 1000
FETCH = f"""
import sys, fsspec
from neuface_ray.media.source import open_local
fsspec.filesystem("memory").pipe("/box/a.mp4", {CONTENT!r})
with open_local("memory://box/a.mp4", 10**6) as path:
    assert open(path, "rb").read() == {CONTENT!r} == open(path, "rb").read()
    assert path.endswith(".mp4")
    print("open", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The system's temporary folder, for this test."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield tmp_path
    for path in [path for path in temporary._locks if path.startswith(str(tmp_path))]:
        temporary._unlock(path)


def running(code: str) -> subprocess.Popen:
    process = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "open\n"
    return process


def everything_in(folder: Path) -> list[bytes]:
    return [path.read_bytes() for path in folder.rglob("*") if path.is_file()]


def test_fetched_files_do_not_outlive_a_killed_process(folder: Path):
    process = running(FETCH)
    sweep()
    assert everything_in(folder) == [CONTENT], "a living process's folder was swept"
    assert all(path.stat().st_mode & 0o077 == 0 for path in folder.iterdir())
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert everything_in(folder) == []
    sweep()
    assert list(folder.iterdir()) == []


def test_fetched_files_are_removed_at_the_end(folder: Path):
    process = running(FETCH)
    process.communicate("go on\n")
    assert process.returncode == 0
    assert list(folder.iterdir()) == []


def test_nothing_of_others_is_swept(folder: Path):
    for name in (temporary._prefix() + "link", temporary._prefix() + "open", "else"):
        (folder / name).mkdir()
    (folder / "else" / "file").touch()
    (folder / (temporary._prefix() + "link")).rmdir()
    (folder / (temporary._prefix() + "link")).symlink_to(folder / "else")
    (folder / (temporary._prefix() + "open")).chmod(0o755)
    before = sorted(folder.rglob("*"))
    sweep()
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize("kind", ["link", "file", "readable by all", "another user's"])
def test_a_run_folder_that_is_not_ours_alone_is_refused(folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch):
    path, victim = Path(temporary._run_path("r1")), folder / "victim"
    victim.mkdir(mode=0o700)
    (victim / "s.txt").write_text("precious")
    if kind == "link":
        path.symlink_to(victim)
    elif kind == "file":
        path.touch()
    else:
        path.mkdir()
        path.chmod(0o755 if kind == "readable by all" else 0o700)
        (path / "s.txt").write_text("Timeout (forged)")
    if kind == "another user's":
        mine = os.getuid()
        monkeypatch.setattr(temporary, "_prefix", lambda: f"nfray-{mine}-")
        monkeypatch.setattr(os, "getuid", lambda: mine + 1)
    for use in (lambda: time_limit("r1/s", 60).__enter__(), lambda: read_crash_trace("r1/s"), lambda: clear_trace("r1/s")):
        with pytest.raises(NeufaceError, match="not a folder of this user alone"):
            use()
    assert (victim / "s.txt").read_text() == "precious"


def test_links_in_a_private_folder_are_not_followed(folder: Path):
    victim = folder / "victim"
    victim.write_text("precious")
    (Path(run_folder("r2")) / "s.txt").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic"), time_limit("r2/s", 60):
        pass
    with pytest.raises(OSError, match="symbolic"):
        read_crash_trace("r2/s")
    with pytest.raises(OSError, match="symbolic"):
        open_private(str(Path(run_folder("r2")) / "s.txt"), os.O_RDONLY)
    assert victim.read_text() == "precious"


def test_a_runs_folder_goes_with_the_run_or_a_day_later(folder: Path):
    with contextlib.suppress(ZeroDivisionError), temporary_data_of_run("ended"):
        Path(run_folder("ended"), "s.txt").touch()
        _ = 1 / 0
    assert list(folder.iterdir()) == []

    fresh, old, used = (Path(temporary._run_path(name)) for name in ("fresh", "old", "used"))
    for path in (fresh, old):
        path.mkdir(mode=0o700)
    process = running("from neuface_ray.temporary import run_folder; run_folder('used'); print('open', flush=True); input()")
    for path in (old, used):
        os.utime(path, (0, time.time() - 25 * 3600))
    with temporary_data_of_run("next"):
        assert fresh.exists()
        assert used.exists()
        assert not old.exists()
    process.kill()
    process.communicate()
    sweep()
    assert not used.exists()


def test_a_folder_that_somebody_tidied_away_is_made_again(folder: Path):
    for find in (process_folder, lambda: run_folder("r3")):
        first = find()
        os.rmdir(first)
        assert os.path.isdir(find())
        assert os.stat(find()).st_mode & 0o777 == 0o700
