"""When the list of files is lost: make it anew from the newest list that is whole and the files that were written after it,
whose names and rows tell what they hold."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.parquet as pq

from neuface_ray.dataset.schema import DELETED, QUARANTINED, TABLES
from neuface_ray.dataset.snapshot import (
    Part,
    PublicFile,
    Snapshot,
    newest_valid_snapshot,
    public_number,
    public_part,
    read_snapshot,
    snapshot_name,
    snapshot_numbers,
)
from neuface_ray.dataset.staged import Outcome, list_staged, parse_name
from neuface_ray.dataset.storage import OutputError, Store

_COUNTED = ("frames", "clips", "vertices", "quarantine")
_Found = list[tuple[Part, dict[str, Outcome]]]
"""Parts with the outcomes of their segments, older ones first."""


def rebuild_snapshot(store: Store, accept_loss: bool = False) -> Snapshot:
    """A new snapshot: the parts of the newest one that is whole, and those that were written after it.

    A part that was written later is taken if its files are unharmed and each holds the rows that the part's ``segments`` table
    counts; where several files of a table have the name of one part (two publishers of an old layout), those that fit are
    found by their rows. Of a segment in several parts the highest outcome counts, then the newest part; in the others it is
    listed as not counting. Nothing is removed by this.

    Args:
        accept_loss: also if some segments that can be read in the files would be in no part.

    Raises OutputError if it would cover fewer segments than the readable files do.
    """
    base = newest_valid_snapshot(store)
    names = [name for table in TABLES for name in store.names(table)]
    groups: dict[str, list[str]] = {}
    for name in names:
        number = public_number(name)
        if number is not None and number > base.number and name not in base.paths():
            groups.setdefault(public_part(name)[1], []).append(name)
    found: _Found = []
    readable: set[str] = set()
    intact = [part for part in base.parts if all(store.exists(file.path) for file in part.files.values())]
    found += [(part, _listed_outcomes(store, part)) for part in intact]
    for part_name in sorted(groups):
        files = [file for name in groups[part_name] if (file := _read_file(store, name))]
        found += _fitting_parts(part_name, files)
        readable |= _readable_segments(files)
    for part in base.parts:
        if part not in intact:
            found += _still_needed(store, part, found)
    parts = _without_repetitions(found)
    covered = {segment_id for part, outcomes in found for segment_id in outcomes}
    covered |= {parse_name(name)[0] for name in list_staged(store)}
    if (lost := readable - covered) and not accept_loss:
        raise OutputError(
            f"{store.root}: not repaired, since {len(lost)} segments that can be read in the files (such as {min(lost)}) would "
            "be in no part: one of their files is harmed or missing. Restore it, or do without them: `--discard-damaged`."
        )
    number = max([*snapshot_numbers(store), *(public_number(name) or 0 for name in names), 0]) + 1
    return _put(store, Snapshot(number, parts))


def snapshot_without(store: Store, parts: set[str]) -> Snapshot:
    """A new snapshot without the named parts; their files are then dead, their segments not done."""
    old = read_snapshot(store)
    return _put(store, Snapshot(old.number + 1, tuple(part for part in old.parts if part.name not in parts)))


def _put(store: Store, snapshot: Snapshot) -> Snapshot:
    if not store.create(snapshot_name(snapshot.number), snapshot.encode()):
        raise OutputError(f"{store.root}: snapshot {snapshot.number} was made meanwhile; stop the run and repair again")
    return snapshot


@dataclass(frozen=True)
class _File:
    """An unharmed public file: its rows per segment and, of ``segments``, the rows themselves."""

    table: str
    file: PublicFile
    counts: Counter[str]
    segments: tuple[dict, ...] = ()


def _read_file(store: Store, name: str) -> _File | None:
    """None if it is harmed or has gone."""
    table, _, beginning = public_part(name)
    try:
        data = store.read(name)
    except FileNotFoundError:
        return None
    digest = hashlib.sha256(data).hexdigest()
    if not digest.startswith(beginning):
        return None
    columns = [f"n_{counted}" for counted in _COUNTED[:3]] + ["outcome", "attempts"] if table == "segments" else []
    rows = pq.ParquetFile(pa.BufferReader(data)).read(columns=["segment_id", *columns])
    file = PublicFile(name, rows.num_rows, len(data), digest)
    return _File(table, file, Counter(rows["segment_id"].to_pylist()), tuple(rows.to_pylist()) if columns else ())


def _expected(rows: Iterable[Mapping], table: str) -> Counter[str]:
    """Rows per segment that a ``segments`` table promises of another table."""
    if table == "quarantine":
        return Counter(row["segment_id"] for row in rows if row["outcome"] == QUARANTINED)
    return Counter({row["segment_id"]: row[f"n_{table}"] for row in rows if row[f"n_{table}"]})


def _outcomes(rows: Iterable[Mapping]) -> dict[str, Outcome]:
    return {row["segment_id"]: Outcome(row["outcome"], row["attempts"] or 0) for row in rows}


def _listed_outcomes(store: Store, part: Part) -> dict[str, Outcome]:
    """Of a part that a whole snapshot lists; none if its ``segments`` file is harmed (for verification to report)."""
    segments = _read_file(store, part.files["segments"].path)
    outcomes = _outcomes(segments.segments) if segments else {}
    return {key: outcomes[key] for key in outcomes if key not in part.without}


def _still_needed(store: Store, part: Part, found: _Found) -> _Found:
    """A listed part of which files are gone: usually since newer parts took its place. For segments that are in none of them
    it stays listed, for the user to restore the files or to decide otherwise."""
    outcomes, known = _listed_outcomes(store, part), {key for _, outcomes in found for key in outcomes}
    needed = {key: outcome for key, outcome in outcomes.items() if key not in known}
    return [(Part(part.name, part.files, part.without | (outcomes.keys() & known)), needed)] if needed else []


def _fitting_parts(part_name: str, files: list[_File]) -> Iterator[tuple[Part, dict[str, Outcome]]]:
    """The parts that can be put together from files with the name of one part; usually one."""
    for index, segments in enumerate(file for file in files if file.table == "segments"):
        chosen = {"segments": segments.file}
        for table in _COUNTED:
            expected = _expected(segments.segments, table)
            fitting = [file.file for file in files if file.table == table and file.counts == expected]
            if fitting:
                chosen[table] = fitting[0]
            elif expected:
                break
        else:
            yield Part(f"{part_name}.{index}" if index else part_name, chosen), _outcomes(segments.segments)


def _readable_segments(files: list[_File]) -> set[str]:
    """Segments all of whose rows are in unharmed files."""
    found = set()
    for row in (row for file in files for row in file.segments):
        expected = {table: _expected([row], table)[row["segment_id"]] for table in _COUNTED}
        if row["outcome"] != DELETED and all(
            any(file.table == table and file.counts[row["segment_id"]] == count for file in files)
            for table, count in expected.items()
            if count
        ):
            found.add(row["segment_id"])
    return found


def _without_repetitions(found: _Found) -> tuple[Part, ...]:
    """The parts in their order; each segment counts in one of them, and parts in which none counts are left out."""
    best: dict[str, tuple] = {}
    for position, (_, outcomes) in enumerate(found):
        for segment_id, outcome in outcomes.items():
            best[segment_id] = max(best.get(segment_id, ()), (outcome.rank, position))
    parts = []
    for position, (part, outcomes) in enumerate(found):
        elsewhere = {segment_id for segment_id in outcomes if best[segment_id][1] != position}
        if not outcomes or len(elsewhere) < len(outcomes):
            parts.append(Part(part.name, part.files, part.without | elsewhere))
    return tuple(parts)
