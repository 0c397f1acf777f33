"""The clip that the golden values are computed on: six drawn frames in two calibrated views, with their truth.

It lies beside this file, so that what is computed on it does not change with the way in which faces are drawn.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from neuface_ray.heads import HeadModel
from neuface_ray.synthesis.faces import FaceOptions
from neuface_ray.synthesis.motion import MotionRange
from neuface_ray.synthesis.renderer import Renderer
from neuface_ray.synthesis.sequences import SequenceOptions, make_sequence, sequence_segment
from neuface_ray.types import FaceClip, MeshSequence

PATH = Path(__file__).with_name("clip.npz")
FRAMES, VIEWS, SIDE, SEED = 6, 2, 128, 5
OPTIONS = SequenceOptions(
    FRAMES,
    views=VIEWS,
    face=FaceOptions(size=SIDE, motion=MotionRange(yaw_deg=45, wide=0.2, random_expressions=0.1), occluded=0.0),
)
LOST = (2, 1)
"""The frame and view in which no face was found."""
_OF_CLIP = ("crops", "landmarks", "crop_to_image", "face_px")
_OF_TRUTH = ("shape", "expression", "pose", "camera", "translation")


def draw_clip(head: HeadModel) -> None:
    """Writes the file anew; every golden value but those of drawing changes with it."""
    made = make_sequence(Renderer(head), OPTIONS, SEED, 0)
    arrays = {name: getattr(made.clip, name) for name in _OF_CLIP} | {name: getattr(made.truth, name) for name in _OF_TRUTH}
    np.savez_compressed(PATH, visible=made.visible, **arrays)


def load_clip(head: HeadModel, calibrated: bool = False) -> tuple[FaceClip, MeshSequence]:
    """The clip and its truth; without ``calibrated`` nobody knows the cameras. One face of one view was not found."""
    with np.load(PATH) as file:
        arrays = {name: file[name] for name in file.files}
    grid = (FRAMES, VIEWS)
    valid = np.ones(grid, bool)
    valid[LOST] = False
    arrays["crops"][LOST], arrays["landmarks"][LOST] = 0, 0
    segment = sequence_segment(OPTIONS, SEED, 0)
    if not calibrated:
        segment = replace(segment, views=tuple(replace(view, camera=None) for view in segment.views))
    clip = FaceClip(
        clip_id="golden",
        segment=segment,
        track=0,
        landmark_confidence=np.repeat(valid[..., None], 478, -1).astype(np.float32),
        landmark_scheme="mediapipe478",
        valid=valid,
        core=np.ones(FRAMES, bool),
        frame_index=np.arange(FRAMES),
        source_frame=np.tile(np.arange(FRAMES)[:, None], (1, VIEWS)),
        timestamps_s=np.arange(FRAMES) / OPTIONS.fps,
        fps=OPTIONS.fps,
        image_size=np.full((VIEWS, 2), 720),
        blur=np.full(grid, 50.0, np.float32),
        blendshapes=np.where(valid[..., None], 0.05 + 0.8 * arrays["expression"], 0).astype(np.float32),
        **{name: arrays[name] for name in _OF_CLIP},
    )
    truth = {name: arrays[name] for name in _OF_TRUTH if name != "translation" or calibrated}
    return clip, MeshSequence("golden", "truth", head.id, valid=np.ones(grid, bool), **truth)


def load_visible() -> np.ndarray:
    """Which landmarks nothing hides, bool [F, V, 478]."""
    with np.load(PATH) as file:
        return file["visible"]
