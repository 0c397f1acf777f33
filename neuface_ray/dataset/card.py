"""``README.md`` of a dataset: the card for people and for the Hugging Face hub."""

from __future__ import annotations

from typing import Any

CARD = "README.md"


def make_card(descriptor: dict[str, Any]) -> str:
    """The card as Markdown, from a descriptor with ``totals``, ``features`` and ``licences``."""
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
| schema | version {descriptor["schema_version"]} |

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
