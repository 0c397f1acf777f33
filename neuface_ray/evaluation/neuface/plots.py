"""Charts of NeuFace's comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree

from neuface_ray.evaluation.charts import save, subplots
from neuface_ray.evaluation.neuface.criteria import by_sequence
from neuface_ray.evaluation.neuface.variants import (
    DIRECT,
    ENCODER,
    FULL,
    POINTS,
    TEMPORAL,
    VIEW,
    WHOLE,
    curve_name,
    low_pass_name,
)
from neuface_ray.evaluation.synthetic_clips import uncalibrated
from neuface_ray.evaluation.tables import Row, select
from neuface_ray.fitting.objective import Objective
from neuface_ray.fitting.observations import Observations
from neuface_ray.fitting.settings import ObjectiveSettings
from neuface_ray.methods.encoder.annotator import EncoderAnnotator
from neuface_ray.metrics.annotation import nan_mean
from neuface_ray.types import FaceClip

Trace = dict[str, np.ndarray]
COLOURS = {"truth": "0.1", ENCODER: "tab:orange", DIRECT: "tab:green", FULL: "tab:blue"}
COMPARED = (ENCODER, DIRECT, POINTS, VIEW, TEMPORAL, FULL)


def _mean(rows: Sequence[Row], method: str, name: str) -> float:
    return float(nan_mean(np.array(list(by_sequence(rows, method, name).values()))))


def cvd_per_view(rows: Sequence[Row], views: Sequence[str], folder: Path) -> str:
    """Cross-view vertex distance of the pairs that contain each view."""
    figure, axes = subplots(figsize=(8, 3.5))
    width = 0.8 / len(COMPARED)
    for number, method in enumerate(COMPARED):
        values = np.array([row["cvd_views"] for row in select(rows, method=method)])
        axes.bar(np.arange(len(views)) + width * number - 0.4, nan_mean(values, 0), width, label=method, align="edge")
    axes.set_xticks(np.arange(len(views)), views)
    axes.set_ylabel("CVD, L1, mm")
    axes.legend(fontsize=8)
    return save(figure, folder, "cvd_per_view.png")


def motion_traces(traces: dict[str, Trace], fps: float, title: str, folder: Path) -> str:
    """Mouth opening, lid opening and yaw over time in the first view of one sequence."""
    figure, axes = subplots(3, 1, figsize=(8, 6.5), sharex=True)
    for name, values in traces.items():
        for axis, key in zip(axes, ("lips", "lids", "yaw"), strict=True):
            axis.plot(np.arange(len(values[key])) / fps, values[key], label=name, color=COLOURS.get(name), lw=1.4)
    for axis, label in zip(axes, ("mouth opening, mm", "lid opening, mm", "yaw, degrees"), strict=True):
        axis.set_ylabel(label)
    axes[0].set_title(title, fontsize=9)
    axes[0].legend(fontsize=8)
    axes[-1].set_xlabel("time, s")
    return save(figure, folder, "motion_traces.png")


def error_against_time(rows: Sequence[Row], iterations: Sequence[int], steps: Sequence[int], folder: Path) -> str:
    """Landmark and vertex error over the seconds that fits of growing length took, on the sequences that ran them all."""
    names = [curve_name(FULL, count) for count in sorted(iterations)], [curve_name(DIRECT, count) for count in sorted(steps)]
    common = {row["sequence"] for row in rows if row["method"] in (names[0] + names[1])}
    rows = [row for row in rows if row["sequence"] in common]
    figure, axes = subplots(1, 3, figsize=(12, 3.6))
    for axis, name in zip(axes, ("nme", "nme_true", "mpve_rigid"), strict=True):
        for method, members in ((FULL, names[0]), (DIRECT, names[1])):
            points = [(_mean(rows, one, "seconds"), _mean(rows, one, name)) for one in members]
            axis.plot(*np.array(points).reshape(-1, 2).T, "o-", label=method, color=COLOURS[method])
        for method, marker in ((ENCODER, "s"), (WHOLE, "^")):
            if _mean(rows, method, name) == _mean(rows, method, name):
                colour = COLOURS.get(method, "tab:purple")
                axis.plot(_mean(rows, method, "seconds"), _mean(rows, method, name), marker, label=method, color=colour)
        axis.set_xscale("log")
        axis.set_xlabel("seconds a sequence, one thread")
        axis.set_ylabel({"nme": "NME to the given points, %", "nme_true": "NME to true points, %"}.get(name, "MPVE rigid, mm"))
    axes[0].legend(fontsize=8)
    return save(figure, folder, "error_against_time.png")


def stability_against_error(rows: Sequence[Row], strengths: Sequence[float], folder: Path) -> str:
    """Vertex error over stability: the family of filtered encoders, and the fits."""
    figure, axes = subplots(figsize=(6, 4))
    family = [ENCODER, *(low_pass_name(strength) for strength in sorted(strengths))]
    points = np.array([(_mean(rows, name, "msi_v"), _mean(rows, name, "mpve_rigid")) for name in family])
    axes.plot(
        *points.T, "o-", color=COLOURS[ENCODER], label="encoder, low-pass 0 to " + f"{max(strengths, default=0):g} frames"
    )
    for method in (DIRECT, POINTS, TEMPORAL, FULL):
        axes.plot(_mean(rows, method, "msi_v"), _mean(rows, method, "mpve_rigid"), "D", label=method, color=COLOURS.get(method))
    axes.axvline(_mean(rows, "truth", "msi_v"), color="0.6", ls=":", label="truth")
    axes.set_xscale("log")
    axes.set_xlabel("MSI3D of the face, frame⁴ / mm²")
    axes.set_ylabel("MPVE rigid, mm")
    axes.legend(fontsize=8)
    return save(figure, folder, "stability_against_error.png")


def gradient_of_landmark_loss(annotator: EncoderAnnotator, clip: FaceClip, frame: int) -> np.ndarray:
    """Magnitude (V, H, W) of the gradient of one frame's landmark loss by the pictures, through the encoder (Fig. 3)."""
    head = annotator.head
    observations = Observations.of(uncalibrated(clip), head, annotator.device).of_frames(range(frame, frame + 1))
    images = (annotator.crops(clip)[frame].to(annotator.device).float() / 255).requires_grad_(True)
    parameters = annotator.encoder(images).unflatten(1, len(images))
    terms = Objective(head, observations, ObjectiveSettings(temporal=0, smoothness=0, view=0)).terms(parameters)
    return torch.autograd.grad(terms["landmark"], images)[0].norm(dim=1).cpu().numpy()


