"""A run of the command that is disturbed by SIGKILLs and started again until it ends by itself, with someone watching."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.dataset as pads

import neuface_ray
from neuface_ray.dataset import publish
from neuface_ray.dataset.schema import TIMING_COLUMNS
from neuface_ray.dataset.verify import verify
from tests.conftest import write_video
from tests.faults.cluster import Cluster
from tests.faults.processes import annotators, descendants, end, kill, wait_gone

ROOT = Path(__file__).parents[2]
KEYS = {"frames": ("clip_id", "frame_index", "view"), "clips": ("clip_id",), "segments": ("segment_id",)}
OVERRIDES = (
    "annotator.name=direct_fitting",
    "annotator.direct_fitting.pose_steps=15",
    "annotator.direct_fitting.steps=25",
    "gate.max_nme=30",
    "media.max_frames=6",
    "media.overlap=1",
    "max_attempts=50",
    "publish_every_s=1",
)
"""A second for a segment; so many attempts that kills alone never put a segment into quarantine."""


def make_videos(folder: Path, portrait: np.ndarray, videos: int, frames: int = 10) -> Path:
    """Short videos in which a face wanders; ``OVERRIDES`` cut ten frames into three segments."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(videos):
        write_video(folder / f"{number}.mp4", [np.roll(portrait, (number + 1) * step, axis=1) for step in range(frames)])
    return folder


