"""Where a dataset lies: a local or shared POSIX folder, or an object store reached through fsspec.

Everything above this module needs six operations and two promises. The operations: ``create``, ``replace``, ``read``,
``names``, ``exists``, ``remove``. The promises: a name is either absent or holds all of its bytes (never a part), and of any
number of simultaneous ``create`` calls for one name exactly one returns True. When a write returns, the bytes are durable.

POSIX: the bytes are written and fsynced under ``_tmp/``, then ``link`` gives them their name (it fails if the name exists,
on NFS as well), then the folder is fsynced. Object stores: one conditional put (``If-None-Match: *``).
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import cached_property
from typing import Any

from neuface_ray.errors import NeufaceError, UsageError
from neuface_ray.extras import check_scheme
from neuface_ray.uri import SourceUri, has_credentials, redact_text

TEMPORARY = "_tmp"
STALE_TEMPORARY_S = 6 * 3600.0
_NO_LINK = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class OutputError(NeufaceError):
    """The dataset cannot be written or read as it is (disk full, no permission, damaged file); the run must stop."""

    code = "output"


class Store(ABC):
    """The files of one dataset, named by paths relative to its root with ``/`` between the parts."""

    root: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Store) and self.root == other.root

    def __hash__(self) -> int:
        return hash(self.root)

    @abstractmethod
    def create(self, name: str, data: bytes) -> bool:
        """Write ``data`` under ``name`` unless it exists; True for the one call that did."""

    @abstractmethod
    def replace(self, name: str, data: bytes) -> None:
        """Write ``data`` under ``name`` atomically, whether it exists or not."""

    @abstractmethod
    def read(self, name: str, length: int | None = None) -> bytes:
        """The bytes of ``name``, or only the first ``length``; FileNotFoundError if absent."""

    @abstractmethod
    def names(self, folder: str = "") -> list[str]:
        """All file names below ``folder``, relative to the root, sorted; empty if the folder does not exist."""

    @abstractmethod
    def exists(self, name: str) -> bool: ...

    @abstractmethod
    def size(self, name: str) -> int:
        """Size in bytes; FileNotFoundError if absent."""

    @abstractmethod
    def remove(self, name: str) -> bool:
        """Remove ``name``; False if it was already gone."""

    @abstractmethod
    def touch(self, name: str) -> None:
        """Make an empty marker; it survives the death of the process, not necessarily of the machine."""

    @abstractmethod
    def stale_temporaries(self, older_than_s: float = STALE_TEMPORARY_S) -> list[str]:
        """Leftovers of writers that died before naming their file."""

    @abstractmethod
    def arrow(self, name: str) -> tuple[str, Any]:
        """(path, filesystem) with which pyarrow opens ``name``."""

    @abstractmethod
    def open_for_writing(self) -> None:
        """Check that the promises can be kept here; UsageError otherwise."""


class PosixStore(Store):
    """A folder on a file system with atomic ``link`` and working ``fsync`` (local disks, NFS, Lustre, GPFS)."""

    def __init__(self, root: str):
        self.root = os.path.abspath(root)

    def _path(self, name: str) -> str:
        return os.path.join(self.root, *name.split("/"))

    def create(self, name: str, data: bytes) -> bool:
        with _explained(f"writing {name} in {self.root}"):
            temporary, path = self._write_temporary(data), self._path(name)
            try:
                self._make_folder(os.path.dirname(path))
                created = _link(temporary, path)
            finally:
                _unlink(temporary)
            if created:
                _sync_folder(os.path.dirname(path))
            return created

    def replace(self, name: str, data: bytes) -> None:
        with _explained(f"writing {name} in {self.root}"):
            temporary, path = self._write_temporary(data), self._path(name)
            try:
                self._make_folder(os.path.dirname(path))
                os.replace(temporary, path)
            except OSError:
                _unlink(temporary)
                raise
            _sync_folder(os.path.dirname(path))

    def _write_temporary(self, data: bytes) -> str:
        self._make_folder(self._path(TEMPORARY))
        path = self._path(f"{TEMPORARY}/{uuid.uuid4().hex}")
        try:
            with open(path, "xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            _unlink(path)
            raise
        return path

    def _make_folder(self, folder: str) -> None:
        missing = []
        while not os.path.isdir(folder):
            missing.append(folder)
            folder = os.path.dirname(folder)
        for path in reversed(missing):
            with contextlib.suppress(FileExistsError):
                os.mkdir(path)
            _sync_folder(os.path.dirname(path))

    def read(self, name: str, length: int | None = None) -> bytes:
        with _explained(f"reading {name} in {self.root}"), open(self._path(name), "rb") as file:
            return file.read(length)

    def names(self, folder: str = "") -> list[str]:
        start = self._path(folder) if folder else self.root
        found = []
        with _explained(f"listing {start}"):
            for parent, _, files in os.walk(start, onerror=_raise_unless_missing):
                relative = os.path.relpath(parent, self.root).replace(os.sep, "/")
                found += [file if relative == "." else f"{relative}/{file}" for file in files]
        return sorted(found)

    def exists(self, name: str) -> bool:
        return os.path.exists(self._path(name))

    def size(self, name: str) -> int:
        return os.stat(self._path(name)).st_size

    def remove(self, name: str) -> bool:
        with _explained(f"removing {name} in {self.root}"):
            return _unlink(self._path(name))

    def touch(self, name: str) -> None:
        path = self._path(name)
        with _explained(f"writing {name} in {self.root}"):
            self._make_folder(os.path.dirname(path))
            open(path, "wb").close()

    def stale_temporaries(self, older_than_s: float = STALE_TEMPORARY_S) -> list[str]:
        now, stale = time.time(), []
        for name in self.names(TEMPORARY):
            with contextlib.suppress(FileNotFoundError):
                if now - os.stat(self._path(name)).st_mtime >= older_than_s:
                    stale.append(name)
        return stale

    def arrow(self, name: str) -> tuple[str, Any]:
        from pyarrow import fs

        return self._path(name), fs.LocalFileSystem()

    def open_for_writing(self) -> None:
        try:
            probe = f"{TEMPORARY}/{uuid.uuid4().hex}"
            self.create(probe, b"")
            self.remove(probe)
        except (OutputError, FileNotFoundError) as error:
            cause = error.__cause__ or error
            reason = getattr(cause, "strerror", None) or cause
            raise UsageError(f"output={self.root} cannot be written: {reason}; choose another folder") from error


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
        return _explained(f"{doing} in {self.root}", secret=has_credentials(self.root))

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


def open_store(path: str | os.PathLike) -> Store:
    """The store for a local path, a ``file://`` URL or any URL that fsspec knows."""
    text = os.fspath(path)
    if text.startswith("file://"):
        return PosixStore(text.removeprefix("file://"))
    return ObjectStore(text) if "://" in text else PosixStore(text)


