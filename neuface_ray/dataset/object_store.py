"""A dataset in an object store, reached through fsspec; each name is one conditional put (``If-None-Match: *``)."""

from __future__ import annotations

import contextlib
import uuid
from functools import cached_property
from typing import Any

from neuface_ray.dataset.store import STALE_TEMPORARY_S, TEMPORARY, OutputError, Store, explained
from neuface_ray.errors import UsageError
from neuface_ray.extras import check_scheme
from neuface_ray.uri import SourceUri, has_credentials


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
                self._located[0].pipe_file(self._path(name), data, mode="create")
            except FileExistsError:
                # A request that was repeated because its answer got lost finds the bytes that it wrote.
                return self.read(name) == data
            return True

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

    def remove(self, name: str) -> bool:
        with self._explained(f"removing {name}"):
            try:
                self._located[0].rm_file(self._path(name))
            except FileNotFoundError:
                return False
            return True

    def touch(self, name: str) -> None:
        self.replace(name, b"\n")

    def stale_temporaries(self, older_than_s: float = STALE_TEMPORARY_S) -> list[str]:
        return []

    def arrow(self, name: str) -> tuple[str, Any]:
        from pyarrow import fs

        return self._path(name), fs.PyFileSystem(fs.FSSpecHandler(self._located[0]))

    def open_for_writing(self) -> None:
        probe = f"{TEMPORARY}/{uuid.uuid4().hex}"
        try:
            exclusive = self.create(probe, b"first") and not self.create(probe, b"second")
            self.remove(probe)
        except OutputError as error:
            raise UsageError(f"output={self.root} cannot be written: {error}") from error
        if not exclusive:
            raise UsageError(
                f"output={self.root}: this store overwrites where it should refuse (no conditional put), so that "
                "two workers could commit the same segment. Write to a folder, or to a store whose fsspec package supports "
                "mode='create'."
            )
