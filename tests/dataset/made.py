"""Small clips with arbitrary numbers, of the form that media and annotators deliver."""

from __future__ import annotations

import hashlib

import numpy as np
import pyarrow as pa

from neuface_ray.dataset import Output, Provenance, clip_rows
from neuface_ray.dataset.schema import KEYS, TIMING_COLUMNS
from neuface_ray.types import Camera, FaceClip, GateDecision, MeshSequence, Quality, Segment, View

HEAD = "test_head/1/0123456789ab"
LANDMARKS, SHAPE, EXPRESSION, VERTICES = 7, 4, 3, 5


def digest(*parts) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def make_segment(number: int, sequence: str = "seq", views: int = 2, person: str | None = None, length: int = 6, **changes):
    camera = Camera(np.diag([900.0, 900, 1]), np.eye(4))
    values = {
        "segment_id": digest("segment", sequence, number, views),
        "sequence_id": sequence,
        "views": tuple(
            View(f"view{v}", f"s3://key:secret@bucket/{sequence}/v{v}.mp4?sig=abc", camera if v else None) for v in range(views)
        ),
        "start": number * length,
        "stop": (number + 1) * length,
        "context_start": max(number * length - 1, 0),
        "context_stop": (number + 1) * length + 1,
        "person": person,
        "licence": "CC0",
    }
    return Segment(**(values | changes))


def make_clip(
    segment: Segment,
    track: int = 0,
    with_vertices: bool = False,
    accepted: bool = True,
    empty: bool = False,
    source_hash: str = "ab" * 32,
):
    """(clip, sequence, quality, decision) for one track; frames outside [start, stop) are context."""
    rng = np.random.default_rng(int(digest(segment.segment_id, track), 16) % 2**32)
    index = np.arange(segment.context_start, segment.context_stop)
    grid = (len(index), len(segment.views))
    valid = rng.random(grid) > 0.2

    def numbers(*shape, dtype=np.float32):
        return rng.normal(size=(*grid, *shape)).astype(dtype)

    clip = FaceClip(
        clip_id=digest("clip", segment.segment_id, track),
        segment=segment,
        track=track,
        crops=np.zeros((*grid, 3, 4, 4), np.uint8),
        landmarks=np.clip(numbers(LANDMARKS, 2), -1, 1) * valid[..., None, None],
        landmark_confidence=np.repeat(valid[..., None], LANDMARKS, -1).astype(np.float32),
        landmark_scheme="ibug68",
        crop_to_image=numbers(3, 3, dtype=np.float64),
        valid=valid,
        core=(index >= segment.start) & (index < segment.stop),
        frame_index=index,
        source_frame=np.repeat(index[:, None] * 2, grid[1], 1),
        timestamps_s=index / 25,
        fps=25.0,
        image_size=np.tile([640, 480], (grid[1], 1)),
        face_px=np.abs(numbers()) * 100,
        blur=np.abs(numbers()) * 50,
        source_hash=tuple(source_hash for _ in segment.views),
        seconds={"decode": 0.25},
    )
    mesh = MeshSequence(
        clip_id=clip.clip_id,
        annotator="none" if empty else "direct",
        head_model=HEAD,
        shape=np.broadcast_to(rng.normal(size=0 if empty else SHAPE), (*grid, 0 if empty else SHAPE)).astype(np.float32),
        expression=numbers(0 if empty else EXPRESSION),
        pose=numbers(15),
        camera=numbers(3),
        valid=valid,
        translation=numbers(3) if len(segment.views) > 1 else None,
        vertices=numbers(VERTICES, 3) if with_vertices else None,
        reasons=("noticed",),
        metrics={"loss": float("nan"), "steps": 10},
        seconds={"fit": 0.5},
    )
    nme = np.where(valid, np.abs(numbers()), np.nan).astype(np.float32)
    quality = Quality(nme, numbers() * 20, np.abs(numbers()), float(np.nanmean(nme)), 1.0, 2.0, None, 0.9, float(valid.mean()))
    decision = GateDecision(accepted, () if accepted else ("nme_above_limit",), {"nme": 2.0, "limit": float("inf")})
    return clip, mesh, quality, decision


def provenance(run_id: str = "run", **changes) -> Provenance:
    values = {"run_id": run_id, "annotator": "direct", "head_model": HEAD, "config": {"fit": {"steps": 10}}}
    return Provenance(**(values | changes))


def make_rows(segment: Segment, tracks: int = 1, dtype: str = "float32", run_id: str = "run", **options):
    records = [make_clip(segment, track, **options) for track in range(tracks)]
    return [clip_rows(*record, provenance(run_id), dtype) for record in records]


def write(path, count: int = 4, views: int = 2, quarantined: int = 0, run_id: str = "run", **options) -> list[Segment]:
    """A dataset with ``count`` committed segments of two sequences and persons, and some quarantined; nothing published."""
    output = Output.open(str(path), provenance(run_id))
    segments = [make_segment(i, f"seq{i % 2}", views, f"person{i % 2}") for i in range(count + quarantined)]
    for i, segment in enumerate(segments):
        if i < count:
            assert output.commit(segment, make_rows(segment, 1 + i % 2, accepted=i % 3 > 0, **options))
        else:
            output.begin_attempt(segment.segment_id)
            assert output.quarantine(segment, "fit", ValueError("boom at https://u:p@host/x?token=1"))
    return segments


def expected(segments, count: int | None = None, **options) -> dict[str, pa.Table]:
    """The tables that ``write`` must lead to, made without the dataset: sorted, without the columns that tell of timing."""
    rows = []
    for i, segment in enumerate(segments[:count]):
        rows += make_rows(segment, 1 + i % 2, accepted=i % 3 > 0, **options)
    return {name: comparable(name, pa.concat_tables([one[name] for one in rows])) for name in rows[0]}


def comparable(name: str, table: pa.Table) -> pa.Table:
    """Rows sorted by key, without metadata and the columns that tell of timing."""
    kept = [column for column in table.schema.names if column not in TIMING_COLUMNS]
    return table.select(kept).sort_by([(key, "ascending") for key in KEYS[name]]).replace_schema_metadata(None)


def assert_holds(dataset, wanted: dict[str, pa.Table]) -> None:
    """The dataset's tables are exactly these rows."""
    for name, table in wanted.items():
        found = comparable(name, dataset.table(name))
        assert found.num_rows == table.num_rows, f"{name}: {found.num_rows} rows instead of {table.num_rows}"
        assert found.equals(table), f"{name} differs"
