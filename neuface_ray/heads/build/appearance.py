"""Skin, lips, lids, brows and eyes in plausible colours, so that a landmark detector sees a face."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from neuface_ray.heads.build.source import PARTS

SKIN, LIP, LID, BROW, MOUTH = (205, 160, 135), (175, 95, 90), (120, 80, 70), (75, 55, 45), (90, 35, 35)
SCLERA, IRIS, PUPIL = (225, 222, 218), (95, 75, 50), (15, 12, 12)
IRIS_RADIUS, PUPIL_RADIUS = 0.0058, 0.0022


def painter(mean: np.ndarray, triangles: np.ndarray, regions: dict, triangle_part: np.ndarray) -> Callable:
    """``colour(triangle, barycentric) -> (P, 3)`` for the mean head's places, carried along by every other head."""
    albedo = np.tile(np.array(SKIN, dtype=np.float64), (len(mean), 1))
    albedo[regions["lids"]] = LID
    albedo[regions["lips"]] = LIP
    for name in ("mouth_cavity", "tongue"):
        albedo[regions[name]] = MOUTH
    albedo[regions["teeth"]] = SCLERA
    is_eye = np.isin(triangle_part, [i for i, part in enumerate(PARTS) if part.startswith(("eye_front", "eye_back"))])
    centres = {side: mean[regions[f"{side}_eye"]].mean(0) for side in ("left", "right")}

    def colour(triangle: np.ndarray, barycentric: np.ndarray) -> np.ndarray:
        result = (albedo[triangles[triangle]] * barycentric[..., None]).sum(1)
        places = (mean[triangles[triangle]] * barycentric[..., None]).sum(1)
        eye = is_eye[triangle]
        centre = np.where(places[:, :1] > 0, centres["left"], centres["right"])
        from_axis = np.linalg.norm((places - centre)[:, :2], axis=1)
        front = places[:, 2] > centre[:, 2]
        result[eye] = SCLERA
        result[eye & front & (from_axis < IRIS_RADIUS)] = IRIS
        result[eye & front & (from_axis < PUPIL_RADIUS)] = PUPIL
        return result

    return colour
