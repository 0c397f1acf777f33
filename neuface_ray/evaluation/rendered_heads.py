"""Subjects of evaluations, rendered from known cameras: scanned heads and synthetic people; and clips made of the pictures."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import torch

from neuface_ray.evaluation.scan_benchmark import Render, camera_facing, head_rotation, render_scan
from neuface_ray.evaluation.scans import Scan
from neuface_ray.geometry.rays import PinholeCamera
from neuface_ray.geometry.rotations import matrix_to_rotvec
from neuface_ray.media import MediaConfig, prepare
from neuface_ray.media.detect import FaceDetector
from neuface_ray.synthesis import camera_effects
from neuface_ray.synthesis.faces import (
    FaceOptions,
    head_coefficients,
    head_landmarks,
    make_person,
    posed_vertices,
    render_person,
)
from neuface_ray.synthesis.light import sample_lighting
from neuface_ray.synthesis.materials import Materials
from neuface_ray.synthesis.motion import MotionRange, sample_motion
from neuface_ray.synthesis.renderer import RenderedImage, Renderer, soften_edges
from neuface_ray.types import POSE_SIZE, Camera, FaceClip, Segment, View

_GRID = (
    *("crops", "landmarks", "landmark_confidence", "crop_to_image", "valid"),
    *("source_frame", "face_px", "blur", "blendshapes"),
)
_SUBJECT = 7


class Subject(Protocol):
    """A head of known surface that can be rendered.

    Attributes:
        scan: its expressionless surface in mm in the head frame, with landmarks.
    """

    scan: Scan

    def render(self, yaw_deg: float, pitch_deg: float = 0.0, instant_s: float = 0.0) -> Render:
        """Render the head turned and tilted, at an instant of its movement."""
        ...


@dataclass(frozen=True)
class ScanSubject:
    """A normalised scan under soft light; its face does not move. ``size`` is the side of the pictures in pixels."""

    scan: Scan
    size: int

    def render(self, yaw_deg: float, pitch_deg: float = 0.0, instant_s: float = 0.0) -> Render:
        return render_scan(self.scan, yaw_deg, pitch_deg, self.size)


class SyntheticSubject:
    """Person ``number`` of the set ``seed``, with a light, a background, a camera and a face that moves for ``duration_s``.

    Args:
        options: ``size`` is the side of the pictures, ``motion.intensity`` the strength of expressions.
    """

    def __init__(self, renderer: Renderer, options: FaceOptions, seed: int, number: int, duration_s: float):
        self.renderer, self.options, self.key = renderer, options, (_SUBJECT, seed, number)
        self.person = make_person(renderer, options, seed, number)
        rng = np.random.default_rng(self.key)
        self.light = sample_lighting(rng, options.hdr)
        self.wall = camera_effects.sample_background(rng, options.size, options.backgrounds)
        self.motion = sample_motion(rng, options.motion, duration_s)
        neutral, colour = self.person.neutral, np.tile(self.person.appearance.skin, (len(self.person.neutral), 1))
        landmarks = 1000 * head_landmarks(renderer.head, neutral)
        self.scan = Scan(f"person {number}", 1000 * neutral, renderer.faces, colour, landmarks=landmarks)

    def render(self, yaw_deg: float, pitch_deg: float = 0.0, instant_s: float = 0.0) -> Render:
        turn = head_rotation(yaw_deg, pitch_deg)
        camera, origin = camera_facing(turn, self.options.size)
        root = self.person.joints[0]
        pose = np.zeros((1, POSE_SIZE))
        pose[0, :3] = matrix_to_rotvec(torch.from_numpy(turn)).numpy()
        weights = self.motion.expression(np.array([instant_s]))
        expression, pose = head_coefficients(np.random.default_rng(self.key), self.renderer.head, weights, pose)
        vertices = posed_vertices(self.renderer.head, self.person.shape, expression[0], pose[0])
        camera_in_place = PinholeCamera(origin + turn @ root - root, camera.intrinsics)
        drawn = render_person(self.renderer, self.person, vertices, pose[0], self.light, camera_in_place, self.options.size)
        return Render(self._finish(drawn, (yaw_deg, pitch_deg, instant_s)), camera, yaw_deg)

    def _finish(self, drawn: RenderedImage, moment: tuple[float, float, float]) -> np.ndarray:
        """Put a picture before the person's background, through one camera for all, with fresh noise in each."""
        soft = soften_edges(drawn)
        full = soft.cover * soft.colour + (1 - soft.cover) * self.wall
        noise = np.random.default_rng([*self.key, *(round(1000 * (value + 360)) for value in moment)])
        return camera_effects.apply_sensor(np.random.default_rng([*self.key, 1]), full, self.options.size, noise)


def evaluation_faces(size: int, shape_sd: float, expressions: float, materials: Materials) -> FaceOptions:
    """Options of faces unlike those of training: wider identities, calmer expressions, other materials."""
    return FaceOptions(
        size=size,
        images_per_person=1,
        motion=MotionRange(intensity=expressions, random_expressions=0.0),
        shape_sd=shape_sd,
        **materials.materials(),
        occluded=0.0,
    )


def render_to_clip(image: np.ndarray, media: MediaConfig, detector: FaceDetector) -> FaceClip:
    """Turn a picture, uint8 [H, W, 3] RGB, into a clip of one frame with its largest face; ``valid`` is False without one.

    It goes the way of photographs: a file, detection, a crop.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        cv2.imwrite(str(path), np.ascontiguousarray(image[..., ::-1]))
        segment = Segment("picture", "picture", (View("picture", str(path)),), 0, 1, 0, 1, is_image=True)
        return prepare(segment, media, detector)[0]


def as_video(stills: Sequence[FaceClip], fps: float) -> FaceClip:
    """Join stills of one view as consecutive frames of a clip."""
    n = len(stills)
    first = stills[0].segment
    fields = {name: np.concatenate([getattr(clip, name) for clip in stills], 0) for name in (*_GRID, "core")}
    segment = replace(first, stop=n, context_stop=n, fps=fps, is_image=False)
    times = {"frame_index": np.arange(n), "timestamps_s": np.arange(n) / fps, "fps": fps}
    return replace(stills[0], segment=segment, **fields, **times)


def as_views(stills: Sequence[FaceClip], cameras: Sequence[Camera | None]) -> FaceClip:
    """Join stills of one instant as the views of a clip, calibrated where there are cameras."""
    fields = {name: np.concatenate([getattr(clip, name) for clip in stills], 1) for name in _GRID}
    old = [clip.segment.views[0] for clip in stills]
    views = tuple(View(f"view{v}", view.uri, camera) for v, (view, camera) in enumerate(zip(old, cameras, strict=True)))
    sizes, hashes = np.concatenate([clip.image_size for clip in stills]), tuple(clip.source_hash[0] for clip in stills)
    segment = replace(stills[0].segment, views=views)
    return replace(stills[0], segment=segment, image_size=sizes, source_hash=hashes, **fields)
