"""From mesh datasets to training samples: what may be used, who is held out, and the endless shuffled stream of samples.

A *sample* is one instant of one face in up to ``views`` views. A *unit* is some neighbouring clips of one dataset that are
read together. The stream visits all units in a new random order again and again; its order follows from the seed alone, so
training continues in the stream where it stopped (up to the shuffle buffer).
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
from neuface_ray.training.sources import Reading, Sample, Unit, read_unit, usable_rows

if TYPE_CHECKING:
    import ray.data

UNIT_ROWS = 256
PAUSE_S = 0.02


@dataclass(frozen=True)
class Split:
    """The units to train on and to validate on, which share no person, and the head model of all."""

    train: tuple[Unit, ...]
    validation: tuple[Unit, ...]
    head_model: str

    def count(self, part: str) -> int:
        """Samples of ``train`` or ``validation``."""
        return sum(unit.samples for unit in getattr(self, part))


def split(data: Sequence[str], validation: Sequence[str], fraction: float, reading: Reading, head_model: str) -> Split:
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
    tables = [usable_rows(path, reading, head_model) for path in data]
    everybody = pa.concat_tables([table.select(["who"]) for table in tables])["who"].unique().to_pylist()
    held = set() if validation else held_out(everybody, fraction)
    train, tested = [], []
    for path, table in zip(data, tables, strict=True):
        mask = pc.is_in(table["who"], value_set=pa.array(sorted(held), pa.string()))
        tested += _units(path, table.filter(mask))
        train += _units(path, table.filter(pc.invert(mask)))
    for path in validation:
        tested += _units(path, usable_rows(path, reading, head_model))
    if not train:
        raise UsageError(
            f"{', '.join(data)}: nothing can be trained on: no frame is valid, accepted by the quality gate and not held out"
        )
    return Split(tuple(train), tuple(tested), head_model)


def held_out(names: Sequence[str], fraction: float) -> set[str]:
    """The share of names that is kept for validation: those with the smallest hashes; at least one stays for training."""
    order = sorted(names, key=lambda name: hashlib.sha256(name.encode()).digest())
    return set(order[: min(math.ceil(fraction * len(order)), len(order) - 1)])


def _units(path: str, rows: pa.Table) -> Iterator[Unit]:
    """Neighbouring clips, at least ``UNIT_ROWS`` rows together; ``rows`` are usable ones in the dataset's order."""
    if not rows.num_rows:
        return
    per_clip = rows.group_by(["clip_id", "sequence_id"], use_threads=False).aggregate(
        [("frame_index", "count_distinct"), ("frame_index", "count")]
    )
    clips: list[tuple[str, str, int]] = []
    waiting = 0
    for row in per_clip.to_pylist():
        clips.append((row["clip_id"], row["sequence_id"], row["frame_index_count_distinct"]))
        waiting += row["frame_index_count"]
        if waiting >= UNIT_ROWS:
            yield _unit(path, clips)
            clips, waiting = [], 0
    if clips:
        yield _unit(path, clips)


def _unit(path: str, clips: list[tuple[str, str, int]]) -> Unit:
    ids, sequences, counts = zip(*clips, strict=True)
    return Unit(path, ids, tuple(sorted(set(sequences))), sum(counts))


def read_some(units: Sequence[Unit], reading: Reading, count: int, seed: int) -> list[Sample]:
    """Up to ``count`` samples, taken evenly from the units; the same ones every time."""
    samples: list[Sample] = []
    rng = np.random.default_rng(seed)
    total = sum(unit.samples for unit in units)
    for unit in units:
        share = math.ceil(count * unit.samples / total)
        for _, sample in zip(range(share), read_unit(unit, reading, rng), strict=False):
            samples.append(sample)
    return [samples[i] for i in rng.permutation(len(samples))[:count]]


def stack(samples: Sequence[Sample]) -> Sample:
    """A batch: every array with a leading batch dimension."""
    return {name: np.stack([sample[name] for sample in samples]) for name in samples[0]}


class Patience:
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

    units: tuple[Unit, ...]
    reading: Reading
    seed: int
    total: int
    skipped: int = 0

    @property
    def visits_per_block(self) -> int:
        """Units read by one data task: enough for ``UNIT_ROWS`` samples."""
        return math.ceil(UNIT_ROWS / self.mean_samples)

    @property
    def mean_samples(self) -> float:
        return sum(unit.samples for unit in self.units) / len(self.units)

    def unit(self, visit: int) -> Unit:
        """The unit of a visit: each round of visits is a random permutation of all units."""
        turn, slot = divmod(visit, len(self.units))
        order = np.random.default_rng([self.seed, turn]).permutation(len(self.units))
        return self.units[order[slot]]

    def samples(self, visit: int) -> Iterator[Sample]:
        """The samples of a visit, the same whenever and wherever it is made."""
        yield from read_unit(self.unit(visit), self.reading, np.random.default_rng([self.seed, visit, 1]))

    def dataset(self) -> ray.data.Dataset:
        """The rest of the stream, a block of visits per task; a bit more than ``total``, so that no worker runs dry."""
        import ray.data

        context = ray.data.DataContext.get_current()
        if Patience not in context.custom_execution_callback_classes:
            context.custom_execution_callback_classes.append(Patience)
        first = int(self.skipped / self.mean_samples)
        block = self.visits_per_block
        blocks = math.ceil((self.total - self.skipped) / self.mean_samples / block) + 8
        visits = ray.data.range(blocks * block, override_num_blocks=blocks)
        return visits.flat_map(lambda row: self.samples(first + row["id"]), num_cpus=0.5)
