"""Pictures of annotated frames, made from arrays alone: the frame with landmarks, with the mesh, and the mesh's profile.

All pictures are uint8 RGB. Frames are cut to a region of the source image that stays the same for a whole clip, and drawn at
the size they are shown in, so that lines and mesh stay sharp however small the source is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from neuface_ray.geometry.mesh import unique_edges
from neuface_ray.geometry.rays import HeadCamera, WeakCamera, crop_to_pixels
from neuface_ray.geometry.render import CLAY, draw_mesh
from neuface_ray.heads.model import HeadModel

BACKGROUND, TEXT, FAINT = (24, 26, 30), (236, 238, 240), (150, 156, 164)
GOOD, BAD, POINTS = (104, 200, 140), (236, 110, 96), (94, 234, 212)
PROFILE_HEIGHT_M = 0.32
PANEL = (400, 500)
Region = tuple[float, float, float, float]


@dataclass(frozen=True)
class MeshStyle:
    """Style of a head's mesh: triangles (T, 3), colour (N, 3) and opacity (N,) of its vertices, middle (3,) of its profile."""

    faces: np.ndarray
    colour: np.ndarray
    opacity: np.ndarray
    middle: np.ndarray


@dataclass(frozen=True)
class AnnotatedFrame:
    """One frame of one view: the source image and, where a face was annotated, what was found in it.

    Args:
        image: uint8 [H, W, 3]. landmarks: (L, 2) source pixels. vertices: (N, 3) posed, in the view frame, with the ``camera``
            that projects them into the image. canonical: (N, 3) without the head's rotation, for the profile.
    """

    image: np.ndarray
    landmarks: np.ndarray | None = None
    vertices: np.ndarray | None = None
    camera: HeadCamera | None = None
    canonical: np.ndarray | None = None


@dataclass(frozen=True)
class Caption:
    """Text under a picture: what it is, the numbers, the gate's decision (``accepted`` None for no decision)."""

    title: str
    numbers: str = ""
    decision: str = ""
    accepted: bool | None = None


def mesh_style(head: HeadModel) -> MeshStyle:
    """The usual style of a head model: clay, opaque over the face and fading towards scalp and neck, lips and eyes set off."""
    count = head.template.shape[0]
    regions = {name: index.numpy() for name, index in head.regions.items()}
    opacity, colour = np.full(count, 0.3), np.tile(np.array(CLAY), (count, 1))
    opacity[regions["face"]] = 0.9
    for name, tint in (("lips", (0.70, 0.62, 0.68)), ("eyes", (0.90, 0.92, 0.94))):
        if name in regions:
            colour[regions[name]] = tint
    opacity = _spread(opacity, head.faces, rounds=12)
    if "eyes" in regions:
        opacity[regions["eyes"]] = 0.9
    template = head.template.numpy()
    return MeshStyle(head.faces.numpy(), colour, opacity, (template.min(0) + template.max(0)) / 2)


def face_region(
    landmarks: np.ndarray, size: tuple[int, int], aspect: float = PANEL[0] / PANEL[1], margin: float = 0.55
) -> Region:
    """Find the part (left, top, right, bottom) of an image that shows a face in all its frames, with air around it.

    Args:
        landmarks: (..., L, 2) source pixels of the frames with a face; the whole image if there are none. size: its width and
            height. aspect: width over height of the region. margin: air on each side, in sizes of the face.
    """
    points = np.asarray(landmarks, np.float64).reshape(-1, 2)
    shape, image = np.array([aspect, 1.0]), np.array(size, np.float64)
    if not len(points):
        half = max(image / shape) * shape / 2
        return (*(image / 2 - half), *(image / 2 + half))
    low, high = points.min(0), points.max(0)
    face = np.ptp(np.asarray(landmarks).reshape(-1, landmarks.shape[-2], 2), axis=1).max()
    least, wanted = (max((high - low + 2 * air * face) / shape) for air in (0.1, margin))
    half = max(least, min(wanted, *(image / shape))) * shape / 2
    centre = (low + high) / 2 - [0, 0.12 * face]
    # The region stays inside the image where it fits.
    centre = np.where(2 * half <= image, np.clip(centre, half, np.maximum(image - half, half)), centre)
    return (*(centre - half), *(centre + half))


