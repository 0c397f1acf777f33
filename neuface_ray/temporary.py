"""Temporary data that nobody else can read, replace or redirect, and that is removed even if its owner was killed.

Two kinds of folders lie in the system's temporary folder, each of this user alone (owner and mode are looked at without
following links): one for each **process**, with a name that cannot be guessed, and one for each **run**, which its workers on
this machine share. Whoever uses a folder holds a lock on it, which ends with the process, however that ends. ``sweep`` removes
folders on which there is none; a run's folder only after a day without a change, since a new worker looks there for what a dead
one has left.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import re
import shutil
import stat
import tempfile
import time
from collections.abc import Iterator
from functools import cache

from neuface_ray.errors import NeufaceError

RUN_KEPT_S = 24 * 3600.0
_RUN_NAME = re.compile(r"[\w.-]{0,120}", re.ASCII)
_locks: dict[str, int] = {}


def process_folder(within: str | None = None) -> str:
    """The folder of this process, in the system's temporary folder or ``within`` another; it is removed when the process ends,
    or later by ``sweep``. Its name has at most 39 characters."""
    path = _process_folder(os.getpid(), within or tempfile.gettempdir())
    if os.path.isdir(path):
        return path
    _process_folder.cache_clear()  # somebody tidied up
    return process_folder(within)


def run_folder(run_id: str) -> str:
    """The folder of a run on this machine.

    Raises:
        NeufaceError: there is something of this name that is not a folder of this user alone.
    """
    path = _run_path(run_id)
    while path not in _locks or not os.path.isdir(path):
        with contextlib.suppress(FileExistsError):
            os.mkdir(path, 0o700)
        if not _is_private(path):
            raise NeufaceError(f"{path} is not a folder of this user alone; remove it or set TMPDIR to another folder")
        _lock(path, fcntl.LOCK_SH)
    return path


@contextlib.contextmanager
def temporary_data_of_run(run_id: str) -> Iterator[None]:
    """The driver's part: what earlier runs left behind is removed before the body, and everything of this run after it."""
    sweep()
    path = run_folder(run_id)
    try:
        yield
    finally:
        _unlock(path)
        shutil.rmtree(path, ignore_errors=True)
        sweep()


def sweep(within: str | None = None) -> None:
    """Removes what processes and runs of this user that are gone have left in the system's temporary folder, or ``within``."""
    folder, prefix = within or tempfile.gettempdir(), _prefix()
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if name.startswith(prefix) and path not in _locks and _is_private(path):
            kept_s = RUN_KEPT_S if name.startswith(f"{prefix}run-") else 0.0
            with contextlib.suppress(OSError):
                if time.time() - os.lstat(path).st_mtime >= kept_s:
                    _remove_unless_used(path)


def open_private(path: str, flags: int) -> int:
    """Descriptor of a file of this user alone; a link in its place is refused (OSError)."""
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    if os.fstat(descriptor).st_uid != os.getuid():
        os.close(descriptor)
        raise PermissionError(f"{path} belongs to another user")
    return descriptor


@cache
def _process_folder(pid: int, within: str) -> str:
    sweep(within)
    while True:
        path = tempfile.mkdtemp(prefix=f"{_prefix()}{pid}-", dir=within)
        if _lock(path, fcntl.LOCK_EX):
            break
    atexit.register(_remove_own, path, pid)
    return path


def _remove_own(path: str, pid: int) -> None:
    if os.getpid() == pid:  # and not a process that was forked from the owner
        shutil.rmtree(path, ignore_errors=True)


def _lock(path: str, kind: int) -> bool:
    """Holds a lock on a folder until this process ends; False if the folder was swept before."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    with contextlib.suppress(OSError):  # a file system without locks: others cannot lock it either, and leave it alone
        fcntl.flock(descriptor, kind)
    _unlock(path)
    _locks[path] = descriptor
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    return False


def _unlock(path: str) -> None:
    if path in _locks:
        os.close(_locks.pop(path))


def _remove_unless_used(path: str) -> None:
    """Raises OSError if somebody uses it."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(path, ignore_errors=True)
    finally:
        os.close(descriptor)


def _is_private(path: str) -> bool:
    """Whether this is a folder, not a link to one, of this user alone."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o077


def _prefix() -> str:
    return f"nfray-{os.getuid()}-"


def _run_path(run_id: str) -> str:
    if not _RUN_NAME.fullmatch(run_id):
        raise NeufaceError(f"run id {run_id!r} cannot be the name of a folder")
    return os.path.join(tempfile.gettempdir(), f"{_prefix()}run-{run_id}")
