"""Single synthetic face crops with exact truth, each a pure function of (seed, index)."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import cv2
import numpy as np
import torch
from torch import Tensor

from neuface_ray.geometry.cameras import nearest_weak_camera
from neuface_ray.geometry.rays import PinholeCamera, crop_to_pixels
from neuface_ray.geometry.render import smooth_normals
from neuface_ray.heads.model import HeadModel
from neuface_ray.media.crop import crop_to_image, landmark_box
from neuface_ray.synthesis import camera_effects
from neuface_ray.synthesis.appearance import Look, displayed, plain, sample_look, sculpted
from neuface_ray.synthesis.hair import Shell, Style, beard_shell, clothes, glasses_shells, hair_shell, sample_style
from neuface_ray.synthesis.light import Lighting, sample_lighting
from neuface_ray.synthesis.materials import Materials
from neuface_ray.synthesis.motion import MotionRange, sample_motion
from neuface_ray.synthesis.population import canonical_identity
from neuface_ray.synthesis.renderer import Picture, Stage, draw, soften_edges
from neuface_ray.types import ARKIT_NAMES

SCHEME = "mediapipe478"
_PERSON, _IMAGE = 1, 2
_FOCAL_PX = 4000.0
_DEPTH_TOLERANCE_M = 0.006


@dataclass(frozen=True)
class FaceOptions(Materials):
    """What synthetic faces are made of.

    Args:
        size: side of the crops, pixels. images_per_person: consecutive indices that show one person.
        crop_scale: as in the media configuration. scale_jitter, shift_jitter: standard deviations of the crop's size (log)
            and centre (in crop sides). motion: poses and expressions. shape_sd, max_sd: spread of the identity coefficients
            and their largest size. occluded: share of pictures with something before the face.
        far: share of pictures taken from so far away that the camera is weak-perspective.
        sculpted: share of people without colours and hair, as untextured scans are. plain: share drawn as by plain renderers.
        canonical: people's mean lies between the head's (0) and this share of the way to MediaPipe's canonical face, anywhere.
    """

    size: int = 128
    images_per_person: int = 4
    crop_scale: float = 1.25
    scale_jitter: float = 0.08
    shift_jitter: float = 0.035
    motion: MotionRange = field(default_factory=MotionRange)
    shape_sd: float = 1.0
    max_sd: float = 3.0
    occluded: float = 0.2
    far: float = 0.2
    sculpted: float = 0.0
    plain: float = 0.0
    canonical: float = 0.0


@dataclass(frozen=True)
class Person:
    """An identity: coefficients [S], colours, belongings, and its neutral head."""

    shape: np.ndarray
    look: Look
    style: Style
    neutral: np.ndarray
    joints: np.ndarray
    hair: Shell | None


@dataclass(frozen=True)
class Face:
    """A crop and its truth.

    Args:
        image: uint8 [S, S, 3] RGB. shape: [S]; expression: [E]; pose: [15]; all float32.
        camera: float32 [3], the weak-perspective camera nearest to the real one (least squares over the landmarks).
        landmarks: float32 [478, 2] true projections in crop coordinates; visible: bool [478].
        intrinsics: float64 [3, 3] of the crop in pixels, translation: float64 [3], the real camera in the view frame.
    """

    image: np.ndarray
    shape: np.ndarray
    expression: np.ndarray
    pose: np.ndarray
    camera: np.ndarray
    landmarks: np.ndarray
    visible: np.ndarray
    intrinsics: np.ndarray
    translation: np.ndarray


def make_face(stage: Stage, options: FaceOptions, seed: int, index: int) -> Face:
    """The face number ``index`` of the set ``seed``; the same on every machine and in any order."""
    person = make_person(stage, options, seed, index // options.images_per_person)
    rng = np.random.default_rng([seed, _IMAGE, index])
    expression, pose = still(rng, stage.head, options.motion)
    vertices = posed(stage.head, person.shape, expression, pose)
    landmarks = landmarks_of(stage.head, vertices)
    camera = _frame(rng, options, landmarks)
    light = sample_lighting(rng, options.hdr)
    picture = portrait(stage, person, vertices, pose, light, camera, drawn_size(options))
    image, hidden = photograph(rng, picture, person.look, options)
    projected = camera.project(landmarks)
    crop = projected / (picture.depth.shape[0] / 2) - 1
    visible = seen(picture, hidden, projected, camera.depth(landmarks))
    scale = options.size / picture.depth.shape[0]
    return Face(
        image,
        person.shape,
        expression.astype(np.float32),
        pose.astype(np.float32),
        nearest_weak_camera(torch.from_numpy(landmarks), torch.from_numpy(crop)).float().numpy(),
        crop.astype(np.float32),
        visible,
        np.diag([scale, scale, 1.0]) @ camera.intrinsics,
        camera.translation,
    )


def drawn_size(options: FaceOptions) -> int:
    """Side of the picture before the sensor takes it: an eighth finer, so that edges are smooth."""
    return options.size * 9 // 8


@lru_cache(maxsize=8)
def make_person(stage: Stage, options: FaceOptions, seed: int, number: int) -> Person:
    """The person of that number: natural identity coefficients (Gaussian, cut at ``max_sd``), look and belongings."""
    rng = np.random.default_rng([seed, _PERSON, number])
    shape = rng.normal(size=stage.head.n_shape) * options.shape_sd
    shape = np.clip(shape, -options.max_sd, options.max_sd)
    if options.canonical > 0:
        shape += rng.uniform(0, options.canonical) * canonical_identity(stage.head)
    shape = shape.astype(np.float32)
    look = sample_look(rng, options.textures)
    style = sample_style(rng, look)
    if options.sculpted > 0 and rng.random() < options.sculpted:
        look, style = sculpted(rng, look), Style(cloth=look.skin)
    if options.plain > 0 and rng.random() < options.plain:
        look = plain(rng, look)
    with torch.no_grad():
        coefficients = torch.from_numpy(shape)
        neutral = stage.head(coefficients).double().numpy()
        joints = stage.head.joints(coefficients).double().numpy()
    hair = None if style.hair is None else hair_shell(style.hair, stage.skull, neutral)
    return Person(shape, look, style, neutral, joints, hair)


def still(rng: np.random.Generator, head: HeadModel, limits: MotionRange) -> tuple[np.ndarray, np.ndarray]:
    """Expression (E,) and pose (15,) of one random instant."""
    motion, instant = sample_motion(rng, limits), np.zeros(1)
    expression, pose = heads_numbers(rng, head, motion.expression(instant), motion.pose(instant))
    return expression[0], pose[0]


def heads_numbers(
    rng: np.random.Generator, head: HeadModel, arkit: np.ndarray, pose: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """ARKit weights (F, 52) and root poses (F, 15) in the head's own numbers.

    A head without named expressions, such as FLAME, gets a random linear image of the weights as coefficients (F, E), which
    keeps their course in time, and opens its jaw joint with ``jawOpen``.
    """
    if head.expression_bounded:
        return arkit, pose
    mixing = rng.normal(size=(arkit.shape[1], head.n_expression)) * rng.uniform(0.3, 1.2)
    pose = pose.copy()
    pose[:, 6] = 0.45 * arkit[:, ARKIT_NAMES.index("jawOpen")]
    return np.clip(arkit @ mixing, -3, 3), pose


def posed(head: HeadModel, shape: np.ndarray, expression: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Vertices (N, 3) float64; only the root is turned where the other joints are at rest."""
    numbers = pose if np.any(pose[3:]) else pose[:3]
    tensors: list[Tensor] = [torch.from_numpy(np.asarray(part, np.float32)) for part in (shape, expression, numbers)]
    with torch.no_grad():
        return head(*tensors).double().numpy()


