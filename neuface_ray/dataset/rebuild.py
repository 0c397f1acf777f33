"""When the list of files is lost: make it anew from the files, whose names and rows tell what they hold."""

from __future__ import annotations

import hashlib

import pyarrow as pa
import pyarrow.parquet as pq

from neuface_ray.dataset.schema import TABLES
from neuface_ray.dataset.snapshot import (
    Part,
    PublicFile,
    Snapshot,
    public_number,
    read_snapshot,
    snapshot_name,
    snapshot_numbers,
)
from neuface_ray.dataset.storage import OutputError, Store


def rebuild_snapshot(store: Store) -> Snapshot:
    """A new snapshot from the public files: of parts that share a segment the newer one is taken.

    A part is taken if all files are there and readable and hold the rows that its ``segments`` table counts. Nothing is removed
    by this; segments that are in no readable part are made again by the next run.
    """
    names = [name for table in TABLES for name in store.names(table) if public_number(name) is not None]
    by_part: dict[str, list[str]] = {}
    for name in names:
        table = name.partition("/")[0]
        by_part.setdefault(name.removeprefix(f"{table}/{table}-")[:13], []).append(name)
    taken: list[Part] = []
    segments: set[str] = set()
    for part_name in sorted(by_part, reverse=True):
        part, segment_ids = _readable_part(store, part_name, by_part[part_name])
        if part is not None and segments.isdisjoint(segment_ids):
            taken.append(part)
            segments |= segment_ids
    number = max([*snapshot_numbers(store), *(public_number(name) for name in names), 0]) + 1
    return _put(store, Snapshot(number, tuple(reversed(taken))))


def snapshot_without(store: Store, parts: set[str]) -> Snapshot:
    """A new snapshot without the named parts; their files are then dead, their segments not done."""
    old = read_snapshot(store)
    return _put(store, Snapshot(old.number + 1, tuple(part for part in old.parts if part.name not in parts)))


def _put(store: Store, snapshot: Snapshot) -> Snapshot:
    if not store.create(snapshot_name(snapshot.number), snapshot.encode()):
        raise OutputError(f"{store.root}: snapshot {snapshot.number} was made meanwhile; stop the run and repair again")
    return snapshot


def _readable_part(store: Store, part_name: str, names: list[str]) -> tuple[Part | None, set[str]]:
    files, tables = {}, {}
    for name in names:
        table, data = name.partition("/")[0], store.read(name)
        digest = hashlib.sha256(data).hexdigest()
        if not name.endswith(f"-{digest[:16]}.parquet") or table in files:
            return None, set()
        tables[table] = pq.read_table(pa.BufferReader(data))
        files[table] = PublicFile(name, tables[table].num_rows, len(data), digest)
    if "segments" not in tables:
        return None, set()
    rows = tables["segments"].to_pylist()
    for table in ("frames", "clips", "vertices"):
        if sum(row[f"n_{table}"] for row in rows) != (files[table].rows if table in files else 0):
            return None, set()
    return Part(part_name, files), {row["segment_id"] for row in rows}
