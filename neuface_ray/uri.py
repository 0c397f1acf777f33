"""Where files lie: local paths and fsspec URIs, how they are named without their credentials, and the hash of their content.

A URI may carry credentials: user and password before the host, and in the query of signed addresses. Three forms are used:

* the **address** as the user gave it opens the file; it stays in memory (:class:`SourceUri`) and is never written;
* :func:`without_secrets` tells sources apart (plans, identifiers): it keeps parameters such as ``part=3``, which may choose
  between files, and leaves out those whose names sound secret;
* :func:`redact_uri` is what is written for people (rows, messages, logs): a list of secret names can never be complete, so no
  query is kept at all.
"""

from __future__ import annotations

import hashlib
import os
import re
from functools import lru_cache
from urllib.parse import parse_qsl, quote_from_bytes, unquote_to_bytes, urlencode, urlsplit

SECRET_WORDS = ("sig", "token", "secret", "password", "passwd", "credential", "key", "auth", "signature", "sas", "session")
_REMOTE_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^\s'\"<>|]+")


class SourceUri(str):
    """A URI that tells sources apart, see :func:`without_secrets`, and remembers how it is opened.

    As text (printed, compared, hashed) it has no credentials; ``address`` is what was given and survives pickling. A copy made
    from the text alone has no credentials and cannot be opened with them.
    """

    address: str

    def __new__(cls, address: str) -> SourceUri:
        uri = super().__new__(cls, without_secrets(address))
        uri.address = getattr(address, "address", address)
        return uri

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return SourceUri, (self.address,)


def without_secrets(uri: str) -> str:
    """A URI without user, password, fragment and parameters with secret names; local paths are returned as they are."""
    if not is_remote(uri):
        return str(uri)
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    query = urlencode([(k, v) for k, v in parse_qsl(parts.query, keep_blank_values=True) if not _is_secret(k)])
    return f"{parts.scheme}://{host}{parts.path}" + (f"?{query}" if query else "")


def redact_uri(uri: str) -> str:
    """A URI without user, password, query and fragment, as valid UTF-8; local paths keep all their characters."""
    text = valid_text(uri)
    scheme, separator, rest = text.partition("://")
    if not separator or scheme == "file":
        return text
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"


def redact_text(text: str) -> str:
    """A message or traceback with :func:`redact_uri` applied to every URI in it."""
    return _URL.sub(lambda match: redact_uri(match.group()), valid_text(text))


def valid_text(text: str) -> str:
    """Valid UTF-8 also for names that came from a file system with another encoding."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def is_remote(uri: str) -> bool:
    """True for URIs with a scheme other than ``file``, such as ``s3://`` or ``https://``."""
    scheme = _REMOTE_SCHEME.match(str(uri))
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


def content_hash(path: str) -> str:
    """sha256 of a local file's bytes, computed once per process and file state."""
    status = os.stat(path)
    return _content_hash(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1024)
def _content_hash(path: str, size: int, modified: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_secret(name: str) -> bool:
    return any(word in name.lower() for word in SECRET_WORDS)
