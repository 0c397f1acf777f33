"""Deleting a person or a recording from a dataset."""

from __future__ import annotations

import pyarrow.compute as pc

from neuface_ray.dataset.attempts import end_attempts
from neuface_ray.dataset.finalise import finalise
from neuface_ray.dataset.publish import delete_segments
from neuface_ray.dataset.reader import MeshDataset
from neuface_ray.dataset.schema import TABLES
from neuface_ray.dataset.storage import Store, open_store
from neuface_ray.errors import UsageError


def delete(path: str | Store, **match: str) -> dict[str, int]:
    """Delete a person (``person="anna"``) or a recording (``sequence_id=...``) from every table, file and staged commit.

    Whole segments are deleted. What remains is a mark (the segment's hash and nothing else), so that a rerun does not bring
    them back. ``report/`` and ``run.json`` are removed altogether, since they may show or name the person. Returns
    the deleted rows per table. Raises UsageError if nothing matches or the key is not one of the two.
    """
    store = path if isinstance(path, Store) else open_store(path)
    if len(match) != 1 or not set(match) <= {"person", "sequence_id"}:
        raise UsageError("name whom to delete: person=NAME or sequence_id=NAME")
    ((column, value),) = match.items()
    dataset = MeshDataset(store)
    segment_ids = dataset.table("segments", ["segment_id"], [(column, "==", value)])["segment_id"].to_pylist()
    if not segment_ids:
        raise UsageError(f"{store.root} has no segment with {column}={value!r}")
    theirs = pc.field("segment_id").isin(segment_ids)
    deleted = {name: dataset.table(name, ["segment_id"], theirs).num_rows for name in TABLES}
    delete_segments(store, segment_ids)
    for segment_id in segment_ids:
        end_attempts(store, segment_id)
    for name in [*store.names("report"), "run.json"]:
        store.remove(name)
    finalise(store)
    return deleted
