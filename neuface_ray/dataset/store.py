"""What a dataset needs of the place where it lies: six operations and two promises, kept by every ``Store``.

The operations: ``create``, ``replace``, ``read``, ``names``, ``exists``, ``remove``. The promises: a name is either absent or
holds all of its bytes (never a part), and of any number of simultaneous ``create`` calls for one name exactly one returns True.
When a write returns, the bytes are durable.
"""

from __future__ import annotations

import contextlib
import errno
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

from neuface_ray.errors import NeufaceError
from neuface_ray.uri import redact_text

TEMPORARY = "_tmp"
STALE_TEMPORARY_S = 6 * 3600.0


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
    def remove(self, name: str, durably: bool = True) -> bool:
        """Remove ``name``; False if it was already gone. ``durably``: it cannot come back when power fails."""

    def remove_all(self, names: Iterable[str]) -> None:
        """Remove all of these durably."""
        for name in names:
            self.remove(name)

    def sync(self, folder: str) -> None:  # noqa: B027  (object stores keep what they have answered)
        """What was removed from the folder before cannot come back when power fails."""

    @abstractmethod
    def move(self, name: str, target: str) -> None:
        """Give ``name`` the new name ``target``; nothing happens if it was already gone."""

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


@contextlib.contextmanager
def explained(doing: str, secret: bool = False) -> Iterator[None]:
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
