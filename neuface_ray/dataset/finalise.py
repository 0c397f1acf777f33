"""The end of a run: everything is published, and ``dataset.json`` and the card describe what there is."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa

from neuface_ray.dataset.attempts import forget_attempts
from neuface_ray.dataset.card import CARD, make_card
from neuface_ray.dataset.descriptor import DESCRIPTOR, read_descriptor
from neuface_ray.dataset.publish import publish
from neuface_ray.dataset.reader import MeshDataset
from neuface_ray.dataset.schema import TABLES, shape_of
from neuface_ray.dataset.storage import Store, open_store
from neuface_ray.version import code_version


def finalise(path: str | Store) -> dict[str, Any]:
    """Publish everything, then write ``dataset.json`` with totals and features, and ``README.md``; returns the descriptor.

    May be called at any time and again: both files are derived from the rows and replaced atomically. Raises OutputError.
    """
    store = path if isinstance(path, Store) else open_store(path)
    publish(store)
    return describe(store)


def describe(store: Store) -> dict[str, Any]:
    """Write ``dataset.json`` and ``README.md`` from what is there; returns the descriptor."""
    dataset = MeshDataset(store)
    forget_attempts(store, set(dataset.table("segments", ["segment_id"])["segment_id"].to_pylist()))
    licences = set(dataset.clips(["licence"])["licence"].to_pylist())
    descriptor = read_descriptor(store) | {
        "format": "neuface_ray dataset",
        "writer_version": code_version(),
        "snapshot": dataset.version,
        "totals": dataset.totals(),
        "features": {table: _features(dataset.schema(table)) for table in TABLES if dataset.files(table)},
        "licences": sorted(licence for licence in licences if licence),
    }
    store.replace(DESCRIPTOR, json.dumps(descriptor, indent=2, sort_keys=False).encode())
    store.replace(CARD, make_card(descriptor).encode())
    return descriptor


def _features(schema: pa.Schema) -> dict[str, dict[str, Any]]:
    features = {}
    for field in schema:
        metadata = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        dtype = field.type.value_type if shape_of(field) else field.type
        features[field.name] = {"dtype": str(dtype), "shape": list(shape_of(field)), "unit": metadata.get("unit", "")}
        features[field.name]["description"] = metadata.get("description", "")
    return features
