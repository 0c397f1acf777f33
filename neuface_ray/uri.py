"""Where files lie: local paths and fsspec URIs, how they are named without their credentials, and the hash of their content.

A URI may carry credentials: user and password before the host, and in the query of signed addresses. Three forms are used:

* the **address** as the user gave it opens the file; it stays in memory (:class:`SourceUri`) and is never written;
* :func:`redact_uri` is what is shown and stored (rows, messages, logs): a list of secret names can never be complete, so no
  query is kept at all; :func:`redact_text` does the same to every URI in a text;
* :func:`uri_identity` is hashed to tell sources apart and is never shown: it keeps parameters such as ``part=3``, which may
  choose between files.
"""

from __future__ import annotations

import hashlib
import os
import re
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import parse_qsl, quote_from_bytes, unquote_to_bytes, urlencode, urlsplit

SECRET_WORDS = ("sig", "token", "secret", "password", "passwd", "credential", "key", "auth", "signature", "sas", "session")
_REMOTE_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_HOST = re.compile(r"(?:\[[^\[\]]*\]|[^:@\[\]]*)(?::\d{0,5})?")
_FILE_NAME = re.compile(r"/[^/?#]*\.[A-Za-z0-9]{1,5}(?:[?#].*)?\Z", re.DOTALL)
_QUERY = re.compile(r"[?#]|;[\w.~-]+=")
_CHAINED = re.compile(r"::(?=[A-Za-z][A-Za-z0-9+.-]*://)")
_MADE_A_PATH = re.compile(r"\b(s3a?|gc?s|az|abfss?|https?|s?ftp|memory):/(?!/)")  # pathlib makes one slash of two
_WORD = re.compile(r"[^\s'\"<>|]*")
_NOT_OF_A_SCHEME = re.compile(r"[^A-Za-z0-9+.-]")
HIDDEN = "***"


class _Parts(NamedTuple):
    """A URI taken apart: ``userinfo`` (user and password) and ``query`` (also parameters and fragment) are secret."""

    scheme: str
    userinfo: str
    place: str
    query: str


class SourceUri(str):
    """A URI as it may be shown, see :func:`redact_uri`, that remembers how it is opened.

    ``address`` is what was given and survives pickling. Two that look alike are equal if nothing tells their sources apart
    (:func:`uri_identity`). A copy made from the text alone has no credentials and cannot be opened with them.
    """

    address: str

    def __new__(cls, address: str) -> SourceUri:
        address = getattr(address, "address", address)
        uri = super().__new__(cls, redact_uri(address) if "://" in address else address)
        uri.address = address
        return uri

    def __eq__(self, other: object) -> bool:
        same = str.__eq__(self, other)
        return same and uri_identity(self) == uri_identity(other) if isinstance(other, SourceUri) else same

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return SourceUri, (self.address,)


def redact_uri(uri: str) -> str:
    """A URI without user, password, query and fragment, as valid UTF-8; local paths keep all their characters.

    Passwords may hold ``/``, ``#``, ``?`` and ``@`` although they should be percent-encoded. Where it is unclear whether an
    ``@`` ends a password or belongs to a folder's name, what stands before it is left out.
    """
    return "::".join(map(_redact_link, _CHAINED.split(valid_text(uri))))


def redact_text(text: str) -> str:
    """A message or traceback with :func:`redact_uri` applied to every URI in it, in time linear in its length."""
    text, parts, done = _MADE_A_PATH.sub(r"\1://", valid_text(text)), [], 0
    while (mark := text.find("://", done)) >= 0:
        start = mark
        while start > done and not _NOT_OF_A_SCHEME.match(text[start - 1]):
            start -= 1
        while start < mark and not text[start].isalpha():
            start += 1
        end = _WORD.match(text, mark + 3).end()
        if start == mark:
            end = mark + 3
        elif _is_cut_short(text[start:end]):
            end = _end_of_password(text, end)
        parts += [text[done:start], redact_uri(text[start:end]) if start < mark else text[start:end]]
        done = end
    return "".join([*parts, text[done:]])


def has_credentials(uri: str) -> bool:
    """Whether the address carries a user, a password or a query."""
    links = map(_parse, _CHAINED.split(getattr(uri, "address", uri)))
    return any(link.userinfo or link.query for link in links if link is not None)


def uri_identity(uri: str) -> str:
    """What is hashed to tell sources apart: without user, password, fragment and parameters whose names sound secret.

    Segment ids depend on every character of it, so it stays as it is; local paths are returned as they are.
    """
    uri = getattr(uri, "address", uri)
    if not is_remote(uri):
        return str(uri)
    parts = urlsplit(uri)
    host = parts.netloc.rpartition("@")[2]
    query = urlencode([(k, v) for k, v in parse_qsl(parts.query, keep_blank_values=True) if not _is_secret(k)])
    return f"{parts.scheme}://{host}{parts.path}" + (f"?{query}" if query else "")


def _redact_link(uri: str) -> str:
    """One link of a chain such as ``simplecache::s3://bucket/file``."""
    parts = _parse(uri)
    return uri if parts is None else f"{parts.scheme}://{parts.place}"


def _parse(uri: str) -> _Parts | None:
    """The parts of a URI; None for local paths and ``file://``."""
    scheme, separator, rest = uri.partition("://")
    if not separator or scheme == "file":
        return None
    start = _place_start(rest)
    if start is None:
        return _Parts(scheme, rest, HIDDEN, "")
    query = _QUERY.search(rest, start)
    stop = len(rest) if query is None else query.start()
    return _Parts(scheme, rest[:start], rest[start:stop], rest[stop:])


def _place_start(rest: str) -> int | None:
    """Where host and path begin in what follows ``scheme://``; None if there is a password without an ``@`` that ends it."""
    authority = re.match(r"[^/?#]*", rest).group()
    if "@" not in authority:
        return 0 if _HOST.fullmatch(authority) else rest.rfind("@") + 1 or None
    name = _FILE_NAME.search(rest, len(authority))  # an "@" in the name of a file ends no password
    return rest.rfind("@", 0, name.start() if name else None) + 1


def _is_cut_short(uri: str) -> bool:
    """Whether the password of this URI goes on behind a character at which URIs in texts are thought to end."""
    parts = _parse(_CHAINED.split(uri)[-1])
    return parts is not None and parts.place == HIDDEN


def _end_of_password(text: str, start: int) -> int:
    """End of a URI in a text whose password holds blanks or quotes: behind the last ``@`` of the line; ``start`` if none."""
    limit = text.find("://", start)
    limit = len(text) if limit < 0 else limit
    newline = text.find("\n", start, limit)
    at = text.rfind("@", start, limit if newline < 0 else newline)
    return start if at < 0 else _WORD.match(text, at).end()


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
