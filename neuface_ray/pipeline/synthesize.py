"""The synthesis run: spreads shards of faces, or videos, over workers with Ray Data; what is there already stays.

Faces become shards of plain arrays for the compact encoder's training. Videos become a dataset of the same schema as an
annotated one, whose numbers are the truth, with the crops and the visibility of landmarks beside it in ``images/``.
"""

from __future__ import annotations

import io
import json
import pickle
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from neuface_ray.config import REQUIRED
from neuface_ray.dataset.commit import Output
from neuface_ray.dataset.finalise import finalise
from neuface_ray.dataset.rows import Provenance, clip_rows
from neuface_ray.errors import UsageError
from neuface_ray.former import former_settings
from neuface_ray.heads import load_head
from neuface_ray.metrics.clip_quality import measure
from neuface_ray.metrics.quality_gate import GateConfig, apply_gate
from neuface_ray.pipeline.summary import new_run_id
from neuface_ray.ray_session import RayConfig, ray_session
from neuface_ray.synthesis.detections import detect_faces
from neuface_ray.synthesis.faces import FaceOptions
from neuface_ray.synthesis.materials import check_materials
from neuface_ray.synthesis.motion import MotionRange
from neuface_ray.synthesis.options import SynthesisOptions
from neuface_ray.synthesis.renderer import Renderer
from neuface_ray.synthesis.sequences import SequenceOptions, SyntheticSequence, make_sequence, sequence_segment
from neuface_ray.synthesis.shards import SHARD_SIZE, has_detections, shard_exists, shard_path, write_shard
from neuface_ray.types import FaceClip, MeshSequence

IMAGES = "images"
VIDEOS_VERSION = 1
"""Of what the same settings draw, as ``Annotator.rows_version`` is of a method's results."""


@dataclass(frozen=True)
class SynthesizeConfig(SynthesisOptions):
    """Settings of a synthesis run."""

    config_kind: ClassVar[str] = "synthesize"

    output: str = REQUIRED
    """Folder to write (videos: also an fsspec URL). Running again with the same output continues where it stopped."""
    head: str = "open_head"
    """Head model: open_head, or the path of another one with a landmark embedding."""
    ray: RayConfig = field(default_factory=RayConfig)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.count < 1:
            raise UsageError(f"count must be at least 1, got {self.count}")

    def face_options(self) -> FaceOptions:
        return FaceOptions(
            size=self.size,
            motion=MotionRange(yaw_deg=self.yaw_deg),
            occluded=self.occluded,
            **self.materials(),
            shape_sd=self.shape_sd,
            canonical=self.canonical,
            untextured=self.untextured,
            unshaded=self.unshaded,
        )

    def sequence_options(self) -> SequenceOptions:
        motion = MotionRange(yaw_deg=self.yaw_deg, wide=0.2, random_expressions=0.1)
        face = replace(self.face_options(), motion=motion, occluded=0.0)
        return SequenceOptions(self.frames, self.fps, self.views, face=face)


@dataclass(frozen=True)
class SynthesisSummary:
    """Counts of a run: units (shards or videos) in all, those that are ``new``, and the images in the new ones."""

    output: str
    kind: str
    units: int
    new: int
    images: int
    seconds: float

    def table(self) -> str:
        """A line for people."""
        unit = "shards" if self.kind == "faces" else "videos"
        speed = self.images / max(self.seconds, 1e-9)
        return f"{self.output}: {self.units} {unit}, {self.new} new with {self.images} images ({speed:.1f} a second)"


