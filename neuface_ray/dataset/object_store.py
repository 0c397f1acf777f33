"""A dataset in an object store, reached through fsspec; each name is one conditional put (``If-None-Match: *``).

fsspec's own ``pipe_file(mode="create")`` looks whether the name is free and then writes: two creators can both win, so it is no
promise. Accepted are the stores of ``CONDITIONAL_WRITES`` and packages that make the exclusive create themselves; and each must
stand a race of creators whenever a dataset is opened for writing.
"""

from __future__ import annotations

import contextlib
import inspect
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

from neuface_ray.dataset.store import STALE_TEMPORARY_S, TEMPORARY, OutputError, Store, explained
from neuface_ray.errors import UsageError
from neuface_ray.extras import check_scheme
from neuface_ray.uri import SourceUri, has_credentials

CONDITIONAL_WRITES = {
    "s3": "tested against an emulation of S3",
    "s3a": "the same",
    "gs": "by the code of gcsfs 2026.10 (ifGenerationMatch=0), never run here",
    "gcs": "the same",
    "az": "by the code of adlfs 2026.8 (If-None-Match), never run here",
    "abfs": "the same",
    "abfss": "the same",
    "memory": "tested; one process, under a lock",
}
"""Schemes whose fsspec package passes the condition on to the service, and how that is known."""
RACERS, RACES = 6, 2
CONFLICTS = 5
"""How often a put is repeated that the service refused because another one was under way (409), as S3 asks for."""
_MEMORY = threading.Lock()


