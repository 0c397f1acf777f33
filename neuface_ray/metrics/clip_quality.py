"""Quality of an annotated clip: `measure` compares a mesh sequence with the clip it was made from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from neuface_ray.errors import UsageError
from neuface_ray.geometry import alignment
from neuface_ray.geometry.mesh import vertex_normals
from neuface_ray.geometry.rays import HeadCamera, PinholeCamera, WeakCamera
from neuface_ray.geometry.rotations import rotvec_to_matrix, yaw_pitch_roll_deg
from neuface_ray.metrics import annotation as metrics
from neuface_ray.types import FaceClip, MeshSequence, Quality

_CHUNK = 32


@dataclass(frozen=True)
class Meshes:
    """The meshes of a sequence, which numbers and pictures both use.

    Args:
        posed: float32 [F, V, N, 3] in the view frame. canonical: float32 [F, V, N, 3] without the head's rotation.
        root: float32 [F, V, 3], the point that the head turns about. rotation: float32 [F, V, 3, 3] of the head.
    """

    posed: np.ndarray
    canonical: np.ndarray
    root: np.ndarray
    rotation: np.ndarray


def meshes(sequence: MeshSequence, head) -> Meshes:
    """Posed and canonical meshes of a sequence.

    From parameters, canonical means with the root rotation at zero. Where the method gave vertices, it means turned rigidly
    onto the face of the head's template, and the root is the middle of the face.
    """
    if sequence.vertices is not None:
        return _meshes_from_vertices(sequence.vertices, head)
    frames, views = sequence.pose.shape[:2]
    shape, expression, pose = (_flat(value) for value in (sequence.shape, sequence.expression, sequence.pose))
    parts: list[list[torch.Tensor]] = [[], [], [], []]
    with torch.no_grad():
        for rows in torch.arange(len(pose)).split(_CHUNK):
            still = pose[rows].clone()
            still[:, :3] = 0
            root = head.joints(shape[rows], expression[rows])[:, 0]
            turns = rotvec_to_matrix(pose[rows].reshape(len(rows), -1, 3))
            parts[0].append(head(shape[rows], expression[rows], pose[rows]))
            parts[1].append(head(shape[rows], expression[rows], still))
            parts[2].append(root.expand(len(rows), 3))
            parts[3].append(turns[:, 0] @ turns[:, 1])
    posed, canonical, root, rotation = (torch.cat(part).numpy() for part in parts)
    grid = (frames, views)
    return Meshes(*(value.reshape(*grid, *value.shape[1:]) for value in (posed, canonical, root, rotation)))


def head_camera(clip: FaceClip, sequence: MeshSequence, frame: int, view: int) -> HeadCamera:
    """The camera that carries the posed mesh of a frame and view into its source image."""
    if sequence.translation is None:
        return WeakCamera(sequence.camera[frame, view], clip.crop_to_image[frame, view])
    camera = clip.segment.views[view].camera
    if camera is None:
        raise ValueError(f"clip {clip.clip_id}: view {view} has a translation but no camera")
    return PinholeCamera(sequence.translation[frame, view], camera.intrinsics)


def reference_landmarks(clip: FaceClip) -> np.ndarray:
    """The clip's landmarks [F, V, L, 2] in pixels of the source images."""
    matrix = clip.crop_to_image
    return clip.landmarks @ matrix[..., :2, :2].swapaxes(-1, -2) + matrix[..., None, :2, 2]


def measure(clip: FaceClip, sequence: MeshSequence, head) -> Quality:
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
    made = meshes(sequence, head)
    nme, visible = _per_frame(clip, sequence, head, made, valid)
    yaw = yaw_pitch_roll_deg(torch.from_numpy(made.rotation.astype(np.float64)))[..., 0].numpy()
    centred = made.posed - made.root[..., None, :]
    points, face = _stability_points(clip, head, centred), centred[:, :, _face(head)]
    coefficients = sequence.shape[core]
    norm = np.sqrt((coefficients.astype(np.float64) ** 2).mean(-1)).mean() if coefficients.size else np.nan
    several = clip.n_views > 1
    return Quality(
        nme=nme.astype(np.float32),
        yaw_deg=np.where(valid, yaw, np.nan).astype(np.float32),
        visible_fraction=visible.astype(np.float32),
        clip_nme=float(metrics.nan_mean(nme[clip.core])),
        msi3d_landmarks=_stability(points, clip.frame_index, core),
        msi3d_vertices=_stability(face, clip.frame_index, core),
        cvd=metrics.cvd(made.canonical, core).mean if several else None,
        shape_norm=float(norm),
        valid_fraction=float(valid[clip.core].mean()) if clip.core.any() else 0.0,
    )


def _per_frame(clip, sequence, head, made: Meshes, valid: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """NME in percent and visible fraction [F, V], NaN where invalid."""
    scheme, faces, face = clip.landmark_scheme, head.faces, _face(head)
    embedded = head.embedding(scheme).valid.numpy()
    reference = reference_landmarks(clip)
    nme, visible = np.full(valid.shape, np.nan), np.full(valid.shape, np.nan)
    for frame, view in np.argwhere(valid):
        camera = head_camera(clip, sequence, frame, view)
        posed = torch.from_numpy(np.ascontiguousarray(made.posed[frame, view]))
        pose = None if sequence.vertices is not None else torch.from_numpy(sequence.pose[frame, view])
        predicted = camera.project(head.landmarks(posed, scheme, pose=pose).numpy())
        target = reference[frame, view]
        used = embedded & (clip.landmark_confidence[frame, view] > 0)
        nme[frame, view] = metrics.nme(predicted, target, metrics.eye_distance(target, scheme), used)
        vertices = made.posed[frame, view][face]
        facing = (vertex_normals(posed, faces).numpy()[face] * camera.towards_viewer(vertices)).sum(-1) > 0
        pixels, size = camera.project(vertices), clip.image_size[view]
        visible[frame, view] = (facing & ((pixels >= 0) & (pixels < size)).all(-1)).mean()
    return nme, visible


def _stability_points(clip: FaceClip, head, centred: np.ndarray) -> np.ndarray:
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


def _meshes_from_vertices(vertices: np.ndarray, head) -> Meshes:
    face, template = _face(head), head.template.numpy()
    fit = alignment.rigid(vertices[..., face, :], np.broadcast_to(template[face], vertices[..., face, :].shape))
    canonical = fit.apply(vertices).astype(np.float32)
    return Meshes(vertices, canonical, vertices[..., face, :].mean(-2), fit.rotation.swapaxes(-1, -2))


def _face(head) -> np.ndarray:
    return head.regions["face"].numpy()


def _flat(value: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(value, np.float32)).flatten(0, 1)
