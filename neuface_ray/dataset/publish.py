"""Publishing: many staged files become few large Parquet files, in steps that may be interrupted anywhere and repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from neuface_ray.dataset.deleted import SEGMENT, SOURCE, list_deletions, sources_of
from neuface_ray.dataset.parquet import TARGET_BYTES, PartWriter
from neuface_ray.dataset.rows import deleted_rows
from neuface_ray.dataset.schema import QUARANTINED, TABLES
from neuface_ray.dataset.snapshot import (
    KEPT_SNAPSHOTS,
    DatasetView,
    Part,
    Snapshot,
    part_outcomes,
    public_number,
    read_parquet,
    read_row_groups,
    read_view,
    snapshot_name,
    snapshot_numbers,
)
from neuface_ray.dataset.staged import StagedHead, read_head, read_staged, segment_order
from neuface_ray.dataset.storage import OutputError, Store, open_store

IMAGES = "images"
_MERGED_AT_ONCE = 8
ATTEMPTS = 20
"""How often a publisher starts over because another one was faster, before it gives up."""


def publish(
    path: str | Store,
    minimum_bytes: int = 0,
    target_bytes: int = TARGET_BYTES,
    discard: Callable[[str], object] | None = None,
) -> Snapshot:
    """Publish everything that is staged and clean up after interrupted publishers; returns the snapshot then in force.

    During a run call it with ``minimum_bytes=TARGET_BYTES`` now and then: it returns at once while less is staged. May be
    called by several processes at once and beside running workers. ``discard`` does away with files that have become
    obsolete; None removes them. Raises OutputError.
    """
    store = path if isinstance(path, Store) else open_store(path)
    if minimum_bytes and _staged_bytes(store) < minimum_bytes:
        return read_view(store).snapshot
    return _advance(store, target_bytes, discard)


def delete_segments(path: str | Store, segment_ids: Iterable[str], target_bytes: int = TARGET_BYTES) -> Snapshot:
    """Remove the rows of these segments from every table and file and keep them out for ever."""
    store = path if isinstance(path, Store) else open_store(path)
    list_deletions(store, [(SEGMENT, segment_id) for segment_id in segment_ids])
    return _advance(store, target_bytes)


def _advance(store: Store, target_bytes: int, discard: Callable[[str], object] | None = None) -> Snapshot:
    """One new snapshot: write files, create the snapshot (this is the instant that counts), remove what it made obsolete.

    Every publisher obeys the list of deletions, so that one who is slower than the others need not win for it to be obeyed.
    """
    problem = "other publishers were faster"
    for _ in range(ATTEMPTS):
        view = read_view(store)
        base = view.snapshot
        number = base.number + 1
        if lost := base.erased - view.deletions.names:
            problem = f"{len(lost)} files of the list of deletions are lost; restore _deleted/"
            break
        try:
            plan = _plan(store, view, target_bytes)
            unlisted = unlisted_files(store, base, number)
            if not view.staged and not plan.thinned and not unlisted and view.obeys_deletions:
                collect(store, view, discard)
                return base
            if foreign := only_copy(store, view, unlisted):
                problem = f"{foreign} holds segments that no snapshot lists; a snapshot was lost"
                continue  # or it is being published at this moment
            remembered = _remember(store, view, plan)
            written = _write(store, view, plan, target_bytes)
        except FileNotFoundError as error:
            problem = f"{error} (a missing file, or another publisher was faster)"
            continue
        snapshot = Snapshot(number, (*plan.unchanged, *written), base.erased | view.deletions.names | remembered)
        if _commit(store, snapshot):
            collect(store, read_view(store), discard)
            return snapshot
    raise OutputError(f"{store.root}: not published, {problem}; see `python -m neuface_ray.dataset verify`")


@dataclass(frozen=True)
class _Plan:
    """What goes into the new files.

    Args:
        staged: the staged files that are published, by name; erased: those that the list of deletions covers.
        merged: small parts that are merged with them.
        thinned: parts that lose a segment (``dropped``, per part), each rewritten by itself.
        unchanged: parts that stay as they are.
    """

    staged: dict[str, StagedHead]
    erased: dict[str, StagedHead]
    merged: tuple[Part, ...]
    thinned: tuple[Part, ...]
    unchanged: tuple[Part, ...]
    dropped: dict[str, frozenset[str]]


def _plan(store: Store, view: DatasetView, target_bytes: int) -> _Plan:
    """Parts are rewritten if they lose a segment, or if they are small and there are new rows to fill them with."""
    parts = view.snapshot.parts
    dropped = {part.name: hidden for part in parts if (hidden := view.hidden(part))}
    heads = {name: read_head(store, name) for name in view.staged}
    erased = {name: head for name, head in heads.items() if head.is_covered(view.deletions)}
    staged = {name: head for name, head in heads.items() if name not in erased}
    merged = tuple(p for p in parts if view.staged and p.bytes < target_bytes // 2)[-_MERGED_AT_ONCE:]
    thinned = tuple(p for p in parts if p.name in dropped and p not in merged)
    unchanged = tuple(p for p in parts if p not in merged and p not in thinned)
    return _Plan(staged, erased, merged, thinned, unchanged, dropped)


def _deleted(view: DatasetView, plan: _Plan) -> frozenset[str]:
    """Segments that lose their rows in this publish because the list of deletions covers them."""
    return frozenset(head.segment_id for head in plan.erased.values()).union(*view.erased.values())


def _remember(store: Store, view: DatasetView, plan: _Plan) -> frozenset[str]:
    """Before their rows go: list the segments, and those sources of which no row stays; the names of the list's new files.

    A source of which rows stay (several persons or recordings in one file) is not listed, or they could not be made again.
    Pictures of the segments' clips (synthetic data) are removed.
    """
    deleted = _deleted(view, plan)
    if not deleted:
        return frozenset()
    gone, kept, clips = set(), {source for head in plan.staged.values() for source in head.sources}, []
    for name in plan.erased:
        tables = read_staged(store, name)
        gone |= sources_of(tables.get("clips"))
        clips += tables["clips"]["clip_id"].to_pylist() if "clips" in tables else []
    for part in view.snapshot.parts:
        if "clips" in part.files:
            table = read_parquet(store, part.files["clips"].path, ["segment_id", "clip_id", "source_hashes"])
            theirs = pc.is_in(table["segment_id"], pa.array(view.erased.get(part.name, ()), pa.string()))
            gone |= sources_of(table.filter(theirs))
            kept |= sources_of(table.filter(pc.invert(theirs)))
            clips += table.filter(theirs)["clip_id"].to_pylist()
    store.remove_all(f"{IMAGES}/{clip_id}.images" for clip_id in clips)
    listed = list_deletions(store, [(SEGMENT, one) for one in sorted(deleted)] + [(SOURCE, one) for one in sorted(gone - kept)])
    return frozenset(filter(None, [listed]))


def _write(store: Store, view: DatasetView, plan: _Plan, target_bytes: int) -> list[Part]:
    """Write the new public files, each durable and complete before the next."""
    needs_quarantine_file = not any("quarantine" in part.files for part in plan.unchanged)
    always = ("quarantine",) if needs_quarantine_file else ()
    writer = PartWriter(store, view.snapshot.number + 1, target_bytes, always)
    for part in plan.thinned:
        for name, rows in _thinned(store, part, plan.dropped[part.name]):
            writer.add_rows(name, rows)
        writer.finish_part()
    if deleted := _deleted(view, plan):
        writer.add(deleted_rows(sorted(deleted)))
    for tables in _merged(store, plan):
        writer.add(tables)
    return writer.close()


def _thinned(store: Store, part: Part, dropped: frozenset[str]) -> Iterator[tuple[str, pa.Table]]:
    """(table, rows) of a part without some segments, in the files' order, a row group at a time."""
    segment_ids = pa.array(sorted(dropped), pa.string())
    for name, file in part.files.items():
        for rows in read_row_groups(store, file.path):
            kept = rows.filter(pc.invert(pc.is_in(rows["segment_id"], segment_ids)))
            if kept.num_rows:
                yield name, kept


