"""From the records of one clip to its rows. Only core frames are written; the overlap belongs to the neighbour."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from neuface_ray.dataset.privacy import clean_config
from neuface_ray.dataset.schema import DELETED, SCHEMA_VERSION, Layout, schema
from neuface_ray.errors import DataError, UsageError
from neuface_ray.types import Camera, FaceClip, GateDecision, MeshSequence, Quality, Segment, View
from neuface_ray.uri import redact_text, redact_uri, valid_text
from neuface_ray.version import code_version

Rows = dict[str, pa.Table]

ROWS_VERSION = 1
"""Version of the rows as far as the media, gate and head code goes that all methods share. Raised once, at the end of a piece
of work by which the same settings give other rows; datasets of another version are then not continued. A method's own is
``Annotator.rows_version``."""


@dataclass(frozen=True)
class Provenance:
    """Who made the rows, and from what; equal provenance (but for ``run_id`` and ``code_version``) means equal rows.

    Args:
        run_id: of this start of the program; attempts are counted per run.
        annotator: name of the method; head_model: ``name/version/hash``.
        config: the resolved configuration, only keys on which rows depend (no paths, no concurrency); secrets are removed.
        code_version: of the program, with the commit if known; recorded, never compared.
        model_hashes: sha256 of every model file used, by name.
        seed: of the random numbers.
        method_version: of the method's results, as ``ROWS_VERSION`` is of the shared code's.
        schema_version: of the rows' columns; ``Output.provenance`` has the dataset's.
    """

    run_id: str
    annotator: str
    head_model: str
    config: dict[str, Any] = field(default_factory=dict)
    code_version: str = field(default_factory=code_version)
    model_hashes: dict[str, str] = field(default_factory=dict)
    seed: int = 0
    method_version: int = 1
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self):
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,80}", self.run_id):
            raise UsageError(f"run_id {self.run_id!r} must be 1 to 80 letters, digits, '-' or '_'")
        object.__setattr__(self, "config", clean_config(self.config))

    @property
    def config_hash(self) -> str:
        """sha256 of the configuration as sorted JSON, 16 hex digits."""
        return hashlib.sha256(_json(self.config).encode()).hexdigest()[:16]


def clip_rows(
    clip: FaceClip,
    sequence: MeshSequence,
    quality: Quality,
    decision: GateDecision,
    provenance: Provenance,
    vertex_dtype: str = "float32",
) -> Rows:
    """The rows of one clip in ``frames`` (core frames x views), ``clips`` (one) and, with ``sequence.vertices``, ``vertices``.

    Rows are ordered by view, then frame. Raises DataError (code ``inconsistent_clip``) if the records do not fit together or
    a parameter is not finite.
    """
    _check(clip, sequence, provenance)
    core = np.flatnonzero(clip.core)
    n_vertices = 0 if sequence.vertices is None else sequence.vertices.shape[2]
    layout = Layout(sequence.shape.shape[-1], sequence.expression.shape[-1], clip.landmarks.shape[2], n_vertices, vertex_dtype)
    rows = {
        "frames": _frame_rows(clip, sequence, quality, decision, provenance, layout, core),
        "clips": _clip_row(clip, sequence, quality, decision, provenance, layout, core),
    }
    if sequence.vertices is not None:
        rows["vertices"] = _vertex_rows(clip, sequence, layout, core)
    return rows


def _check(clip: FaceClip, sequence: MeshSequence, provenance: Provenance) -> None:
    grid = (clip.n_frames, clip.n_views)
    problems = []
    if sequence.clip_id != clip.clip_id:
        problems.append(f"the mesh sequence belongs to clip {sequence.clip_id}")
    if sequence.head_model != provenance.head_model:
        problems.append(f"head {sequence.head_model} instead of {provenance.head_model}")
    if len(clip.segment.views) != clip.n_views:
        problems.append(f"{len(clip.segment.views)} views in the segment, {clip.n_views} in the clip")
    for name in ("shape", "expression", "pose", "camera", "translation", "vertices"):
        value = getattr(sequence, name)
        if value is None:
            continue
        if value.shape[:2] != grid:
            problems.append(f"{name} has shape {value.shape}, the clip has {grid[0]} frames and {grid[1]} views")
        elif not np.isfinite(value).all():
            problems.append(f"{name} is not finite")
    if not clip.core.any():
        problems.append("no core frame")
    if problems:
        raise DataError(f"clip {clip.clip_id}: {'; '.join(problems)}", code="inconsistent_clip")


def _identity(clip: FaceClip, n: int) -> dict[str, Any]:
    segment = clip.segment
    return {
        "clip_id": [clip.clip_id] * n,
        "sequence_id": [redact_text(segment.sequence_id)] * n,
        "segment_id": [segment.segment_id] * n,
        "person": [segment.person] * n,
    }


def _frame_rows(
    clip: FaceClip,
    sequence: MeshSequence,
    quality: Quality,
    decision: GateDecision,
    provenance: Provenance,
    layout: Layout,
    core: np.ndarray,
) -> pa.Table:
    n, views = len(core), clip.segment.views

    def grid(values: np.ndarray) -> np.ndarray:
        """[F, V, ...] to [V * core frames, ...]."""
        return np.swapaxes(np.asarray(values)[core], 0, 1).reshape(n * clip.n_views, *np.shape(values)[2:])

    def grid_if_known(values: np.ndarray | None) -> np.ndarray | None:
        return None if values is None else grid(values)

    def each_frame(values: np.ndarray) -> np.ndarray:
        return np.tile(np.asarray(values)[core], clip.n_views)

    def each_view(values: list | np.ndarray) -> list:
        return [value for value in values for _ in range(n)]

    columns = _identity(clip, n * clip.n_views) | {
        "view": each_view([view.name for view in views]),
        "frame_index": each_frame(clip.frame_index),
        "source_frame": grid(clip.source_frame),
        "timestamp_s": each_frame(clip.timestamps_s),
        "source_timestamp_s": grid_if_known(clip.source_timestamps_s),
        "valid": grid(clip.valid & sequence.valid),
        "invalid_reason": grid(_invalid_reasons(clip, sequence)),
        "accepted": np.full(n * clip.n_views, decision.accepted),
        "head_model": [sequence.head_model] * (n * clip.n_views),
        "shape": grid(sequence.shape),
        "expression": grid(sequence.expression),
        "pose": grid(sequence.pose),
        "camera": grid(sequence.camera),
        "translation": grid_if_known(sequence.translation),
        "crop_to_image": grid(clip.crop_to_image),
        "landmarks": grid(clip.landmarks),
        "landmark_confidence": grid(clip.landmark_confidence),
        "nme": grid(quality.nme),
        "yaw_deg": grid(quality.yaw_deg),
        "pitch_deg": grid_if_known(quality.pitch_deg),
        "roll_deg": grid_if_known(quality.roll_deg),
        "visible_fraction": grid(quality.visible_fraction),
        "face_px": grid(clip.face_px),
        "blur": grid(clip.blur),
        "intrinsics": each_view([None if view.camera is None else view.camera.intrinsics for view in views]),
        "world_to_camera": each_view([None if view.camera is None else view.camera.world_to_camera for view in views]),
        "image_width": each_view(clip.image_size[:, 0]),
        "image_height": each_view(clip.image_size[:, 1]),
        "source_uri": each_view([redact_uri(view.uri) for view in views]),
    }
    return _table("frames", columns, layout, n * clip.n_views, provenance.schema_version)


def _invalid_reasons(clip: FaceClip, sequence: MeshSequence) -> np.ndarray:
    """object [F, V]: why a row's ``valid`` is False; None where it is True, or nobody said why."""
    reasons = np.full(clip.valid.shape, None, object)
    if clip.invalid_reason is not None:
        reasons[~clip.valid] = clip.invalid_reason[~clip.valid]
    reasons[clip.valid & ~sequence.valid] = "not_annotated"
    return reasons


