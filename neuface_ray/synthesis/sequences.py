"""Synthetic face videos from one or several calibrated views, as the records that annotation works on, with exact truth."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

import cv2
import numpy as np
import torch

from neuface_ray.geometry.cameras import nearest_weak_camera, view_rotation, world_to_view
from neuface_ray.geometry.rays import PinholeCamera, crop_to_pixels
from neuface_ray.geometry.rotations import matrix_to_rotvec, rotvec_to_matrix
from neuface_ray.media.crop import crop_to_image, landmark_box, to_crop
from neuface_ray.synthesis import camera_effects
from neuface_ray.synthesis.faces import (
    SCHEME,
    FaceOptions,
    Person,
    head_coefficients,
    head_landmarks,
    make_person,
    posed_vertices,
    render_person,
    render_size,
    visible_landmarks,
)
from neuface_ray.synthesis.light import Lighting, rotate_lighting, sample_lighting
from neuface_ray.synthesis.motion import MotionRange, sample_motion
from neuface_ray.synthesis.renderer import Renderer, soften_edges
from neuface_ray.types import Camera, FaceClip, MeshSequence, Segment, View

_SEQUENCE = 3
_CALM = MotionRange(yaw_deg=45, wide=0.2, random_expressions=0.1)
_IMAGE_SIZE = 720
RIG_DEG = {
    "front": (0.0, 0.0),
    "left_30": (30.0, 0.0),
    "right_30": (-30.0, 0.0),
    "left_60": (60.0, 0.0),
    "right_60": (-60.0, 0.0),
    "top": (0.0, 30.0),
    "down": (0.0, -30.0),
}


@dataclass(frozen=True)
class SequenceOptions:
    """What a synthetic video is: frames, rate, how many views of the rig (1 to 7), camera distance, and the faces in it."""

    frames: int = 60
    fps: float = 25.0
    views: int = 1
    distance_m: float = 1.2
    face: FaceOptions = field(default_factory=lambda: FaceOptions(motion=_CALM, occluded=0.0))


@dataclass(frozen=True)
class SyntheticSequence:
    """A clip with its truth; ``visible`` bool [F, V, 478] says which landmarks nothing hides."""

    clip: FaceClip
    truth: MeshSequence
    visible: np.ndarray


def build_rig(views: int, distance: float) -> tuple[View, ...]:
    """Build the first ``views`` cameras of a rig that looks at the world's origin, where the head stands facing +z, y up.

    ``left_30`` stands 30 degrees to the subject's left.
    """
    cameras = []
    focal = 3.6 * _IMAGE_SIZE * distance / 1.2
    intrinsics = np.array([[focal, 0, _IMAGE_SIZE / 2], [0, focal, _IMAGE_SIZE / 2], [0, 0, 1.0]])
    for name, (azimuth, elevation) in list(RIG_DEG.items())[:views]:
        a, e = np.deg2rad([azimuth, elevation])
        back = np.array([np.sin(a) * np.cos(e), np.sin(e), np.cos(a) * np.cos(e)])
        right = np.array([np.cos(a), 0, -np.sin(a)])
        matrix = np.eye(4)
        matrix[:3, :3] = np.stack([right, -np.cross(back, right), -back])
        matrix[:3, 3] = -matrix[:3, :3] @ (distance * back)
        cameras.append(View(name, f"synthetic://{name}", Camera(intrinsics, matrix)))
    return tuple(cameras)


def sequence_segment(options: SequenceOptions, seed: int, index: int) -> Segment:
    """The segment that ``make_sequence`` fills, known without rendering anything."""
    name, n = f"synthetic-{seed}-{index:06d}", options.frames
    views = build_rig(options.views, options.distance_m)
    return Segment(name, name, views, 0, n, 0, n, person=name, fps=options.fps, licence="synthetic")


def make_sequence(renderer: Renderer, options: SequenceOptions, seed: int, index: int) -> SyntheticSequence:
    """The video number ``index`` of the set ``seed``, of its own person; the same on every machine."""
    rng = np.random.default_rng([seed, _SEQUENCE, index])
    person = make_person(renderer, options.face, seed, index)
    light = sample_lighting(rng, options.face.hdr)
    motion = sample_motion(rng, options.face.motion, options.frames / options.fps)
    times = np.arange(options.frames) / options.fps
    expression, pose = head_coefficients(rng, renderer.head, motion.expression(times), motion.pose(times))
    segment = sequence_segment(options, seed, index)
    render_view = partial(_render_view, renderer, options, person, light, expression, pose)
    views = [render_view(view, (seed, index, v)) for v, view in enumerate(segment.views)]
    fields = {name: np.stack([view[name] for view in views], 1) for name in views[0]}
    return _build_records(renderer.head.id, segment, person, fields, expression, times)


def _render_view(
    renderer: Renderer,
    options: SequenceOptions,
    person: Person,
    light: Lighting,
    expression: np.ndarray,
    pose: np.ndarray,
    view: View,
    seed: tuple[int, int, int],
) -> dict[str, np.ndarray]:
    """Render the frames of one view: all about them, stacked along time; ``seed`` is the set's seed, the video and the view."""
    rng = np.random.default_rng([_SEQUENCE, *seed])
    extrinsics = torch.from_numpy(view.camera.world_to_camera)
    turn = view_rotation(extrinsics)
    light = rotate_lighting(light, turn.numpy())
    behind = camera_effects.sample_background(rng, _IMAGE_SIZE // 2, options.face.backgrounds)
    root = torch.from_numpy(person.joints[0])
    middle = torch.from_numpy(person.neutral.mean(0) * [0, 1, 1])
    frames = []
    for t in range(len(pose)):
        view_pose = pose[t].copy()
        view_pose[:3] = matrix_to_rotvec(turn @ rotvec_to_matrix(torch.from_numpy(pose[t, :3]))).numpy()
        vertices = posed_vertices(renderer.head, person.shape, expression[t], view_pose)
        translation = (world_to_view((root - middle)[None], extrinsics)[0] - root).numpy()
        landmarks = head_landmarks(renderer.head, vertices)
        full_camera = PinholeCamera(translation, view.camera.intrinsics)
        pixels = full_camera.project(landmarks)
        to_image = crop_to_image(landmark_box(pixels), options.face.crop_scale)
        side = render_size(options.face)
        to_drawn = crop_to_pixels(side, side) @ np.linalg.inv(to_image)
        camera = PinholeCamera(translation, to_drawn @ view.camera.intrinsics)
        rendered = soften_edges(render_person(renderer, person, vertices, view_pose, light, camera, side))
        shrink = to_drawn @ np.diag([2.0, 2.0, 1.0])
        wall = cv2.warpAffine(behind, shrink[:2], (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        full = rendered.cover * rendered.colour + (1 - rendered.cover) * wall
        sensor, noise = np.random.default_rng([_SEQUENCE, *seed[:2]]), np.random.default_rng([_SEQUENCE, *seed, t])
        image = camera_effects.apply_sensor(sensor, full, options.face.size, noise)
        unoccluded = np.zeros((side, side))
        crop = to_crop(pixels, to_image)
        frames.append(
            {
                "crops": image.transpose(2, 0, 1),
                "landmarks": crop,
                "visible": visible_landmarks(rendered, unoccluded, camera.project(landmarks), camera.depth(landmarks)),
                "crop_to_image": to_image,
                "pose": view_pose,
                "camera": nearest_weak_camera(torch.from_numpy(landmarks), torch.from_numpy(crop)).numpy(),
                "translation": translation,
                "face_px": np.ptp(pixels, axis=0).mean(),
            }
        )
    return {name: np.stack([frame[name] for frame in frames]) for name in frames[0]}


def _build_records(
    head_id: str, segment: Segment, person: Person, fields: dict[str, np.ndarray], expression: np.ndarray, times: np.ndarray
) -> SyntheticSequence:
    n, name = segment.stop, segment.sequence_id
    shape = (n, len(segment.views))
    valid = np.ones(shape, bool)
    clip = FaceClip(
        clip_id=name,
        segment=segment,
        track=0,
        crops=np.ascontiguousarray(fields["crops"]),
        landmarks=fields["landmarks"].astype(np.float32),
        landmark_confidence=np.ones((*shape, fields["landmarks"].shape[2]), np.float32),
        landmark_scheme=SCHEME,
        crop_to_image=fields["crop_to_image"],
        valid=valid,
        core=np.ones(n, bool),
        frame_index=np.arange(n),
        source_frame=np.broadcast_to(np.arange(n)[:, None], shape).copy(),
        timestamps_s=times,
        fps=segment.fps,
        image_size=np.full((shape[1], 2), _IMAGE_SIZE),
        face_px=fields["face_px"].astype(np.float32),
        blur=np.full(shape, np.nan, np.float32),
        source_hash=tuple(f"{name}-{view.name}" for view in segment.views),
    )
    truth = MeshSequence(
        clip_id=name,
        annotator="truth",
        head_model=head_id,
        shape=np.broadcast_to(person.shape, (*shape, len(person.shape))).astype(np.float32),
        expression=np.broadcast_to(expression[:, None], (*shape, expression.shape[1])).astype(np.float32),
        pose=fields["pose"].astype(np.float32),
        camera=fields["camera"].astype(np.float32),
        valid=valid,
        translation=fields["translation"].astype(np.float32),
    )
    return SyntheticSequence(clip, truth, fields["visible"])