@dataclass
class Command:
    """The annotation command as its own process. ``more`` are further ``key=value`` arguments."""

    videos: Path | str
    output: Path | str
    log: Path
    more: tuple[str, ...] = ()
    environment: dict[str, str] = field(default_factory=lambda: dict(os.environ))

    def start(self) -> subprocess.Popen:
        arguments = [f"input={self.videos}", f"output={self.output}", *OVERRIDES, *self.more]
        environment = {**self.environment, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        with self.log.open("a") as log:
            return subprocess.Popen(
                [sys.executable, "jobs/annotate.py", *arguments],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def run(self, seconds: float = 180) -> int:
        """Undisturbed, from beginning to end; the exit code."""
        process = self.start()
        try:
            return process.wait(seconds)
        finally:
            end(process)


class Watch(threading.Thread):
    """Follows a dataset while it is written: when segments are begun and committed, and whether readers are ever misled."""

    def __init__(self, output: Path):
        super().__init__(daemon=True)
        self.output, self.commits, self.complaints = output, [], []
        self._begun: set[str] = set()
        self._seen: set[str] = set()
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(0.05):
            self._begun.update(path.name for path in self.output.glob("_attempts/*/*.annotate.*"))
            if (self.output / "dataset.json").exists():
                self._read()

    def _read(self) -> None:
        ids = neuface_ray.open(str(self.output)).table("segments", ["segment_id"])["segment_id"].to_pylist()
        if len(set(ids)) < len(ids):
            self.complaints.append("a reader saw a segment twice")
        if not self._seen <= set(ids):
            self.complaints.append("a committed segment vanished from a reader's sight")
        self.commits += [time.monotonic()] * len(set(ids) - self._seen)
        self._seen |= set(ids)

    def end(self) -> None:
        self._ended.set()
        self.join()

    @property
    def begun(self) -> int:
        """How often annotating was begun, as far as it was seen."""
        return len(self._begun)

    def recovery(self, moment: float, ended: float) -> float:
        """Seconds from a kill to the next commit, or to the end if there was nothing left to commit."""
        return min((time for time in self.commits if time > moment), default=ended) - moment


@dataclass
class Result:
    """What was done to a run and what came of it."""

    kills: Counter[str] = field(default_factory=Counter)
    moments: list[float] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    exit_code: int | None = None
    begun: int = 0
    segments: int = 0
    seconds: float = 0.0
    problems: list[str] = field(default_factory=list)

    @property
    def refitted(self) -> int:
        return max(0, self.begun - self.segments)


def disturb(
    command: Command, blows: list[str], dice: random.Random, cluster: Cluster | None = None, seconds: float = 240
) -> Result:
    """Runs the command, strikes one blow after another (``actor``, ``driver``, ``node``, ``publish``) at moments drawn by
    ``dice``, starts the command again whenever its driver was killed, and waits until it ends by itself.

    A ``publish`` is no kill: another process publishes in the middle of the run. Blows that come too late are not struck.
    """
    started, result, watch = time.monotonic(), Result(), Watch(command.output)
    watch.start()
    process = command.start()
    try:
        for blow in blows:
            if not _await_moment(process, watch, dice, started + seconds):
                break
            if blow == "publish":
                publish(str(command.output))
            elif _strike(blow, process, dice, cluster):
                result.kills[blow] += 1
                result.moments.append(time.monotonic())
            if blow == "driver":
                process.wait()
                process = command.start()
        result.exit_code = process.wait(max(1.0, started + seconds - time.monotonic()))
    except subprocess.TimeoutExpired:
        result.problems.append(f"did not end within {seconds:g} s")
    finally:
        end(process)
        watch.end()
    ended = time.monotonic()
    result.seconds, result.begun, result.segments = ended - started, watch.begun, len(watch.commits)
    result.recoveries = [watch.recovery(moment, ended) for moment in result.moments]
    result.problems += watch.complaints
    return result


def _await_moment(process: subprocess.Popen, watch: Watch, dice: random.Random, deadline: float) -> bool:
    """Waits for up to two more segments to be begun or committed and a little longer; False if the run ended first."""
    if dice.random() < 0.2:
        time.sleep(dice.uniform(0, 8))  # at whatever it does then, starting included
        return process.poll() is None
    goal, wait = watch.begun + len(watch.commits) + dice.randint(1, 3), dice.uniform(0, 1)
    while watch.begun + len(watch.commits) < goal:
        if process.poll() is not None or time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    time.sleep(wait)
    return process.poll() is None


def _strike(blow: str, process: subprocess.Popen, dice: random.Random, cluster: Cluster | None) -> bool:
    if blow == "driver":
        family = descendants(process.pid)
        killed = kill(process.pid)
        wait_gone(family, 15)
        return killed
    if blow == "node":
        struck = cluster.kill_node(dice)
        cluster.restore()
        return struck
    while process.poll() is None:
        if actors := cluster.annotators() if cluster else annotators(process.pid):
            return kill(dice.choice(actors))
        time.sleep(0.1)
    return False


def rows(output: Path, table: str, published: bool = False) -> list[dict]:
    """All rows of a table without what differs between runs, through the reader or by a plain glob over the public files."""
    if published:
        content = pads.dataset(sorted(str(path) for path in (output / table).glob("*.parquet"))).to_table()
    else:
        content = neuface_ray.open(str(output)).table(table)
    return content.drop_columns([name for name in TIMING_COLUMNS if name in content.column_names]).to_pylist()


@dataclass
class Difference:
    """Rows lost, doubled and altered in a dataset, compared with an undisturbed one; and what ``verify`` says of it."""

    lost: int = 0
    duplicated: int = 0
    altered: int = 0
    problems: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.lost or self.duplicated or self.altered or self.problems)


def compare(output: Path, undisturbed: Path) -> Difference:
    """Every row of every table, read in both ways."""
    found = Difference(problems=[str(problem) for problem in verify(str(output)).problems])
    for table, key in KEYS.items():
        wanted = _by_key(rows(undisturbed, table), key)
        for published in (False, True):
            have = _by_key(rows(output, table, published), key)
            found.lost += sum(key not in have for key in wanted)
            found.duplicated += sum(len(same) - 1 for same in have.values()) + sum(key not in wanted for key in have)
            found.altered += sum(str(wanted[key][0]) != str(have[key][0]) for key in wanted.keys() & have.keys())
    if quarantined := rows(output, "quarantine"):
        found.problems.append(f"quarantined: {quarantined}")
    return found


def _by_key(content: list[dict], key: tuple[str, ...]) -> dict[tuple, list[dict]]:
    grouped: dict[tuple, list[dict]] = {}
    for row in content:
        grouped.setdefault(tuple(row[name] for name in key), []).append(row)
    return grouped
