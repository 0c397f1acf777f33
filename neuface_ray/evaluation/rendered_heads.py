"""Who sits for the geometry evaluation: scanned heads, and synthetic people drawn with skin, hair and a moving face."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from neuface_ray.evaluation import scan_benchmark as benchmark
from neuface_ray.evaluation.scans import Scan
from neuface_ray.geometry.rays import PinholeCamera
from neuface_ray.geometry.rotations import matrix_to_rotvec
from neuface_ray.synthesis import photo
from neuface_ray.synthesis.draw import Stage, soften_edges
from neuface_ray.synthesis.faces import FaceOptions, heads_numbers, landmarks_of, make_person, portrait, posed
from neuface_ray.synthesis.light import sample_lighting
from neuface_ray.synthesis.materials import Materials
from neuface_ray.synthesis.motion import MotionRange, sample_motion
from neuface_ray.types import POSE_SIZE

_SITTER = 7


class Sitter(Protocol):
    """A head of known surface that can be photographed.

    Attributes:
        scan: its expressionless surface in mm in the head frame, with landmarks.
    """

    scan: Scan

    def take(self, yaw_deg: float, pitch_deg: float = 0.0, instant_s: float = 0.0) -> benchmark.Render:
        """A picture of the head turned and tilted, at an instant of its movement."""
        ...


@dataclass(frozen=True)
class ScanSitter:
    """A normalised scan under soft light; its face does not move. ``size`` is the side of the pictures in pixels."""

    scan: Scan
    size: int

    def take(self, yaw_deg: float, pitch_deg: float = 0.0, instant_s: float = 0.0) -> benchmark.Render:
        return benchmark.take(self.scan, yaw_deg, pitch_deg, self.size)


class SyntheticSitter:
    """Person ``number`` of the set ``seed``, with a light, a background, a camera and a face that moves for ``duration_s``.

    Args:
        options: ``size`` is the side of the pictures, ``motion.intensity`` the strength of expressions.
    """

    def __init__(self, stage: Stage, options: FaceOptions, seed: int, number: int, duration_s: float):
        self.stage, self.options, self.key = stage, options, (_SITTER, seed, number)
        self.person = make_person(stage, options, seed, number)
        rng = np.random.default_rng(self.key)
        self.light = sample_lighting(rng, options.hdr)
        self.wall = photo.background(rng, options.size, options.backgrounds)
        self.motion = sample_motion(rng, options.motion, duration_s)
        neutral, colour = self.person.neutral, np.tile(self.person.look.skin, (len(self.person.neutral), 1))
        landmarks = 1000 * landmarks_of(stage.head, neutral)
        self.scan = Scan(f"person {number}", 1000 * neutral, stage.faces, colour, landmarks=landmarks)

    def take(self, yaw_deg: float, pitch_deg: float = 0.0, instant_s: float = 0.0) -> benchmark.Render:
        turn = benchmark.turned(yaw_deg, pitch_deg)
        camera, origin = benchmark.camera_before(turn, self.options.size)
        root = self.person.joints[0]
        pose = np.zeros((1, POSE_SIZE))
        pose[0, :3] = matrix_to_rotvec(torch.from_numpy(turn)).numpy()
        weights = self.motion.expression(np.array([instant_s]))
        expression, pose = heads_numbers(np.random.default_rng(self.key), self.stage.head, weights, pose)
        vertices = posed(self.stage.head, self.person.shape, expression[0], pose[0])
        seen_from = PinholeCamera(origin + turn @ root - root, camera.intrinsics)
        drawn = portrait(self.stage, self.person, vertices, pose[0], self.light, seen_from, self.options.size)
        return benchmark.Render(self._photograph(drawn, (yaw_deg, pitch_deg, instant_s)), camera, yaw_deg)

    def _photograph(self, drawn, moment: tuple[float, float, float]) -> np.ndarray:
        """One camera for all pictures of a person, with fresh noise in each."""
        soft = soften_edges(drawn)
        full = soft.cover * soft.colour + (1 - soft.cover) * self.wall
        noise = np.random.default_rng([*self.key, *(round(1000 * (value + 360)) for value in moment)])
        return photo.sensor(np.random.default_rng([*self.key, 1]), full, self.options.size, noise)


def second_setting(size: int, shape_sd: float, expressions: float, materials: Materials) -> FaceOptions:
    """A generator setting other than that of training: wider identities, calmer faces, other materials."""
    return FaceOptions(
        size=size,
        images_per_person=1,
        motion=MotionRange(intensity=expressions, odd=0.0),
        shape_sd=shape_sd,
        **materials.materials(),
        occluded=0.0,
    )
