"""One way to a head model, whatever its source."""

from __future__ import annotations

from pathlib import Path

from neuface_ray.heads.file import load_open_head
from neuface_ray.heads.model import HeadModel


def load_head(spec: str | Path = "open_head", **options) -> HeadModel:
    """A head model.

    Args:
        spec: ``open_head`` for the packaged one, or the path of a file: ``.safetensors`` (this project's format), or the
            user's FLAME model (``.pkl``, or ``.npz`` made from it).
        options: for FLAME, see :func:`neuface_ray.heads.flame.load_flame`.

    Raises:
        ModelFileError: the file is missing, refused or inconsistent; the message says what to do.
    """
    if str(spec) == "open_head":
        return load_open_head()
    if Path(spec).suffix == ".safetensors":
        return load_open_head(spec)
    from neuface_ray.heads.flame import load_flame

    return load_flame(spec, **options)
