"""The face crops that belong to dataset rows: stored with them or beside them, or cut again out of their sources."""

from __future__ import annotations

import io
from collections.abc import Iterator

import cv2
import numpy as np
import pyarrow.parquet as pq

from neuface_ray.dataset.storage import Store
from neuface_ray.errors import DataError
from neuface_ray.media.config import Limits
from neuface_ray.media.crop import cut, resize
from neuface_ray.media.footage import open_source

STORED = "image"
"""Column with the encoded crop (JPEG or PNG), if the dataset stores crops."""
SOURCE_COLUMNS = ("source_uri", "source_frame", "crop_to_image")
FOLDER = "images"
"""Folder of a dataset with one Parquet file ``CLIP.images`` per clip: columns frame, view, png (synthetic videos)."""


def crops_of(rows: dict[str, np.ndarray | list], size: int, store: Store) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (row number, uint8 [S, S, 3] crop) for the rows of a dataset; unreadable frames are left out.

    Args:
        rows: columns clip_id, view, frame_index and ``image``, or else ``source_uri``, ``source_frame`` and ``crop_to_image``.
        store: of the dataset, where crops may lie beside the rows.

    Raises:
        DataError: a source cannot be opened or decoded.
    """
    if STORED in rows:
        for index, data in enumerate(rows[STORED]):
            yield index, decode_crop(data, size)
        return
    if store.exists(_beside(rows["clip_id"][0])):
        yield from _crops_beside(rows, size, store)
        return
    sources: dict[str, list[int]] = {}
    for index, uri in enumerate(rows["source_uri"]):
        if rows["source_frame"][index] >= 0:
            sources.setdefault(uri, []).append(index)
    for uri, indices in sources.items():
        for index, image in _frames(uri, indices, rows["source_frame"]):
            yield index, cut(image, rows["crop_to_image"][index], size).transpose(1, 2, 0)


def _beside(clip_id: str) -> str:
    return f"{FOLDER}/{clip_id}.images"


def _crops_beside(rows: dict[str, np.ndarray | list], size: int, store: Store) -> Iterator[tuple[int, np.ndarray]]:
    """Crops of clips from their files in ``FOLDER``."""
    per_clip: dict[str, dict[tuple[str, int], int]] = {}
    for index, (clip_id, view, frame) in enumerate(zip(rows["clip_id"], rows["view"], rows["frame_index"], strict=True)):
        per_clip.setdefault(clip_id, {})[view, int(frame)] = index
    for clip_id, wanted in per_clip.items():
        table = pq.read_table(io.BytesIO(store.read(_beside(clip_id))), columns=["view", "frame", "png"])
        for view, frame, png in zip(*(table[name].to_pylist() for name in ("view", "frame", "png")), strict=True):
            if (view, frame) in wanted:
                yield wanted[view, frame], decode_crop(png, size)


def decode_crop(data: bytes, size: int) -> np.ndarray:
    """uint8 [S, S, 3] RGB of an encoded crop, resized if it is stored in another size."""
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError("a stored crop is not a readable image", code="corrupt")
    return np.ascontiguousarray(resize(image, size)[..., ::-1])


def _frames(uri: str, indices: list[int], source_frame: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    wanted: dict[int, list[int]] = {}
    for index in indices:
        wanted.setdefault(int(source_frame[index]), []).append(index)
    frames = sorted(wanted)
    with open_source(uri, Limits()) as source:
        for frame, image in zip(frames, source.read(frames, set()), strict=True):
            if image is not None:
                yield from ((index, image) for index in wanted[frame])
