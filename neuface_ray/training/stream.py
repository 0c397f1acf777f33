"""From datasets to training samples: what may be used, who is held out, and the endless shuffled stream of samples.

A *sample* is one instant of one face in up to ``views`` views, a window of frames, or a group of pictures of one person. A
*shard* is some neighbouring clips of one dataset that are read together. The stream visits all shards in a new random order
again and again; its order follows from the seed alone, so training continues in the stream where it stopped (up to the shuffle
buffer).
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from neuface_ray.errors import UsageError
from neuface_ray.methods.recipe import SampleSpec
from neuface_ray.training.samples import Sample, Shard, count_samples, read_shard, usable_rows

if TYPE_CHECKING:
    import ray.data

SHARD_ROWS = 256
PAUSE_S = 0.02


@dataclass(frozen=True)
class Split:
    """The shards to train on and to validate on, which share no person, and the head model of all.

    Args:
        pictures: shown by each sample, more than one where samples are groups of pictures of one person.
    """

    train: tuple[Shard, ...]
    validation: tuple[Shard, ...]
    head_model: str
    pictures: int = 1

    def count(self, part: str) -> int:
        """Pictures (or windows) of ``train`` or ``validation``."""
        return self.pictures * sum(shard.samples for shard in getattr(self, part))


def split(data: Sequence[str], validation: Sequence[str], fraction: float, spec: SampleSpec, head_model: str) -> Split:
    """Finds what can be used of the datasets.

    Args:
        data, validation: folders of datasets; without the latter, a ``fraction`` of the persons (or recordings, where no person
            is known) of the former is held out, always the same ones.
        head_model: ``name/version/hash`` of the head that is trained on.

    Raises:
        UsageError: no data named, no dataset there, a column is missing, another head model, or nothing that can be used.
    """
    if not data:
        raise UsageError(
            "data names no dataset: add data=[DIR] with the folder of an annotated or synthetic dataset, or synthetic.count=N "
            "to make faces"
        )
    tables = [usable_rows(path, spec, head_model) for path in data]
    everybody = pa.concat_tables([table.select(["who"]) for table in tables])["who"].unique().to_pylist()
    held = set() if validation else held_out(everybody, fraction)
    train, tested = [], []
    for path, table in zip(data, tables, strict=True):
        mask = pc.is_in(table["who"], value_set=pa.array(sorted(held), pa.string()))
        tested += _shards(path, table.filter(mask), spec)
        train += _shards(path, table.filter(pc.invert(mask)), spec)
    for path in validation:
        tested += _shards(path, usable_rows(path, spec, head_model), spec)
    if not train:
        several = f" in {spec.frames} consecutive frames" if spec.frames > 1 else ""
        several += f" with {spec.group - 1} more of the same person" if spec.group > 1 else ""
        raise UsageError(
            f"{', '.join(data)}: nothing can be trained on: no frame is valid, accepted by the quality gate and not held "
            f"out{several}"
        )
    return Split(tuple(train), tuple(tested), head_model, spec.group)


def held_out(names: Sequence[str], fraction: float) -> set[str]:
    """The share of names that is kept for validation: those with the smallest hashes; at least one stays for training."""
    order = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    return set(order[: min(math.ceil(fraction * len(order)), len(order) - 1)])


def _shards(path: str, rows: pa.Table, spec: SampleSpec) -> Iterator[Shard]:
    """Neighbouring clips, at least ``SHARD_ROWS`` rows together; ``rows`` are usable ones in the dataset's order."""
    if not rows.num_rows:
        return
    per_clip = rows.group_by(["clip_id", "sequence_id"], use_threads=False).aggregate(
        [("frame_index", "count_distinct"), ("frame_index", "count")]
    )
    clips: list[dict] = []
    for clip in per_clip.to_pylist():
        clips.append(clip)
        if sum(row["frame_index_count"] for row in clips) >= SHARD_ROWS:
            yield from _shard(path, rows, clips, spec)
            clips = []
    yield from _shard(path, rows, clips, spec)


