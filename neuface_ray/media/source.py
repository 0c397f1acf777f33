"""Opens media: local paths and fsspec URIs through one door, with limits, and without credentials in its messages."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from typing import BinaryIO
from urllib.parse import urlsplit

import fsspec

from neuface_ray.errors import DataError
from neuface_ray.extras import check_scheme
from neuface_ray.temporary import open_private, process_folder
from neuface_ray.uri import is_remote, local_path

COPY_BYTES = 1 << 20


@contextlib.contextmanager
def open_local(uri: str, max_bytes: int) -> Iterator[str]:
    """Path of a regular local file with the content of ``uri``; a remote one is fetched and removed again.

    Where the system allows it (Linux), the bytes of a fetched file have no name: what has the path is a link to the open file.
    So they are gone when the process ends, even if it is killed.

    Raises:
        DataError: ``not_found``, ``permission``, ``not_a_file``, ``empty``, ``too_large`` or ``unreachable``.
        UsageError: the package that reaches such URIs is not installed.
    """
    if not is_remote(uri):
        path = local_path(uri)
        _check_file(path, uri, max_bytes)
        yield path
        return
    suffix = os.path.splitext(urlsplit(uri).path)[1][:10]
    with tempfile.TemporaryDirectory(dir=process_folder()) as folder:
        path = os.path.join(folder, "media" + suffix)
        with open(open_private(path, os.O_RDWR | os.O_CREAT | os.O_EXCL), "wb") as file:
            _take_name_away(path, file.fileno())
            _fetch(getattr(uri, "address", uri), file, uri, max_bytes)
            file.flush()
            yield path


def _take_name_away(path: str, descriptor: int) -> None:
    opened = f"/proc/{os.getpid()}/fd/{descriptor}"
    if os.path.exists(opened):
        os.unlink(path)
        os.symlink(opened, path)


def _check_file(path: str, uri: str, max_bytes: int) -> None:
    try:
        size = os.stat(path).st_size
        if os.path.isdir(path):
            raise DataError(f"{uri}: is a folder, not a media file", code="not_a_file")
        if not os.path.isfile(path):
            raise DataError(f"{uri}: is not a regular file", code="not_a_file")
        with open(path, "rb"):
            pass
    except (FileNotFoundError, NotADirectoryError) as error:
        kind = "is a dangling link" if os.path.islink(path) else "does not exist"
        raise DataError(f"{uri}: {kind}", code="not_found") from error
    except PermissionError as error:
        raise DataError(f"{uri}: permission denied", code="permission") from error
    except OSError as error:
        raise DataError(f"{uri}: cannot be read: {error.strerror}", code="unreachable") from error
    _check_size(size, uri, max_bytes)


def _check_size(size: int, uri: str, max_bytes: int) -> None:
    if size == 0:
        raise DataError(f"{uri}: the file is empty", code="empty")
    if size > max_bytes:
        raise DataError(f"{uri}: more than media.limits.max_file_bytes={max_bytes} bytes", code="too_large")


def _fetch(address: str, local: BinaryIO, shown: str, max_bytes: int) -> None:
    """Copies a remote file with a byte limit; messages of the transport may hold the address and are not repeated."""
    check_scheme(shown)
    try:
        with fsspec.open(address, "rb") as remote:
            size = 0
            while block := remote.read(COPY_BYTES):
                size += len(block)
                if size > max_bytes:
                    break
                local.write(block)
    except FileNotFoundError:
        raise DataError(f"{shown}: does not exist", code="not_found") from None
    except PermissionError:
        raise DataError(f"{shown}: permission denied", code="permission") from None
    except Exception as error:  # each fsspec backend raises errors of its own, whose text may hold the credentials
        raise DataError(f"{shown}: cannot be fetched ({type(error).__name__})", code="unreachable") from None
    _check_size(size, shown, max_bytes)