def overlay_frame(
    frame: AnnotatedFrame, style: MeshStyle, region: Region, caption: Caption, size: tuple[int, int] = PANEL
) -> np.ndarray:
    """Draw a row of three panels over a caption: frame with landmarks, frame with mesh, profile of the mesh.

    Args:
        region: part of the source to show, from `face_region`. size: width and height of one panel.

    Returns:
        uint8 [size[1] + bar, 3 size[0], 3]; both sides even, as video encoders want.
    """
    panels = [*draw_panels(frame, style, region, size)[1:], draw_profile(frame, style, size)]
    bar = caption_bar(caption, 3 * size[0], 2 * round(size[1] * 0.036) + 4)
    picture = np.concatenate([np.concatenate(panels, 1), bar])
    return np.ascontiguousarray(picture[: len(picture) // 2 * 2, : picture.shape[1] // 2 * 2])


def draw_landmarks(image: np.ndarray, frame: AnnotatedFrame, transform: np.ndarray) -> np.ndarray:
    """Draw the frame's landmarks as dots on an image that ``transform`` (3, 3) made from the source."""
    out = image.copy()
    if frame.landmarks is None:
        return out
    points = frame.landmarks @ transform[:2, :2].T + transform[:2, 2]
    spread = np.ptp(points, axis=0).max()
    radius = np.clip(spread / (190 if len(points) > 100 else 90), 0.5, 4)
    drawable = (np.abs(points) < 1e5).all(-1)
    for x, y in np.rint((points[drawable] - 0.5) * 16).astype(int).tolist():
        cv2.circle(out, (x, y), round(radius * 16), POINTS, -1, cv2.LINE_AA, 4)
    return cv2.addWeighted(out, 0.85, image, 0.15, 0)


def draw_head(image: np.ndarray, frame: AnnotatedFrame, style: MeshStyle, transform: np.ndarray) -> np.ndarray:
    """Draw the frame's mesh over an image that ``transform`` (3, 3) made from the source."""
    if frame.vertices is None or frame.camera is None:
        return image.copy()
    return draw_mesh(image, frame.vertices, style.faces, frame.camera.moved(transform), style.colour, style.opacity)


def draw_profile(frame: AnnotatedFrame, style: MeshStyle, size: tuple[int, int]) -> np.ndarray:
    """Draw the mesh without its rotation, seen from its left, at a scale that is the same for all heads."""
    shade = np.linspace(1.25, 0.75, size[1])[:, None, None]
    background = np.broadcast_to(np.clip(np.array(BACKGROUND) * 1.5 * shade, 0, 255), (size[1], size[0], 3)).astype(np.uint8)
    if frame.canonical is None:
        return background
    turned = (frame.canonical - style.middle)[:, [2, 1, 0]] * np.array([-1, 1, 1])
    camera = WeakCamera(np.array([2 / PROFILE_HEIGHT_M * size[1] / size[0], 0, 0]), crop_to_pixels(size[0], size[0]))
    camera = camera.moved(np.array([[1, 0, 0], [0, 1, (size[1] - size[0]) / 2], [0, 0, 1.0]]))
    return draw_mesh(background, turned, style.faces, camera, style.colour, 1.0)


def draw_panels(frame: AnnotatedFrame, style: MeshStyle, region: Region, size: tuple[int, int]) -> list[np.ndarray]:
    """Draw the region of a frame plain, with landmarks and with the mesh."""
    plain, transform = cut_region(frame.image, region, size)
    return [plain, draw_landmarks(plain, frame, transform), draw_head(plain, frame, style, transform)]


def cut_region(image: np.ndarray, region: Region, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Resample the region of an image to a size; returns it and the (3, 3) transform of pixels that did it."""
    left, top, right, bottom = region
    scale = np.array([size[0] / (right - left), size[1] / (bottom - top)])
    transform = np.array([[scale[0], 0, -left * scale[0]], [0, scale[1], -top * scale[1]], [0, 0, 1.0]])
    if scale.min() < 0.5:
        # cv2 does not average on the way down: shrink by area first.
        small = cv2.resize(image, None, fx=2 * scale[0], fy=2 * scale[1], interpolation=cv2.INTER_AREA)
        ratio = np.array([small.shape[1] / image.shape[1], small.shape[0] / image.shape[0], 1])
        image, warp = small, transform / ratio
    else:
        warp = transform
    # cv2 counts from pixel centres at 0, we from centres at +0.5.
    half = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    matrix = (np.linalg.inv(half) @ warp @ half)[:2]
    return cv2.warpAffine(image, matrix, size, flags=cv2.INTER_LINEAR, borderValue=BACKGROUND), transform


def caption_bar(caption: Caption, width: int, height: int) -> np.ndarray:
    """Draw a strip of text: title left, numbers in the middle, decision right; the title is shortened to what fits."""
    bar = Image.new("RGB", (width, height), BACKGROUND)
    draw = ImageDraw.Draw(bar)
    font, pad, middle = _font(round(height * 0.44)), round(height * 0.35), height / 2
    decision_width = draw.textlength(caption.decision, font) + 2 * pad if caption.decision else 0
    if caption.decision:
        colour = FAINT if caption.accepted is None else GOOD if caption.accepted else BAD
        left = width - pad - decision_width
        draw.rounded_rectangle((left, height * 0.14, width - pad, height * 0.86), height * 0.2, fill=colour)
        draw.text((left + pad, middle), caption.decision, BACKGROUND, font, "lm")
        decision_width += pad
    numbers_width = draw.textlength(caption.numbers, font)
    numbers_left = width - decision_width - numbers_width - 2 * pad
    title = caption.title
    while title and draw.textlength(title, font) > numbers_left - 2 * pad:
        title = title[:-2].rstrip() + "…" if len(title) > 2 else ""
    draw.text((pad, middle), title, TEXT, font, "lm")
    draw.text((numbers_left, middle), caption.numbers, FAINT, font, "lm")
    return np.asarray(bar)


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)


def _spread(values: np.ndarray, faces: torch.Tensor, rounds: int) -> np.ndarray:
    """Vertex values (N,) averaged with their neighbours' a number of times."""
    edges = unique_edges(faces).numpy()
    ends, others = np.concatenate([edges, edges[:, ::-1]]).T
    degree = np.maximum(np.bincount(ends, minlength=len(values)), 1)
    for _ in range(rounds):
        values = (values + np.bincount(ends, values[others], len(values)) / degree) / 2
    return values