def _clip_row(
    clip: FaceClip,
    sequence: MeshSequence,
    quality: Quality,
    decision: GateDecision,
    provenance: Provenance,
    layout: Layout,
    core: np.ndarray,
) -> pa.Table:
    views, seconds = clip.segment.views, {**clip.seconds, **sequence.seconds}
    seen = (clip.valid & sequence.valid)[core]
    shapes = sequence.shape[core]
    shape = shapes[seen].mean(0) if seen.any() else shapes.mean((0, 1))
    row = {name: values[0] for name, values in _identity(clip, 1).items()} | {
        "track": clip.track,
        "status": "accepted" if decision.accepted else "rejected",
        "reasons": list(decision.reasons),
        "notes": [*clip.notes, *sequence.reasons],
        "faces_found": clip.faces_found,
        "faces_left_out": clip.faces_left_out,
        "n_frames": len(core),
        "n_views": clip.n_views,
        "first_frame": int(clip.frame_index[core].min()),
        "fps": clip.fps,
        "start_offset_s": clip.start_offset_s,
        "views": [view.name for view in views],
        "nme": quality.clip_nme,
        "msi3d_landmarks": quality.msi3d_landmarks,
        "msi3d_vertices": quality.msi3d_vertices,
        "cvd": quality.cvd,
        "shape_norm": quality.shape_norm,
        "valid_fraction": quality.valid_fraction,
        "gate_numbers": _json(decision.numbers),
        "metrics": _json(sequence.metrics),
        "seconds": _json(seconds),
        "seconds_total": float(sum(value for stage, value in seconds.items() if "." not in stage)),  # STAGE.PART is in STAGE
        "annotator": sequence.annotator,
        "head_model": sequence.head_model,
        "landmark_scheme": clip.landmark_scheme,
        "config_hash": provenance.config_hash,
        "code_version": provenance.code_version,
        "run_id": provenance.run_id,
        "seed": provenance.seed,
        "model_hashes": _json(provenance.model_hashes),
        "annotator_details": _json(clean_config(sequence.provenance)),
        "source_uris": [redact_uri(view.uri) for view in views],
        "source_hashes": list(clip.source_hash),
        "licence": clip.segment.licence,
    }
    columns = {name: [value] for name, value in row.items()} | {"shape": shape[None]}
    return _table("clips", columns, layout, 1, provenance.schema_version)


