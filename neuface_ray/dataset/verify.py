"""Verification: is every byte, row and file of a dataset what it should be; and the repairs that cannot lose anything."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from neuface_ray.dataset.consistency import check_tables
from neuface_ray.dataset.delete import purge_remains
from neuface_ray.dataset.deleted import COPIES, harmed_copies, list_copies, mend_copies
from neuface_ray.dataset.deleted import FOLDER as DELETIONS
from neuface_ray.dataset.descriptor import DESCRIPTOR, is_restorable, read_descriptor, restore_descriptor
from neuface_ray.dataset.publish import collect, only_copy, publish, unlisted_files
from neuface_ray.dataset.rebuild import rebuild_snapshot, snapshot_without
from neuface_ray.dataset.schema import SCHEMA_VERSIONS, TABLES
from neuface_ray.dataset.snapshot import (
    DatasetView,
    Part,
    Snapshot,
    newest_valid_snapshot,
    public_number,
    read_parquet,
    read_snapshot,
    read_view,
)
from neuface_ray.dataset.staged import FOLDER as STAGED
from neuface_ray.dataset.staged import parse_name, read_staged
from neuface_ray.dataset.storage import OutputError, Store, open_store
from neuface_ray.dataset.trash import Trash
from neuface_ray.errors import UsageError

REPAIRABLE = {
    "interrupted_publish": "run the publish again",
    "dead_file": "put it into the trash: no snapshot can ever list it",
    "copied_file": "put the copy into the trash: the original is listed",
    "damaged_commit": "put it into the trash: the next run makes the segment again",
    "late_commit": "put it into the trash: the segment is published already",
    "leftover": "put it into the trash: its writer died",
    "descriptor_lost": "write dataset.json from its copy; the next run or `publish` counts the totals anew",
    "snapshot_lost": "make the list anew from the newest one that is whole and the public files",
    "deletion_pending": "publish, which takes the rows of those who were deleted out of the files, and removes them",
    "deletion_copy": "write the copy again from the other one",
    "twice_listed": "publish again, which takes the rows that do not count out of the files",
}
"""What ``repair`` does; the trash is a folder of the dataset, ``_trash/TIME-UUID``, and nothing is ever unlinked, but what
holds rows of deleted persons.
All other problems need a decision: restore the file, remove it, or ``discard_damaged``."""


@dataclass(frozen=True)
class Problem:
    """Something that is wrong: a stable code, the file, what it is, and its part if it makes that part unusable."""

    code: str
    path: str
    detail: str
    part: str | None = None

    def __str__(self) -> str:
        return f"{self.code}: {self.path}: {self.detail}" + (" [repairable]" if self.code in REPAIRABLE else "")


@dataclass
class Verification:
    """Result of a verification: problems (none: sound), published and staged rows per table, what was repaired."""

    path: str
    snapshot: int = 0
    problems: list[Problem] = field(default_factory=list)
    rows: Counter = field(default_factory=Counter)
    repaired: list[Problem] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return not self.problems


def verify(path: str | Store, repair: bool = False, discard_damaged: bool = False) -> Verification:
    """Check all files and rows of a dataset against its snapshot, its segments table and its schema. Reads everything once.

    Args:
        repair: mend what can be mended without losing a readable row (``REPAIRABLE``), then verify again.
        discard_damaged: take parts with damaged or missing files out of the dataset, so that the same command that made it
            makes their segments again. Only when the files cannot be restored. They go into the trash.

    Raises UsageError if there is no dataset, OutputError if the repaired dataset would cover fewer segments than the readable
    files do.
    """
    store = path if isinstance(path, Store) else open_store(path)
    report = _examine(store)
    if not report.problems or not (repair or discard_damaged):
        return report
    if any(problem.code == "deletion_lost" for problem in report.problems):
        return report  # whatever is repaired could show somebody who was deleted
    trash, mended = Trash(store), []
    if any(problem.code == "snapshot_lost" for problem in report.problems):
        mended += report.problems
        rebuild_snapshot(store, accept_loss=discard_damaged)
        report = _examine(store)
    if discard_damaged and (parts := {problem.part for problem in report.problems if problem.part}):
        snapshot_without(store, parts)
        collect(store, read_view(store), trash.put)
        mended += [problem for problem in report.problems if problem.part]
        report = _examine(store)
    if repair:
        mended += _repair(store, report, trash)
    purge_remains(store)
    after = _examine(store)
    after.repaired = [problem for problem in mended if problem not in after.problems]
    return after


def _repair(store: Store, report: Verification, trash: Trash) -> list[Problem]:
    mended = [problem for problem in report.problems if problem.code in REPAIRABLE]
    if any(problem.code == "descriptor_lost" for problem in mended):
        restore_descriptor(store, replace=True)
    for name in list_copies(store) if any(problem.code == "deletion_copy" for problem in mended) else ():
        mend_copies(store, name)
    for problem in mended:
        if problem.code in ("damaged_commit", "copied_file", "leftover"):
            trash.put(problem.path)
    codes = {problem.code for problem in mended}
    if codes & {"interrupted_publish", "twice_listed", "deletion_pending"}:
        publish(store, discard=trash.put)
    elif codes & {"dead_file", "late_commit"}:
        collect(store, read_view(store), trash.put)
    return mended


def _examine(store: Store) -> Verification:
    report = Verification(store.root)
    try:
        descriptor = read_descriptor(store)
    except UsageError as error:
        if not store.names():
            raise
        code = "descriptor_lost" if is_restorable(store) else "descriptor"
        report.problems.append(Problem(code, DESCRIPTOR, str(error)))
        descriptor = {}
    if descriptor and descriptor.get("schema_version") not in SCHEMA_VERSIONS:
        version = descriptor.get("schema_version")
        report.problems.append(Problem("schema", DESCRIPTOR, f"schema version {version}, this program knows {SCHEMA_VERSIONS}"))
    report.problems += _examine_deletions(store)
    if any(problem.code == "deletion_lost" for problem in report.problems):
        return report
    try:
        snapshot = read_snapshot(store)
    except OutputError as error:
        report.problems.append(Problem("snapshot_lost", "_snapshots", str(error)))
        return report
    report.snapshot = snapshot.number
    report.problems += _lost_snapshot(store, snapshot, descriptor)
    made_with = {key: descriptor[key] for key in ("head_model", "seed") if descriptor.get(key) is not None}
    for part in snapshot.parts:
        report.problems += _examine_part(store, part, made_with, report.rows)
    report.problems += _repeated_ids(store, snapshot)
    report.problems += _unlisted(store, snapshot)
    if not any(problem.code == "missing_file" and problem.path.startswith("segments/") for problem in report.problems):
        view = read_view(store)
        report.problems += _examine_staged(store, view, made_with, report.rows)
        report.problems += _rows_of_deleted(view)
        if foreign := only_copy(store, view, unlisted_files(store, snapshot, snapshot.number + 1)):
            report.problems.append(Problem("snapshot_lost", "_snapshots", f"{foreign} holds segments that no snapshot lists"))
    report.problems += [Problem("leftover", name, "its writer died") for name in store.stale_temporaries()]
    return report


def _examine_deletions(store: Store) -> Iterator[Problem]:
    copies = list_copies(store)
    for name in copies:
        harmed = harmed_copies(store, name)
        if len(harmed) == len(COPIES):
            yield Problem("deletion_lost", harmed[0], "both copies are damaged: it is not known who was deleted; restore one")
        elif harmed:
            yield Problem("deletion_copy", harmed[0], "damaged or missing; its copy is whole")
    for name in sorted(newest_valid_snapshot(store).erased - copies.keys()):
        yield Problem("deletion_lost", f"{DELETIONS}/{name}.a.json", "gone: it is not known who must not come back; restore it")


def _rows_of_deleted(view: DatasetView) -> Iterator[Problem]:
    for part in view.snapshot.parts:
        if theirs := view.erased.get(part.name):
            detail = f"{len(theirs)} segments of those who were deleted are still in this part; no reader shows them"
            yield Problem("deletion_pending", part.files["segments"].path, detail)


def _lost_snapshot(store: Store, snapshot: Snapshot, descriptor: dict) -> Iterator[Problem]:
    newest = max((public_number(name) or 0 for table in TABLES for name in store.names(table)), default=0)
    if descriptor.get("snapshot", 0) > snapshot.number or newest > snapshot.number + 1:
        wanted = max(descriptor.get("snapshot", 0), newest)
        yield Problem("snapshot_lost", "_snapshots", f"{snapshot.number} is the newest, there was {wanted}")
    elif newest > snapshot.number and (gone := [path for path in sorted(snapshot.paths()) if not store.exists(path)]):
        detail = f"{snapshot.number} is the newest, files were written later and {gone[0]}, which it lists, is gone"
        yield Problem("snapshot_lost", "_snapshots", detail)


def _examine_part(store: Store, part: Part, made_with: dict, rows: Counter) -> list[Problem]:
    problems, tables = [], {}
    if part.without:
        detail = f"{len(part.without)} of its segments count in another part, a plain glob sees them twice"
        problems.append(Problem("twice_listed", part.files["segments"].path, detail))
    unharmed = len(problems)
    for name, file in part.files.items():
        try:
            data = store.read(file.path)
        except FileNotFoundError:
            problems.append(Problem("missing_file", file.path, f"{file.rows} rows of {name}", part.name))
            continue
        if len(data) != file.bytes or hashlib.sha256(data).hexdigest() != file.sha256:
            detail = f"{len(data)} bytes with another hash than the {file.bytes} that were written"
            problems.append(Problem("damaged_file", file.path, detail, part.name))
            continue
        tables[name] = pq.ParquetFile(pa.BufferReader(data)).read()
        rows[name] += tables[name].num_rows
        if tables[name].num_rows != file.rows:
            detail = f"{tables[name].num_rows} rows instead of the {file.rows} that the snapshot lists"
            problems.append(Problem("row_count", file.path, detail, part.name))
    if len(problems) == unharmed:
        where = part.files["segments"].path
        problems += [Problem(code, where, detail, part.name) for code, detail in check_tables(tables, **made_with)]
    return problems


def _repeated_ids(store: Store, snapshot: Snapshot) -> Iterator[Problem]:
    """Segments and clips that are in two parts; within a part the keys were checked before."""
    for table, key in (("segments", "segment_id"), ("clips", "clip_id")):
        seen: dict[str, str] = {}
        for part in snapshot.parts:
            if table not in part.files:
                continue
            path = part.files[table].path
            try:
                ids = read_parquet(store, path, [key])[key].to_pylist()
            except (FileNotFoundError, OutputError):
                continue  # reported as missing or damaged
            if part.without:
                segments = read_parquet(store, path, ["segment_id"])["segment_id"].to_pylist()
                ids = [one for one, segment in zip(ids, segments, strict=True) if segment not in part.without]
            twice = [one for one in ids if seen.setdefault(one, part.name) != part.name]
            if twice:
                yield Problem("duplicate_key", path, f"{len(twice)} of {table} are in part {seen[twice[0]]} too", part.name)


def _unlisted(store: Store, snapshot: Snapshot) -> Iterator[Problem]:
    """Files in the public folders that do not belong, so that a plain glob is not exact."""
    listed = {file.sha256: file.path for part in snapshot.parts for file in part.files.values()}
    paths = snapshot.paths()
    for name in (name for table in TABLES for name in store.names(table)):
        number = public_number(name)
        if name in paths:
            continue
        if number is not None and number > snapshot.number:
            yield Problem("interrupted_publish", name, f"written for snapshot {number}, which does not exist")
        elif number is not None:
            yield Problem("dead_file", name, f"not listed by snapshot {snapshot.number}")
        elif (digest := hashlib.sha256(store.read(name)).hexdigest()) in listed:
            yield Problem("copied_file", name, f"the same bytes as {listed[digest]}")
        else:
            yield Problem("foreign_file", name, "not written by this program; move it away, a plain glob would read it")


def _examine_staged(store: Store, view: DatasetView, made_with: dict, rows: Counter) -> Iterator[Problem]:
    for name in store.names(STAGED):
        if parse_name(name) is None:
            yield Problem("foreign_file", name, "not the name of a staged file")
    for name in view.late:
        yield Problem("late_commit", name, "another outcome of the segment counts")
    for name in view.staged:
        try:
            tables = read_staged(store, name)
        except FileNotFoundError:
            continue  # published meanwhile
        except OutputError as error:
            yield Problem("damaged_commit", name, str(error))
            continue
        if view.deletions.cover_tables(tables):
            yield Problem("deletion_pending", name, "of one who was deleted; no reader shows it")
            continue
        rows.update({table: content.num_rows for table, content in tables.items()})
        for code, detail in check_tables(tables, **made_with):
            yield Problem(code, name, detail)
