"""Where training samples come from: mesh datasets with their pictures, or shards of synthetic faces."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import neuface_ray
from neuface_ray.dataset.arrays import to_arrays
from neuface_ray.dataset.reader import MeshDataset
from neuface_ray.errors import DataError, UsageError
from neuface_ray.media.crop import resize
from neuface_ray.training.pictures import SOURCE_COLUMNS, STORED, crops_of

KEYS = ("clip_id", "sequence_id", "person", "view", "frame_index", "valid", "accepted")
SHARDS = "shard-*"
Sample = dict[str, np.ndarray]


@dataclass(frozen=True)
class Unit:
    """Clips of a dataset (or one shard) that are read together: ``samples`` instants of them can be used."""

    dataset: str
    clips: tuple[str, ...]
    sequences: tuple[str, ...]
    samples: int


@dataclass(frozen=True)
class Reading:
    """What is read of a row and made of it.

    Args:
        columns: of ``frames``, beside the keys. image_size: side of the crops, pixels. views: per sample; samples with
            fewer are filled up with copies of the first that are marked invalid.
    """

    columns: tuple[str, ...]
    image_size: int
    views: int


def usable_rows(path: str, reading: Reading, head_model: str) -> pa.Table:
    """What can be used of a dataset, in its order: clip_id, sequence_id, frame_index, and ``who`` is seen.

    Raises:
        UsageError: no dataset there, another head model, or columns that are missing or empty.
    """
    if is_shards(path):
        return _shard_rows(Path(path), reading, head_model)
    dataset = open_dataset(path)
    _check_head(path, dataset.head_model, head_model)
    names = set(dataset.schema("frames").names)
    pictures = (STORED,) if STORED in names else SOURCE_COLUMNS
    missing = [name for name in (*KEYS, *reading.columns, *pictures) if name not in names]
    if missing:
        raise UsageError(f"{path}: table frames lacks {', '.join(missing)}; it was not written by this version of the program")
    for name in reading.columns:
        if dataset.schema("frames").field(name).metadata.get(b"shape", b"").startswith(b"[0"):
            raise UsageError(f"{path}: column {name} is empty: its annotator gives no parameters, which training needs")
    table = dataset.frames(list(KEYS), filter=(pc.field("valid")) & (pc.field("accepted")))
    who = pc.coalesce(table["person"], table["sequence_id"])
    return table.append_column("who", who)


def _check_head(path: str | Path, found: str, wanted: str) -> None:
    if found != wanted:
        raise UsageError(
            f"{path} holds numbers of head model {found}, but training is for {wanted}: set `head`, or use another dataset"
        )


@lru_cache(maxsize=16)
def open_dataset(path: str) -> MeshDataset:
    """The dataset at a path, opened once per process. Raises UsageError if there is none."""
    return neuface_ray.open(path)


def read_unit(unit: Unit, reading: Reading, rng: np.random.Generator) -> Iterator[Sample]:
    """The samples of a unit in random order, with random views.

    Yields:
        ``image`` uint8 [N, S, S, 3], ``view_valid`` bool [N], and the wanted columns [N, ...] float32. The first view is the
        most frontal one.
    """
    if is_shards(unit.dataset):
        yield from _read_shard(Path(unit.dataset) / unit.clips[0], reading, rng)
        return
    dataset = open_dataset(unit.dataset)
    names = set(dataset.schema("frames").names)
    pictures = (STORED,) if STORED in names else SOURCE_COLUMNS
    here = pc.field("sequence_id").isin(list(unit.sequences)) & pc.field("clip_id").isin(list(unit.clips))
    columns = [*KEYS, *(c for c in (*reading.columns, *pictures) if c not in KEYS)]
    rows = to_arrays(dataset.frames(columns, filter=here & pc.field("valid") & pc.field("accepted")))
    groups: dict[tuple[str, int], list[int]] = {}
    for index, key in enumerate(zip(rows["clip_id"], rows["frame_index"].tolist(), strict=True)):
        groups.setdefault(key, []).append(index)
    chosen = [rng.permutation(members)[: reading.views] for members in groups.values()]
    wanted = np.concatenate(chosen)
    crops = dict(zip(wanted.tolist(), [None] * len(wanted), strict=True))
    placed = (*pictures, "clip_id", "view", "frame_index")
    subset = {k: [v[i] for i in wanted] if isinstance(v, list) else v[wanted] for k, v in rows.items() if k in placed}
    for position, crop in crops_of(subset, reading.image_size, dataset.store):
        crops[int(wanted[position])] = crop
    for i in rng.permutation(len(chosen)):
        members = [m for m in chosen[i].tolist() if crops[m] is not None]
        if members:
            yield _sample(rows, crops, members, reading)


def _sample(rows: dict, crops: dict, members: list[int], reading: Reading) -> Sample:
    if "pose" in reading.columns:
        members = sorted(members, key=lambda m: np.linalg.norm(rows["pose"][m][:3]))
    padded = members + [members[0]] * (reading.views - len(members))
    sample = {name: np.asarray(rows[name][padded], np.float32) for name in reading.columns}
    for name, value in sample.items():
        if name != "landmarks" and not np.isfinite(value).all():
            raise DataError(f"a valid row has no {name}; `python -m neuface_ray.dataset verify` finds damaged datasets")
    sample["image"] = np.stack([crops[m] for m in padded])
    sample["view_valid"] = np.arange(reading.views) < len(members)
    return sample


def is_shards(path: str) -> bool:
    """The folder holds shards written by `neuface_ray.synthesis.shards`."""
    return next(Path(path).glob(SHARDS), None) is not None


def _shard_rows(folder: Path, reading: Reading, head_model: str) -> pa.Table:
    """As `usable_rows`; a shard counts as one clip and one person, for no person is in two."""
    names: list[str] = []
    for shard in sorted(folder.glob(SHARDS)):
        _check_head(shard, json.loads((shard / "about.json").read_text())["head"], head_model)
        missing = [name for name in (STORED, *reading.columns) if not (shard / f"{name}.npy").is_file()]
        if missing:
            raise UsageError(f"{shard} lacks {', '.join(missing)}")
        names += [shard.name] * len(np.load(shard / f"{STORED}.npy", mmap_mode="r"))
    who = [f"{folder}/{name}" for name in names]
    return pa.table({"clip_id": names, "sequence_id": names, "frame_index": np.arange(len(names)), "who": who})


def _read_shard(shard: Path, reading: Reading, rng: np.random.Generator) -> Iterator[Sample]:
    images = np.load(shard / f"{STORED}.npy", mmap_mode="r")
    columns = {name: np.load(shard / f"{name}.npy") for name in reading.columns}
    size, invalid = reading.image_size, reading.views - 1
    for index in rng.permutation(len(images)):
        image = resize(np.asarray(images[index]), size)
        sample = {name: values[index][None].astype(np.float32) for name, values in columns.items()}
        sample["image"] = image[None]
        sample = {name: np.repeat(value, reading.views, 0) for name, value in sample.items()}
        yield sample | {"view_valid": np.array([True] + [False] * invalid)}
