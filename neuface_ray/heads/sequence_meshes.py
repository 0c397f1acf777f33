"""The meshes of a mesh sequence: posed and canonical vertices, and the cameras that carry them into the source images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from neuface_ray.geometry import alignment
from neuface_ray.geometry.rays import HeadCamera, PinholeCamera, WeakCamera
from neuface_ray.geometry.rotations import rotvec_to_matrix
from neuface_ray.heads.model import HeadModel
from neuface_ray.types import FaceClip, MeshSequence

_CHUNK = 32


@dataclass(frozen=True)
class SequenceMeshes:
    """The meshes of a sequence, which numbers and pictures both use.

    Args:
        posed: float32 [F, V, N, 3] in the view frame. canonical: float32 [F, V, N, 3] without the head's rotation.
        root: float32 [F, V, 3], the point that the head turns about. rotation: float32 [F, V, 3, 3] of the head.
    """

    posed: np.ndarray
    canonical: np.ndarray
    root: np.ndarray
    rotation: np.ndarray


def build_meshes(sequence: MeshSequence, head: HeadModel) -> SequenceMeshes:
    """Build the posed and canonical meshes of a sequence.

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
    return SequenceMeshes(*(value.reshape(*grid, *value.shape[1:]) for value in (posed, canonical, root, rotation)))


def head_camera(clip: FaceClip, sequence: MeshSequence, frame: int, view: int) -> HeadCamera:
    """The camera that carries the posed mesh of a frame and view into its source image."""
    if sequence.translation is None:
        return WeakCamera(sequence.camera[frame, view], clip.crop_to_image[frame, view])
    camera = clip.segment.views[view].camera
    if camera is None:
        raise ValueError(f"clip {clip.clip_id}: view {view} has a translation but no camera")
    return PinholeCamera(sequence.translation[frame, view], camera.intrinsics)


def _meshes_from_vertices(vertices: np.ndarray, head: HeadModel) -> SequenceMeshes:
    face, template = head.regions["face"].numpy(), head.template.numpy()
    fit = alignment.rigid(vertices[..., face, :], np.broadcast_to(template[face], vertices[..., face, :].shape))
    canonical = fit.apply(vertices).astype(np.float32)
    return SequenceMeshes(vertices, canonical, vertices[..., face, :].mean(-2), fit.rotation.swapaxes(-1, -2))


def _flat(value: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(value, np.float32)).flatten(0, 1)
