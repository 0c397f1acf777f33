"""Configurations without the credentials that they may hold, as they are written into datasets."""

from __future__ import annotations

import re
from typing import Any

from neuface_ray.uri import redact_text

_SECRET_KEY = re.compile(r"(password|passwd|passphrase|pwd|jwt|secret|token|api_?key|access_?key|credential)", re.IGNORECASE)


def clean_config(value: Any) -> Any:
    """A configuration tree with redacted strings, and ``***`` where the key says that the value is a secret."""
    if isinstance(value, dict):
        return {k: "***" if _SECRET_KEY.search(str(k)) and v is not None else clean_config(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [clean_config(item) for item in value]
    return redact_text(value) if isinstance(value, str) else value


def without_credentials(value: Any) -> Any:
    """A tree of plain values with every string in it redacted, names of entries included."""
    if isinstance(value, dict):
        return {without_credentials(k): without_credentials(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [without_credentials(item) for item in value]
    return redact_text(value) if isinstance(value, str) else value