def _vertex_rows(clip: FaceClip, sequence: MeshSequence, layout: Layout, core: np.ndarray) -> pa.Table:
    n = len(core) * clip.n_views
    columns = _identity(clip, n) | {
        "view": [view.name for view in clip.segment.views for _ in core],
        "frame_index": np.tile(clip.frame_index[core], clip.n_views),
        "head_model": [sequence.head_model] * n,
        "vertices": np.swapaxes(sequence.vertices[core], 0, 1).reshape(n, layout.n_vertices, 3),
    }
    return _table("vertices", columns, layout, n)


def quarantine_row(
    segment: Segment, stage: str, error: str, message: str, traceback: str, attempts: int, provenance: Provenance
) -> Rows:
    """The row of a segment that is given up."""
    row = {
        "segment_id": segment.segment_id,
        "sequence_id": redact_text(segment.sequence_id),
        "person": segment.person,
        "source_uri": redact_uri(segment.views[0].uri) if segment.views else None,
        "stage": stage,
        "error": error,
        "message": redact_text(message),
        "traceback": redact_text(traceback),
        "attempts": attempts,
        "segment": segment_to_json(segment),
        "run_id": provenance.run_id,
        "config_hash": provenance.config_hash,
        "code_version": provenance.code_version,
    }
    return {"quarantine": _table("quarantine", {name: [value] for name, value in row.items()}, Layout(), 1)}


