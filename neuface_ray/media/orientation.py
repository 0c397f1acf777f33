"""Which way up a face is.

The landmarker finds faces that lean by up to about 75 degrees. Of others it finds none, or, worse, it lays an upright mesh over
an inverted face, with the eyes on the mouth. Its bundle's face detector, asked by itself, tells such meshes: of 71 faces on 60
photographs its score was 0.80 to 0.97 when they stood upright, and lower by 0.09 or more when they stood on their heads, lower
by 0.06 in the median when they lay on a side.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from neuface_ray.media.bundle import face_detector_model

QUARTER = 90.0
SURE_SCORE = 0.84  # no face turned the wrong way reached it
MARGIN = 0.04  # by how much a face must look better turned than as it was found
LEAST_SCORE = 0.5
CONTEXTS, SCORED_SIDE = (2.6, 2.2, 3.0), 160
BESIDE = 0.75  # an upright mesh on an inverted face lies half a side beside it
FOREHEAD, CHIN = 10, 152
KEEP_TURN_DEG = 60.0


@dataclass(frozen=True)
class ScoredBox:
    """A place looked at with one direction for up: the score in [0, 1] of a face that stands that way, and its box (4,)."""

    upright_deg: float
    score: float
    box: np.ndarray


class FaceScorer:
    """The bundle's face detector by itself: 2 ms a picture; holds native resources, so ``close`` it."""

    def __init__(self) -> None:
        from mediapipe.tasks.python import BaseOptions, vision  # a second to load, which only detecting needs

        options = vision.FaceDetectorOptions(
            base_options=BaseOptions(model_asset_buffer=face_detector_model()), min_detection_confidence=LEAST_SCORE / 2
        )
        self._detector = vision.FaceDetector.create_from_options(options)

    def close(self) -> None:
        self._detector.close()

    def boxes(self, image: np.ndarray) -> list[np.ndarray]:
        """Boxes (4,) of the faces of a (H, W, 3) uint8 image that score above ``LEAST_SCORE``, pixels."""
        return [box for box, score in self._detect(image) if score > LEAST_SCORE]

    def score(self, image: np.ndarray, box: np.ndarray, upright_deg: float, context: float = CONTEXTS[0]) -> ScoredBox:
        """What is at or beside ``box`` as a face that is turned by ``upright_deg``, in a crop ``context`` times as large."""
        crop, to_image = turned_crop(image, box, context, SCORED_SIDE, upright_deg)
        best, near = ScoredBox(upright_deg, 0.0, box), BESIDE / context * SCORED_SIDE
        for found, score in self._detect(crop):
            middle = found.reshape(2, 2).mean(0)
            if score > best.score and np.abs(middle - SCORED_SIDE / 2).max() < near:
                half = (found[2:] - found[:2]).mean() / 2 * np.hypot(*to_image[0, :2])
                there = to_image[:, :2] @ middle + to_image[:, 2]
                best = ScoredBox(upright_deg, score, np.concatenate([there - half, there + half]))
        return best

    def best_direction(self, image: np.ndarray, box: np.ndarray, claimed_deg: float) -> ScoredBox:
        """The likeliest of four directions, a quarter turn apart, in which the face at ``box`` stands.

        Args:
            claimed_deg: direction that its landmarks claim; most are right, so the others are tried only if it looks weak.
        """
        first = self.score(image, box, claimed_deg)
        if first.score >= SURE_SCORE:
            return first
        others = [self.score(image, box, claimed_deg + turn) for turn in (180.0, QUARTER, -QUARTER)]
        if max(each.score for each in others) <= first.score:
            return first
        directions = []
        for direction in (first, *others):
            several = [direction, *(self.score(image, box, direction.upright_deg, context) for context in CONTEXTS[1:])]
            mean = sum(each.score for each in several) / len(several)
            directions.append(replace(max(several, key=lambda each: each.score), score=mean))
        best = max(directions, key=lambda each: each.score)
        return best if best.score > directions[0].score + MARGIN else directions[0]

    def _detect(self, image: np.ndarray) -> list[tuple[np.ndarray, float]]:
        from mediapipe import Image, ImageFormat

        picture = Image(image_format=ImageFormat.SRGB, data=np.ascontiguousarray(image))
        found = []
        for detection in self._detector.detect(picture).detections:
            box = detection.bounding_box
            corners = np.array([box.origin_x, box.origin_y, box.origin_x + box.width, box.origin_y + box.height], np.float64)
            found.append((corners, float(detection.categories[0].score)))
        return found


