"""Charts of GLVD's comparison: error against step and against views, and a face's course from a cloud to a mesh."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from neuface_ray.evaluation.charts import save, subplots
from neuface_ray.evaluation.glvd.criteria import SCORE, mean_of
from neuface_ray.evaluation.tables import Row, select
from neuface_ray.geometry.mesh import unique_edges
from neuface_ray.geometry.rays import WeakCamera, crop_to_pixels
from neuface_ray.geometry.render import draw_mesh
from neuface_ray.methods.lvd.annotator import VertexDescent
from neuface_ray.methods.lvd.network import apply_similarity
from neuface_ray.types import FaceClip

COLOURS = {
    "lvd": "tab:red",
    "glvd": "tab:blue",
    "encoder": "tab:orange",
    "direct_fitting": "tab:green",
    "neuface": "tab:purple",
}
STROKES = {1: "-", 3: "--", 6: ":"}
SHOWN_STEPS, TILE = (0, 2, 4, 8), 320
POINT, GUIDE = (94, 234, 212), (255, 176, 32)


def error_against_step(curves: dict[tuple[str, int], np.ndarray], folder: Path) -> str:
    """Mean vertex error over the steps, by method and number of views."""
    figure, axes = subplots(figsize=(7, 4))
    for (method, views), errors in curves.items():
        label = f"{method}, {views} view{'s' if views > 1 else ''}"
        axes.semilogy(errors, STROKES.get(views, "-."), color=COLOURS.get(method), label=label)
    axes.set_xlabel("step t")
    axes.set_ylabel("vertex error of the face, not aligned, mm")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
    return save(figure, folder, "error_against_step.png")


def error_against_views(rows: Sequence[Row], folder: Path) -> str:
    """Mean vertex error in the front view over the number of views, by method."""
    figure, axes = subplots(figsize=(6, 4))
    first = rows[0]["view"]
    for method in dict.fromkeys(str(row["method"]) for row in rows):
        counts = sorted({int(row["views"]) for row in select(rows, method=method)})
        errors = [mean_of(select(rows, method=method, views=count, view=first), SCORE) for count in counts]
        axes.plot(counts, errors, "o-", color=COLOURS.get(method), label=method)
    axes.set_xticks(sorted({int(row["views"]) for row in rows}))
    axes.set_xlabel("views")
    axes.set_ylabel("vertex error of the face, rigidly aligned, mm")
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    return save(figure, folder, "error_against_views.png")


def descent_sheet(methods: Sequence[VertexDescent], clips: Sequence[FaceClip], folder: Path) -> str:
    """Clips of one view as rows: the crop, the vertices (and keypoints, amber) at some steps, and the mesh at the last."""
    rows = [np.hstack(_descent_tiles(method, clip)) for clip in clips for method in methods]
    cv2.imwrite(str(folder / "descent.png"), np.vstack(rows)[..., ::-1])
    return "descent.png"


def _descent_tiles(method: VertexDescent, clip: FaceClip) -> list[np.ndarray]:
    """Tiles uint8 [TILE, TILE, 3] of the first frame."""
    descent, to_view = method.watch(clip, 0, max(*SHOWN_STEPS, method.config.steps))
    image = cv2.resize(np.ascontiguousarray(clip.crops[0, 0].transpose(1, 2, 0)), (TILE, TILE), interpolation=cv2.INTER_CUBIC)
    tiles = [_captioned(image, method.name)]
    path = apply_similarity(to_view[0], descent.trajectory[:, 0]).cpu().numpy()
    guides = None
    if descent.keypoint_trajectory is not None:
        guides = apply_similarity(to_view[0], descent.keypoint_trajectory[:, 0]).cpu().numpy()
    face = method.face.cpu().numpy()
    edges = unique_edges(method.head.faces.cpu())
    inside = torch.isin(edges, method.face.cpu()).all(-1).numpy()
    for step in SHOWN_STEPS:
        tile = image // 2
        if step:
            lines = _pixels(path[step])[edges.numpy()[inside]]
            cv2.polylines(tile, list(np.rint(lines).astype(np.int32)), False, (70, 110, 105), 1, cv2.LINE_AA)
        for point in _pixels(path[step][face]):
            cv2.circle(tile, tuple(int(v) for v in np.rint(point)), 1, POINT, -1, cv2.LINE_AA)
        for point in _pixels(guides[step]) if guides is not None else ():
            cv2.circle(tile, tuple(int(v) for v in np.rint(point)), 4, GUIDE, 1, cv2.LINE_AA)
        tiles.append(_captioned(tile, f"t = {step}"))
    camera = WeakCamera(np.array([1.0, 0.0, 0.0]), crop_to_pixels(TILE, TILE))
    mesh = draw_mesh(image, path[method.config.steps].astype(np.float64), method.head.faces.cpu().numpy(), camera)
    return [*tiles, _captioned(mesh, f"mesh, t = {method.config.steps}")]


def _pixels(points: np.ndarray) -> np.ndarray:
    """Pixels (..., 2) of a tile for points (..., 3) of the view's frame in half crops."""
    return (points[..., :2] * [1, -1] + 1) * TILE / 2 - 0.5


def _captioned(tile: np.ndarray, text: str) -> np.ndarray:
    tile = tile.copy()
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(tile, text, (8, TILE - 10), cv2.FONT_HERSHEY_SIMPLEX, 0.5, colour, thickness, cv2.LINE_AA)
    return tile