def landmarks_of(head: HeadModel, vertices: np.ndarray) -> np.ndarray:
    """MediaPipe's points (478, 3) on posed vertices (N, 3)."""
    return head.landmarks(torch.from_numpy(vertices), SCHEME).numpy()


def _frame(rng: np.random.Generator, options: FaceOptions, landmarks: np.ndarray) -> PinholeCamera:
    """A camera whose image is the crop around the face by the media room's rule, give or take the jitter."""
    distance = 30.0 if rng.random() < options.far else float(np.exp(rng.uniform(np.log(0.45), np.log(4.0))))
    middle = (landmarks.min(0) + landmarks.max(0)) / 2
    translation = np.array([-middle[0], -middle[1], -distance - middle[2]])
    focal = np.diag([_FOCAL_PX * distance, _FOCAL_PX * distance, 1.0])
    to_image = crop_to_image(landmark_box(PinholeCamera(translation, focal).project(landmarks)), options.crop_scale)
    to_image[:2, 2] += 2 * to_image[0, 0] * rng.normal(size=2) * options.shift_jitter
    to_image[[0, 1], [0, 1]] *= np.exp(rng.normal() * options.scale_jitter)
    side = drawn_size(options)
    return PinholeCamera(translation, crop_to_pixels(side, side) @ np.linalg.inv(to_image) @ focal)


