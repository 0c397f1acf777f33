"""Where training samples come from: mesh datasets with their pictures, or shards of synthetic faces."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

import neuface_ray
from neuface_ray.dataset.arrays import to_arrays
from neuface_ray.dataset.reader import MeshDataset
from neuface_ray.errors import DataError, UsageError
from neuface_ray.media.crop import resize
from neuface_ray.methods.recipe import SampleSpec
from neuface_ray.training.pictures import SOURCE_COLUMNS, STORED, crops_of

KEYS = ("clip_id", "sequence_id", "person", "view", "frame_index", "valid", "accepted")
DETECTED, LANDMARKS = "detected", "landmarks"
SHARDS = "shard-*"
IMAGES_PER_PERSON = 4
"""Consecutive faces of a shard that show one person, where its description does not say."""
Sample = dict[str, np.ndarray]


@dataclass(frozen=True)
class Shard:
    """Clips of a dataset, or one folder of faces, that are read together: ``samples`` (groups, windows) can be used."""

    dataset: str
    clips: tuple[str, ...]
    sequences: tuple[str, ...]
    samples: int


def usable_rows(path: str, spec: SampleSpec, head_model: str) -> pa.Table:
    """What can be used of a dataset, in its order: clip_id, sequence_id, view, frame_index; ``who`` is the person, or what else
    must not be both trained and validated on; ``subject`` the person whom a group shows.

    Raises:
        UsageError: no dataset there, another head model, or columns that are missing or empty.
    """
    if is_shards(path):
        return _rows_of_faces(Path(path), spec, head_model)
    dataset = open_dataset(path)
    _check_head(path, dataset.head_model, head_model)
    names = set(dataset.schema("frames").names)
    columns = [_stored_name(name) for name in spec.columns]
    missing = [name for name in (*KEYS, *columns, *_picture_columns(names, spec)) if name not in names]
    if missing:
        raise UsageError(f"{path}: table frames lacks {', '.join(missing)}; it was not written by this version of the program")
    for name in columns:
        if dataset.schema("frames").field(name).metadata.get(b"shape", b"").startswith(b"[0"):
            raise UsageError(f"{path}: column {name} is empty: its annotator gives no parameters, which training needs")
    table = dataset.frames(list(KEYS), filter=(pc.field("valid")) & (pc.field("accepted")))
    who = pc.coalesce(table["person"], table["sequence_id"])
    return table.append_column("who", who).append_column("subject", who)


def count_samples(rows: Any, spec: SampleSpec) -> int:
    """How many samples the columns clip_id, view, frame_index and subject of neighbouring clips amount to."""
    return len(_members(rows, spec))


def read_shard(shard: Shard, spec: SampleSpec, rng: np.random.Generator) -> Iterator[Sample]:
    """Read the samples of a shard in random order, with random views.

    Yields:
        ``image`` uint8 [N, S, S, 3] (unless ``image_size`` is 0), ``view_valid`` bool [N], and the wanted columns [N, ...]
        float32; the first view is the most frontal one. Windows: all arrays [frames, ...]. Groups: [group, N, ...].
    """
    if is_shards(shard.dataset):
        for index in rng.permutation(len(shard.clips)) if len(shard.clips) > 1 else (0,):
            yield from _read_faces(Path(shard.dataset) / shard.clips[index], spec, rng)
        return
    dataset = open_dataset(shard.dataset)
    columns = {name: _stored_name(name) for name in spec.columns}
    pictures = _picture_columns(set(dataset.schema("frames").names), spec)
    here = pc.field("sequence_id").isin(list(shard.sequences)) & pc.field("clip_id").isin(list(shard.clips))
    wanted = [*KEYS, *dict.fromkeys(c for c in (*columns.values(), *pictures) if c not in KEYS)]
    table = dataset.frames(wanted, filter=here & pc.field("valid") & pc.field("accepted"))
    rows = to_arrays(table) | {"subject": pc.coalesce(table["person"], table["sequence_id"]).to_pylist()}
    arrays = {name: rows[stored] for name, stored in columns.items()}
    chosen = [[_chosen_views(instant, arrays, spec, rng) for instant in group] for group in _members(rows, spec, rng)]
    needed = [row for group in chosen for views in group for row in views]
    crops = _crops(rows, needed, pictures, spec, dataset) if spec.image_size else dict.fromkeys(needed, np.empty(0))
    for index in rng.permutation(len(chosen)):
        group = [[row for row in views if row in crops] for views in chosen[index]]
        if all(group):
            yield _joined([_sample(arrays, crops, views, spec) for views in group], spec)


Instant = list[int]
"""Rows of one instant, one for each view."""


def _members(rows: Any, spec: SampleSpec, rng: np.random.Generator | None = None) -> list[list[Instant]]:
    """Rows by sample: instants of one view (windows), of one person (groups), or one instant alone.

    Where a person has more instants than whole groups, ``rng`` decides which ones are left out.
    """
    if spec.frames > 1:
        return _windows(rows, spec.frames, rng)
    instants: dict[tuple[str, int], Instant] = {}
    for index, key in enumerate(zip(rows["clip_id"], np.asarray(rows["frame_index"]).tolist(), strict=True)):
        instants.setdefault(key, []).append(index)
    if spec.group == 1:
        return [[instant] for instant in instants.values()]
    people: dict[str, list[Instant]] = {}
    for instant in instants.values():
        people.setdefault(rows["subject"][instant[0]], []).append(instant)
    groups = []
    for found in people.values():
        order = range(len(found)) if rng is None else rng.permutation(len(found))
        used = len(found) // spec.group * spec.group
        groups += [[found[i] for i in list(order)[k : k + spec.group]] for k in range(0, used, spec.group)]
    return groups


def _windows(rows: Any, length: int, rng: np.random.Generator | None) -> list[list[Instant]]:
    """Windows of consecutive frames of one clip and view, without overlap; ``rng`` decides where the first one begins."""
    tracks: dict[tuple[str, str], list[tuple[int, int]]] = {}
    frames = np.asarray(rows["frame_index"]).tolist()
    for index, key in enumerate(zip(rows["clip_id"], rows["view"], strict=True)):
        tracks.setdefault(key, []).append((frames[index], index))
    windows = []
    for track in tracks.values():
        ordered = sorted(track)
        gaps = [i for i in range(1, len(ordered)) if ordered[i][0] != ordered[i - 1][0] + 1]
        for start, stop in itertools.pairwise([0, *gaps, len(ordered)]):
            count, rest = divmod(stop - start, length)
            first = start + (int(rng.integers(rest + 1)) if rng is not None and count else 0)
            windows += [[[row] for _, row in ordered[k : k + length]] for k in range(first, first + count * length, length)]
    return windows


def _chosen_views(instant: Instant, arrays: dict[str, Any], spec: SampleSpec, rng: np.random.Generator) -> list[int]:
    """Random rows of an instant, not more than ``views``, without those whose landmarks the detector did not find."""
    rows = instant if spec.frames > 1 else rng.permutation(instant)[: spec.views].tolist()
    return [row for row in rows if DETECTED not in arrays or np.isfinite(arrays[DETECTED][row]).all()]


def _crops(
    rows: dict, needed: Sequence[int], pictures: Sequence[str], spec: SampleSpec, dataset: MeshDataset
) -> dict[int, np.ndarray]:
    """Crops uint8 [S, S, 3] of the needed rows, as far as they can be read."""
    order = np.asarray(needed)
    placed = (*pictures, "clip_id", "view", "frame_index")
    subset = {k: [v[i] for i in order] if isinstance(v, list) else v[order] for k, v in rows.items() if k in placed}
    return {int(order[i]): crop for i, crop in crops_of(subset, spec.image_size, dataset.store)} if len(order) else {}


def _sample(arrays: dict[str, Any], crops: dict[int, np.ndarray], members: list[int], spec: SampleSpec) -> Sample:
    if "pose" in spec.columns:
        members = sorted(members, key=lambda row: np.linalg.norm(arrays["pose"][row][:3]))
    padded = members + [members[0]] * (spec.views - len(members))
    sample = {name: np.asarray(values[padded], np.float32) for name, values in arrays.items()}
    for name, value in sample.items():
        if name != LANDMARKS and not np.isfinite(value).all():
            raise DataError(f"a valid row has no {name}; `python -m neuface_ray.dataset verify` finds damaged datasets")
    if spec.image_size:
        sample["image"] = np.stack([crops[row] for row in padded])
    sample["view_valid"] = np.arange(spec.views) < len(members)
    return sample


def _joined(parts: list[Sample], spec: SampleSpec) -> Sample:
    """Samples of instants [views, ...] as one: itself, a group [group, views, ...] or a window [frames, ...]."""
    if len(parts) == 1 and spec.group == spec.frames == 1:
        return parts[0]
    join = np.concatenate if spec.frames > 1 else np.stack
    return {name: join([part[name] for part in parts]) for name in parts[0]}


def _stored_name(column: str) -> str:
    """Name in a dataset, whose landmarks are a detector's."""
    return LANDMARKS if column == DETECTED else column


