"""Where a dataset lies: a local or shared POSIX folder, or an object store (``object_store.py``).

POSIX: the bytes are written and fsynced under ``_tmp/``, then ``link`` gives them their name (it fails if the name exists,
on NFS as well), then the folder is fsynced. Who may read them follows the umask of the process: under the usual 022 everybody
on the machine can, under 077 this user alone.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from neuface_ray.dataset.object_store import ObjectStore
from neuface_ray.dataset.store import STALE_TEMPORARY_S, TEMPORARY, OutputError, Store, explained
from neuface_ray.errors import UsageError

_NO_LINK = (errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


class PosixStore(Store):
    """A folder on a file system with atomic ``link`` and working ``fsync`` (local disks, NFS, Lustre, GPFS)."""

    def __init__(self, root: str):
        self.root = os.path.abspath(root)

    def _path(self, name: str) -> str:
        return os.path.join(self.root, *name.split("/"))

    def create(self, name: str, data: bytes) -> bool:
        return self._write(name, data, _link)

    def replace(self, name: str, data: bytes) -> None:
        self._write(name, data, _rename)

    def _write(self, name: str, data: bytes, give_name: Callable[[str, str], bool]) -> bool:
        path = self._path(name)
        with explained(f"writing {name} in {self.root}"):
            for last in (False, False, True):
                with self._temporary(data) as temporary:
                    self._make_folder(os.path.dirname(path))
                    try:
                        written = give_name(temporary, path)
                    except FileNotFoundError:
                        if last or os.path.exists(temporary):
                            raise
                        continue  # a machine whose clock is ahead, on a file system without locks, took it for a leftover
                if written:
                    _sync_folder(os.path.dirname(path))
                break
            return written

    @contextlib.contextmanager
    def _temporary(self, data: bytes) -> Iterator[str]:
        """Path of a durable file with these bytes; while the body runs it is locked, which shows that its writer lives."""
        self._make_folder(self._path(TEMPORARY))
        path = self._path(f"{TEMPORARY}/{uuid.uuid4().hex}")
        try:
            with open(path, "xb") as file:
                with contextlib.suppress(OSError):  # a file system without locks: age alone tells leftovers
                    fcntl.flock(file, fcntl.LOCK_EX)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
                yield path
        finally:
            _unlink(path)

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
        with explained(f"reading {name} in {self.root}"), open(self._path(name), "rb") as file:
            return file.read(length)

    def names(self, folder: str = "") -> list[str]:
        start = self._path(folder) if folder else self.root
        found = []
        with explained(f"listing {start}"):
            for parent, _, files in os.walk(start, onerror=_raise_unless_missing):
                relative = os.path.relpath(parent, self.root).replace(os.sep, "/")
                found += [file if relative == "." else f"{relative}/{file}" for file in files]
        return sorted(found)

    def exists(self, name: str) -> bool:
        return os.path.exists(self._path(name))

    def size(self, name: str) -> int:
        return os.stat(self._path(name)).st_size

    def remove(self, name: str, durably: bool = True) -> bool:
        with explained(f"removing {name} in {self.root}"):
            removed = _unlink(self._path(name))
            if removed and durably:
                _sync_folder(os.path.dirname(self._path(name)))
            return removed

    def remove_all(self, names: Iterable[str]) -> None:
        folders = {os.path.dirname(self._path(name)) for name in names if self.remove(name, durably=False)}
        for folder in sorted(folders):
            _sync_folder(folder)

    def sync(self, folder: str) -> None:
        with explained(f"syncing {folder} in {self.root}"), contextlib.suppress(FileNotFoundError):
            _sync_folder(self._path(folder))

    def move(self, name: str, target: str) -> None:
        path, new = self._path(name), self._path(target)
        with explained(f"moving {name} to {target} in {self.root}"), contextlib.suppress(FileNotFoundError):
            self._make_folder(os.path.dirname(new))
            os.replace(path, new)
            _sync_folder(os.path.dirname(new))
            _sync_folder(os.path.dirname(path))

    def touch(self, name: str) -> None:
        path = self._path(name)
        with explained(f"writing {name} in {self.root}"):
            self._make_folder(os.path.dirname(path))
            open(path, "wb").close()

    def stale_temporaries(self, older_than_s: float = STALE_TEMPORARY_S) -> list[str]:
        names, stale = self.names(TEMPORARY), []
        now = self._now() if names else 0.0
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                path = self._path(name)
                if now - os.stat(path).st_mtime >= older_than_s and not _is_locked(path):
                    stale.append(name)
        return stale

    def _now(self) -> float:
        """By the clock of the file system, which gave the files their times; this machine's may be hours ahead."""
        path = self._path(f"{TEMPORARY}/{uuid.uuid4().hex}")
        try:
            with open(path, "xb") as file:
                return os.fstat(file.fileno()).st_mtime
        except OSError:  # readers may look for leftovers where they cannot write
            return time.time()
        finally:
            _unlink(path)

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


def open_store(path: str | os.PathLike) -> Store:
    """The store for a local path, a ``file://`` or ``local://`` URL, or the URL of an object store that fsspec knows."""
    text = os.fspath(path)
    for scheme in ("file://", "local://"):
        if text.startswith(scheme):
            return PosixStore(text.removeprefix(scheme))
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


def _rename(source: str, target: str) -> bool:
    os.replace(source, target)
    return True


def _is_locked(path: str) -> bool:
    """Whether the writer of this file lives; False also where there are no locks."""
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return False


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
