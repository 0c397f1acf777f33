"""The tables and their columns: names, types, units and meaning, in one place.

Arrays are fixed-size lists of plain floats in row-major order; the field metadata ``shape`` says how to fold them, ``unit``
and ``description`` say what they are. Free-form numbers (durations, gate numbers) are JSON objects in a text column, which
every reader of Parquet can open. A missing number is null, never NaN.

Two versions of the schema are known; the second adds columns to the first and changes none (``_ADDED``). A dataset keeps the
version that it was begun with: rows that join it later have its columns, so that its files fit together for every reader.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass

import pyarrow as pa

SCHEMA_VERSION = 2
SCHEMA_VERSIONS = (1, 2)
"""Versions that are read, continued and verified; new datasets are of the last."""
TABLES = ("frames", "clips", "vertices", "quarantine", "segments")
COMMITTED, QUARANTINED, DELETED = "committed", "quarantined", "deleted"

KEYS = {
    "frames": ("clip_id", "view", "frame_index"),
    "clips": ("clip_id",),
    "vertices": ("clip_id", "view", "frame_index"),
    "quarantine": ("segment_id",),
    "segments": ("segment_id",),
}
"""What is unique in each table."""

TIMING_COLUMNS = ("seconds", "seconds_total", "run_id", "attempts", "content_hash")
"""Columns that differ between a disturbed and an undisturbed run; all others are equal row for row."""


_ADDED: dict[int, dict[str, tuple[str, ...]]] = {
    2: {
        "frames": ("source_timestamp_s", "invalid_reason", "pitch_deg", "roll_deg"),
        "clips": ("faces_found", "faces_left_out", "start_offset_s"),
    }
}
"""Columns that earlier versions do not have, by the version that brought them."""


@dataclass(frozen=True)
class Layout:
    """Sizes of the list columns, which are the same in all rows of a dataset.

    Args:
        n_shape, n_expression: coefficients per row (0 for methods without parameters).
        n_landmarks: points per row; n_vertices: stored positions per row (0 if none are stored).
        vertex_dtype: ``float16`` or ``float32``.
    """

    n_shape: int = 0
    n_expression: int = 0
    n_landmarks: int = 0
    n_vertices: int = 0
    vertex_dtype: str = "float32"

    def as_dict(self) -> dict:
        return asdict(self)


def _column(name: str, kind: pa.DataType, description: str, unit: str = "", shape: tuple[int, ...] = ()) -> pa.Field:
    """A field; with ``shape`` its type is a fixed-size list of ``kind`` (a variable, always empty list for size 0)."""
    metadata = {"description": description}
    if unit:
        metadata["unit"] = unit
    if shape:
        size = 1
        for length in shape:
            size *= length
        metadata["shape"] = json.dumps(shape)
        element = pa.field("element", kind)
        kind = pa.list_(element, size) if size else pa.list_(element)
    return pa.field(name, kind, metadata=metadata)


def _identity() -> list[pa.Field]:
    return [
        _column("clip_id", pa.string(), "hash of the segment and the face track"),
        _column("sequence_id", pa.string(), "name of the recording"),
        _column("segment_id", pa.string(), "unit of work that the clip comes from"),
        _column("person", pa.string(), "name of the person if the source tells it"),
    ]


def _frames(layout: Layout) -> list[pa.Field]:
    f16, f32, f64, i32, i64 = pa.float16(), pa.float32(), pa.float64(), pa.int32(), pa.int64()
    n_landmarks = layout.n_landmarks
    return [
        *_identity(),
        _column("view", pa.string(), "name of the camera or viewpoint"),
        _column("frame_index", i64, "number of the sampled frame from the beginning of the source"),
        _column("source_frame", i64, "number of the decoded frame in the view's source"),
        _column("timestamp_s", f64, "presentation time, from the first picture on", "s"),
        _column("source_timestamp_s", f64, "presentation time as the view's file has it; null if it has none", "s"),
        _column("valid", pa.bool_(), "the numbers rest on an observation in this frame and view"),
        _column(
            "invalid_reason",
            pa.string(),
            "why not: unreadable, truncated (the file ends before), no_partner (no picture of this view at that instant), "
            "no_face, or not_annotated (by the method); null where valid or unknown",
        ),
        _column("accepted", pa.bool_(), "the clip passed the quality gate"),
        _column("head_model", pa.string(), "name/version/hash of the head model that the parameters belong to"),
        _column("shape", f32, "identity coefficients (personal data: they describe a face)", "s.d.", (layout.n_shape,)),
        _column("expression", f32, "expression coefficients of the head model", "", (layout.n_expression,)),
        _column("pose", f32, "axis-angle of root, neck, jaw, left eye, right eye in the view's frame", "rad", (15,)),
        _column("camera", f32, "weak perspective (s, tx, ty): u = s (x + tx), v = -s (y + ty)", "crop", (3,)),
        _column("translation", f32, "of the head in the view's frame (x right, y up, z to the viewer)", "m", (3,)),
        _column("crop_to_image", f64, "crop coordinates in [-1, 1] to source pixels, homogeneous", "px", (3, 3)),
        _column("landmarks", f16, "points in crop coordinates [-1, 1], y down", "crop", (n_landmarks, 2)),
        _column("landmark_confidence", f16, "0 to 1 per point", "", (n_landmarks,)),
        _column("nme", f32, "landmark error over the outer eye-corner distance", "percent"),
        _column("yaw_deg", f32, "head yaw, positive to the subject's left (right in the image)", "deg"),
        _column("pitch_deg", f32, "head pitch, positive nods down", "deg"),
        _column("roll_deg", f32, "head roll in (-180, 180], positive counter-clockwise in the image", "deg"),
        _column("visible_fraction", f32, "share of the face's vertices that the camera sees"),
        _column("face_px", f32, "side of the landmark box in the source image", "px"),
        _column("blur", f32, "variance of the Laplacian of the crop (low: blurred)"),
        _column("intrinsics", f64, "camera matrix of the undistorted source image, pixel centres at +0.5", "px", (3, 3)),
        _column("world_to_camera", f64, "rigid transform, OpenCV axes", "m", (4, 4)),
        _column("image_width", i32, "of the source image", "px"),
        _column("image_height", i32, "of the source image", "px"),
        _column("source_uri", pa.string(), "where the view lies, without credentials"),
    ]


def _clips(layout: Layout) -> list[pa.Field]:
    f64, i32, i64, text = pa.float64(), pa.int32(), pa.int64(), pa.string()
    texts = pa.list_(pa.field("element", text))
    return [
        *_identity(),
        _column("track", i32, "number of the face track within the segment"),
        _column("status", text, "accepted or rejected by the quality gate"),
        _column("reasons", texts, "why it was rejected"),
        _column("notes", texts, "what is unusual about the sources, what was mended, what the annotator noticed"),
        _column("faces_found", i32, "people in the segment, over time and in its fullest frame"),
        _column("faces_left_out", i32, "of them, those beyond media.max_faces, who have no clip"),
        _column("n_frames", i32, "frames of the clip; times n_views = its rows in frames"),
        _column("n_views", i32, "synchronised views"),
        _column("first_frame", i64, "smallest frame_index"),
        _column("fps", f64, "sampled frame rate", "1/s"),
        _column("start_offset_s", f64, "when timestamp_s = 0 is, after the container's start and with the view's offset", "s"),
        _column("views", texts, "names of the views"),
        _column("shape", pa.float32(), "identity, mean over the valid frames (personal data)", "s.d.", (layout.n_shape,)),
        _column("nme", f64, "mean over the clip's valid frames", "percent"),
        _column("msi3d_landmarks", f64, "motion stability index of the 3D landmarks", "frame^4/mm^2"),
        _column("msi3d_vertices", f64, "motion stability index of the vertices", "frame^4/mm^2"),
        _column("cvd", f64, "cross-view vertex distance", "mm"),
        _column("shape_norm", f64, "root mean square of the identity coefficients", "s.d."),
        _column("valid_fraction", f64, "share of valid frames and views"),
        _column("gate_numbers", text, "JSON: the numbers behind the verdict"),
        _column("metrics", text, "JSON: what the annotator measured (losses, steps)"),
        _column("seconds", text, "JSON: duration of each stage", "s"),
        _column("seconds_total", f64, "sum of the stages", "s"),
        _column("annotator", text, "name of the method"),
        _column("head_model", text, "name/version/hash of the head model"),
        _column("landmark_scheme", text, "mediapipe478 or ibug68"),
        _column("config_hash", text, "of every configuration key on which rows depend"),
        _column("code_version", text, "of the program"),
        _column("run_id", text, "of the run that committed the clip"),
        _column("seed", i64, "of the random numbers"),
        _column("model_hashes", text, "JSON: sha256 of every model file used"),
        _column(
            "annotator_details",
            text,
            "JSON: versions of libraries, sha256 of the landmark bundle, what else the annotator tells",
        ),
        _column("source_uris", texts, "one per view, without credentials"),
        _column("source_hashes", texts, "sha256 of each view's source bytes"),
        _column("licence", text, "of the source, from the manifest"),
    ]


def _vertices(layout: Layout) -> list[pa.Field]:
    kind = pa.float16() if layout.vertex_dtype == "float16" else pa.float32()
    return [
        *_identity(),
        _column("view", pa.string(), "name of the camera or viewpoint"),
        _column("frame_index", pa.int64(), "as in frames"),
        _column("head_model", pa.string(), "name/version/hash of the topology"),
        _column("vertices", kind, "posed positions in the head's frame", "m", (layout.n_vertices, 3)),
    ]


def _quarantine(layout: Layout) -> list[pa.Field]:
    text = pa.string()
    return [
        _column("segment_id", text, "unit of work that failed"),
        _column("sequence_id", text, "name of the recording"),
        _column("person", text, "name of the person if the source tells it"),
        _column("source_uri", text, "where the first view lies, without credentials"),
        _column("stage", text, "where it failed"),
        _column("error", text, "reason code or class of the exception"),
        _column("message", text, "what the exception says"),
        _column("traceback", text, "where in the code"),
        _column("attempts", pa.int32(), "how often it was tried, over all runs"),
        _column("segment", text, "JSON of the segment, so that it can be tried again"),
        _column("run_id", text, "of the run that gave up"),
        _column("config_hash", text, "of every configuration key on which rows depend"),
        _column("code_version", text, "of the program"),
    ]


def _segments(layout: Layout) -> list[pa.Field]:
    text, i32, i64 = pa.string(), pa.int32(), pa.int64()
    return [
        _column("segment_id", text, "unit of work: everything of it is here, or nothing"),
        _column("sequence_id", text, "name of the recording"),
        _column("person", text, "name of the person if the source tells it"),
        _column("start", i64, "first sampled frame"),
        _column("stop", i64, "one past the last sampled frame"),
        _column("outcome", text, "committed, quarantined or deleted"),
        _column("n_clips", i32, "rows in clips"),
        _column("n_frames", i64, "rows in frames"),
        _column("n_vertices", i64, "rows in vertices"),
        _column("attempts", i32, "how often it was tried"),
        _column("run_id", text, "of the run that committed it"),
        _column("content_hash", text, "sha256 of the commit"),
    ]


_FIELDS: dict[str, Callable[[Layout], list[pa.Field]]] = {
    "frames": _frames,
    "clips": _clips,
    "vertices": _vertices,
    "quarantine": _quarantine,
    "segments": _segments,
}


def schema(table: str, layout: Layout | None = None, version: int = SCHEMA_VERSION) -> pa.Schema:
    """The Arrow schema of ``frames``, ``clips``, ``vertices``, ``quarantine`` or ``segments`` in a version of the schema.

    ``schema_version`` in its metadata is the first version in which the table has exactly these columns.
    """
    later = {name for brought, columns in _ADDED.items() if brought > version for name in columns.get(table, ())}
    fields = [field for field in _FIELDS[table](layout or Layout()) if field.name not in later]
    since = max([1, *(brought for brought, columns in _ADDED.items() if brought <= version and table in columns)])
    return pa.schema(fields, metadata={"schema_version": str(since), "table": table})


def version_of(table: pa.Schema) -> int:
    """The first version of the schema in which a table has exactly these columns. KeyError if its file does not say."""
    return int((table.metadata or {})[b"schema_version"])


def shape_of(field: pa.Field) -> tuple[int, ...]:
    """The shape in which a row's list is to be folded; () for plain columns."""
    return tuple(json.loads((field.metadata or {}).get(b"shape", b"[]")))


def layout_of(frames: pa.Schema | None, vertices: pa.Schema | None = None) -> Layout:
    """The sizes that the schemas of ``frames`` and ``vertices`` speak of."""

    def size(table: pa.Schema | None, name: str) -> int:
        return shape_of(table.field(name))[0] if table is not None else 0

    dtype = "float32"
    if vertices is not None and vertices.field("vertices").type.value_type == pa.float16():
        dtype = "float16"
    return Layout(
        size(frames, "shape"), size(frames, "expression"), size(frames, "landmarks"), size(vertices, "vertices"), dtype
    )
