"""Where media lie: local paths and fsspec URIs, opened through one door, with credentials kept out of sight."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import parse_qsl, quote_from_bytes, unquote_to_bytes, urlencode, urlsplit

import fsspec

from neuface_ray.errors import DataError

SECRET_WORDS = ("sig", "token", "secret", "password", "passwd", "credential", "key", "auth", "signature", "sas", "session")
REMOTE_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
COPY_BYTES = 1 << 20


class SourceUri(str):
    """A URI without its credentials that remembers how it is opened.

    As text (printed, logged, compared, hashed, written as JSON or Parquet) it is the sanitised URI; ``address`` is what was
    given and survives pickling. A copy made from the text alone has no credentials and cannot be opened with them.
    """

    address: str

    def __new__(cls, address: str) -> SourceUri:
        uri = super().__new__(cls, sanitise_uri(address))
        uri.address = getattr(address, "address", address)
        return uri

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return SourceUri, (self.address,)


def sanitise_uri(uri: str) -> str:
    """``uri`` without user name, password and secret query parameters; local paths are returned as they are."""
    if not is_remote(uri):
        return str(uri)
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    query = urlencode([(k, v) for k, v in parse_qsl(parts.query, keep_blank_values=True) if not _is_secret(k)])
    return f"{parts.scheme}://{host}{parts.path}" + (f"?{query}" if query else "")


def is_remote(uri: str) -> bool:
    """True for URIs with a scheme other than ``file``, such as ``s3://`` or ``https://``."""
    scheme = REMOTE_SCHEME.match(str(uri))
    return scheme is not None and scheme[1] != "file"


def local_path(uri: str) -> str:
    """The path of a local URI. Names that are not UTF-8 travel as ``file://`` URIs with percent-encoded bytes."""
    if uri.startswith("file://"):
        return os.fsdecode(unquote_to_bytes(uri.removeprefix("file://")))
    return str(uri)


def local_uri(path: str) -> str:
    """The text that names a local file in plans and datasets: its absolute path, or a ``file://`` URI (see local_path)."""
    path = os.path.abspath(path)
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return "file://" + quote_from_bytes(os.fsencode(path))
    return path


@contextlib.contextmanager
def open_local(uri: str, max_bytes: int) -> Iterator[str]:
    """Path of a regular local file with the content of ``uri``; a remote one is fetched and removed again.

    Raises:
        DataError: ``not_found``, ``permission``, ``not_a_file``, ``empty``, ``too_large`` or ``unreachable``.
    """
    if not is_remote(uri):
        path = local_path(uri)
        _check_file(path, uri, max_bytes)
        yield path
        return
    suffix = os.path.splitext(urlsplit(uri).path)[1][:10]
    with tempfile.TemporaryDirectory(prefix="neuface-") as folder:
        path = os.path.join(folder, "media" + suffix)
        _fetch(getattr(uri, "address", uri), path, uri, max_bytes)
        yield path


def content_hash(path: str) -> str:
    """sha256 of a file's bytes, computed once per process and file state."""
    status = os.stat(path)
    return _content_hash(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1024)
def _content_hash(path: str, size: int, modified: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_secret(name: str) -> bool:
    return any(word in name.lower() for word in SECRET_WORDS)


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


def _fetch(address: str, path: str, shown: str, max_bytes: int) -> None:
    """Copies a remote file with a byte limit; messages of the transport may hold the address and are not repeated."""
    try:
        with fsspec.open(address, "rb") as remote, open(path, "wb") as local:
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
