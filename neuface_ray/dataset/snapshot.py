"""Which files are the dataset: numbered, immutable snapshots, and the view of them that a reader holds.

``_snapshots/00000012.json`` lists parts. A part is a set of segments with one Parquet file per table. The snapshot with the
highest number is the dataset; number n+1 is made by exclusive creation, so of two publishers that started from n one loses
and starts over. A public file carries in its name the number of the snapshot that it was written for and can enter no other;
as soon as a snapshot of that number exists which does not list it, it is dead for ever and may be removed by anybody. The name
carries the publisher too, so that the files of one part are known to belong together also without the snapshot (datasets of
before have names without a publisher).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

import pyarrow as pa
import pyarrow.parquet as pq

from neuface_ray.dataset.deleted import Deletions, read_deletions
from neuface_ray.dataset.schema import DELETED, TABLES, schema
from neuface_ray.dataset.staged import Outcome, list_staged, parse_name
from neuface_ray.dataset.storage import OutputError, Store

FOLDER = "_snapshots"
KEPT_SNAPSHOTS = 10
_SNAPSHOT = re.compile(rf"{FOLDER}/(\d{{8}})\.json")
_PUBLIC = re.compile(r"(frames|clips|vertices|quarantine|segments)/\1-((\d{8})(?:-[0-9a-f]{8})?-\d{4})-([0-9a-f]{16})\.parquet")


@dataclass(frozen=True)
class PublicFile:
    """A Parquet file of one table: where it is, what is in it, and how to know that it is unharmed."""

    path: str
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Part:
    """A set of segments, with one file per table that has rows of them; ``segments`` always has one.

    Args:
        name: ``SNAPSHOT-PUBLISHER-NUMBER``, the middle of its files' names. files: by table.
        without: segments whose rows in these files do not count, since another part has them; the next publish takes them out.
    """

    name: str
    files: dict[str, PublicFile]
    without: frozenset[str] = frozenset()

    @property
    def bytes(self) -> int:
        """Size of its largest file, on which its sufficiency is judged."""
        return max(file.bytes for file in self.files.values())


@dataclass(frozen=True)
class Snapshot:
    """The published part of the dataset at one moment; number 0 is the empty dataset.

    Args:
        erased: files of the list of deletions that were obeyed: no row of theirs is in the parts.
    """

    number: int = 0
    parts: tuple[Part, ...] = ()
    erased: frozenset[str] = frozenset()

    def paths(self) -> set[str]:
        return {file.path for part in self.parts for file in part.files.values()}

    def rows(self) -> dict[str, int]:
        """Published rows per table."""
        return {name: sum(part.files[name].rows for part in self.parts if name in part.files) for name in TABLES}

    def encode(self) -> bytes:
        body = {"number": self.number, "parts": [_part_to_json(part) for part in self.parts], "erased": sorted(self.erased)}
        return json.dumps({"sha256": _digest(body), "snapshot": body}, indent=1).encode()


def _part_to_json(part: Part) -> dict:
    body = {"name": part.name, "files": {table: vars(file) for table, file in part.files.items()}}
    return body | ({"without": sorted(part.without)} if part.without else {})


def _part_from_json(body: dict) -> Part:
    files = {table: PublicFile(**file) for table, file in body["files"].items()}
    return Part(body["name"], files, frozenset(body.get("without", ())))


def snapshot_name(number: int) -> str:
    """Path within the dataset of the snapshot with a number."""
    return f"{FOLDER}/{number:08d}.json"


def public_number(path: str) -> int | None:
    """The snapshot number for which a public file was written; None if the name is not one of ours."""
    match = _PUBLIC.fullmatch(path)
    return int(match.group(3)) if match else None


def public_part(path: str) -> tuple[str, str, str] | None:
    """(table, part, beginning of the sha256) that a public file's name tells; None if the name is not one of ours."""
    match = _PUBLIC.fullmatch(path)
    return (match.group(1), match.group(2), match.group(4)) if match else None


def public_name(table: str, part: str, sha256: str) -> str:
    """Path within the dataset of the file of a table in a part."""
    return f"{table}/{table}-{part}-{sha256[:16]}.parquet"


def snapshot_numbers(store: Store) -> list[int]:
    """Numbers of the snapshots that are kept, ascending."""
    return sorted(int(match.group(1)) for name in store.names(FOLDER) if (match := _SNAPSHOT.fullmatch(name)))


def read_snapshot(store: Store) -> Snapshot:
    """The newest snapshot. Raises OutputError if its bytes are not what was written."""
    while True:
        numbers = snapshot_numbers(store)
        if not numbers:
            return Snapshot()
        name = snapshot_name(numbers[-1])
        try:
            data = store.read(name)
        except FileNotFoundError:
            continue  # ten newer ones were made since the listing
        return _decode(data, f"{store.root}/{name}")


def newest_valid_snapshot(store: Store) -> Snapshot:
    """The newest snapshot whose bytes are what was written; the empty one if there is none."""
    for number in reversed(snapshot_numbers(store)):
        with contextlib.suppress(OutputError, FileNotFoundError):
            return _decode(store.read(snapshot_name(number)), f"{store.root}/{snapshot_name(number)}")
    return Snapshot()


def _decode(data: bytes, name: str) -> Snapshot:
    try:
        content = json.loads(data)
        body = content["snapshot"]
        if content["sha256"] != _digest(body):
            raise ValueError("checksum does not match")
        return Snapshot(body["number"], tuple(map(_part_from_json, body["parts"])), frozenset(body.get("erased", ())))
    except (ValueError, KeyError, TypeError) as error:
        raise OutputError(
            f"{name} is damaged ({error}). `python -m neuface_ray.dataset verify DIR --repair` makes the list anew "
            "from the public files."
        ) from error


