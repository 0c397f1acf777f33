"""The folders that drawings take their materials from: whether they hold any, and environment maps as arrays."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from neuface_ray.errors import DataError, UsageError

MAPS = (".hdr",)
PHOTOGRAPHS = (".png", ".jpg", ".jpeg", ".webp")
SKINS = (".png", ".jpg", ".jpeg")
KINDS = {"skins": SKINS, "hdr": MAPS, "backgrounds": (*PHOTOGRAPHS, *MAPS)}


@lru_cache(maxsize=64)
def material_files(folder: str, kind: str) -> tuple[Path, ...]:
    """The files under a folder that can serve as ``kind`` (skins, hdr, backgrounds), by name; raises DataError for none."""
    files = tuple(sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in KINDS[kind]))
    if not files:
        raise DataError(f"no {', '.join(KINDS[kind])} file for {kind} lies in {folder}")
    return files


def check_materials(section: str, skins: str | None, hdr: str | None, backgrounds: str | None) -> None:
    """Raises UsageError, which names the key in ``section``, for a given folder that holds nothing of its kind."""
    for kind, folder in (("skins", skins), ("hdr", hdr), ("backgrounds", backgrounds)):
        if folder is None:
            continue
        try:
            material_files(folder, kind)
        except DataError as error:
            key = f"{section}.{kind}" if section else kind
            raise UsageError(f"{key}={folder}: {error}; name another folder, or none to draw without") from error


def read_map(path: Path, width: int) -> np.ndarray:
    """Linear float32 [width / 2, width, 3] of an equirectangular map; raises DataError when it is none."""
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    if image is None or image.ndim != 3:
        raise DataError(f"{path} is no readable colour environment map")
    return cv2.resize(image[..., 2::-1].astype(np.float32), (width, width // 2), interpolation=cv2.INTER_AREA)