def away_from_landmarks(magnitude: np.ndarray, landmarks: np.ndarray, reach: float = 0.08) -> float:
    """Share of the gradient's magnitude (H, W) at pixels farther than ``reach`` (crop units) from all landmarks (L, 2)."""
    side = magnitude.shape[-1]
    centres = (np.arange(side) + 0.5) / side * 2 - 1
    pixels = np.stack(np.meshgrid(centres, centres), -1).reshape(-1, 2)
    far = (cKDTree(landmarks).query(pixels)[0] > reach).reshape(side, side)
    return float(magnitude[far].sum() / max(magnitude.sum(), 1e-30))


def gradient_maps(annotator: EncoderAnnotator, clips: Sequence[FaceClip], folder: Path) -> tuple[str, float]:
    """Pictures and where NeuFace's landmark loss looks in them; the mean share of it that lies away from the landmarks.

    Direct fitting reads landmarks alone, so its gradient by the picture is zero everywhere.
    """
    figure, axes = subplots(2, max(len(clips), 2), figsize=(2.6 * max(len(clips), 2), 5.4))
    shares = []
    for clip, (above, below) in zip(clips, axes.T, strict=False):
        frame = int(clip.valid.all(1).argmax())
        view = int(clip.valid[frame].argmax())
        magnitude = gradient_of_landmark_loss(annotator, clip, frame)[view]
        shares.append(away_from_landmarks(magnitude, clip.landmarks[frame, view]))
        above.imshow(annotator.crops(clip)[frame, view].permute(1, 2, 0).numpy(), extent=(-1, 1, 1, -1))
        above.plot(*clip.landmarks[frame, view].T, ".", ms=0.8, color="cyan")
        below.imshow(magnitude, cmap="magma", vmax=float(np.quantile(magnitude, 0.995)) or None)
        below.set_title(f"{100 * shares[-1]:.0f} % away from landmarks", fontsize=8)
    for axis in axes.flat:
        axis.axis("off")
    return save(figure, folder, "gradient_maps.png"), float(np.mean(shares))