def _picture_columns(names: set[str], spec: SampleSpec) -> tuple[str, ...]:
    if not spec.image_size:
        return ()
    return (STORED,) if STORED in names else SOURCE_COLUMNS


def _check_head(path: str | Path, found: str, wanted: str) -> None:
    if found != wanted:
        raise UsageError(
            f"{path} holds numbers of head model {found}, but training is for {wanted}: set `head`, or use another dataset"
        )


@lru_cache(maxsize=16)
def open_dataset(path: str) -> MeshDataset:
    """The dataset at a path, opened once per process. Raises UsageError if there is none."""
    return neuface_ray.open(path)


def is_shards(path: str) -> bool:
    """The folder holds shards written by `neuface_ray.synthesis.shards`."""
    return next(Path(path).glob(SHARDS), None) is not None


def _rows_of_faces(folder: Path, spec: SampleSpec, head_model: str) -> pa.Table:
    """As `usable_rows`; a shard counts as one clip and one person, for no person is in two."""
    names: list[str] = []
    subjects: list[str] = []
    frames: list[np.ndarray] = []
    arrays = (*((STORED,) if spec.image_size else ()), *spec.columns)
    if spec.frames > 1:
        raise UsageError(f"{folder} holds single faces, but training needs {spec.frames} consecutive frames: name a dataset")
    for shard in sorted(folder.glob(SHARDS)):
        about = json.loads((shard / "about.json").read_text())
        _check_head(shard, about["head"], head_model)
        missing = [name for name in arrays if not (shard / f"{name}.npy").is_file()]
        if missing:
            advice = "; make the faces again with detect=true, which adds them" if missing == [DETECTED] else ""
            raise UsageError(f"{shard} lacks {', '.join(missing)}{advice}")
        if spec.group > _images_per_person(about):
            raise UsageError(
                f"{folder} shows each person {_images_per_person(about)} times, but training needs {spec.group} pictures of one"
            )
        usable = _usable_faces(shard, spec)
        names += [shard.name] * len(usable)
        subjects += [f"{shard.name}/{person}" for person in (usable // _images_per_person(about)).tolist()]
        frames.append(usable)
    who = [f"{folder}/{name}" for name in names]
    keys = {"clip_id": names, "sequence_id": names, "view": names, "frame_index": np.concatenate(frames)}
    return pa.table(keys | {"who": who, "subject": subjects})


def _images_per_person(about: dict[str, Any]) -> int:
    return about.get("options", {}).get("images_per_person", IMAGES_PER_PERSON)


def _usable_faces(shard: Path, spec: SampleSpec) -> np.ndarray:
    """Numbers of the faces whose landmarks were found, where ``detected`` is wanted; all of them elsewhere."""
    if DETECTED in spec.columns:
        return np.flatnonzero(np.isfinite(np.load(shard / f"{DETECTED}.npy")).all((1, 2)))
    return np.arange(len(np.load(shard / f"{(*spec.columns, STORED)[0]}.npy", mmap_mode="r")))


def _face_groups(shard: Path, usable: np.ndarray, group: int) -> list[np.ndarray]:
    """The usable faces of a shard by groups of one person, in order; what is left over of a person is not used."""
    if group == 1:
        return [usable[i : i + 1] for i in range(len(usable))]
    per_person = _images_per_person(json.loads((shard / "about.json").read_text()))
    people = np.split(usable, np.flatnonzero(np.diff(usable // per_person)) + 1)
    return [faces[k : k + group] for faces in people for k in range(0, len(faces) - group + 1, group)]


def _read_faces(shard: Path, spec: SampleSpec, rng: np.random.Generator) -> Iterator[Sample]:
    arrays = {name: np.load(shard / f"{name}.npy") for name in spec.columns}
    images = np.load(shard / f"{STORED}.npy", mmap_mode="r") if spec.image_size else None
    groups = _face_groups(shard, _usable_faces(shard, spec), spec.group)
    valid = np.arange(spec.views) < 1
    for index in rng.permutation(len(groups)):
        parts = []
        for face in groups[index]:
            sample = {name: values[face][None].astype(np.float32) for name, values in arrays.items()}
            if images is not None:
                sample["image"] = resize(np.asarray(images[face]), spec.image_size)[None]
            parts.append({name: np.repeat(value, spec.views, 0) for name, value in sample.items()} | {"view_valid": valid})
        yield _joined(parts, spec)
