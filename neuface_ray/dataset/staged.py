"""The staged file: one segment's outcome with all its rows, self-contained and checked.

    magic (8 bytes) | header length (8 bytes, little-endian) | header JSON | one Arrow stream per table | sha256 of all before

Its name is its outcome: ``_staged/ab/SEGMENT.committed``, ``_staged/ab/SEGMENT.quarantined-000003`` after three attempts, or
``_staged/ab/SEGMENT.deleted`` (without rows).
Of several outcomes of one segment the highest in ``rank`` counts: deleted over committed over quarantined,
more attempts over fewer. That order makes retries and late workers harmless, whatever the order in which they arrive.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import NamedTuple

import pyarrow as pa

from neuface_ray.dataset.deleted import Deletions, sources_of
from neuface_ray.dataset.schema import COMMITTED, DELETED, QUARANTINED, TABLES
from neuface_ray.dataset.storage import OutputError, Store
from neuface_ray.errors import UsageError

FOLDER = "_staged"
_MAGIC = b"NFSTAGE1"
_HEAD_BYTES = 2**16
_SEGMENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,119}")
_NAME = re.compile(rf"{FOLDER}/[^/]+/([A-Za-z0-9][A-Za-z0-9_-]*)\.(committed|deleted|quarantined-(\d{{6}}))")


class Outcome(NamedTuple):
    """What became of a segment; ``attempts`` matters for quarantined ones only."""

    kind: str
    attempts: int = 0

    @property
    def rank(self) -> tuple[int, int]:
        if self.kind == QUARANTINED:
            return (0, self.attempts)
        return ((COMMITTED, DELETED).index(self.kind) + 1, 0)


def shard(segment_id: str) -> str:
    """Two hex digits that spread many segments over 256 folders."""
    return hashlib.sha256(segment_id.encode()).hexdigest()[:2]


def check_segment_id(segment_id: str) -> None:
    """UsageError unless the id can be a file name everywhere."""
    if not _SEGMENT_ID.fullmatch(segment_id):
        raise UsageError(f"segment_id {segment_id!r} must be 1 to 120 letters, digits, '-' or '_' (a hash)")


def staged_name(segment_id: str, outcome: Outcome) -> str:
    """Path within the dataset of a segment's staged file; quarantined ones carry their attempts."""
    suffix = f"{outcome.kind}-{outcome.attempts:06d}" if outcome.kind == QUARANTINED else outcome.kind
    return f"{FOLDER}/{shard(segment_id)}/{segment_id}.{suffix}"


def parse_name(name: str) -> tuple[str, Outcome] | None:
    """(segment_id, outcome) of a staged file's name; None for anything else."""
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    segment_id, kind, attempts = match.groups()
    return segment_id, Outcome(kind) if attempts is None else Outcome(QUARANTINED, int(attempts))


def list_staged(store: Store, segment_id: str | None = None) -> dict[str, Outcome]:
    """Name to outcome of all staged files, or of those of one segment."""
    folder = FOLDER if segment_id is None else f"{FOLDER}/{shard(segment_id)}"
    parsed = {name: parse_name(name) for name in store.names(folder)}
    return {name: found[1] for name, found in parsed.items() if found and segment_id in (None, found[0])}


def encode(segment_id: str, outcome: Outcome, tables: Mapping[str, pa.Table]) -> bytes:
    """The bytes of a staged file."""
    blobs = {name: _to_stream(tables[name]) for name in TABLES if name in tables}
    header = {
        "segment_id": segment_id,
        "outcome": list(outcome),
        "order": segment_order(tables["segments"]),
        "person": tables["segments"]["person"][0].as_py(),
        "sources": sorted(sources_of(tables.get("clips"))),
        "tables": {name: [len(blob), tables[name].num_rows] for name, blob in blobs.items()},
    }
    head = json.dumps(header).encode()
    body = b"".join([_MAGIC, len(head).to_bytes(8, "little"), head, *blobs.values()])
    return body + hashlib.sha256(body).digest()


def decode(data: bytes, name: str) -> tuple[dict, dict[str, pa.Table]]:
    """(header, tables) of a staged file; the hash is checked before anything is parsed.

    Raises OutputError if the bytes are not what was committed.
    """
    content_hash = hashlib.sha256(data[:-32]).digest()
    if len(data) < 48 or data[:8] != _MAGIC or content_hash != data[-32:]:
        raise _damaged(name)
    start = 16 + int.from_bytes(data[8:16], "little")
    header, tables = json.loads(data[16:start]), {}
    for table, (length, _) in header["tables"].items():
        tables[table] = pa.ipc.open_stream(pa.py_buffer(data)[start : start + length]).read_all()
        start += length
    hashes = pa.array([content_hash.hex()] * tables["segments"].num_rows, pa.string())
    position = tables["segments"].schema.get_field_index("content_hash")
    tables["segments"] = tables["segments"].set_column(position, tables["segments"].schema.field(position), hashes)
    return header, tables


def read_staged(store: Store, name: str) -> dict[str, pa.Table]:
    """The tables of a staged file; FileNotFoundError if it was published and removed meanwhile."""
    header, tables = decode(store.read(name), f"{store.root}/{name}")
    if parse_name(name) != (header["segment_id"], Outcome(*header["outcome"])):
        raise OutputError(f"{store.root}/{name} holds segment {header['segment_id']}: the file was renamed or copied")
    return tables


class StagedHead(NamedTuple):
    """What the beginning of a staged file tells: the segment's place among others (``order``) and whose it is."""

    segment_id: str
    order: tuple
    person: str | None
    sources: tuple[str, ...]

    def is_covered(self, deletions: Deletions) -> bool:
        """The list of deletions covers it."""
        return deletions.cover(self.segment_id, self.order[0], self.person, self.sources)


def read_head(store: Store, name: str) -> StagedHead:
    """From the file's beginning alone, unverified; from all of it if it was written before the beginning told the person."""
    try:
        start = store.read(name, _HEAD_BYTES)
        header = json.loads(start[16 : 16 + int.from_bytes(start[8:16], "little")])
        if "person" not in header:
            tables = read_staged(store, name)
            header |= {"person": tables["segments"]["person"][0].as_py(), "sources": sources_of(tables.get("clips"))}
        return StagedHead(header["segment_id"], tuple(header["order"]), header["person"], tuple(header["sources"]))
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(f"{store.root}/{name}") from error


def segment_order(segments: pa.Table) -> tuple:
    """Sorting key of the one segment of this table: recording, then time, then id."""
    row = segments.select(["sequence_id", "start", "segment_id"]).to_pylist()[0]
    return (row["sequence_id"] or "", row["start"] or 0, row["segment_id"])


def _damaged(name: str) -> OutputError:
    return OutputError(
        f"{name} is damaged: its checksum does not match. `python -m neuface_ray.dataset verify DIR --repair` removes it, "
        "and the next run makes the segment again."
    )


def _to_stream(table: pa.Table) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")) as writer:
        writer.write_table(table.combine_chunks())
    return sink.getvalue().to_pybytes()
