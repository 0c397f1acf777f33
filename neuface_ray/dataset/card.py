"""``dataset.json`` with totals and features, and ``README.md``: the dataset card for people and for the Hugging Face hub."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pyarrow as pa

import neuface_ray
from neuface_ray.dataset.attempts import forget_attempts
from neuface_ray.dataset.descriptor import DESCRIPTOR, read_descriptor
from neuface_ray.dataset.publish import publish
from neuface_ray.dataset.reader import MeshDataset
from neuface_ray.dataset.schema import SCHEMA_VERSION, TABLES, shape_of
from neuface_ray.dataset.storage import Store

CARD = "README.md"


def finalise(store: Store) -> dict[str, Any]:
    """Publish everything, then write ``dataset.json`` and ``README.md``; returns the descriptor.

    May be called at any time and again: both files are derived from the rows and replaced atomically.
    """
    publish(store)
    dataset = MeshDataset(store)
    forget_attempts(store, set(dataset.table("segments", ["segment_id"])["segment_id"].to_pylist()))
    descriptor = read_descriptor(store) | {
        "format": "neuface_ray dataset",
        "writer_version": neuface_ray.__version__,
        "snapshot": dataset.version,
        "totals": totals(dataset),
        "features": {table: _features(dataset.schema(table)) for table in TABLES if dataset.files(table)},
        "licences": sorted({licence for licence in _values(dataset, "licence") if licence}),
    }
    store.replace(DESCRIPTOR, json.dumps(descriptor, indent=2, sort_keys=False).encode())
    store.replace(CARD, _card(descriptor).encode())
    return descriptor


def totals(dataset: MeshDataset) -> dict[str, Any]:
    """Counts over the whole dataset: segments by outcome, clips by verdict, frames, hours, reasons."""
    outcomes = Counter(dataset.table("segments", ["outcome"])["outcome"].to_pylist())
    clips = dataset.table("clips", ["status", "reasons", "n_frames", "n_views", "fps"]).to_pylist()
    seconds = [clip["n_frames"] * clip["n_views"] / clip["fps"] for clip in clips if clip["fps"]]
    return {
        "segments": dict(sorted(outcomes.items())),
        "clips": len(clips),
        "clips_accepted": sum(clip["status"] == "accepted" for clip in clips),
        "clips_rejected": sum(clip["status"] == "rejected" for clip in clips),
        "rejected_for": dict(
            Counter(r for clip in clips if clip["status"] == "rejected" for r in clip["reasons"]).most_common()
        ),
        "frames": sum(clip["n_frames"] * clip["n_views"] for clip in clips),
        "hours": round(sum(seconds) / 3600, 4),
        "quarantined_for": dict(Counter(dataset.table("quarantine", ["error"])["error"].to_pylist()).most_common()),
        "persons": len({person for person in _values(dataset, "person") if person}),
        "sequences": len(_values(dataset, "sequence_id")),
    }


def _values(dataset: MeshDataset, column: str) -> set:
    return set(dataset.table("clips", [column])[column].to_pylist())


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    features = {}
    for field in schema:
        metadata = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        dtype = field.type.value_type if shape_of(field) else field.type
        features[field.name] = {"dtype": str(dtype), "shape": list(shape_of(field)), "unit": metadata.get("unit", "")}
        features[field.name]["description"] = metadata.get("description", "")
    return features


def _card(descriptor: dict[str, Any]) -> str:
    sums, tables = descriptor["totals"], list(descriptor["features"])
    configs = "\n".join(
        f"- config_name: {table}\n  data_files: {table}/*.parquet" + ("\n  default: true" if table == "frames" else "")
        for table in tables
    )
    licences = ", ".join(descriptor["licences"]) or "not stated in the manifest"
    outcomes = ", ".join(f"{count} {kind}" for kind, count in sums["segments"].items()) or "none"
    reasons = "\n".join(f"- rejected, {reason}: {count} clips" for reason, count in sums["rejected_for"].items())
    failures = "\n".join(f"- quarantined, {error}: {count} segments" for error, count in sums["quarantined_for"].items())
    columns = "\n".join(_column_line(name, feature) for name, feature in descriptor["features"].get("frames", {}).items())
    return f"""---
configs:
{configs}
tags:
- 3d-face
- face-mesh
- video
---

# 3D face meshes

{sums["frames"]:,} frames of {sums["clips"]:,} clips ({sums["hours"]:,} hours of views, {sums["sequences"]:,} sequences),
of which {sums["clips_accepted"]:,} clips passed the quality gate. Segments: {outcomes}.

| made by | |
|---|---|
| annotator | {descriptor["annotator"]} |
| head model | `{descriptor["head_model"]}` |
| configuration | `{descriptor["config_hash"]}` (in full in `dataset.json`) |
| code | neuface_ray {descriptor["code_version"]} |
| schema | version {SCHEMA_VERSION} |

## Reading

```python
import neuface_ray
import pyarrow.compute as pc

dataset = neuface_ray.open("PATH")
good = dataset.frames(columns=["clip_id", "frame_index", "pose"], filter=(pc.field("accepted") & pc.field("valid")))
```

Every table is plain Parquet: `SELECT * FROM 'frames/*.parquet' WHERE accepted AND valid` in DuckDB, `polars.scan_parquet`.
Vertices are derived from the parameters with `dataset.vertices(rows)`; the head model must be the one named above.

## What is missing, and why

{reasons or "- no clip was rejected"}
{failures or "- no segment was quarantined"}

## Columns of `frames`

| column | type | shape | unit | meaning |
|---|---|---|---|---|
{columns}

## Licence and privacy

Licences of the sources: {licences}. The annotations do not change them: whoever uses this data needs the right to use the
sources.

No frame or crop is stored here. Still, this is personal data: `shape` describes the form of a face closely enough to compare
persons, `expression`, `pose` and `landmarks` say what somebody did and when, and `person`, `source_uri` and `sequence_id` may
name them. Share it under the terms of the sources, and remove a person with
`python -m neuface_ray.dataset delete DIR person=NAME`.
"""


def _column_line(name: str, feature: dict[str, Any]) -> str:
    shape = " x ".join(map(str, feature["shape"]))
    return f"| `{name}` | {feature['dtype']} | {shape} | {feature['unit']} | {feature['description']} |"
