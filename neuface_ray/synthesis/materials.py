"""Folders that synthetic faces take their materials from: settings, the files in them, environment maps as arrays."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from neuface_ray.errors import DataError, UsageError

MAPS = (".hdr",)
PHOTOGRAPHS = (".png", ".jpg", ".jpeg", ".webp")
TEXTURES = (".png", ".jpg", ".jpeg")
KINDS = {"textures": TEXTURES, "hdr": MAPS, "backgrounds": (*PHOTOGRAPHS, *MAPS)}


@dataclass(frozen=True)
class Materials:
    """Folders of materials, for settings of all that draws faces to inherit."""

    textures: str | None = None
    """Folder of skin textures in the head's UV space, worn by half of the people; null: all skin is painted."""
    hdr: str | None = None
    """Folder of .hdr environment maps, which light two thirds of the pictures; null: all light is drawn at random."""
    backgrounds: str | None = None
    """Folder of photographs or environment maps, seen behind three quarters of the people; null: all are painted."""

    def materials(self) -> dict[str, str | None]:
        """The three folders by name."""
        return {kind: getattr(self, kind) for kind in KINDS}


@lru_cache(maxsize=64)
def material_files(folder: str, kind: str) -> tuple[Path, ...]:
    """List the files under a folder that can serve as ``kind`` (textures, hdr, backgrounds), by name; DataError for none."""
    files = tuple(sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in KINDS[kind]))
    if not files:
        raise DataError(f"no {', '.join(KINDS[kind])} file for {kind} lies in {folder}")
    return files


def check_materials(section: str, chosen: Materials) -> None:
    """Raise UsageError, which names the key in ``section``, for a folder that holds nothing of its kind."""
    for kind, folder in chosen.materials().items():
        if folder is None:
            continue
        try:
            material_files(folder, kind)
        except DataError as error:
            key = f"{section}.{kind}" if section else kind
            raise UsageError(f"{key}={folder}: {error}; name another folder, or none to draw without") from error


def read_map(path: Path, width: int) -> np.ndarray:
    """Read an equirectangular map as linear float32 [width / 2, width, 3]; raises DataError when it is none."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3:
        raise DataError(f"{path} is no readable colour environment map")
    return cv2.resize(image[..., 2::-1].astype(np.float32), (width, width // 2), interpolation=cv2.INTER_AREA)
