"""Faces and their landmarks in one image, by MediaPipe's Face Landmarker from the packaged bundle.

The landmarker runs in IMAGE mode, so a frame's result depends on that frame and on where faces were expected, never on
what the process did before. VIDEO mode was measured against it: with two or more faces allowed its points are identical;
with one it adds a filter that lags half a frame behind (centroid off by 0.4 to 1.1 % of the eye distance on moving heads).

The bundle's face detector sees a square thumbnail of the image: it finds faces above 15 % of the longer side, hardly any
below 10 %, and near that limit it misplaces some. So small faces are looked at again in an enlarged crop and count only if
they are found there; smaller ones are found on square tiles (about 2 ms each) and then looked for, frame by frame, in such a
crop around the place where they were last seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

import cv2
import numpy as np

from neuface_ray.media.bundle import landmarker_bundle
from neuface_ray.media.config import MediaConfig
from neuface_ray.media.crop import landmark_box
from neuface_ray.types import ARKIT_NAMES

if TYPE_CHECKING:
    from neuface_ray.media.fan import Fan

N_MEDIAPIPE = 478
SURE = 0.15  # faces above this fraction of an image's longer side are found and placed reliably
POSSIBLE = 0.085  # ... and those above this one more often than not
TILE_OVERLAP = 0.4
CONTEXT = 2.5  # side of the crop in which a face is looked for, over the side of its box
CROP_SIDE = 320
BYSTANDER = 1 / 6  # faces this much smaller than one already found are not searched for
ALL_LEVELS = 99


@dataclass(frozen=True)
class Face:
    """One face in one image.

    Args:
        mesh: (478, 2) MediaPipe points, pixels. landmarks: (L, 2) points of the configured scheme, pixels.
        confidence: (L,) in [0, 1]. blendshapes: (52,) float32 in the order of ``ARKIT_NAMES``.
    """

    mesh: np.ndarray
    landmarks: np.ndarray
    confidence: np.ndarray
    blendshapes: np.ndarray

    @property
    def box(self) -> np.ndarray:
        """(4,) left, top, right, bottom of the 68-point subset, pixels."""
        return landmark_box(self.mesh)

    @property
    def side(self) -> float:
        """Mean side of the box, pixels."""
        left, top, right, bottom = self.box
        return float(right - left + bottom - top) / 2


def check_detector(config: MediaConfig) -> None:
    """Loads the file that the detector needs, so that a wrong one is found before a run starts. Raises ModelFileError."""
    if config.detector == "fan":
        _load_fan(config.fan_weights)


def _load_fan(weights: str | None) -> Fan:
    from neuface_ray.media.fan import Fan  # needs torch, which MediaPipe does not

    return Fan(weights)


class FaceDetector:
    """Finds the faces of images; holds native resources, so use it in a ``with`` statement or ``close`` it.

    Raises:
        ModelFileError: the landmarker bundle or the FAN weights are missing.
    """

    def __init__(self, config: MediaConfig):
        self.config = config
        self.scheme = "ibug68" if config.detector == "fan" else "mediapipe478"
        self._fan = None
        if config.detector == "fan":
            self._fan = _load_fan(config.fan_weights)
        from mediapipe.tasks.python import BaseOptions, vision  # a second to load, which only detecting needs

        options = vision.FaceLandmarkerOptions(
            base_options=BaseOptions(model_asset_path=landmarker_bundle()),
            running_mode=vision.RunningMode.IMAGE,
            num_faces=config.max_faces + 2,
            output_face_blendshapes=True,
        )
        self._landmarker = vision.FaceLandmarker.create_from_options(options)

    def __enter__(self) -> FaceDetector:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._landmarker.close()

    def find(self, image: np.ndarray, expected: Sequence[np.ndarray] = (), search_levels: int = 0) -> list[Face]:
        """Faces in a (H, W, 3) uint8 RGB image, largest first, not more than ``max_faces``.

        Args:
            expected: boxes (4,) where faces were seen just before; each is looked at again unless a face was found there.
            search_levels: how many sizes of tiles are searched, from large to small; 0 for none.
        """
        faces: list[Face] = []
        sure = SURE * max(image.shape[:2])
        for face in self._detect(image):
            faces += [face] if face.side >= sure else self._look_again(image, face.box, known=faces)
        for box in expected:
            if all(overlap(box, face.box) < 0.3 for face in faces):
                faces += self._look_again(image, box, known=faces)
        smallest = max([self.config.min_face_px, *(BYSTANDER * face.side for face in faces)])
        for box in self._search(image, smallest, search_levels):
            faces += self._look_again(image, box, known=faces)
        kept: list[Face] = []
        for face in sorted(faces, key=lambda face: -face.side):
            if face.side >= self.config.min_face_px and not any(is_part_of(face, larger) for larger in kept):
                kept.append(face)
        return [self._with_fan(image, face) for face in kept[: self.config.max_faces]]

    def _detect(self, image: np.ndarray, scale: float = 1.0, offset: Sequence[float] = (0.0, 0.0)) -> list[Face]:
        """Faces of an image that was cut at ``offset`` and reduced by ``scale``, in pixels of the whole one."""
        from mediapipe import Image, ImageFormat

        picture = Image(image_format=ImageFormat.SRGB, data=np.ascontiguousarray(image))
        result = self._landmarker.detect(picture)
        size = np.array([image.shape[1], image.shape[0]], np.float64)
        faces = []
        for points, scores in zip(result.face_landmarks, result.face_blendshapes, strict=True):
            mesh = np.array([(p.x, p.y) for p in points]) * size * scale + offset
            named = {score.category_name: score.score for score in scores}
            blendshapes = np.array([named.get(name, 0.0) for name in ARKIT_NAMES], np.float32)
            faces.append(Face(mesh, mesh, np.ones(N_MEDIAPIPE, np.float32), np.clip(blendshapes, 0, 1)))
        return faces

    def _look_again(self, image: np.ndarray, box: np.ndarray, known: Sequence[Face]) -> list[Face]:
        """The face at ``box``, searched in an enlarged crop; empty if there is none or it is known already."""
        side = CONTEXT * max(box[2] - box[0], box[3] - box[1])
        corner = (box[:2] + box[2:]) / 2 - side / 2
        scale = max(side, 1.0) / CROP_SIDE
        matrix = np.array([[scale, 0, corner[0] + 0.5 * scale - 0.5], [0, scale, corner[1] + 0.5 * scale - 0.5]])
        crop = cv2.warpAffine(image, matrix, (CROP_SIDE, CROP_SIDE), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
        found = [face for face in self._detect(crop, scale, corner) if overlap(face.box, box) > 0.25]
        best = max(found, key=lambda face: overlap(face.box, box), default=None)
        if best is None or any(overlap(best.box, face.box) > 0.3 for face in known):
            return []
        return [best]

    def _search(self, image: np.ndarray, smallest: float, levels: int) -> Iterator[np.ndarray]:
        """Boxes of faces on tiles; to be confirmed by a second look."""
        for left, top, side in tiles(image.shape[1], image.shape[0], smallest, levels):
            tile = image[top : top + side, left : left + side]
            scale = max(1.0, side / CROP_SIDE)
            if scale > 1:
                tile = cv2.resize(tile, None, fx=1 / scale, fy=1 / scale, interpolation=cv2.INTER_AREA)
                scale = side / tile.shape[0]
            yield from (face.box for face in self._detect(tile, scale, (left, top)))

    def _with_fan(self, image: np.ndarray, face: Face) -> Face:
        if self._fan is None:
            return face
        landmarks, confidence = self._fan(image, np.concatenate([face.mesh.min(0), face.mesh.max(0)]))
        return Face(face.mesh, landmarks, confidence, face.blendshapes)


def tiles(width: int, height: int, min_face_px: float, levels: int) -> list[tuple[int, int, int]]:
    """Overlapping square tiles (left, top, side) that cover an image, in up to ``levels`` sizes, each half the one before.

    The first size, a few tiles, is taken unless the whole image surely shows faces of ``min_face_px`` pixels; the others until
    such a face is found more often than not.
    """
    result: list[tuple[int, int, int]] = []
    enough = SURE
    larger, side = max(width, height), min(width, height)
    if side > 0.8 * larger:
        side //= 2  # the whole frame is a square already
    while levels > 0 and side >= 64 and larger * enough > min_face_px:
        result += [(left, top, side) for top in _starts(height, side) for left in _starts(width, side)]
        larger, side, levels, enough = side, side // 2, levels - 1, POSSIBLE
    return result


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes (left, top, right, bottom)."""
    size = np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])
    if (size <= 0).any():
        return 0.0
    shared = float(size.prod())
    return shared / (float((a[2:] - a[:2]).prod()) + float((b[2:] - b[:2]).prod()) - shared)


def is_part_of(face: Face, larger: Face) -> bool:
    """True for a much smaller "face" inside the crop of a larger one: an ear on a turned head, a print on a shirt collar."""
    left, top, right, bottom = larger.box
    distance = np.abs(face.box.reshape(2, 2).mean(0) - [(left + right) / 2, (top + bottom) / 2])
    return face.side < 0.6 * larger.side and bool((distance < 0.75 * larger.side).all())


def _starts(length: int, side: int) -> list[int]:
    count = int(np.ceil((length - side) / (side * (1 - TILE_OVERLAP)))) + 1
    return np.linspace(0, length - side, count).round().astype(int).tolist()
