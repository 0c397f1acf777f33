"""Faces that lie on a side or are upside down, for methods that know upright ones, and their answers back in the picture.

Networks have seen faces that lean by 45 degrees at most. `upright` turns pictures, crops and cameras of a clip by whole
quarters, which moves pixels and rounds nothing; `in_picture` turns the answer back into the picture's view frame.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from neuface_ray.geometry.rotations import matrix_to_rotvec, rotvec_to_matrix
from neuface_ray.heads import HeadModel
from neuface_ray.media.orientation import turn_about_middle
from neuface_ray.types import Camera, FaceClip, MeshSequence


def upright(clip: FaceClip) -> FaceClip:
    """The clip as if each frame of each view had been filmed with the face upright, to within 45 degrees.

    The camera of a calibrated view is one for all its frames, so there the turn is the one of most frames.
    """
    turns = turns_of(clip)
    if not turns.any():
        return clip
    landmarks, crops, to_image = clip.landmarks.copy(), clip.crops.copy(), clip.crop_to_image.copy()
    for frame, view in np.argwhere(turns > 0):
        quarters = int(turns[frame, view])
        back = np.eye(3)
        back[:2] = turn_about_middle(tuple(clip.image_size[view].tolist()), quarters)
        linear = back[:2, :2]
        landmarks[frame, view] = clip.landmarks[frame, view] @ linear.astype(np.float32)
        crops[frame, view] = np.rot90(clip.crops[frame, view], -quarters, axes=(1, 2))
        turned = np.eye(3)
        turned[:2, :2] = linear
        if clip.valid[frame, view]:
            to_image[frame, view] = np.linalg.inv(back) @ clip.crop_to_image[frame, view] @ turned
    views = tuple(
        view if view.camera is None else replace(view, camera=_turned_camera(view.camera, size, int(quarters)))
        for view, size, quarters in zip(clip.segment.views, clip.image_size.tolist(), turns[0], strict=True)
    )
    return replace(
        clip,
        landmarks=landmarks,
        crops=crops,
        crop_to_image=to_image,
        segment=replace(clip.segment, views=views),
        quarter_turns=None,
    )


def in_picture(clip: FaceClip, sequence: MeshSequence, head: HeadModel) -> MeshSequence:
    """The answer to ``upright(clip)`` in the view frames and crops of ``clip``; the same object if nothing was turned.

    A head turns about its root joint j, a picture about its middle: with Z the turn, R x + j - R j becomes Z R x + j - Z R j,
    and what is missing, Z j - j, is added to the camera's or the head's translation.
    """
    turns = turns_of(clip)
    if not turns.any():
        return sequence
    angle = np.pi / 2 * turns
    turn = np.zeros((*turns.shape, 3, 3))
    turn[..., 0, 0] = turn[..., 1, 1] = np.cos(angle).round()
    turn[..., 1, 0], turn[..., 0, 1], turn[..., 2, 2] = np.sin(angle).round(), -np.sin(angle).round(), 1
    with torch.no_grad():
        codes = torch.from_numpy(np.array(sequence.shape)), torch.from_numpy(np.array(sequence.expression))
        joint = head.joints(*codes)[..., 0, :].double().numpy()
        root = torch.from_numpy(sequence.pose[..., :3].astype(np.float64))
        root = matrix_to_rotvec(torch.from_numpy(turn) @ rotvec_to_matrix(root)).numpy()
    missing = (turn @ joint[..., None])[..., 0] - joint
    camera, moved, translation = sequence.camera.copy(), turns > 0, sequence.translation
    shift = 0 if sequence.vertices is not None else missing[..., :2]
    turned_shift = (turn[..., :2, :2] @ camera[..., 1:, None])[..., 0] + shift
    camera[moved, 1:] = turned_shift[moved]
    pose = sequence.pose.copy()
    pose[moved, :3] = root[moved]
    if translation is not None:
        translation = translation.copy()
        translation[moved] = ((turn @ translation[..., None])[..., 0] + missing)[moved]
    vertices = sequence.vertices
    if vertices is not None:
        vertices = vertices.copy()
        vertices[moved] = vertices[moved] @ turn[moved].swapaxes(-1, -2).astype(vertices.dtype)
    return replace(sequence, pose=pose, camera=camera, translation=translation, vertices=vertices)


def turns_of(clip: FaceClip) -> np.ndarray:
    """int [F, V]: the quarter turns that `upright` undoes."""
    if clip.quarter_turns is None:
        return np.zeros(clip.valid.shape, int)
    turns = clip.quarter_turns.astype(int)
    for number, view in enumerate(clip.segment.views):
        if view.camera is not None:
            seen = turns[clip.valid[:, number], number]
            turns[:, number] = np.bincount(seen, minlength=4).argmax() if len(seen) else 0
    return turns


def _turned_camera(camera: Camera, size: list[int], quarters: int) -> Camera:
    """The camera of the picture turned clockwise by quarter turns: turned about its axis, its middle moved."""
    back = np.eye(3)
    back[:2] = turn_about_middle((size[0], size[1]), quarters)
    turn = np.eye(3)
    turn[:2, :2] = back[:2, :2].T
    to_camera = np.eye(4)
    to_camera[:3, :3] = turn
    return Camera(np.linalg.inv(back) @ camera.intrinsics @ turn.T, to_camera @ camera.world_to_camera)
