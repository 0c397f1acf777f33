"""The list of what must not be in the dataset: persons, recordings, segments and sources, for ever.

``_deleted/ID.a.json`` and its copy ``_deleted/ID.b.json`` hold a key and keyed hashes; ``ID`` is the beginning of the sha256 of
the file. Files are only ever added. Four kinds of things are listed: ``person`` and ``sequence_id`` (what was asked for, before
anything else is done), then ``segment_id`` and ``source_hash`` (sha256 of the videos) of what was found to belong to them.

The hashes keep names from being read in the list, searched for with a table made beforehand, or compared between datasets. They
do not keep somebody who has the list from trying names: the key lies beside the hashes, because every worker needs it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache

import pyarrow as pa

from neuface_ray.dataset.schema import DELETED
from neuface_ray.dataset.storage import OutputError, Store
from neuface_ray.types import Segment
from neuface_ray.uri import redact_text, valid_text

FOLDER = "_deleted"
PERSON, SEQUENCE, SEGMENT, SOURCE = "person", "sequence_id", "segment_id", "source_hash"
COPIES = ("a", "b")
_NAME = re.compile(rf"{FOLDER}/([0-9a-f]{{32}})\.([ab])\.json")


@dataclass(frozen=True)
class Deletions:
    """The list as it was read: ``names`` of its files, and the hashes by key. False if nothing is listed."""

    names: frozenset[str] = frozenset()
    hashes: dict[bytes, frozenset[str]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.names)

    def lists(self, kind: str, value: str | None) -> bool:
        """This person, sequence_id, segment_id or source_hash is listed."""
        return value is not None and any(_hash(key, kind, value) in hashes for key, hashes in self.hashes.items())

    def cover(
        self, segment_id: str, sequence_id: str | None = None, person: str | None = None, sources: Iterable[str] = ()
    ) -> bool:
        """Rows of this segment must not be in the dataset."""
        return bool(self.hashes) and (
            self.lists(PERSON, person)
            or self.lists(SEQUENCE, sequence_id)
            or self.lists(SEGMENT, segment_id)
            or any(self.lists(SOURCE, source) for source in sources)
        )

    def cover_segment(self, segment: Segment, sources: Iterable[str] = ()) -> bool:
        """The same of a planned segment; ``sources`` once their bytes are known."""
        return self.cover(segment.segment_id, redact_text(segment.sequence_id), segment.person, sources)

    def cover_tables(self, tables: dict[str, pa.Table]) -> bool:
        """The same of the tables of one segment."""
        row = tables["segments"].select(["segment_id", "sequence_id", "person", "outcome"]).to_pylist()[0]
        return row.pop("outcome") != DELETED and self.cover(**row, sources=sources_of(tables.get("clips")))


def sources_of(clips: pa.Table | None) -> set[str]:
    """sha256 of the videos of which these rows of ``clips`` were made."""
    return set() if clips is None else {one for each in clips["source_hashes"].to_pylist() for one in each or ()}


def read_deletions(store: Store) -> Deletions:
    """The list as it is now. Raises OutputError if both copies of a file are damaged: then nothing may be shown or written."""
    copies = list_copies(store)
    hashes: dict[bytes, frozenset[str]] = {}
    for name in copies:
        key, found = _read(store, name)
        hashes[key] = hashes.get(key, frozenset()) | found
    return Deletions(frozenset(copies), hashes)


def list_copies(store: Store) -> dict[str, list[str]]:
    """Paths of the copies of each file of the list, by its name."""
    copies: dict[str, list[str]] = {}
    for path in store.names(FOLDER):
        if match := _NAME.fullmatch(path):
            copies.setdefault(match.group(1), []).append(path)
    return copies


def list_deletions(store: Store, entries: Iterable[tuple[str, str]]) -> str | None:
    """Add (kind, value) pairs to the list, durably; those that are listed already are left out. The new file's name, if any."""
    known = read_deletions(store)
    new = [(kind, value) for kind, value in entries if not known.lists(kind, value)]
    if not new:
        return None
    key = min(known.hashes, default=None) or os.urandom(32)
    hashes = sorted({_hash(key, kind, value) for kind, value in new})
    return put_file(store, json.dumps({"key": key.hex(), "hashes": hashes}).encode())


def put_file(store: Store, data: bytes) -> str:
    """Write a file of the list with its copy; nothing changes if they are there. Its name."""
    name = _name(data)
    for copy in COPIES:
        store.create(f"{FOLDER}/{name}.{copy}.json", data)
    return name


def share_deletions(source: Store, target: Store) -> None:
    """Add what ``source`` lists to the list of ``target``."""
    there = list_copies(target)
    for name in list_copies(source):
        if len(there.get(name, ())) < len(COPIES):
            put_file(target, intact_copy(source, name))


def intact_copy(store: Store, name: str) -> bytes:
    """The bytes of a file of the list. Raises OutputError if no copy holds what was written."""
    for copy in COPIES:
        with contextlib.suppress(FileNotFoundError):
            data = store.read(f"{FOLDER}/{name}.{copy}.json")
            if _name(data) == name:
                return data
    raise OutputError(
        f"{store.root}/{FOLDER}/{name}: both copies are damaged, so that it is not known who was deleted; restore one of them"
    )


def mend_copies(store: Store, name: str) -> None:
    """Write the copies of a file of the list that are missing or damaged again from the one that is not."""
    data = intact_copy(store, name)
    for path in harmed_copies(store, name):
        store.replace(path, data)


def complete_copies(store: Store) -> None:
    """Write the copies that are missing since somebody died between the two."""
    for name, paths in list_copies(store).items():
        if len(paths) < len(COPIES):
            mend_copies(store, name)


def harmed_copies(store: Store, name: str) -> list[str]:
    """Paths of the copies of a file of the list that are missing or damaged."""
    harmed = []
    for path in (f"{FOLDER}/{name}.{copy}.json" for copy in COPIES):
        try:
            if _name(store.read(path)) != name:
                harmed.append(path)
        except FileNotFoundError:
            harmed.append(path)
    return harmed


@lru_cache(maxsize=1024)
def _read(store: Store, name: str) -> tuple[bytes, frozenset[str]]:
    content = json.loads(intact_copy(store, name))
    return bytes.fromhex(content["key"]), frozenset(content["hashes"])


def _name(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


@lru_cache(maxsize=2**16)
def _hash(key: bytes, kind: str, value: str) -> str:
    """Unicode's composed form: one name may be written in several ways, and file systems change them."""
    text = unicodedata.normalize("NFC", valid_text(value))
    return hashlib.blake2b(f"{kind}\0{text}".encode(), key=key, digest_size=16).hexdigest()