def _merged(store: Store, plan: _Plan) -> Iterator[dict[str, pa.Table]]:
    """The tables of each segment, ordered by sequence, time and segment.

    Staged files are read one at a time; the few small parts are held in memory.
    """
    sources: dict[str, tuple[tuple, dict[str, pa.Table] | str]] = {}
    for part in plan.merged:
        for segment_id, key, tables in _split(store, part):
            if segment_id not in plan.dropped.get(part.name, ()):
                sources[segment_id] = (key, tables)
    for name, head in plan.staged.items():
        sources[head.segment_id] = (head.order, name)
    for _, source in sorted(sources.values(), key=lambda item: item[0]):
        yield read_staged(store, source) if isinstance(source, str) else source


def _split(store: Store, part: Part) -> Iterator[tuple[str, tuple, dict[str, pa.Table]]]:
    """(segment_id, order, tables) of each segment of a part: in every table its rows lie together, in the same order."""
    tables = {name: read_parquet(store, file.path).combine_chunks() for name, file in part.files.items()}
    rows = tables["segments"].to_pylist()
    counts = {name: [row[f"n_{name}"] for row in rows] for name in ("frames", "clips", "vertices")}
    counts["quarantine"] = [int(row["outcome"] == QUARANTINED) for row in rows]
    for name in (name for name in counts if name in tables):
        expected = tables["segments"]["segment_id"].take(pa.array(np.repeat(np.arange(len(rows)), counts[name])))
        if not tables[name]["segment_id"].combine_chunks().equals(expected.combine_chunks()):
            raise OutputError(f"{store.root}/{part.files[name].path} lacks rows of the segments table")
    position = dict.fromkeys(TABLES, 0)
    for index, row in enumerate(rows):
        segment = {"segments": tables["segments"].slice(index, 1)}
        for name in counts:
            if count := counts[name][index]:
                segment[name] = tables[name].slice(position[name], count)
                position[name] += count
        yield row["segment_id"], segment_order(segment["segments"]), segment


