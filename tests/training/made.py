"""A small mesh dataset with parameters and pictures that agree, several views of one instant included."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from neuface_ray.dataset import Output, Provenance, clip_rows, finalise
from neuface_ray.geometry.cameras import project_weak
from neuface_ray.heads import HeadModel
from neuface_ray.types import FaceClip, GateDecision, MeshSequence, Quality, Segment, View
from neuface_ray.uri import local_uri

SIDE = 96
YAWS = (0.5, 0.0, -0.5)


def digest(*parts) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:24]


def codes(rng: np.random.Generator, head: HeadModel, frames: int, views: int) -> dict[str, np.ndarray]:
    """Random head parameters (F, V, .): one identity, one expression a frame, views that differ by their yaw."""
    expression = np.clip(rng.normal(0, 0.3, (frames, 1, head.n_expression)), 0, 1)
    pose = np.zeros((frames, views, 15))
    pose[..., 1] = np.array(YAWS)[:views] + 0.1 * rng.normal(size=(frames, 1))
    numbers = {
        "shape": np.broadcast_to(rng.normal(size=head.n_shape), (frames, views, head.n_shape)),
        "expression": np.broadcast_to(expression, (frames, views, head.n_expression)),
        "pose": pose,
        "camera": np.array([7.5, 0.0, 0.0]) + rng.normal(size=(frames, views, 3)) * [0.3, 0.005, 0.005],
    }
    return {name: value.astype(np.float32) for name, value in numbers.items()}


def project(head: HeadModel, numbers: dict[str, np.ndarray]) -> np.ndarray:
    """True MediaPipe landmarks (F, V, 478, 2)."""
    with torch.no_grad():
        tensors = {name: torch.from_numpy(value) for name, value in numbers.items()}
        vertices = head(tensors["shape"], tensors["expression"], tensors["pose"])
        return project_weak(head.landmarks(vertices, "mediapipe478"), tensors["camera"]).numpy()


def draw(landmarks: np.ndarray) -> np.ndarray:
    """A picture [SIDE, SIDE, 3] with dots at the landmarks (478, 2)."""
    picture = np.full((SIDE, SIDE, 3), 60, np.uint8)
    for i, (x, y) in enumerate((landmarks + 1) * SIDE / 2):
        cv2.circle(picture, (int(x), int(y)), 2, (40 + i % 7 * 30, 250 - i // 2, 90 + i % 3 * 60), -1)
    return picture


def make_dataset(
    folder: Path,
    head: HeadModel,
    people: int = 3,
    frames: int = 2,
    views: int = 1,
    accepted: bool = True,
    head_model: str = "",
    invalid: Sequence[tuple[int, int]] = (),
) -> Path:
    """Writes ``folder/set`` with one clip for each person; the pictures lie beside it. ``invalid``: persons and frames."""
    name = head_model or head.id
    output = Output.open(str(folder / "set"), Provenance("run", "truth", name))
    pictures = folder / "pictures"
    pictures.mkdir(parents=True, exist_ok=True)
    for person in range(people):
        rng = np.random.default_rng([7, person])
        numbers = codes(rng, head, frames, views)
        landmarks = project(head, numbers)
        uris = []
        for v in range(views):
            path = pictures / f"{person}-{v}.png"
            cv2.imwrite(str(path), draw(landmarks[0, v])[..., ::-1])
            uris.append(local_uri(str(path)))
        segment = Segment(
            segment_id=digest(person, views),
            sequence_id=f"recording{person}",
            views=tuple(View(f"view{v}", uri) for v, uri in enumerate(uris)),
            start=0,
            stop=frames,
            context_start=0,
            context_stop=frames,
            person=f"person{person}",
            is_image=True,
        )
        valid = np.ones((frames, views), bool)
        valid[[frame for who, frame in invalid if who == person]] = False
        output.commit(segment, [_rows(segment, numbers, landmarks, valid, accepted, output.provenance)])
    finalise(output.store)
    return folder / "set"


def _rows(segment: Segment, numbers: dict, landmarks: np.ndarray, valid: np.ndarray, accepted: bool, provenance: Provenance):
    frames, views = numbers["pose"].shape[:2]
    grid = (frames, views)
    half = SIDE / 2
    clip = FaceClip(
        clip_id=digest("clip", segment.segment_id),
        segment=segment,
        track=0,
        crops=np.zeros((*grid, 3, 4, 4), np.uint8),
        landmarks=landmarks.astype(np.float32),
        landmark_confidence=np.ones(landmarks.shape[:3], np.float32),
        landmark_scheme="mediapipe478",
        crop_to_image=np.broadcast_to(np.array([[half, 0, half], [0, half, half], [0, 0, 1.0]]), (*grid, 3, 3)),
        valid=valid,
        core=np.ones(frames, bool),
        frame_index=np.arange(frames),
        source_frame=np.zeros(grid, np.int64),
        timestamps_s=np.arange(frames) / 25,
        fps=25.0,
        image_size=np.tile([SIDE, SIDE], (views, 1)),
        face_px=np.full(grid, 60.0, np.float32),
        blur=np.full(grid, 50.0, np.float32),
    )
    mesh = MeshSequence(clip.clip_id, "truth", provenance.head_model, **numbers, valid=valid)
    ones = np.ones(grid, np.float32)
    quality = Quality(ones, 0 * ones, ones, 1.0, 1.0, 1.0, None, 1.0, 1.0)
    return clip_rows(clip, mesh, quality, GateDecision(accepted), provenance)
