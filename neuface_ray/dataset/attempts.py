"""Attempts: empty files that say which segments were begun and not finished, per run."""

from __future__ import annotations

import uuid

from neuface_ray.dataset.staged import check_segment_id, shard
from neuface_ray.dataset.storage import Store

FOLDER = "_attempts"


def count_attempts(store: Store, segment_id: str, run_id: str, stage: str | None = None) -> int:
    """How often the run has begun a stage of the segment; None: the stage that was begun most often."""
    prefix = f"{segment_id}.{run_id}."
    names = [name.rpartition("/")[2] for name in store.names(_folder(segment_id))]
    stages = [name[len(prefix) :].partition(".")[0] for name in names if name.startswith(prefix)]
    return stages.count(stage) if stage is not None else max(map(stages.count, stages), default=0)


def begin_attempt(store: Store, segment_id: str, run_id: str, stage: str) -> None:
    """Note that a stage of the segment is begun."""
    check_segment_id(segment_id)
    store.touch(f"{_folder(segment_id)}/{segment_id}.{run_id}.{stage}.{uuid.uuid4().hex}")


def end_attempts(store: Store, segment_id: str) -> None:
    """Forget the attempts of all runs: the segment has an outcome."""
    for name in store.names(_folder(segment_id)):
        if name.rpartition("/")[2].startswith(f"{segment_id}."):
            store.remove(name, durably=False)


def forget_attempts(store: Store, segment_ids: set[str]) -> None:
    """The same for many segments at once: for workers that died between their commit and their tidying up."""
    for name in store.names(FOLDER):
        if name.rpartition("/")[2].partition(".")[0] in segment_ids:
            store.remove(name, durably=False)


def _folder(segment_id: str) -> str:
    return f"{FOLDER}/{shard(segment_id)}"
