"""How far a reconstructed mesh lies from the true one: vertices, keypoints, and surfaces as H3DS compares them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import trimesh
from scipy.spatial import cKDTree

from neuface_ray.geometry import alignment as align
from neuface_ray.geometry.closest_points import Surface
from neuface_ray.heads import HeadModel
from neuface_ray.methods.heatmap.keypoints import surface_keypoints
from neuface_ray.methods.lvd.labels import head_to_view
from neuface_ray.methods.lvd.network import Descent, apply_similarity
from neuface_ray.metrics.annotation import MM, mpve
from neuface_ray.metrics.scan_to_mesh import refine
from neuface_ray.types import FaceClip, MeshSequence

ALIGNMENTS = ("none", "rigid", "similarity")
KEYPOINTS = 18
SUBDIVISIONS = 2
_MARGIN_M = 0.03
_SPARSE, _ITERATIONS = 4, 20
# Of the 68: middles of the eyes, tip and base of the nose, corners of the mouth.
_SIX = ((36, 37, 38, 39, 40, 41), (42, 43, 44, 45, 46, 47), (30,), (33,), (48,), (54,))


def only_views(clip: FaceClip, views: list[int]) -> FaceClip:
    """The clip as if it had been recorded in some of its views alone, in the order given."""
    names = ("crops", "landmarks", "landmark_confidence", "crop_to_image", "valid", "source_frame", "face_px", "blur")
    fields = {name: np.ascontiguousarray(getattr(clip, name)[:, views]) for name in names}
    if clip.blendshapes is not None:
        fields["blendshapes"] = np.ascontiguousarray(clip.blendshapes[:, views])
    segment = replace(clip.segment, views=tuple(clip.segment.views[v] for v in views))
    hashes = tuple(clip.source_hash[v] for v in views) if clip.source_hash else ()
    return replace(clip, segment=segment, image_size=clip.image_size[views], source_hash=hashes, **fields)


def mesh_errors(found: np.ndarray, truth: np.ndarray, head: HeadModel) -> dict[str, float]:
    """Mean errors in mm of a posed mesh (N, 3), metres: of the face's vertices as the mesh lies with its root where the true
    root is, after rigid and after similarity alignment of the face, and of keypoints after the rigid one."""
    face = head.regions["face"].numpy()
    errors = {f"mpve_{name}_face_mm": float(mpve(found[face], truth[face], name)) for name in ALIGNMENTS}
    moved = align.rigid(found[face], truth[face]).apply(found)
    points, true_points = (surface_keypoints(head, torch.from_numpy(mesh), KEYPOINTS) for mesh in (moved, truth))
    return errors | {"keypoints_mm": MM * float((points - true_points).norm(dim=-1).mean())}


def chamfer(found: np.ndarray, truth: np.ndarray, head: HeadModel) -> dict[str, float]:
    """One-directional distances in mm from the true face to a reconstructed mesh, both (N, 3) in metres.

    As H3DS measures them: a similarity by six landmarks, a rigid refinement of the true face on the reconstruction, then the
    distance of every true vertex to the nearest vertex of the mesh (subdivided, so that its vertices are dense), and beside
    it to its surface.

    Source: Ramon et al., "H3D-Net", ICCV 2021, and the public ``h3ds`` evaluation; written from its description.
    """
    faces = _near_the_face(head)
    six = [np.stack([_landmarks(head, mesh)[list(of)].mean(0) for of in _SIX]) for mesh in (found, truth)]
    target = MM * truth[head.regions["face"].numpy()].astype(np.float64)
    start = align.similarity(MM * six[0], MM * six[1])
    surface = Surface(MM * found, faces)
    fit = refine(target[::_SPARSE], surface, start, metric=True, iterations=_ITERATIONS)
    to_surface = fit.scale * surface.closest((target - fit.translation) @ fit.rotation / fit.scale).distance.mean()
    dense, fine = fit.apply(MM * found.astype(np.float64)), faces
    for _ in range(SUBDIVISIONS):
        dense, fine = trimesh.remesh.subdivide(dense, fine)
    to_vertices = cKDTree(dense).query(target)[0].mean()
    return {"chamfer_vertex_mm": float(to_vertices), "chamfer_surface_mm": float(to_surface)}


def _near_the_face(head: HeadModel) -> np.ndarray:
    """Triangles (T, 3) of the head's front: those near the face of the template, which is all that a face can lie next to."""
    template = head.template.numpy()
    near = cKDTree(template[head.regions["face"].numpy()]).query(template)[0] < _MARGIN_M
    faces = head.faces.numpy()
    return faces[near[faces].all(1)]


def _landmarks(head: HeadModel, vertices: np.ndarray) -> np.ndarray:
    return head.landmarks(torch.from_numpy(vertices), "ibug68").numpy().astype(np.float64)


def descent_errors(descent: Descent, to_view: torch.Tensor, truth: MeshSequence, head: HeadModel) -> dict[str, np.ndarray]:
    """Errors (T + 1,) in mm along a descent of frame 0, in the frame of the first view and with the true scale.

    Args:
        descent: of one instant. to_view: (N, 3, 4). truth: of the clip, whose first view is that of ``to_view``.

    Returns:
        ``vertices``, the mean over the face, and ``keypoints`` where the network has some.
    """
    columns = {name: torch.from_numpy(getattr(truth, name)[:1]) for name in ("shape", "expression", "pose", "camera")}
    placed = head_to_view(head, columns)[0, 0]
    still = torch.cat([torch.zeros(3), columns["pose"][0, 0, 3:]])
    wanted = apply_similarity(placed, head(columns["shape"][0, 0], columns["expression"][0, 0], still))
    unit_mm = MM / columns["camera"][0, 0, 0].item()
    face = head.regions["face"]
    found = apply_similarity(to_view[0].cpu(), descent.trajectory[:, 0].cpu())
    errors = {"vertices": unit_mm * (found[:, face] - wanted[face]).norm(dim=-1).mean(-1).numpy()}
    if descent.keypoint_trajectory is not None:
        points = apply_similarity(to_view[0].cpu(), descent.keypoint_trajectory[:, 0].cpu())
        true_points = surface_keypoints(head, wanted, points.shape[1])
        errors["keypoints"] = unit_mm * (points - true_points).norm(dim=-1).mean(-1).numpy()
    return errors
