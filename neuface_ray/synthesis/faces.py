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
from neuface_ray.synthesis.appearance import Appearance, linear_to_display, remove_shading, remove_texture, sample_appearance
from neuface_ray.synthesis.hair import Shell, Style, beard_shell, clothes_shell, glasses_shells, hair_shell, sample_style
from neuface_ray.synthesis.light import Lighting, sample_lighting
from neuface_ray.synthesis.materials import Materials
from neuface_ray.synthesis.motion import MotionRange, sample_motion
from neuface_ray.synthesis.population import canonical_identity
from neuface_ray.synthesis.renderer import RenderedImage, Renderer, soften_edges
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
        untextured: share of people without colours and hair, as such scans are. unshaded: share drawn without shadows.
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
    untextured: float = 0.0
    unshaded: float = 0.0
    canonical: float = 0.0


@dataclass(frozen=True)
class Person:
    """An identity: coefficients [S], colours, belongings, and its neutral head."""

    shape: np.ndarray
    appearance: Appearance
    style: Style
    neutral: np.ndarray
    joints: np.ndarray
    hair: Shell | None


@dataclass(frozen=True)
class SyntheticFace:
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


def make_face(renderer: Renderer, options: FaceOptions, seed: int, index: int) -> SyntheticFace:
    """The face number ``index`` of the set ``seed``; the same on every machine and in any order."""
    person = make_person(renderer, options, seed, index // options.images_per_person)
    rng = np.random.default_rng([seed, _IMAGE, index])
    expression, pose = sample_still(rng, renderer.head, options.motion)
    vertices = posed_vertices(renderer.head, person.shape, expression, pose)
    landmarks = head_landmarks(renderer.head, vertices)
    camera = _sample_camera(rng, options, landmarks)
    light = sample_lighting(rng, options.hdr)
    rendered = render_person(renderer, person, vertices, pose, light, camera, render_size(options))
    image, hidden = compose_image(rng, rendered, person.appearance, options)
    projected = camera.project(landmarks)
    crop = projected / (rendered.depth.shape[0] / 2) - 1
    visible = visible_landmarks(rendered, hidden, projected, camera.depth(landmarks))
    scale = options.size / rendered.depth.shape[0]
    return SyntheticFace(
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


def render_size(options: FaceOptions) -> int:
    """Side of the rendered image before the sensor samples it: an eighth finer, so that edges are smooth."""
    return options.size * 9 // 8


@lru_cache(maxsize=8)
def make_person(renderer: Renderer, options: FaceOptions, seed: int, number: int) -> Person:
    """The person of that number: natural identity coefficients (Gaussian, cut at ``max_sd``), colours, belongings."""
    rng = np.random.default_rng([seed, _PERSON, number])
    shape = rng.normal(size=renderer.head.n_shape) * options.shape_sd
    shape = np.clip(shape, -options.max_sd, options.max_sd)
    if options.canonical > 0:
        shape += rng.uniform(0, options.canonical) * canonical_identity(renderer.head)
    shape = shape.astype(np.float32)
    appearance = sample_appearance(rng, options.textures)
    style = sample_style(rng, appearance)
    if options.untextured > 0 and rng.random() < options.untextured:
        appearance, style = remove_texture(rng, appearance), Style(cloth=appearance.skin)
    if options.unshaded > 0 and rng.random() < options.unshaded:
        appearance = remove_shading(rng, appearance)
    with torch.no_grad():
        coefficients = torch.from_numpy(shape)
        neutral = renderer.head(coefficients).double().numpy()
        joints = renderer.head.joints(coefficients).double().numpy()
    hair = None if style.hair is None else hair_shell(style.hair, renderer.skull, neutral)
    return Person(shape, appearance, style, neutral, joints, hair)


def sample_still(rng: np.random.Generator, head: HeadModel, limits: MotionRange) -> tuple[np.ndarray, np.ndarray]:
    """Sample expression (E,) and pose (15,) of one random instant."""
    motion, instant = sample_motion(rng, limits), np.zeros(1)
    expression, pose = head_coefficients(rng, head, motion.expression(instant), motion.pose(instant))
    return expression[0], pose[0]


def head_coefficients(
    rng: np.random.Generator, head: HeadModel, arkit: np.ndarray, pose: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Express ARKit weights (F, 52) and root poses (F, 15) as coefficients and poses of the head.

    A head without named expressions, such as FLAME, gets a random linear image of the weights as coefficients (F, E), which
    keeps their course in time, and opens its jaw joint with ``jawOpen``.
    """
    if head.expression_bounded:
        return arkit, pose
    mixing = rng.normal(size=(arkit.shape[1], head.n_expression)) * rng.uniform(0.3, 1.2)
    pose = pose.copy()
    pose[:, 6] = 0.45 * arkit[:, ARKIT_NAMES.index("jawOpen")]
    return np.clip(arkit @ mixing, -3, 3), pose


def posed_vertices(head: HeadModel, shape: np.ndarray, expression: np.ndarray, pose: np.ndarray) -> np.ndarray:
    """Vertices (N, 3) float64; only the root is turned where the other joints are at rest."""
    joints = pose if np.any(pose[3:]) else pose[:3]
    tensors: list[Tensor] = [torch.from_numpy(np.asarray(part, np.float32)) for part in (shape, expression, joints)]
    with torch.no_grad():
        return head(*tensors).double().numpy()


def head_landmarks(head: HeadModel, vertices: np.ndarray) -> np.ndarray:
    """MediaPipe's points (478, 3) on posed vertices (N, 3)."""
    return head.landmarks(torch.from_numpy(vertices), SCHEME).numpy()


def _sample_camera(rng: np.random.Generator, options: FaceOptions, landmarks: np.ndarray) -> PinholeCamera:
    """A camera whose image is the crop around the face by the media room's rule, give or take the jitter."""
    distance = 30.0 if rng.random() < options.far else float(np.exp(rng.uniform(np.log(0.45), np.log(4.0))))
    middle = (landmarks.min(0) + landmarks.max(0)) / 2
    translation = np.array([-middle[0], -middle[1], -distance - middle[2]])
    focal = np.diag([_FOCAL_PX * distance, _FOCAL_PX * distance, 1.0])
    to_image = crop_to_image(landmark_box(PinholeCamera(translation, focal).project(landmarks)), options.crop_scale)
    to_image[:2, 2] += 2 * to_image[0, 0] * rng.normal(size=2) * options.shift_jitter
    to_image[[0, 1], [0, 1]] *= np.exp(rng.normal() * options.scale_jitter)
    side = render_size(options)
    return PinholeCamera(translation, crop_to_pixels(side, side) @ np.linalg.inv(to_image) @ focal)


def render_person(
    renderer: Renderer,
    person: Person,
    vertices: np.ndarray,
    pose: np.ndarray,
    light: Lighting,
    camera: PinholeCamera,
    size: int,
) -> RenderedImage:
    """Render a person with posed vertices (N, 3); hair and glasses move rigidly with the root rotation of ``pose``."""
    turn = np.asarray(pose[:3], np.float64)
    matrix, half = (cv2.Rodrigues(part)[0] for part in (turn, 0.6 * turn * [0.4, 1.0, 0.4]))
    root = person.joints[0]

    def move(shell: Shell) -> Shell:
        turned = (shell.vertices - root) @ matrix.T + root
        return Shell(turned, shell.faces, shell.colour, shell.alpha, shell.texture, shell.strands, shell.gloss)

    shells = [] if person.hair is None else [move(person.hair)]
    if person.style.beard_mm > 0:
        normals = smooth_normals(vertices, renderer.faces)
        length_mm, atlas = person.style.beard_mm, renderer.uv_atlas
        shells.append(beard_shell(person.appearance, length_mm, atlas, renderer.faces, vertices, normals))
    if person.style.glasses is not None:
        shells += [move(shell) for shell in glasses_shells(person.style.glasses, person.joints[3:5])]
    solid = clothes_shell(person.style, person.appearance, np.zeros(3))
    neck = (renderer.uv_atlas.neck - root) @ matrix.T + root
    body = Shell(solid.vertices @ half.T + neck, solid.faces, solid.colour, solid.alpha, solid.texture, 0.0, solid.gloss)
    return renderer.render(person.appearance, vertices, body, shells, light, camera, size)


def compose_image(
    rng: np.random.Generator, rendered: RenderedImage, appearance: Appearance, options: FaceOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Compose background, person and occluder into a finished uint8 image [S, S, 3]; and the occluder's cover [R, R]."""
    size = rendered.depth.shape[0]
    hidden = np.zeros((size, size), np.float32)
    behind = camera_effects.sample_background(rng, size, options.backgrounds)
    soft = soften_edges(rendered)
    full = soft.cover * soft.colour + (1 - soft.cover) * behind
    if rng.random() < options.occluded:
        thing, cover = camera_effects.sample_occluder(rng, size, linear_to_display(appearance.skin))
        full = cover * thing + (1 - cover) * full
        hidden = cover[..., 0]
    return camera_effects.apply_sensor(rng, full, options.size), hidden


def visible_landmarks(rendered: RenderedImage, hidden: np.ndarray, pixels: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Which landmarks at pixels (L, 2) and depths (L,) lie in the picture and behind nothing, bool (L,)."""
    size = rendered.depth.shape[0]
    inside = ((pixels >= 0) & (pixels < size)).all(1)
    x, y = np.clip(pixels.astype(int), 0, size - 1).T
    depths = np.where(np.isfinite(rendered.depth), rendered.depth, -1e3).astype(np.float32)
    nearby = cv2.dilate(depths, np.ones((3, 3), np.uint8))
    return inside & (depth < nearby[y, x] + _DEPTH_TOLERANCE_M) & (hidden[y, x] < 0.5)
