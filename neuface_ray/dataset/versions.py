"""A dataset and those beside it that ``on_change=new_version`` made: ``PATH``, ``PATH.v2``, ``PATH.v3`` ..."""

from __future__ import annotations

import re

from neuface_ray.dataset.descriptor import COPY, DESCRIPTOR
from neuface_ray.dataset.storage import Store, open_store

_VERSION = re.compile(r"(.+)\.v([2-9]|[1-9][0-9]+)")
_GAP = 9
"""So many missing numbers in a row (removed by hand) and no later version is looked for."""


def version_path(path: str, number: int) -> str:
    """Where version ``number`` of the dataset at ``path`` lies; 1 is the dataset itself."""
    return path if number == 1 else f"{path}.v{number}"


def base_path(path: str) -> str:
    """The path of version 1 of the dataset of which ``path`` is a version."""
    match = _VERSION.fullmatch(path)
    return match.group(1) if match else path


def existing_versions(path: str) -> list[Store]:
    """The stores of all versions of the dataset at ``path``, whichever of them it is, version 1 first."""
    base, found, number, missing = base_path(path), [], 1, 0
    while missing <= _GAP:
        store = open_store(version_path(base, number))
        if store.exists(DESCRIPTOR) or store.exists(COPY):
            found.append(store)
            missing = 0
        else:
            missing += 1
        number += 1
    return found