def _link(source: str, target: str) -> bool:
    """Give ``source`` a second name unless it is taken; True when ``target`` is now this very file."""
    try:
        os.link(source, target)
    except OSError as error:
        # A repeated NFS request reports an error although the first one succeeded: the link count tells the truth.
        if os.stat(source).st_nlink == 2:
            return True
        if error.errno == errno.EEXIST:
            return False
        if error.errno in _NO_LINK:
            message = "this file system has no hard links, with which commits are made; choose another folder"
            raise OSError(error.errno, message) from error
        raise
    return True


def _unlink(path: str) -> bool:
    try:
        os.unlink(path)
    except FileNotFoundError:
        return False
    return True


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


@contextlib.contextmanager
def _explained(doing: str, secret: bool = False) -> Iterator[None]:
    """Turn what the file system or object store refuses into an OutputError; a missing file stays FileNotFoundError.

    Args:
        secret: the store's address holds credentials; its own words, which may repeat them, are left out.
    """
    try:
        yield
    except NeufaceError:
        raise
    except FileNotFoundError:
        if secret:
            raise FileNotFoundError(errno.ENOENT, f"{doing} failed: no such file") from None
        raise
    except Exception as error:
        if secret:
            raise OutputError(f"{doing} failed: {type(error).__name__}. What was committed before is intact.") from None
        reason = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the quota is used up", errno.EROFS: "it is read-only"}
        cause = reason.get(getattr(error, "errno", None), redact_text(f"{type(error).__name__}: {error}"))
        raise OutputError(f"{doing} failed: {cause}. What was committed before is intact.") from error