def _shard(path: str, rows: pa.Table, clips: list[dict], spec: SampleSpec) -> Iterator[Shard]:
    """The clips as one shard, if they hold a sample."""
    names = [clip["clip_id"] for clip in clips]
    samples = sum(clip["frame_index_count_distinct"] for clip in clips)
    if spec.group > 1 or spec.frames > 1:
        here = rows.filter(pc.is_in(rows["clip_id"], value_set=pa.array(names, pa.string())))
        columns = ("clip_id", "view", "frame_index", "subject")
        samples = count_samples({name: here[name].to_pylist() for name in columns}, spec)
    if samples:
        yield Shard(path, tuple(names), tuple(sorted({clip["sequence_id"] for clip in clips})), samples)


def read_some(shards: Sequence[Shard], spec: SampleSpec, count: int, seed: int) -> list[Sample]:
    """Up to ``count`` samples, taken evenly from the shards; the same ones every time."""
    samples: list[Sample] = []
    rng = np.random.default_rng(seed)
    total = sum(shard.samples for shard in shards)
    for shard in shards:
        share = math.ceil(count * shard.samples / total)
        for _, sample in zip(range(share), read_shard(shard, spec, rng), strict=False):
            samples.append(sample)
    return [samples[i] for i in rng.permutation(len(samples))[:count]]


def stack(samples: Sequence[Sample], group: int = 1) -> Sample:
    """A batch: every array with a leading batch dimension, along which the pictures of a group follow each other."""
    join = np.stack if group == 1 else np.concatenate
    return {name: join([sample[name] for sample in samples]) for name in samples[0]}


class SchedulerThrottle:
    """Lets Ray Data's scheduler rest between its steps, called by it as one of its execution callbacks.

    While finished blocks wait for the training to take them, the scheduler of Ray 2.60 turns without a pause and
    takes half a core from the training.
    """

    def before_execution_starts(self, executor: Any) -> None: ...

    def on_execution_step(self, executor: Any) -> None:
        time.sleep(PAUSE_S)

    def after_execution_succeeds(self, executor: Any) -> None: ...

    def after_execution_fails(self, executor: Any, error: Exception) -> None: ...


@dataclass(frozen=True)
class Stream:
    """The endless stream of training samples as a lazy Ray dataset.

    Args:
        total: samples that will be asked for at most. skipped: samples that earlier attempts have consumed.
    """

    shards: tuple[Shard, ...]
    spec: SampleSpec
    seed: int
    total: int
    skipped: int = 0

    @property
    def visits_per_block(self) -> int:
        """Shards read by one data task: enough for ``SHARD_ROWS`` samples."""
        return math.ceil(SHARD_ROWS / self.mean_samples)

    @property
    def mean_samples(self) -> float:
        return sum(shard.samples for shard in self.shards) / len(self.shards)

    def shard(self, visit: int) -> Shard:
        """The shard of a visit: each round of visits is a random permutation of all shards."""
        turn, slot = divmod(visit, len(self.shards))
        order = np.random.default_rng([self.seed, turn]).permutation(len(self.shards))
        return self.shards[order[slot]]

    def samples(self, visit: int) -> Iterator[Sample]:
        """The samples of a visit, the same whenever and wherever it is made."""
        yield from read_shard(self.shard(visit), self.spec, np.random.default_rng([self.seed, visit, 1]))

    def dataset(self) -> ray.data.Dataset:
        """The rest of the stream, a block of visits per task; a bit more than ``total``, so that no worker runs dry."""
        import ray.data

        context = ray.data.DataContext.get_current()
        if SchedulerThrottle not in context.custom_execution_callback_classes:
            context.custom_execution_callback_classes.append(SchedulerThrottle)
        first = int(self.skipped / self.mean_samples)
        block = self.visits_per_block
        blocks = math.ceil((self.total - self.skipped) / self.mean_samples / block) + 8
        visits = ray.data.range(blocks * block, override_num_blocks=blocks)
        return visits.flat_map(lambda row: self.samples(first + row["id"]), num_cpus=0.5)
