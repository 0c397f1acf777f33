"""Verification: is every byte, row and file of a dataset what it should be; and the repairs that cannot lose anything."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from neuface_ray.dataset.consistency import check_tables
from neuface_ray.dataset.descriptor import DESCRIPTOR, read_descriptor
from neuface_ray.dataset.publish import collect, publish
from neuface_ray.dataset.rebuild import rebuild_snapshot, snapshot_without
from neuface_ray.dataset.schema import SCHEMA_VERSIONS, TABLES
from neuface_ray.dataset.snapshot import DatasetView, Part, Snapshot, public_number, read_parquet, read_snapshot, read_view
from neuface_ray.dataset.staged import FOLDER as STAGED
from neuface_ray.dataset.staged import parse_name, read_staged
from neuface_ray.dataset.storage import OutputError, Store, open_store
from neuface_ray.errors import UsageError

REPAIRABLE = {
    "interrupted_publish": "run the publish again",
    "dead_file": "remove it: no snapshot can ever list it",
    "copied_file": "remove the copy: the original is listed",
    "damaged_commit": "remove it: the next run makes the segment again",
    "late_commit": "remove it: the segment is published already",
    "leftover": "remove it: its writer died",
    "snapshot_lost": "rebuild the list from the public files",
}
"""What ``repair`` does. All other problems need a decision: restore the file, remove it, or ``discard_damaged``."""


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
            makes their segments again. Only when the files cannot be restored.

    Raises UsageError if there is no dataset.
    """
    store = path if isinstance(path, Store) else open_store(path)
    report = _examine(store)
    if not report.problems or not (repair or discard_damaged):
        return report
    mended = []
    if discard_damaged and (parts := {problem.part for problem in report.problems if problem.part}):
        snapshot_without(store, parts)
        collect(store, read_view(store))
        mended += [problem for problem in report.problems if problem.part]
        report = _examine(store)
    if repair:
        mended += _repair(store, report)
    after = _examine(store)
    after.repaired = [problem for problem in mended if problem not in after.problems]
    return after


def _repair(store: Store, report: Verification) -> list[Problem]:
    mended = [problem for problem in report.problems if problem.code in REPAIRABLE]
    if any(problem.code == "snapshot_lost" for problem in mended):
        rebuild_snapshot(store)
        report = _examine(store)
        mended += [problem for problem in report.problems if problem.code in REPAIRABLE]
    for problem in report.problems:
        if problem.code in ("damaged_commit", "copied_file", "leftover"):
            store.remove(problem.path)
    codes = {problem.code for problem in mended}
    if "interrupted_publish" in codes:
        publish(store)
    elif codes & {"dead_file", "late_commit"}:
        collect(store, read_view(store))
    return mended


def _examine(store: Store) -> Verification:
    report = Verification(store.root)
    try:
        descriptor = read_descriptor(store)
    except UsageError as error:
        if not store.names():
            raise
        report.problems.append(Problem("descriptor", DESCRIPTOR, str(error)))
        descriptor = {}
    if descriptor and descriptor.get("schema_version") not in SCHEMA_VERSIONS:
        version = descriptor.get("schema_version")
        report.problems.append(Problem("schema", DESCRIPTOR, f"schema version {version}, this program knows {SCHEMA_VERSIONS}"))
    try:
        snapshot = read_snapshot(store)
    except OutputError as error:
        report.problems.append(Problem("snapshot_lost", "_snapshots", str(error)))
        return report
    report.snapshot = snapshot.number
    report.problems += _lost_snapshot(store, snapshot, descriptor)
    head = descriptor.get("head_model")
    for part in snapshot.parts:
        report.problems += _examine_part(store, part, head, report.rows)
    report.problems += _repeated_ids(store, snapshot)
    report.problems += _unlisted(store, snapshot)
    if not any(problem.code == "missing_file" and problem.path.startswith("segments/") for problem in report.problems):
        view = read_view(store)
        report.problems += _examine_staged(store, view, head, report.rows)
    report.problems += [Problem("leftover", name, "its writer died") for name in store.stale_temporaries()]
    return report


def _lost_snapshot(store: Store, snapshot: Snapshot, descriptor: dict) -> Iterator[Problem]:
    newest = max((public_number(name) or 0 for table in TABLES for name in store.names(table)), default=0)
    if descriptor.get("snapshot", 0) > snapshot.number or newest > snapshot.number + 1:
        wanted = max(descriptor.get("snapshot", 0), newest)
        yield Problem("snapshot_lost", "_snapshots", f"{snapshot.number} is the newest, there was {wanted}")


def _examine_part(store: Store, part: Part, head: str | None, rows: Counter) -> list[Problem]:
    problems, tables = [], {}
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
    if not problems:
        where = part.files["segments"].path
        problems += [Problem(code, where, detail, part.name) for code, detail in check_tables(tables, head)]
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


def _examine_staged(store: Store, view: DatasetView, head: str | None, rows: Counter) -> Iterator[Problem]:
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
        rows.update({table: content.num_rows for table, content in tables.items()})
        for code, detail in check_tables(tables, head):
            yield Problem(code, name, detail)
