"""Deleting a person or a recording from a dataset, for ever."""

from __future__ import annotations

from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq

from neuface_ray.dataset.deleted import PERSON, SEQUENCE, Deletions, complete_copies, list_deletions, read_deletions
from neuface_ray.dataset.descriptor import read_descriptor
from neuface_ray.dataset.finalise import describe
from neuface_ray.dataset.publish import collect, publish
from neuface_ray.dataset.schema import TABLES
from neuface_ray.dataset.snapshot import DatasetView, read_parquet, read_view
from neuface_ray.dataset.staged import decode, read_staged
from neuface_ray.dataset.storage import TEMPORARY, OutputError, Store, open_store
from neuface_ray.dataset.trash import FOLDER as TRASH
from neuface_ray.dataset.versions import existing_versions
from neuface_ray.errors import UsageError

_IDENTITY = ["segment_id", "sequence_id", "person"]


def delete(path: str | Store, **match: str) -> dict[str, int]:
    """Delete a person (``person="anna"``) or a recording (``sequence_id=...``) from every version, table, file and staged
    commit of a dataset, and keep them out.

    In this order: the list of deletions gets the name (from here on no reader shows the rows and no worker adds any), in all
    versions; then each version's files are written anew without the rows, and ``report/``, ``run.json``, and what temporary
    files and the trash hold of them are removed. Killed anywhere and repeated it ends the same. Nobody of that name needs to be
    there: those who are not yet annotated are kept out too.

    What is kept out later: the person and the recording of that name; the same segments (same recording, URIs and range) also
    without a name; and the same video files (sha256) under any path and name, unless other persons or recordings in the dataset
    are made of them. Not recognised: the person in another recording under another name or none, or in a copy of the video with
    other bytes. Names are compared letter by letter in Unicode's composed form.

    Returns the deleted rows per table. Raises UsageError if there is no dataset or the key is not one of the two, OutputError
    if a file is damaged; what was listed stays listed then, and after ``verify --repair`` the deletion is to be repeated.
    """
    store = path if isinstance(path, Store) else open_store(path)
    if len(match) != 1 or not set(match) <= {PERSON, SEQUENCE}:
        raise UsageError("name whom to delete: person=NAME or sequence_id=NAME")
    read_descriptor(store)
    for version in existing_versions(store.root):
        list_deletions(version, match.items())
    deleted: Counter[str] = Counter(dict.fromkeys(TABLES, 0))
    for version in existing_versions(store.root):  # again: one may have been begun before the first of them knew
        list_deletions(version, match.items())
        deleted += _erase(version)
    return {name: deleted[name] for name in TABLES}


def _erase(store: Store) -> Counter[str]:
    """Obey the list of deletions in one version; rows per table that were there."""
    complete_copies(store)
    deleted = _count_rows(store, read_view(store))
    try:
        publish(store)
    except OutputError:
        if not read_view(store).obeys_deletions:  # else the others who were faster have obeyed
            raise
        collect(store, read_view(store))
    describe(store)
    store.remove_all([*store.names("report"), "run.json"])
    purge_remains(store)
    return deleted


def _count_rows(store: Store, view: DatasetView) -> Counter[str]:
    """Rows that the list covers and that are still in files, per table."""
    columns = ["segment_id", "outcome", "n_frames", "n_clips", "n_vertices"]
    rows = []
    for part in view.snapshot.parts:
        if theirs := view.erased.get(part.name):
            table = read_parquet(store, part.files["segments"].path, columns)
            rows += [row for row in table.to_pylist() if row["segment_id"] in theirs]
    for name in view.staged if view.deletions else ():
        tables = read_staged(store, name)
        if view.deletions.cover_tables(tables):
            rows += tables["segments"].select(columns).to_pylist()
    counts = Counter(segments=len(rows), quarantine=sum(row["outcome"] == "quarantined" for row in rows))
    return counts + Counter({name: sum(row[f"n_{name}"] for row in rows) for name in ("frames", "clips", "vertices")})


def purge_remains(store: Store) -> None:
    """Remove what temporary files and the trash hold of those who are listed as deleted, and what cannot be read there.

    A writer at work whose bytes are swept away here writes them again.
    """
    deletions = read_deletions(store)
    if not deletions:
        return
    remains = [*store.names(TEMPORARY), *(name for name in store.names(TRASH) if "/_snapshots/" not in name)]
    store.remove_all(name for name in remains if _may_show(store, name, deletions))
    store.sync(TEMPORARY)  # writers do not sync the removal of their own temporary files


def _may_show(store: Store, name: str, deletions: Deletions) -> bool:
    try:
        data = store.read(name)
        if data[:4] == b"PAR1":
            file = pq.ParquetFile(pa.BufferReader(data))
            return any(deletions.cover(**row) for row in file.read(_IDENTITY).group_by(_IDENTITY).aggregate([]).to_pylist())
        return deletions.cover_tables(decode(data, name)[1])
    except FileNotFoundError:
        return False
    except (OutputError, pa.ArrowException, OSError):
        return True
