"""Rendered pictures become face clips by the way that photographs take: a file, detection, a crop."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from neuface_ray.media import MediaConfig, prepare
from neuface_ray.media.detect import FaceDetector
from neuface_ray.types import Camera, FaceClip, Segment, View

_GRID = (
    *("crops", "landmarks", "landmark_confidence", "crop_to_image", "valid"),
    *("source_frame", "face_px", "blur", "blendshapes"),
)


def capture(image: np.ndarray, media: MediaConfig, detector: FaceDetector) -> FaceClip:
    """The largest face of a picture (uint8 [H, W, 3] RGB) as a clip of one frame; ``valid`` is False where none is found."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "picture.png"
        cv2.imwrite(str(path), np.ascontiguousarray(image[..., ::-1]))
        segment = Segment("picture", "picture", (View("picture", str(path)),), 0, 1, 0, 1, is_image=True)
        return prepare(segment, media, detector)[0]


def as_video(stills: Sequence[FaceClip], fps: float) -> FaceClip:
    """Stills of one view as consecutive frames of a clip."""
    n = len(stills)
    first = stills[0].segment
    fields = {name: np.concatenate([getattr(clip, name) for clip in stills], 0) for name in (*_GRID, "core")}
    segment = replace(first, stop=n, context_stop=n, fps=fps, is_image=False)
    times = {"frame_index": np.arange(n), "timestamps_s": np.arange(n) / fps, "fps": fps}
    return replace(stills[0], segment=segment, **fields, **times)


def as_views(stills: Sequence[FaceClip], cameras: Sequence[Camera | None]) -> FaceClip:
    """Stills of one instant as the views of a clip, calibrated where there are cameras."""
    fields = {name: np.concatenate([getattr(clip, name) for clip in stills], 1) for name in _GRID}
    old = [clip.segment.views[0] for clip in stills]
    views = tuple(View(f"view{v}", view.uri, camera) for v, (view, camera) in enumerate(zip(old, cameras, strict=True)))
    sizes, hashes = np.concatenate([clip.image_size for clip in stills]), tuple(clip.source_hash[0] for clip in stills)
    segment = replace(stills[0].segment, views=views)
    return replace(stills[0], segment=segment, image_size=sizes, source_hash=hashes, **fields)
