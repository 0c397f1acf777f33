"""How well-known collections lay out their files, recognised by path."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

MEAD_VIEWS = ("down", "front", "left_30", "left_60", "right_30", "right_60", "top")


@dataclass(frozen=True)
class Place:
    """What a file's path says: its sequence, its view among synchronised ones, the person, and the folder of it all."""

    sequence: str
    view: str
    person: str | None = None
    root: str = ""


def mead(parts: Sequence[str]) -> Place | None:
    """MEAD: ``person/video/{view}/{emotion}/{level}/NNN.mp4``, seven synchronised views."""
    if len(parts) < 6:
        return None
    person, video, view, emotion, level, name = parts[-6:]
    known = re.fullmatch(r"[MW]\d{3}", person) and video == "video" and view in MEAD_VIEWS
    if not known or not re.fullmatch(r"level_\d", level) or not re.fullmatch(r"\d{3}\.mp4", name):
        return None
    return Place(f"{person}/{emotion}/{level}/{name[:3]}", view, person, "/".join(parts[:-6]))


def voxceleb2(parts: Sequence[str]) -> Place | None:
    """VoxCeleb2: ``idXXXXX/<video id>/NNNNN.mp4``."""
    if len(parts) < 3:
        return None
    person, video, name = parts[-3:]
    if not re.fullmatch(r"id\d{5}", person) or not re.fullmatch(r"[\w-]{11}", video) or not re.fullmatch(r"\d{5}\.mp4", name):
        return None
    return Place(f"{person}/{video}/{name[:5]}", "front", person, "/".join(parts[:-3]))


def celebvhq(parts: Sequence[str]) -> Place | None:
    """CelebV-HQ: ``<video id>_<clip>.mp4``, nobody named."""
    name = re.fullmatch(r"([\w-]{11}_\d+)\.mp4", parts[-1])
    return Place(name[1], "front", None, "/".join(parts[:-1])) if name else None


LAYOUTS = {"mead": mead, "voxceleb2": voxceleb2, "celebvhq": celebvhq}


def recognise(path: str, layout: str) -> Place | None:
    """The place that ``layout`` (or with ``auto`` the first that knows the path) gives a file, else None."""
    parts = path.replace("\\", "/").split("/")
    names = LAYOUTS if layout == "auto" else [layout] if layout in LAYOUTS else []
    return next((place for name in names if (place := LAYOUTS[name](parts))), None)
