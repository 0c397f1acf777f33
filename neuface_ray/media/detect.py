"""Faces and their landmarks in one image, by MediaPipe's Face Landmarker from the packaged bundle.

The landmarker runs in IMAGE mode, so a frame's result depends on that frame and on where faces were expected, never on
what the process did before. VIDEO mode was measured against it: with two or more faces allowed its points are identical;
with one it adds a filter that lags half a frame behind (centroid off by 0.4 to 1.1 % of the eye distance on moving heads).

The bundle's face detector sees a square thumbnail of the image: it finds faces above 15 % of the longer side, hardly any
below 10 %, and near that limit it misplaces some. So small faces are looked at again in an enlarged crop and count only if
they are found there; smaller ones are found on square tiles (about 2 ms each) and then looked for, frame by frame, in such a
crop around the place where they were last seen.

Faces that lean by more than 60 degrees are looked for in crops that are turned to stand them upright, and a face that comes
into view has to look more like a face as it was found than turned: see `neuface_ray.media.orientation`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import TracebackType
from typing import TYPE_CHECKING

import cv2
import numpy as np

from neuface_ray.media.bundle import landmarker_bundle
from neuface_ray.media.config import MediaConfig
from neuface_ray.media.crop import landmark_box
from neuface_ray.media.orientation import FaceScorer, angle_between, quarter_turns, roll_deg, turned_crop, turned_picture
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
LEANING_DEG = 60.0  # the landmarker finds faces reliably up to this roll
SAME_WAY_DEG = 60.0  # a face whose roll changes by more from one frame to the next is looked at anew
WHOLE = np.eye(2, 3)
DUPLICATE = 0.5  # two boxes that share more than this hold one face


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

    @property
    def roll_deg(self) -> float:
        """Its lean in the picture, in (-180, 180], positive counter-clockwise."""
        return roll_deg(self.mesh)


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
        if "_scorer" in vars(self):
            self._scorer.close()

    @cached_property
    def _scorer(self) -> FaceScorer:
        return FaceScorer()

    def find(
        self,
        image: np.ndarray,
        expected: Sequence[Face] = (),
        search_levels: int = 0,
        search_turned: bool = False,
        doubt_all: bool = False,
    ) -> list[Face]:
        """Faces in a (H, W, 3) uint8 RGB image, largest first, not more than ``max_faces``.

        Args:
            expected: faces seen just before; each is looked for again where it was unless a face was found there.
            search_levels: how many sizes of tiles are searched, from large to small; 0 for none.
            search_turned: look for faces that lie on a side or are upside down, too.
            doubt_all: judge anew which way up the faces are that were ``expected``; others always are judged.
        """
        return self.largest(image, self.find_all(image, expected, search_levels, search_turned, doubt_all))

    def largest(self, image: np.ndarray, faces: Sequence[Face]) -> list[Face]:
        """The first ``max_faces`` of what `find_all` found, with the landmarks of the configured scheme."""
        return [self._with_fan(image, face) for face in faces[: self.config.max_faces]]

    def count(self, image: np.ndarray, faces: Sequence[Face]) -> int:
        """How many faces an image shows in which `find_all` found ``faces``, of which there are never many more than
        ``max_faces``."""
        return len(faces) if len(faces) <= self.config.max_faces else max(len(faces), len(self._scorer.boxes(image)))

    def find_all(
        self,
        image: np.ndarray,
        expected: Sequence[Face] = (),
        search_levels: int = 0,
        search_turned: bool = False,
        doubt_all: bool = False,
    ) -> list[Face]:
        """As `find`, with faces beyond ``max_faces``, as far as the landmarker looks, and with MediaPipe's landmarks only."""
        faces: list[Face] = []
        for seen in expected:
            if abs(seen.roll_deg) > LEANING_DEG:
                faces += self._look_again(image, seen.box, faces, seen.roll_deg)
        leaning, sure = list(faces), SURE * max(image.shape[:2])
        for face in self._detect(image):
            if any(overlap(face.box, other.box) > 0.3 for other in leaning):
                continue
            faces += [face] if face.side >= sure else self._look_again(image, face.box, known=faces)
        for seen in expected:
            if all(overlap(seen.box, face.box) < 0.3 for face in faces):
                faces += self._look_again(image, seen.box, known=faces)
        smallest = max([self.config.min_face_px, *(BYSTANDER * face.side for face in faces)])
        for box in self._search(image, smallest, search_levels):
            faces += self._look_again(image, box, known=faces)
        known = [] if doubt_all else expected
        faces = [true for face in faces for true in self._as_it_stands(image, face, known)]
        if search_turned:
            faces += self._search_turned(image, faces, search_levels)
        kept: list[Face] = []
        for face in sorted(faces, key=lambda face: -face.side):
            again = any(is_part_of(face, larger) or overlap(face.box, larger.box) > DUPLICATE for larger in kept)
            if face.side >= self.config.min_face_px and not again:
                kept.append(face)
        return kept

    def _as_it_stands(self, image: np.ndarray, face: Face, known: Sequence[Face]) -> list[Face]:
        """The face, or the one that is there when looked at the right way up; empty if its landmarks are wrong."""
        for seen in known:
            if overlap(seen.box, face.box) > 0.3 and angle_between(seen.roll_deg, face.roll_deg) < SAME_WAY_DEG:
                return [face]
        scored = self._scorer.best_direction(image, face.box, face.roll_deg)
        if scored.upright_deg == face.roll_deg and abs(face.roll_deg) <= LEANING_DEG:
            return [face]
        again = self._look_again(image, scored.box, [], scored.upright_deg)
        return [true for true in again if angle_between(true.roll_deg, scored.upright_deg) < SAME_WAY_DEG]

    def _search_turned(self, image: np.ndarray, known: Sequence[Face], levels: int) -> list[Face]:
        """Faces that stand upright only in the picture turned by a quarter, a half or three quarters.

        The whole picture is always looked at, tiles only while no face is known.
        """
        found: list[Face] = []
        for quarters in (1, 2, 3):
            turned, to_image = turned_picture(image, quarters)
            boxes = self._scorer.boxes(turned)
            smallest = max([self.config.min_face_px, *(BYSTANDER * face.side for face in known)])
            boxes += [] if known or found else self._search(turned, smallest, levels)
            for box in boxes:
                corners = box.reshape(2, 2) @ to_image[:, :2].T + to_image[:, 2]
                there = np.concatenate([corners.min(0), corners.max(0)])
                if all(overlap(there, face.box) < 0.3 for face in (*known, *found)):
                    again = self._look_again(image, there, (*known, *found), 90.0 * quarters)
                    found += [true for face in again for true in self._as_it_stands(image, face, ())]
        return found

    def _detect(self, image: np.ndarray, to_image: np.ndarray = WHOLE) -> list[Face]:
        """Faces of a picture that was cut out of an image, in the image's pixels, to which the (2, 3) map leads."""
        from mediapipe import Image, ImageFormat

        picture = Image(image_format=ImageFormat.SRGB, data=np.ascontiguousarray(image))
        result = self._landmarker.detect(picture)
        size = np.array([image.shape[1], image.shape[0]], np.float64)
        faces = []
        for points, scores in zip(result.face_landmarks, result.face_blendshapes, strict=True):
            mesh = np.array([(p.x, p.y) for p in points]) * size @ to_image[:, :2].T + to_image[:, 2]
            named = {score.category_name: score.score for score in scores}
            blendshapes = np.array([named.get(name, 0.0) for name in ARKIT_NAMES], np.float32)
            faces.append(Face(mesh, mesh, np.ones(N_MEDIAPIPE, np.float32), np.clip(blendshapes, 0, 1)))
        return faces

    def _look_again(self, image: np.ndarray, box: np.ndarray, known: Sequence[Face], turn_deg: float = 0.0) -> list[Face]:
        """The face at ``box``, searched in an enlarged crop in which a roll of ``turn_deg`` is upright; empty if there is none
        or it is known already."""
        crop, to_image = turned_crop(image, box, CONTEXT, CROP_SIDE, turn_deg)
        found = [face for face in self._detect(crop, to_image) if overlap(face.box, box) > 0.25]
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
            to_image = np.array([[scale, 0, left], [0, scale, top]], np.float64)
            yield from (face.box for face in self._detect(tile, to_image))

    def _with_fan(self, image: np.ndarray, face: Face) -> Face:
        if self._fan is None:
            return face
        (quarters,) = quarter_turns([face.roll_deg]).tolist()
        upright, to_image = (image, WHOLE) if quarters == 0 else turned_picture(image, quarters)
        mesh = (face.mesh - to_image[:, 2]) @ to_image[:, :2]  # turns are orthogonal
        landmarks, confidence = self._fan(upright, np.concatenate([mesh.min(0), mesh.max(0)]))
        landmarks = landmarks @ to_image[:, :2].T + to_image[:, 2]
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