def _commit(store: Store, snapshot: Snapshot) -> bool:
    """Make the snapshot the newest; False if another publisher was faster (our files are then dead and get collected)."""
    name = snapshot_name(snapshot.number)
    won = store.create(name, snapshot.encode())
    if won and snapshot_numbers(store)[-1] == snapshot.number:
        return True
    if won:  # so old that its number had been forgotten
        store.remove(name)
    return False


def collect(store: Store, view: DatasetView, discard: Callable[[str], object] | None = None) -> None:
    """Do away with what no reader of the present view needs: published staged files, dead public files, old snapshots,
    leftovers. ``discard`` gets their names; None removes them.

    A reader that still holds an older view notices the missing file and takes a new view.
    """
    dead = [name for name in unlisted_files(store, view.snapshot) if public_number(name) <= view.snapshot.number]
    old = [snapshot_name(number) for number in snapshot_numbers(store)[:-KEPT_SNAPSHOTS]]
    names = [*dead, *view.late, *old, *store.stale_temporaries()]
    if discard is None:
        store.remove_all(names)
        return
    for name in names:
        discard(name)


def unlisted_files(store: Store, snapshot: Snapshot, first: int = 0) -> list[str]:
    """Public files of ours that the snapshot does not list, written for snapshot ``first`` or later."""
    listed = snapshot.paths()
    found = {name: public_number(name) for table in TABLES for name in store.names(table)}
    return [name for name, number in found.items() if number is not None and number >= first and name not in listed]


def only_copy(store: Store, view: DatasetView, unlisted: list[str]) -> str | None:
    """An unlisted ``segments`` file with a segment that is nowhere else: proof that a snapshot was lost, not never made."""
    files = [name for name in unlisted if name.startswith("segments/")]
    if not files:
        return None
    known = set(view.staged.values()).union(*(part_outcomes(store, part) for part in view.snapshot.parts))
    for name in files:
        rows = read_parquet(store, name, ["segment_id", "sequence_id", "person"]).to_pylist()
        if any(row["segment_id"] not in known and not view.deletions.cover(**row) for row in rows):
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
