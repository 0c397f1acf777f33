"""Publishing: many staged files become few large Parquet files, in steps that may be interrupted anywhere and repeated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import pyarrow as pa

from neuface_ray.dataset.parquet import TARGET_BYTES, PartWriter
from neuface_ray.dataset.schema import DELETED, TABLES, schema
from neuface_ray.dataset.snapshot import (
    KEPT_SNAPSHOTS,
    DatasetView,
    Part,
    Snapshot,
    part_outcomes,
    public_number,
    read_parquet,
    read_view,
    snapshot_name,
    snapshot_numbers,
)
from neuface_ray.dataset.staged import read_order, read_staged, segment_order
from neuface_ray.dataset.storage import OutputError, Store, open_store

_MERGED_AT_ONCE = 8
ATTEMPTS = 20
"""How often a publisher starts over because another one was faster, before it gives up."""


def publish(path: str | Store, minimum_bytes: int = 0, target_bytes: int = TARGET_BYTES) -> Snapshot:
    """Publish everything that is staged and clean up after interrupted publishers; returns the snapshot then in force.

    During a run call it with ``minimum_bytes=TARGET_BYTES`` now and then: it returns at once while less is staged. May be
    called by several processes at once and beside running workers. Raises OutputError.
    """
    store = path if isinstance(path, Store) else open_store(path)
    if minimum_bytes and _staged_bytes(store) < minimum_bytes:
        return read_view(store).snapshot
    return _advance(store, frozenset(), target_bytes)


def delete_segments(path: str | Store, segment_ids: Iterable[str], target_bytes: int = TARGET_BYTES) -> Snapshot:
    """Remove the rows of these segments from every table and file; a mark without content keeps them from coming back."""
    store = path if isinstance(path, Store) else open_store(path)
    return _advance(store, frozenset(segment_ids), target_bytes)


def _advance(store: Store, deleted: frozenset[str], target_bytes: int) -> Snapshot:
    """One new snapshot: write files, create the snapshot (this is the instant that counts), remove what it made obsolete."""
    problem = "other publishers were faster"
    for _ in range(ATTEMPTS):
        view = read_view(store)
        base = view.snapshot
        number = base.number + 1
        try:
            plan = _plan(store, view, deleted, target_bytes)
            unlisted = _unlisted_files(store, base, number)
            if not view.staged and not plan.thinned and not unlisted:
                collect(store, view)
                return base
            if foreign := _only_copy(store, view, unlisted):
                problem = f"{foreign} holds segments that no snapshot lists; a snapshot was lost"
                continue  # or it is being published at this moment
            written = _write(store, plan, number, target_bytes)
        except FileNotFoundError as error:
            problem = f"{error} (a missing file, or another publisher was faster)"
            continue
        snapshot = Snapshot(number, (*plan.unchanged, *written))
        if _commit(store, snapshot):
            collect(store, read_view(store))
            return snapshot
    raise OutputError(f"{store.root}: not published, {problem}; see `python -m neuface_ray.dataset verify`")


@dataclass(frozen=True)
class _Plan:
    """What goes into the new files.

    Args:
        staged: name to segment_id of staged files; merged: small parts that are merged with them.
        thinned: parts that lose a segment (``dropped``, per part), each rewritten by itself.
        unchanged: parts that stay as they are; deleted: segments that get a mark.
    """

    staged: dict[str, str]
    merged: tuple[Part, ...]
    thinned: tuple[Part, ...]
    unchanged: tuple[Part, ...]
    dropped: dict[str, frozenset[str]]
    deleted: frozenset[str]


def _plan(store: Store, view: DatasetView, deleted: frozenset[str], target_bytes: int) -> _Plan:
    """Parts are rewritten if they lose a segment, or if they are small and there are new rows to fill them with."""
    dropped, marked = dict(view.superseded), set()
    for part in view.snapshot.parts if deleted else ():
        outcomes = part_outcomes(store, part)
        marked |= {segment_id for segment_id in deleted & outcomes.keys() if outcomes[segment_id].kind == DELETED}
        if lost := (deleted & outcomes.keys()) - marked:
            dropped[part.name] = dropped.get(part.name, frozenset()) | lost
    staged = {name: segment_id for name, segment_id in view.staged.items() if segment_id not in deleted}
    parts = view.snapshot.parts
    merged = tuple(p for p in parts if view.staged and p.bytes < target_bytes // 2)[-_MERGED_AT_ONCE:]
    thinned = tuple(p for p in parts if p.name in dropped and p not in merged)
    unchanged = tuple(p for p in parts if p not in merged and p not in thinned)
    return _Plan(staged, merged, thinned, unchanged, dropped, deleted - marked)


def _write(store: Store, plan: _Plan, number: int, target_bytes: int) -> list[Part]:
    """Write the new public files, each durable and complete before the next."""
    needs_quarantine_file = not any("quarantine" in part.files for part in plan.unchanged)
    writer = PartWriter(store, number, target_bytes, always=("quarantine",) if needs_quarantine_file else ())
    for part in plan.thinned:
        for _, _, tables in _remaining(store, part, plan):
            writer.add(tables)
        writer.finish_part()
    for tables in _merged(store, plan):
        writer.add(tables)
    return writer.close()


def _merged(store: Store, plan: _Plan) -> Iterator[dict[str, pa.Table]]:
    """The tables of each segment, ordered by sequence, time and segment; marks of deleted segments first.

    Staged files are read one at a time; the few small parts are held in memory.
    """
    sources: dict[str, tuple[tuple, dict[str, pa.Table] | str]] = {}
    for part in plan.merged:
        for segment_id, key, tables in _remaining(store, part, plan):
            sources[segment_id] = (key, tables)
    for name, segment_id in plan.staged.items():
        sources[segment_id] = (read_order(store, name), name)
    if plan.deleted:
        yield {"segments": _tombstones(sorted(plan.deleted))}
    for _, source in sorted(sources.values(), key=lambda item: item[0]):
        yield read_staged(store, source) if isinstance(source, str) else source


def _remaining(store: Store, part: Part, plan: _Plan) -> Iterator[tuple[str, tuple, dict[str, pa.Table]]]:
    return (one for one in _split(store, part) if one[0] not in plan.dropped.get(part.name, ()))


def _split(store: Store, part: Part) -> Iterator[tuple[str, tuple, dict[str, pa.Table]]]:
    """(segment_id, order, tables) of each segment of a part: in every table its rows lie together, in the same order."""
    tables = {name: read_parquet(store, file.path) for name, file in part.files.items()}
    position = dict.fromkeys(TABLES, 0)
    for index, row in enumerate(tables["segments"].to_pylist()):
        counts = {
            "frames": row["n_frames"],
            "clips": row["n_clips"],
            "vertices": row["n_vertices"],
            "quarantine": int(row["outcome"] == "quarantined"),
        }
        segment = {"segments": tables["segments"].slice(index, 1)}
        for name, count in counts.items():
            if count:
                segment[name] = tables[name].slice(position[name], count)
                if set(segment[name]["segment_id"].to_pylist()) != {row["segment_id"]}:
                    raise OutputError(f"{store.root}/{part.files[name].path} lacks rows of the segments table")
            position[name] += count
        yield row["segment_id"], segment_order(segment["segments"]), segment


def _tombstones(segment_ids: list[str]) -> pa.Table:
    rows = [{"segment_id": i, "outcome": DELETED, "n_clips": 0, "n_frames": 0, "n_vertices": 0} for i in segment_ids]
    return pa.Table.from_pylist(rows, schema=schema("segments"))


def _commit(store: Store, snapshot: Snapshot) -> bool:
    """Make the snapshot the newest; False if another publisher was faster (our files are then dead and get collected)."""
    name = snapshot_name(snapshot.number)
    won = store.create(name, snapshot.encode())
    if won and snapshot_numbers(store)[-1] == snapshot.number:
        return True
    if won:  # so old that its number had been forgotten
        store.remove(name)
    return False


def collect(store: Store, view: DatasetView) -> None:
    """Remove what no reader of the present view needs: published staged files, dead public files, old snapshots, leftovers.

    A reader that still holds an older view notices the missing file and takes a new view.
    """
    for name in _unlisted_files(store, view.snapshot):
        if public_number(name) <= view.snapshot.number:
            store.remove(name)
    for name in view.late:
        store.remove(name)
    for number in snapshot_numbers(store)[:-KEPT_SNAPSHOTS]:
        store.remove(snapshot_name(number))
    for name in store.stale_temporaries():
        store.remove(name)


def _unlisted_files(store: Store, snapshot: Snapshot, first: int = 0) -> list[str]:
    """Public files of ours that the snapshot does not list, written for snapshot ``first`` or later."""
    listed = snapshot.paths()
    found = {name: public_number(name) for table in TABLES for name in store.names(table)}
    return [name for name, number in found.items() if number is not None and number >= first and name not in listed]


def _only_copy(store: Store, view: DatasetView, unlisted: list[str]) -> str | None:
    """An unlisted ``segments`` file with a segment that is nowhere else: proof that a snapshot was lost, not never made."""
    files = [name for name in unlisted if name.startswith("segments/")]
    if not files:
        return None
    known = set(view.staged.values()).union(*(part_outcomes(store, part) for part in view.snapshot.parts))
    for name in files:
        if not known.issuperset(read_parquet(store, name, ["segment_id"])["segment_id"].to_pylist()):
            return name
    return None


def _staged_bytes(store: Store) -> int:
    total = 0
    for name in read_view(store).staged:
        try:
            total += store.size(name)
        except FileNotFoundError:
            continue
    return total
