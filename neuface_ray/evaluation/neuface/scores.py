"""Measurements of one sequence on one clip: against the landmarks it was fitted to and, where there is truth, against that."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from neuface_ray.evaluation.synthetic_clips import GroundTruthClip
from neuface_ray.geometry.rotations import yaw_pitch_roll_deg
from neuface_ray.heads import HeadModel
from neuface_ray.heads.sequence_meshes import SequenceMeshes, build_meshes, head_camera
from neuface_ray.metrics import annotation as metrics
from neuface_ray.metrics.landmarks import source_landmarks
from neuface_ray.types import MeshSequence

MM = metrics.MM
LIDS, LIPS = ((159, 145), (386, 374)), ((13, 14),)
STILL = 0.5
ALIGNMENTS = ("root", "rigid", "similarity")


@dataclass(frozen=True)
class SequenceGeometry:
    """What is measured of a sequence, shapes [F, V, ...].

    Args:
        points: landmarks in source pixels. face: vertices of the face in source pixels. meshes: in metres.
        lids, lips: apertures in mm. static: landmarks on the root-centred posed mesh, metres. yaw: degrees.
    """

    meshes: SequenceMeshes
    points: np.ndarray
    face: np.ndarray
    static: np.ndarray
    lids: np.ndarray
    lips: np.ndarray
    yaw: np.ndarray


def build_geometry(known: GroundTruthClip, sequence: MeshSequence, head: HeadModel) -> SequenceGeometry:
    """Build what is measured of a sequence, in the images of its clip."""
    clip, meshes = known.clip, build_meshes(sequence, head)
    scheme, face = clip.landmark_scheme, head.regions["face"].numpy()
    posed = torch.from_numpy(meshes.posed)
    pose = None if sequence.vertices is not None else torch.from_numpy(sequence.pose)
    landmarks = head.landmarks(posed, scheme, pose=pose).numpy()
    grid = posed.shape[:2]
    on_image = np.empty((*grid, landmarks.shape[2] + len(face), 2))
    for f, v in np.ndindex(grid):
        both = np.concatenate([landmarks[f, v], meshes.posed[f, v][face]])
        on_image[f, v] = head_camera(clip, sequence, f, v).project(both.astype(np.float64))
    unposed = head.landmarks(torch.from_numpy(meshes.canonical), "mediapipe478").numpy()
    return SequenceGeometry(
        meshes,
        on_image[:, :, : landmarks.shape[2]],
        on_image[:, :, landmarks.shape[2] :],
        landmarks[:, :, head.embedding(scheme).valid.numpy()] - meshes.root[..., None, :],
        aperture(unposed, LIDS),
        aperture(unposed, LIPS),
        yaw_pitch_roll_deg(torch.from_numpy(meshes.rotation.astype(np.float64)))[..., 0].numpy(),
    )


def aperture(landmarks: np.ndarray, pairs: tuple[tuple[int, int], ...]) -> np.ndarray:
    """Mean distance (...) between pairs of landmarks (..., L, D), a thousandfold: mm where they are in metres."""
    upper, lower = np.array(pairs).T
    return MM * np.linalg.norm(landmarks[..., upper, :] - landmarks[..., lower, :], axis=-1).mean(-1)


def score(
    known: GroundTruthClip,
    sequence: MeshSequence,
    head: HeadModel,
    truth: SequenceGeometry | None,
    withheld: np.ndarray | None = None,
) -> dict[str, object]:
    """Measure all of one sequence.

    Args:
        truth: `build_geometry` of ``known.truth``, None for real clips.
        withheld: bool (L,), landmarks that are scored on their own, whether or not a fit was given them.

    Returns:
        Numbers by name; NaN where nothing can be measured. ``nme`` is against the landmarks given, ``nme_true`` against true
        visible ones, in percent of the outer eye corners' distance; ``nme_box`` in percent of the landmark box.
    """
    clip, found = known.clip, build_geometry(known, sequence, head)
    valid = clip.valid & sequence.valid
    seconds = sequence.seconds.get("fit", np.nan)
    row = _agreement(found, valid, head) | _against_landmarks(known, found, valid, head, withheld)
    row |= {
        "identity_norm": float(np.sqrt((sequence.shape[valid].astype(np.float64) ** 2).mean())) if valid.any() else np.nan,
        "seconds": seconds,
        "face_frames": int(valid.sum()),
        "face_frames_per_s": valid.sum() / seconds,
        "diverged": int("diverged" in sequence.reasons),
    }
    if truth is not None:
        row |= _against_truth(known, found, truth, valid, head, withheld)
    return row


def _agreement(found: SequenceGeometry, valid: np.ndarray, head: HeadModel) -> dict[str, object]:
    """Stability along time and agreement between views."""
    face = head.regions["face"].numpy()
    centred = found.meshes.posed[:, :, face] - found.meshes.root[..., None, :]
    views = range(valid.shape[1])
    static = [metrics.msi3d(found.static[:, v], valid[:, v]) for v in views]
    dense = [metrics.msi3d(centred[:, v], valid[:, v]) for v in views]
    crossing = [metrics.cvd(found.meshes.canonical[:, :, face], valid, norm) for norm in (1, 2)]
    return {
        "msi_l": float(metrics.nan_mean([one.msi for one in static])),
        "msi_v": float(metrics.nan_mean([one.msi for one in dense])),
        "msi_v_median": float(metrics.nan_mean([one.msi_median for one in dense])),
        "acceleration_mm": float(metrics.nan_mean([one.acceleration_rms for one in dense])),
        "cvd": crossing[0].mean,
        "cvd_l2": crossing[1].mean,
        "cvd_views": crossing[0].per_view.tolist(),
        "jitter_px": jitter(found.face, valid),
    }


def jitter(points: np.ndarray, valid: np.ndarray) -> float:
    """Root mean square acceleration, pixels a frame squared, of projected points [F, V, K, 2] where bool [F, V] is valid."""
    second = [metrics.accelerations(points[:, view], valid[:, view]) for view in range(points.shape[1])]
    square = np.concatenate([(part**2).sum(-1) for part in second])
    return float(np.sqrt(square.mean())) if square.size else float("nan")


def mean_nme(predicted: np.ndarray, reference: np.ndarray, normaliser: np.ndarray, used: np.ndarray) -> float:
    """Mean over frames and views of the NME of points [F, V, L, 2] where bool [F, V, L] says; percent."""
    return float(metrics.nan_mean(metrics.nme(predicted, reference, normaliser, used)))


def _against_landmarks(
    known: GroundTruthClip, found: SequenceGeometry, valid: np.ndarray, head: HeadModel, withheld: np.ndarray | None
) -> dict[str, object]:
    clip, reference = known.clip, source_landmarks(known.clip)
    embedded = head.embedding(clip.landmark_scheme).valid.numpy()
    used = embedded & (clip.landmark_confidence > 0) & valid[..., None]
    eyes = metrics.eye_distance(reference, clip.landmark_scheme)
    row = {
        "nme": mean_nme(found.points, reference, eyes, used),
        "nme_box": mean_nme(found.points, reference, metrics.box_size(reference, embedded), used),
    }
    if withheld is not None:
        row["nme_withheld"] = mean_nme(found.points, reference, eyes, used & withheld)
    return row


def _against_truth(
    known: GroundTruthClip,
    found: SequenceGeometry,
    truth: SequenceGeometry,
    valid: np.ndarray,
    head: HeadModel,
    withheld: np.ndarray | None,
) -> dict[str, object]:
    scheme, face = known.clip.landmark_scheme, head.regions["face"].numpy()
    used = head.embedding(scheme).valid.numpy() & known.visible & valid[..., None]
    eyes = metrics.eye_distance(known.points, scheme)
    row: dict[str, object] = {"nme_true": mean_nme(found.points, known.points, eyes, used)}
    if withheld is not None:
        row["nme_true_withheld"] = mean_nme(found.points, known.points, eyes, used & withheld)
    predicted, true = found.meshes.posed[valid][:, face], truth.meshes.posed[valid][:, face]
    roots = found.meshes.root[valid], truth.meshes.root[valid]
    for alignment in ALIGNMENTS:
        error = metrics.mpve(predicted, true, alignment, roots=roots if alignment == "root" else None)
        row[f"mpve_{alignment}"] = float(metrics.nan_mean(error))
    for name in ("lids", "lips"):
        share, slope = amplitude(getattr(found, name), getattr(truth, name), valid)
        row |= {f"{name}_kept": share, f"{name}_gain": slope}
    row["yaw_error_deg"] = float(metrics.nan_mean(np.abs(found.yaw - truth.yaw)[valid]))
    return row


def score_landmarks(known: GroundTruthClip, head: HeadModel) -> dict[str, object]:
    """How good the landmarks given are: their NME to the true visible ones, and how much of the movement they show.

    Apertures are measured in the image here, so that this is what a fit to landmarks can see of a blink.
    """
    scheme, detected, valid = known.clip.landmark_scheme, source_landmarks(known.clip), known.clip.valid
    used = head.embedding(scheme).valid.numpy() & known.visible & valid[..., None]
    row: dict[str, object] = {"nme_true": mean_nme(detected, known.points, metrics.eye_distance(known.points, scheme), used)}
    if scheme == "mediapipe478":
        for name, pairs in (("lids", LIDS), ("lips", LIPS)):
            share, slope = amplitude(aperture(detected, pairs) / MM, aperture(known.points, pairs) / MM, valid)
            row |= {f"{name}_kept": share, f"{name}_gain": slope}
    return row


def amplitude(found: np.ndarray, true: np.ndarray, valid: np.ndarray) -> tuple[float, float]:
    """How much of a movement is kept.

    Args:
        found, true: [F, V] in mm or pixels. valid: bool [F, V].

    Returns:
        The ratio of the standard deviations along time, pooled over views, and the slope of the regression of ``found`` on
        ``true``, which noise cannot raise; NaN where the truth moves by less than 0.5 (standard deviation).
    """
    share = np.where(valid, 1.0, 0.0)
    count = np.maximum(share.sum(0), 1)
    a, b = (np.where(valid, value - (share * value).sum(0) / count, 0.0) for value in (found, true))
    power = (b**2).sum()
    if power < STILL**2 * max(share.sum(), 1):
        return float("nan"), float("nan")
    return float(np.sqrt((a**2).sum() / power)), float((a * b).sum() / power)