def segment_row(segment: Segment, outcome: str, rows: Rows, attempts: int, run_id: str) -> Rows:
    """The row that accounts for a segment in ``segments`` (without the hash of its content)."""
    row = {
        "segment_id": segment.segment_id,
        "sequence_id": redact_text(segment.sequence_id),
        "person": segment.person,
        "start": segment.start,
        "stop": segment.stop,
        "outcome": outcome,
        "n_clips": rows["clips"].num_rows if "clips" in rows else 0,
        "n_frames": rows["frames"].num_rows if "frames" in rows else 0,
        "n_vertices": rows["vertices"].num_rows if "vertices" in rows else 0,
        "attempts": attempts,
        "run_id": run_id,
        "content_hash": None,
    }
    return {"segments": _table("segments", {name: [value] for name, value in row.items()}, Layout(), 1)}


def deleted_rows(segment_ids: Sequence[str]) -> Rows:
    """The marks that remain of deleted segments: their ids and nothing else."""
    rows = [{"segment_id": i, "outcome": DELETED, "n_clips": 0, "n_frames": 0, "n_vertices": 0} for i in segment_ids]
    return {"segments": pa.Table.from_pylist(rows, schema=schema("segments"))}


def segment_to_json(segment: Segment) -> str:
    """A segment as JSON, with its cameras and without credentials."""
    views = [
        {
            "name": view.name,
            "uri": redact_uri(view.uri),
            "offset_s": view.offset_s,
            "camera": None
            if view.camera is None
            else {
                "intrinsics": np.asarray(view.camera.intrinsics).tolist(),
                "world_to_camera": np.asarray(view.camera.world_to_camera).tolist(),
            },
        }
        for view in segment.views
    ]
    return _json({**vars(segment), "views": views})


def segment_from_json(text: str) -> Segment:
    """The inverse of ``segment_to_json``."""
    values = json.loads(text)
    views = tuple(
        View(
            view["name"],
            view["uri"],
            None
            if view["camera"] is None
            else Camera(*(np.array(view["camera"][k]) for k in ("intrinsics", "world_to_camera"))),
            view.get("offset_s", 0.0),  # which rows of earlier versions do not have
        )
        for view in values.pop("views")
    )
    return Segment(views=views, **values)


def _table(name: str, columns: dict[str, Any], layout: Layout, n: int, version: int = SCHEMA_VERSION) -> pa.Table:
    target = schema(name, layout, version)
    return pa.table([_array(columns[field.name], field, n) for field in target], schema=target)


def _array(values: Any, field: pa.Field, n: int) -> pa.Array:
    """Arrow array of ``n`` rows; NaN becomes null in plain columns, None a null list in list columns."""
    kind = field.type
    if values is None:
        return pa.nulls(n, kind)
    if pa.types.is_fixed_size_list(kind):
        missing = np.zeros(n, bool)
        if isinstance(values, list):
            missing = np.array([value is None for value in values], bool)
            values = [np.zeros(kind.list_size) if value is None else np.ravel(value) for value in values]
        flat = np.asarray(values, dtype=kind.value_type.to_pandas_dtype()).reshape(-1)
        return pa.FixedSizeListArray.from_arrays(
            pa.array(flat, kind.value_type), type=kind, mask=pa.array(missing) if missing.any() else None
        )
    if pa.types.is_list(kind) and isinstance(values, np.ndarray):
        return pa.array([[]] * n, kind)
    if pa.types.is_string(kind):
        values = [None if value is None else valid_text(value) for value in values]
    return pa.array(values, kind, from_pandas=True)


def _json(value: Any) -> str:
    return json.dumps(_plain(value), sort_keys=True)


def _plain(value: Any) -> Any:
    """A tree of what JSON knows; numbers that are not finite become null."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic | np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)