def _digest(body: dict) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True)
class DatasetView:
    """The dataset at one moment: published segments and staged ones that are not yet published, each segment once.

    Args:
        snapshot: the published part.
        staged: name to segment_id of the staged files that count, unless ``deletions`` cover what is in them.
        superseded: per part, its segments that do not count any more because a staged outcome outranks them.
        late: names of staged files that do not count (published or outranked already).
        deletions: the list of what must not be shown.
        erased: per part, its segments that the list covers and that are still in the files.
    """

    snapshot: Snapshot
    staged: dict[str, str] = field(default_factory=dict)
    superseded: dict[str, frozenset[str]] = field(default_factory=dict)
    late: tuple[str, ...] = ()
    deletions: Deletions = field(default_factory=Deletions)
    erased: dict[str, frozenset[str]] = field(default_factory=dict)

    @property
    def obeys_deletions(self) -> bool:
        """No published file holds a row that the list covers."""
        return self.deletions.names <= self.snapshot.erased

    def hidden(self, part: Part) -> frozenset[str]:
        """Segments whose rows in the files of ``part`` do not count."""
        return part.without | self.superseded.get(part.name, frozenset()) | self.erased.get(part.name, frozenset())


def read_view(store: Store) -> DatasetView:
    """The present view. Everything committed before the call is in it, and nothing twice; nothing listed as deleted before it.

    The order matters: a staged file vanishes only after a snapshot lists its segment, so listing the staged files first and
    reading the snapshot second cannot miss one; what is in both is recognised by its segment.
    """
    missing = None
    while True:
        deletions = read_deletions(store)
        staged = list_staged(store)
        snapshot = read_snapshot(store)
        if not snapshot.erased <= deletions.names:  # somebody was deleted after the list was read
            deletions = read_deletions(store)
        try:
            return _resolve(store, snapshot, staged, deletions)
        except FileNotFoundError as error:  # replaced by a newer snapshot, unless this one is still the newest
            if missing == snapshot.number:
                raise OutputError(
                    f"{store.root}: {error.filename or error} is missing although snapshot {snapshot.number} lists it; "
                    "run `python -m neuface_ray.dataset verify`"
                ) from error
            missing = snapshot.number


def _resolve(store: Store, snapshot: Snapshot, staged: dict[str, Outcome], deletions: Deletions) -> DatasetView:
    erased = {}
    if not deletions.names <= snapshot.erased:
        found = {part.name: _covered(store, part, deletions) for part in snapshot.parts}
        erased = {name: segment_ids for name, segment_ids in found.items() if segment_ids}
    best: dict[str, tuple[Outcome, str]] = {}
    for name, outcome in staged.items():
        segment_id = parse_name(name)[0]
        if segment_id not in best or outcome.rank > best[segment_id][0].rank:
            best[segment_id] = (outcome, name)
    superseded: dict[str, set[str]] = {}
    for part in snapshot.parts if staged else ():
        for segment_id, published in part_outcomes(store, part).items():
            if segment_id not in best:
                continue
            if best[segment_id][0].rank > published.rank:
                superseded.setdefault(part.name, set()).add(segment_id)
            else:
                del best[segment_id]
    counted = {name: segment_id for segment_id, (_, name) in sorted(best.items())}
    late = tuple(name for name in staged if name not in counted)
    outranked = {name: frozenset(segment_ids) for name, segment_ids in superseded.items()}
    return DatasetView(snapshot, counted, outranked, late, deletions, erased)


def _covered(store: Store, part: Part, deletions: Deletions) -> frozenset[str]:
    columns = ["segment_id", "sequence_id", "person", "outcome"]
    rows = read_parquet(store, part.files["segments"].path, columns).to_pylist()
    live = [row for row in rows if row.pop("outcome") != DELETED and row["segment_id"] not in part.without]
    return frozenset(row["segment_id"] for row in live if deletions.cover(**row))


def part_outcomes(store: Store, part: Part) -> dict[str, Outcome]:
    """Outcome of each segment of a part that counts there."""
    found = _outcomes(store, part.files["segments"].path)
    return {segment_id: found[segment_id] for segment_id in found if segment_id not in part.without} if part.without else found


@lru_cache(maxsize=4096)
def _outcomes(store: Store, path: str) -> dict[str, Outcome]:
    table = read_parquet(store, path, ["segment_id", "outcome", "attempts"])
    return {row["segment_id"]: Outcome(row["outcome"], row["attempts"] or 0) for row in table.to_pylist()}


def read_parquet(store: Store, path: str, columns: list[str] | None = None) -> pa.Table:
    """A public file as a table; FileNotFoundError if a publisher has replaced it, OutputError if it is damaged."""
    with _opened(store, path) as file:
        return file.read(columns=columns)


def read_row_groups(store: Store, path: str) -> Iterator[pa.Table]:
    """The same, a row group at a time."""
    with _opened(store, path) as file:
        for index in range(file.num_row_groups):
            yield file.read_row_group(index)


@contextlib.contextmanager
def _opened(store: Store, path: str) -> Iterator[pq.ParquetFile]:
    location, filesystem = store.arrow(path)
    try:
        yield pq.ParquetFile(location, filesystem=filesystem)
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise OutputError(
            f"{store.root}/{path} is damaged: {error}. Run `python -m neuface_ray.dataset verify DIR`."
        ) from error


def empty(table: str, version: int) -> pa.Table:
    """A table without rows, for datasets of a schema version that have none."""
    return schema(table, version=version).empty_table()
