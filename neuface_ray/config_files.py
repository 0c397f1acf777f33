"""Configuration files that come with the package, found by name: ``--config neuface`` is ``configs/annotate/neuface.yaml``.

In a checkout they lie in the folder ``configs`` beside the package, in an installed package inside it.
"""

from __future__ import annotations

from pathlib import Path

from neuface_ray.errors import UsageError

_PACKAGE = Path(__file__).parent


def config_folder(kind: str) -> Path:
    """The folder of the files for one command, such as ``annotate``."""
    root = _PACKAGE / "configs" if (_PACKAGE / "configs").is_dir() else _PACKAGE.parent / "configs"
    return root / kind


def find_config(name: str | Path, kind: str | None = None) -> Path:
    """The configuration file ``name``: a path, or the name of one that comes with the package for the command ``kind``.

    A file at that path comes first. Raises UsageError, naming what there is, if nothing is found.
    """
    path = Path(name)
    if path.is_file():
        return path
    known = sorted(config_folder(kind).glob("*.yaml")) if kind else []
    for file in known:
        if str(name) in (file.stem, file.name):
            return file
    nearby = sorted(path.parent.glob("*.yaml")) if path.parent.parts and path.parent.is_dir() else []
    available = ", ".join([file.stem for file in known] + [str(file) for file in nearby]) or "none"
    raise UsageError(f"{name}: no such configuration file; available: {available}")
