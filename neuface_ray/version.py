"""Versions that are recorded with what is made, so that a change in results can be traced to its cause."""

from __future__ import annotations

from functools import cache
from importlib import metadata

LIBRARIES = (
    "torch",
    "mediapipe",
    "ray",
    "opencv-python",
    "opencv-contrib-python",
    "opencv-python-headless",
    "opencv-contrib-python-headless",
    "numpy",
    "av",
)
"""Distributions that results may depend on."""


@cache
def library_versions() -> dict[str, str]:
    """Versions of the installed ``LIBRARIES``, read without importing them."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
