"""Durations in words, for lines that people read."""

from __future__ import annotations


def format_duration(seconds: float) -> str:
    """Rounds to ``42 s``, ``3 min 20 s`` or ``2 h 05 min``."""
    rounded = round(seconds)
    if rounded < 60:
        return f"{rounded} s"
    if rounded < 3600:
        return f"{rounded // 60} min {rounded % 60:02d} s"
    return f"{rounded // 3600} h {rounded % 3600 // 60:02d} min"