def roll_deg(mesh: np.ndarray) -> float:
    """Direction from chin to forehead of MediaPipe's (478, 2) points against the picture's upright, in (-180, 180], positive
    counter-clockwise."""
    x, y = mesh[FOREHEAD] - mesh[CHIN]
    return 180.0 - (180.0 - float(np.degrees(np.arctan2(-x, -y)))) % 360.0


def angle_between(a: float, b: float) -> float:
    """Absolute difference of two directions in degrees, in [0, 180]."""
    return abs((a - b + 180.0) % 360.0 - 180.0)


def in_picture(turn_deg: float) -> np.ndarray:
    """(2, 2) map of upright directions, y down, to those of a picture in which upright is turned counter-clockwise; exact for
    quarter turns."""
    quarters, rest = divmod(turn_deg, QUARTER)
    cos, sin = ((1, 0), (0, 1), (-1, 0), (0, -1))[int(quarters) % 4]
    exact = np.array([[cos, sin], [-sin, cos]], np.float64)
    if rest == 0:
        return exact
    cos, sin = np.cos(np.radians(rest)), np.sin(np.radians(rest))
    return exact @ np.array([[cos, sin], [-sin, cos]])


def turned_crop(
    image: np.ndarray, box: np.ndarray, context: float, size: int, turn_deg: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """A square crop of ``context`` times the larger side of ``box``, in which what leans by ``turn_deg`` stands upright.

    Returns:
        uint8 [size, size, 3], black outside of the image, and the (2, 3) map from its pixels (edges at whole numbers) to the
        image's.
    """
    side = context * max(box[2] - box[0], box[3] - box[1])
    scale = max(side, 1.0) / size
    middle = (box[:2] + box[2:]) / 2
    if turn_deg == 0:
        linear, corner = scale * np.eye(2), middle - side / 2
    else:
        linear = scale * in_picture(turn_deg)
        corner = middle - linear @ np.full(2, size / 2)
    to_image = np.concatenate([linear, corner[:, None]], 1)
    sampling = np.concatenate([linear, (corner + linear @ np.full(2, 0.5) - 0.5)[:, None]], 1)
    crop = cv2.warpAffine(image, sampling, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    return crop, to_image


def turned_picture(image: np.ndarray, quarters: int) -> tuple[np.ndarray, np.ndarray]:
    """The whole picture turned clockwise by quarter turns, and the (2, 3) map from its pixels to those of the image."""
    turned = np.ascontiguousarray(np.rot90(image, -quarters))
    return turned, turn_about_middle((image.shape[1], image.shape[0]), quarters)


def turn_about_middle(size: tuple[int, int], quarters: int) -> np.ndarray:
    """(2, 3) map from the pixels of a picture that was turned clockwise by quarter turns to those of the picture as it was.

    Args:
        size: width and height of the picture as it was.
    """
    linear, old = in_picture(QUARTER * (quarters % 4)), np.array(size, np.float64) / 2
    new = old[::-1] if quarters % 2 else old
    return np.concatenate([linear, (old - linear @ new)[:, None]], 1)


def quarter_turns(rolls_deg: Sequence[float]) -> np.ndarray:
    """int8 [F]: by how many quarter turns (counter-clockwise, 0 to 3) a face is turned, for its roll in consecutive frames.

    Faces within 45 degrees of upright are not. A turn is kept as long as the face leans by no more than 60 degrees from it, so
    that a face near the middle between two does not flicker.
    """
    turns, current = [], 0
    for frame, roll in enumerate(rolls_deg):
        limit = QUARTER / 2 if frame == 0 else KEEP_TURN_DEG
        if angle_between(roll, QUARTER * current) > limit:
            current = round(roll / QUARTER) % 4
        turns.append(current)
    return np.array(turns, np.int8)
