"""Clips with exact annotations, for tests of what measures and shows them."""

import numpy as np
import torch

from neuface_ray.heads.sequence_meshes import build_meshes, head_camera
from neuface_ray.types import Camera, FaceClip, MeshSequence, Segment, View


def make_clip(head, frames=7, views=2, calibrated=False, seed=0, as_vertices=False, uris=None):
    """A clip of ``frames`` x ``views`` whose landmarks are those of the sequence's meshes, in a 640x480 image."""
    rng = np.random.default_rng(seed)
    shape = np.broadcast_to(rng.normal(size=20), (frames, views, 20)).astype(np.float32)
    expression = np.zeros((frames, views, 52), np.float32)
    expression[..., :20] = rng.uniform(0, 0.3, size=(frames, 1, 20))
    pose = np.zeros((frames, views, 15), np.float32)
    pose[..., 1] = np.linspace(-0.3, 0.3, views) + rng.normal(scale=0.02, size=(frames, 1))
    camera = np.tile(np.array([7.0, 0.005, -0.01], np.float32), (frames, views, 1))
    translation = np.tile(np.array([0.02, 0.01, -0.6], np.float32), (frames, views, 1)) if calibrated else None
    intrinsics = np.array([[700.0, 0, 320], [0, 700, 240], [0, 0, 1]])
    known = Camera(intrinsics, np.eye(4)) if calibrated else None
    places = tuple(View(f"v{v}", f"v{v}.mp4" if uris is None else uris[v], known) for v in range(views))
    valid = np.ones((frames, views), bool)
    sequence = MeshSequence("clip", "test", head.id, shape, expression, pose, camera, valid.copy(), translation)
    if as_vertices:
        sequence.vertices = build_meshes(sequence, head).posed
    clip = FaceClip(
        clip_id="clip",
        segment=Segment("segment", "sequence", places, 0, frames, 0, frames),
        track=0,
        crops=np.zeros((frames, views, 3, 8, 8), np.uint8),
        landmarks=np.zeros((frames, views, 478, 2), np.float32),
        landmark_confidence=np.ones((frames, views, 478), np.float32),
        landmark_scheme="mediapipe478",
        crop_to_image=np.tile(np.array([[150.0, 0, 330], [0, 150, 250], [0, 0, 1]]), (frames, views, 1, 1)),
        valid=valid,
        core=np.ones(frames, bool),
        frame_index=np.arange(frames),
        source_frame=np.tile(np.arange(frames)[:, None], (1, views)),
        timestamps_s=np.arange(frames) / 25,
        fps=25.0,
        image_size=np.tile([640, 480], (views, 1)),
        face_px=np.full((frames, views), 200, np.float32),
        blur=np.full((frames, views), 100, np.float32),
    )
    posed = build_meshes(sequence, head).posed
    points = head.landmarks(torch.from_numpy(posed), "mediapipe478").numpy()
    for f, v in np.ndindex(frames, views):
        pixels = head_camera(clip, sequence, f, v).project(points[f, v])
        clip.landmarks[f, v] = (pixels - [330, 250]) / 150
    return clip, sequence