def run(config: SynthesizeConfig) -> SynthesisSummary:
    """Draws what ``config`` asks for and is not there yet.

    Raises:
        UsageError, ModelFileError: wrong configuration. NeufaceError: Ray failed, or a worker did.
    """
    check_materials("", config)
    started = time.monotonic()
    with ray_session(config.ray):
        images = list(_faces(config) if config.kind == "faces" else _videos(config))
    units = -(-config.count // SHARD_SIZE) if config.kind == "faces" else config.count
    return SynthesisSummary(config.output, config.kind, units, len(images), sum(images), time.monotonic() - started)


def _spread(items: list[int], work: Any, *arguments: Any) -> Iterator[int]:
    """Calls ``work(number, *arguments)`` for every item on the cluster; yields the number of images of each."""
    import ray.data  # not earlier: its environment is set by the session

    if not items:
        return
    rows = ray.data.from_items([{"number": number} for number in items], override_num_blocks=len(items))
    done = rows.map(lambda row: {"images": work(row["number"], *arguments)}, num_cpus=1)
    for batch in done.iter_batches(batch_size=None, prefetch_batches=0):
        yield from (int(images) for images in batch["images"])


def _faces(config: SynthesizeConfig) -> Iterator[int]:
    folder = Path(config.output)
    head, options = load_head(config.head).id, config.face_options()
    asked = range(-(-config.count // SHARD_SIZE))
    paths = {n: shard_path(folder, n) for n in asked}
    numbers = [
        n
        for n, path in paths.items()
        if not shard_exists(path, options, config.seed, n, head) or (config.detect and not has_detections(path))
    ]
    yield from _spread(numbers, _make_shard, config)


def _make_shard(number: int, config: SynthesizeConfig) -> int:
    write_shard(config.output, config.face_options(), config.seed, number, SHARD_SIZE, config.head, config.detect)
    return SHARD_SIZE


def _open_output(config: SynthesizeConfig) -> Output:
    """Open the dataset of videos, or begin it. Raises UsageError if other settings made what is there."""
    settings, former = (_row_settings(each) for each in (asdict(config), former_settings(config)))
    provenance = Provenance(
        new_run_id(), "truth", load_head(config.head).id, settings, seed=config.seed, method_version=VIDEOS_VERSION
    )
    return Output.open(config.output, provenance, former=former)


def _videos(config: SynthesizeConfig) -> Iterator[int]:
    output, options = _open_output(config), config.sequence_options()
    segments = {sequence_segment(options, config.seed, index).segment_id: index for index in range(config.count)}
    pending = output.pending([sequence_segment(options, config.seed, index) for index in segments.values()])
    yield from _spread([segments[segment.segment_id] for segment in pending], _make_video, config, pickle.dumps(output))
    finalise(output.store)


def _row_settings(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if name not in ("output", "count", "ray")}


def _make_video(index: int, config: SynthesizeConfig, output_bytes: bytes) -> int:
    output: Output = pickle.loads(output_bytes)
    renderer = _load_renderer(config.head)
    sequence = make_sequence(renderer, config.sequence_options(), config.seed, index)
    quality = measure(sequence.clip, sequence.truth, renderer.head)
    decision = apply_gate(quality, GateConfig(max_shape_norm=float("inf")))
    output.store.replace(f"{IMAGES}/{sequence.clip.clip_id}.images", encode_images(sequence))
    output.begin_attempt(sequence.clip.segment.segment_id)
    clip, truth = with_detections(sequence) if config.detect else (sequence.clip, sequence.truth)
    output.commit(clip.segment, [clip_rows(clip, truth, quality, decision, output.provenance)])
    return config.frames * config.views


def with_detections(sequence: SyntheticSequence) -> tuple[FaceClip, MeshSequence]:
    """Give a video's records a detector's landmarks instead of the true ones, invalid where it finds no face."""
    clip, grid = sequence.clip, sequence.clip.valid.shape
    crops = clip.crops.reshape(-1, *clip.crops.shape[2:]).transpose(0, 2, 3, 1)
    landmarks = detect_faces(crops).astype(np.float32).reshape(*grid, -1, 2)
    found = np.isfinite(landmarks).all((-1, -2))
    confidence = clip.landmark_confidence * found[..., None]
    return replace(clip, landmarks=landmarks, landmark_confidence=confidence, valid=found), replace(sequence.truth, valid=found)


@lru_cache(maxsize=1)
def _load_renderer(head: str) -> Renderer:
    return Renderer(load_head(head))


def encode_images(sequence: SyntheticSequence) -> bytes:
    """A Parquet file of the video's crops: columns frame, view, png, and visible (one flag for each landmark)."""
    frames, views = sequence.visible.shape[:2]
    grid = [(f, v) for v in range(views) for f in range(frames)]
    pictures = [cv2.imencode(".png", sequence.clip.crops[f, v].transpose(1, 2, 0)[..., ::-1])[1].tobytes() for f, v in grid]
    table = pa.table(
        {
            "frame": pa.array([f for f, _ in grid], pa.int32()),
            "view": pa.array([sequence.clip.segment.views[v].name for _, v in grid]),
            "png": pa.array(pictures, pa.binary()),
            "visible": pa.array([sequence.visible[f, v].tolist() for f, v in grid], pa.list_(pa.bool_())),
        },
        metadata={"clip_id": sequence.clip.clip_id, "segment": json.dumps(sequence.clip.segment.segment_id)},
    )
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="none")
    return sink.getvalue()