class ObjectStore(Store):
    """A prefix in an object store (``s3://``, ``gs://``, ``az://``, ``memory://``) through its fsspec implementation.

    ``root`` shows no credentials, and opens the store again with them (see :class:`neuface_ray.uri.SourceUri`).
    """

    root: SourceUri

    def __init__(self, url: str):
        self.root = SourceUri(getattr(url, "address", url).rstrip("/"))

    @cached_property
    def _located(self) -> tuple[Any, str]:
        import fsspec

        check_scheme(self.root)
        filesystem, prefix = fsspec.core.url_to_fs(self.root.address, use_listings_cache=False)
        return filesystem, prefix.rstrip("/")

    def __getstate__(self) -> dict:
        return {"root": self.root}

    def _path(self, name: str) -> str:
        return f"{self._located[1]}/{name}"

    def _explained(self, doing: str) -> contextlib.AbstractContextManager[None]:
        return explained(f"{doing} in {self.root}", secret=has_credentials(self.root))

    def create(self, name: str, data: bytes) -> bool:
        with self._explained(f"writing {name}"):
            try:
                self._put_if_absent(self._path(name), data)
            except FileExistsError:
                # A request that was repeated because its answer got lost finds the bytes that it wrote.
                return self.read(name) == data
            return True

    def _put_if_absent(self, path: str, data: bytes) -> None:
        with _MEMORY if self._scheme == "memory" else contextlib.nullcontext():
            for wait_s in (0.1 * 2**number for number in range(CONFLICTS)):
                try:
                    return self._located[0].pipe_file(path, data, mode="create")
                except OSError as error:
                    if not _is_conflict(error):
                        raise
                time.sleep(wait_s)
            return self._located[0].pipe_file(path, data, mode="create")

    @property
    def _scheme(self) -> str:
        return self.root.partition("://")[0]

    def replace(self, name: str, data: bytes) -> None:
        with self._explained(f"writing {name}"):
            self._located[0].pipe_file(self._path(name), data)

    def read(self, name: str, length: int | None = None) -> bytes:
        with self._explained(f"reading {name}"):
            return self._located[0].cat_file(self._path(name), start=None if length is None else 0, end=length)

    def names(self, folder: str = "") -> list[str]:
        filesystem, prefix = self._located
        with self._explained(f"listing {folder or '/'}"):
            filesystem.invalidate_cache()
            found = filesystem.find(f"{prefix}/{folder}".rstrip("/"))
        start = len(prefix.lstrip("/")) + 1
        return sorted(path.lstrip("/")[start:] for path in found)

    def exists(self, name: str) -> bool:
        filesystem = self._located[0]
        filesystem.invalidate_cache()
        return filesystem.exists(self._path(name))

    def size(self, name: str) -> int:
        return self._located[0].size(self._path(name))

    def remove(self, name: str, durably: bool = True) -> bool:
        with self._explained(f"removing {name}"):
            try:
                self._located[0].rm_file(self._path(name))
            except FileNotFoundError:
                return False
            return True

    def move(self, name: str, target: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            self.replace(target, self.read(name))
            self.remove(name)

    def touch(self, name: str) -> None:
        self.replace(name, b"\n")

    def stale_temporaries(self, older_than_s: float = STALE_TEMPORARY_S) -> list[str]:
        filesystem, now, stale = self._located[0], datetime.now(UTC), []
        for name in self.names(TEMPORARY):
            with contextlib.suppress(FileNotFoundError):
                if (now - filesystem.modified(self._path(name))).total_seconds() >= older_than_s:
                    stale.append(name)
        return stale

    def end_abandoned_uploads(self, older_than_s: float = STALE_TEMPORARY_S) -> None:
        """End uploads in parts that writers of this dataset began and, being killed, never ended; unseen, they are paid for.

        On S3 only; Google's and Azure's end by themselves after a week. Without the right to list uploads nothing is ended.
        """
        filesystem, prefix = self._located
        if self._scheme not in ("s3", "s3a"):
            return
        bucket, _, key = prefix.partition("/")
        with contextlib.suppress(OSError):
            found = filesystem.call_s3("list_multipart_uploads", Bucket=bucket, Prefix=f"{key}/" if key else "")
            now = datetime.now(UTC)
            for upload in found.get("Uploads", ()):
                if (now - upload["Initiated"]).total_seconds() >= older_than_s:
                    filesystem.abort_mpu(bucket, upload["Key"], upload["UploadId"])

    def arrow(self, name: str) -> tuple[str, Any]:
        from pyarrow import fs

        return self._path(name), fs.PyFileSystem(fs.FSSpecHandler(self._located[0]))

    def open_for_writing(self) -> None:
        try:
            exclusive = self._creates_exclusively() and all(self._race() for _ in range(RACES))
        except OutputError as error:
            raise UsageError(f"output={self.root} cannot be written: {error}") from error
        if not exclusive:
            known = ", ".join(f"{scheme}://" for scheme in CONDITIONAL_WRITES)
            raise UsageError(
                f"output={self.root}: this store overwrites where it should refuse (no conditional put), so that two workers "
                f"could commit the same segment. Write to a folder, or to one of {known}"
            )
        self.end_abandoned_uploads()

    def _creates_exclusively(self) -> bool:
        """Whether the fsspec package makes the exclusive create itself instead of inheriting the one that looks and writes."""
        makers = (vars(kind).get(name) for kind in type(self._located[0]).__mro__ for name in ("_pipe_file", "pipe_file"))
        first = next(maker for maker in makers if maker is not None)
        overridden = first.__module__ not in ("fsspec.spec", "fsspec.asyn") and "mode" in inspect.signature(first).parameters
        return self._scheme in CONDITIONAL_WRITES or overridden

    def _race(self) -> bool:
        """Whether of several creators at once exactly one wins, and its bytes stay, also when one more comes later."""
        name, start = f"{TEMPORARY}/{uuid.uuid4().hex}", threading.Barrier(RACERS)

        def create(data: bytes) -> bool:
            start.wait()
            return self.create(name, data)

        try:
            with ThreadPoolExecutor(RACERS) as pool:
                entries = [b"%d" % number for number in range(RACERS)]
                winners = [data for data, won in zip(entries, pool.map(create, entries), strict=True) if won]
            return len(winners) == 1 and not self.create(name, b"late") and self.read(name) == winners[0]
        finally:
            self.remove(name)


def _is_conflict(error: OSError) -> bool:
    """Whether S3 refused a conditional put because it had not decided on another one of the same name."""
    response = getattr(error.__cause__, "response", None) or {}
    return response.get("Error", {}).get("Code") == "ConditionalRequestConflict"
