"""Does the content add up: every segment, clip, frame and vertex is there, once."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

import pyarrow as pa
import pyarrow.compute as pc

from neuface_ray.dataset.schema import KEYS, QUARANTINED, TABLES, layout_of, schema, version_of

Tables = dict[str, pa.Table]


def check_tables(tables: Tables, head_model: str | None = None, seed: int | None = None) -> Iterator[tuple[str, str]]:
    """(code, detail) of everything that is wrong with the tables of one part or staged file.

    Codes: ``schema``, ``duplicate_key``, ``row_count``, ``row_order``, ``frame_count``, ``head_model``, ``seed``, ``null_key``.
    """
    problems = list(_schemas(tables))
    yield from problems
    if problems:
        return
    for name, table in tables.items():
        yield from _keys(name, table)
    yield from _segments(tables)
    if "clips" in tables:
        yield from _clips(tables)
    for name in ("frames", "clips", "vertices") if head_model else ():
        if name in tables and set(pc.unique(tables[name]["head_model"]).to_pylist()) - {head_model}:
            yield "head_model", f"{name} holds rows of another head than {head_model}"
    if seed is not None and "clips" in tables and set(pc.unique(tables["clips"]["seed"]).to_pylist()) - {seed}:
        yield "seed", f"clips were made with another seed than {seed}"


def _schemas(tables: Tables) -> Iterator[tuple[str, str]]:
    if "segments" not in tables:
        yield "schema", "the segments table is missing"
    try:
        version = max(version_of(table.schema) for table in tables.values())
    except KeyError:
        yield "schema", "a table does not tell its schema version"
        return
    for name, table in tables.items():
        try:
            frames = tables["frames"].schema if "frames" in tables else None
            layout = layout_of(frames, tables["vertices"].schema if "vertices" in tables else None)
            expected = schema(name, layout, version)
        except KeyError as error:
            yield "schema", f"{name}: column {error} is missing"
            continue
        if not table.schema.equals(expected):
            unequal = [f for f in expected if f.name not in table.schema.names or table.schema.field(f.name).type != f.type]
            extra = sorted(set(table.schema.names) - set(expected.names))
            yield "schema", f"{name}: columns {[f.name for f in unequal]} differ from the schema, {extra} do not belong to it"


def _keys(name: str, table: pa.Table) -> Iterator[tuple[str, str]]:
    keys = list(KEYS[name])
    if any(table[key].null_count for key in keys):
        yield "null_key", f"{name}: a key column has missing values"
    repeated = table.select(keys).group_by(keys).aggregate([([], "count_all")]).filter(pc.field("count_all") > 1)
    if repeated.num_rows:
        yield "duplicate_key", f"{name}: {repeated.num_rows} keys occur more than once, such as {repeated.to_pylist()[0]}"


def _segments(tables: Tables) -> Iterator[tuple[str, str]]:
    rows = tables["segments"].to_pylist()
    for row in rows:
        row["n_quarantine"] = int(row["outcome"] == QUARANTINED)
    for name in TABLES[:-1]:
        expected = {row["segment_id"]: row[f"n_{name}"] for row in rows if row[f"n_{name}"]}
        column = tables[name]["segment_id"] if name in tables else pa.chunked_array([], pa.string())
        runs = [(segment_id, len(list(same))) for segment_id, same in groupby(column.to_pylist())]
        found: dict[str, int] = {}
        for segment_id, count in runs:
            found[segment_id] = found.get(segment_id, 0) + count
        unequal = [s for s in expected.keys() | found.keys() if expected.get(s, 0) != found.get(s, 0)]
        if unequal:
            one = sorted(unequal)[0]
            detail = f"segment {one} has {found.get(one, 0)} rows instead of {expected.get(one, 0)}"
            yield "row_count", f"{name}: {len(unequal)} segments do not add up; {detail}"
        elif [segment_id for segment_id, _ in runs] != list(expected):
            yield "row_order", f"{name}: the rows are not in the order of the segments table"


def _clips(tables: Tables) -> Iterator[tuple[str, str]]:
    columns = ["clip_id", "segment_id", "n_frames", "n_views"]
    clips = {row["clip_id"]: row for row in tables["clips"].select(columns).to_pylist()}
    frames = tables.get("frames")
    if frames is None:
        yield "frame_count", f"{len(clips)} clips, but no frames"
        return
    per_view = frames.group_by(["clip_id", "segment_id", "view"]).aggregate([("frame_index", "count_distinct")]).to_pylist()
    found: dict[str, list[int]] = {}
    for row in per_view:
        clip = clips.get(row["clip_id"])
        if clip is None or clip["segment_id"] != row["segment_id"]:
            yield "frame_count", f"frames of clip {row['clip_id']} of segment {row['segment_id']}, which is not in clips"
            return
        found.setdefault(row["clip_id"], []).append(row["frame_index_count_distinct"])
    wrong = [i for i, clip in clips.items() if found.get(i, []) != [clip["n_frames"]] * clip["n_views"]]
    if wrong:
        have, want = found.get(wrong[0], []), [clips[wrong[0]]["n_frames"]] * clips[wrong[0]]["n_views"]
        detail = f"clip {wrong[0]} has {have} frames per view instead of {want}"
        yield "frame_count", f"{len(wrong)} clips lack frames or have too many; {detail}"
    if "vertices" in tables:
        keys = list(KEYS["vertices"])
        lost = tables["vertices"].select(keys).join(frames.select(keys), keys, join_type="left anti")
        if lost.num_rows:
            yield "frame_count", f"{lost.num_rows} rows of vertices without a row in frames"
