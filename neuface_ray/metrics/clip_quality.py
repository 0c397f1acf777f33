"""Quality of an annotated clip: `measure` compares a mesh sequence with the clip it was made from."""

from __future__ import annotations

import numpy as np
import torch

from neuface_ray.errors import UsageError
from neuface_ray.geometry.mesh import vertex_normals
from neuface_ray.geometry.rotations import yaw_pitch_roll_deg
from neuface_ray.heads.model import HeadModel
from neuface_ray.heads.sequence_meshes import SequenceMeshes, build_meshes, head_camera
from neuface_ray.metrics import annotation as metrics
from neuface_ray.metrics.landmarks import source_landmarks
from neuface_ray.types import FaceClip, MeshSequence, Quality


def measure(clip: FaceClip, sequence: MeshSequence, head: HeadModel) -> Quality:
    """Measures an annotated clip in its original images.

    Sequence numbers are taken over the core frames that both the clip and the sequence call valid; MSI3D per view and then
    averaged, on the static 68 points (the clip's own scheme if the head has no such embedding) and on the face's vertices.
    ``visible_fraction`` is the share of the face's vertices that face the camera inside the image; ``shape_norm`` the root
    mean square of the identity coefficients, 1 for a typical person whatever their number.

    Returns:
        `Quality`; NaN where nothing could be measured, ``cvd`` None for a single view.
    """
    valid = clip.valid & sequence.valid
    core = valid & clip.core[:, None]
    meshes = build_meshes(sequence, head)
    nme, visible = _per_frame(clip, sequence, head, meshes, valid)
    angles = yaw_pitch_roll_deg(torch.from_numpy(meshes.rotation.astype(np.float64))).numpy()
    angles = np.where(valid[..., None], angles, np.nan).astype(np.float32)
    angles[angles == -180] = 180  # rounded
    centred = meshes.posed - meshes.root[..., None, :]
    points, face = _stability_points(clip, head, centred), centred[:, :, _face(head)]
    coefficients = sequence.shape[core]
    norm = np.sqrt((coefficients.astype(np.float64) ** 2).mean(-1)).mean() if coefficients.size else np.nan
    several = clip.n_views > 1
    return Quality(
        nme=nme.astype(np.float32),
        yaw_deg=angles[..., 0],
        pitch_deg=angles[..., 1],
        roll_deg=angles[..., 2],
        visible_fraction=visible.astype(np.float32),
        clip_nme=float(metrics.nan_mean(nme[clip.core])),
        msi3d_landmarks=_stability(points, clip.frame_index, core),
        msi3d_vertices=_stability(face, clip.frame_index, core),
        cvd=metrics.cvd(meshes.canonical, core).mean if several else None,
        shape_norm=float(norm),
        valid_fraction=float(valid[clip.core].mean()) if clip.core.any() else 0.0,
    )


def _per_frame(
    clip: FaceClip, sequence: MeshSequence, head: HeadModel, meshes: SequenceMeshes, valid: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """NME in percent and visible fraction [F, V], NaN where invalid."""
    scheme, faces, face = clip.landmark_scheme, head.faces, _face(head)
    embedded = head.embedding(scheme).valid.numpy()
    reference = source_landmarks(clip)
    nme, visible = np.full(valid.shape, np.nan), np.full(valid.shape, np.nan)
    for frame, view in np.argwhere(valid):
        camera = head_camera(clip, sequence, frame, view)
        posed = torch.from_numpy(np.ascontiguousarray(meshes.posed[frame, view]))
        pose = None if sequence.vertices is not None else torch.from_numpy(sequence.pose[frame, view])
        predicted = camera.project(head.landmarks(posed, scheme, pose=pose).numpy())
        target = reference[frame, view]
        used = embedded & (clip.landmark_confidence[frame, view] > 0)
        nme[frame, view] = metrics.nme(predicted, target, metrics.eye_distance(target, scheme), used)
        vertices = meshes.posed[frame, view][face]
        facing = (vertex_normals(posed, faces).numpy()[face] * camera.towards_viewer(vertices)).sum(-1) > 0
        pixels, size = camera.project(vertices), clip.image_size[view]
        visible[frame, view] = (facing & ((pixels >= 0) & (pixels < size)).all(-1)).mean()
    return nme, visible


def _stability_points(clip: FaceClip, head: HeadModel, centred: np.ndarray) -> np.ndarray:
    """Static landmarks [F, V, L, 3] of the centred meshes."""
    try:
        scheme = "ibug68"
        head.embedding(scheme)
    except UsageError:
        scheme = clip.landmark_scheme
    points = head.landmarks(torch.from_numpy(centred), scheme).numpy()
    return points[:, :, head.embedding(scheme).valid.numpy()]


def _stability(points: np.ndarray, frame_index: np.ndarray, valid: np.ndarray) -> float:
    """MSI3D of points [F, V, K, 3], averaged over views; gaps in the frame numbers interrupt the motion."""
    place = frame_index - frame_index[0]
    dense = np.zeros((int(place[-1]) + 1, *points.shape[1:]), points.dtype)
    seen = np.zeros((len(dense), points.shape[1]), bool)
    dense[place], seen[place] = points, valid
    return float(metrics.nan_mean([metrics.msi3d(dense[:, view], seen[:, view]).msi for view in range(points.shape[1])]))


def _face(head: HeadModel) -> np.ndarray:
    return head.regions["face"].numpy()
