"""Nothing secret is written: credentials are taken out of URIs, texts and configurations before they reach the dataset."""

from __future__ import annotations

import re
from typing import Any

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^\s'\"<>|]+")
_SECRET_KEY = re.compile(r"(password|passwd|secret|token|api_?key|access_?key|credential)", re.IGNORECASE)


def valid_text(text: str) -> str:
    """Valid UTF-8 also for names that came from a file system with another encoding."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def clean_uri(uri: str) -> str:
    """A source URI without user, password, query and fragment.

    Signed URLs carry their secret in the query, so a query is never kept. Local paths are returned as they are.
    """
    text = valid_text(uri)
    scheme, separator, rest = text.partition("://")
    if not separator or scheme == "file":
        return text
    rest = re.split(r"[?#]", rest, maxsplit=1)[0]
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"


def scrub(text: str) -> str:
    """A message or traceback with ``clean_uri`` applied to every URL in it."""
    return _URL.sub(lambda match: clean_uri(match.group()), valid_text(text))


def clean_config(value: Any) -> Any:
    """A configuration tree with scrubbed strings, and ``***`` where the key says that the value is a secret."""
    if isinstance(value, dict):
        return {k: "***" if _SECRET_KEY.search(str(k)) and v is not None else clean_config(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [clean_config(item) for item in value]
    return scrub(value) if isinstance(value, str) else value