def portrait(
    stage: Stage, person: Person, vertices: np.ndarray, pose: np.ndarray, light: Lighting, camera: PinholeCamera, size: int
) -> Picture:
    """Draws a person with posed vertices (N, 3); hair and glasses move rigidly with the root rotation of ``pose``."""
    turn = np.asarray(pose[:3], np.float64)
    matrix, half = (cv2.Rodrigues(part)[0] for part in (turn, 0.6 * turn * [0.4, 1.0, 0.4]))
    root = person.joints[0]

    def move(shell: Shell) -> Shell:
        turned = (shell.vertices - root) @ matrix.T + root
        return Shell(turned, shell.faces, shell.colour, shell.alpha, shell.texture, shell.strands, shell.gloss)

    shells = [] if person.hair is None else [move(person.hair)]
    if person.style.beard_mm > 0:
        normals = smooth_normals(vertices, stage.faces)
        shells.append(beard_shell(person.look, person.style.beard_mm, stage.chart, stage.faces, vertices, normals))
    if person.style.glasses is not None:
        shells += [move(shell) for shell in glasses_shells(person.style.glasses, person.joints[3:5])]
    solid = clothes(person.style, person.look, np.zeros(3))
    neck = (stage.chart.neck - root) @ matrix.T + root
    body = Shell(solid.vertices @ half.T + neck, solid.faces, solid.colour, solid.alpha, solid.texture, 0.0, solid.gloss)
    return draw(stage, person.look, vertices, body, shells, light, camera, size)


def photograph(rng: np.random.Generator, picture: Picture, look: Look, options: FaceOptions) -> tuple[np.ndarray, np.ndarray]:
    """The finished uint8 image [S, S, 3], and the cover [R, R] of what is before the face."""
    size = picture.depth.shape[0]
    hidden = np.zeros((size, size), np.float32)
    behind = camera_effects.background(rng, size, options.backgrounds)
    soft = soften_edges(picture)
    full = soft.cover * soft.colour + (1 - soft.cover) * behind
    if rng.random() < options.occluded:
        thing, cover = camera_effects.occluder(rng, size, displayed(look.skin))
        full = cover * thing + (1 - cover) * full
        hidden = cover[..., 0]
    return camera_effects.sensor(rng, full, options.size), hidden


def seen(picture: Picture, hidden: np.ndarray, pixels: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """bool (L,): points at pixels (L, 2) and depths (L,) that lie in the picture and behind nothing."""
    size = picture.depth.shape[0]
    inside = ((pixels >= 0) & (pixels < size)).all(1)
    x, y = np.clip(pixels.astype(int), 0, size - 1).T
    nearby = cv2.dilate(np.where(np.isfinite(picture.depth), picture.depth, -1e3).astype(np.float32), np.ones((3, 3), np.uint8))
    return inside & (depth < nearby[y, x] + _DEPTH_TOLERANCE_M) & (hidden[y, x] < 0.5)
