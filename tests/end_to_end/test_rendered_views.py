"""Rendered heads of known shape, found by the detector in the pictures and fitted: is the geometry right?"""

from dataclasses import replace

import cv2
import numpy as np
import pytest

from neuface_ray.heads import load_head
from neuface_ray.heads.sequence_meshes import build_meshes
from neuface_ray.media import MediaConfig
from neuface_ray.media.detect import FaceDetector
from neuface_ray.methods.direct_fitting.annotator import DirectFitting
from neuface_ray.metrics.annotation import mpve
from neuface_ray.synthesis.faces import FaceOptions
from neuface_ray.synthesis.motion import MotionRange
from neuface_ray.synthesis.renderer import Renderer
from neuface_ray.synthesis.sequences import SequenceOptions, make_sequence
from neuface_ray.types import FaceClip

FRAMES, SIZE, MARGIN = 4, 256, 64


@pytest.fixture(scope="module")
def filmed():
    """A synthetic sequence from three calibrated cameras whose landmarks were detected in its pictures."""
    renderer = Renderer(load_head())
    motion = MotionRange(yaw_deg=15, pitch_deg=8, roll_deg=5, wide=0, random_expressions=0)
    options = SequenceOptions(frames=FRAMES, views=3, face=FaceOptions(size=SIZE, occluded=0.0, far=0.0, motion=motion))
    sequence = make_sequence(renderer, options, seed=4, index=1)
    with FaceDetector(MediaConfig(max_faces=1)) as detector:
        clip = detected(sequence.clip, detector)
    return renderer.head, clip, sequence.truth


def detected(clip: FaceClip, detector: FaceDetector) -> FaceClip:
    """The clip with the landmarks that the detector finds in its crops instead of the true ones."""
    landmarks, valid = clip.landmarks.copy(), np.zeros_like(clip.valid)
    size = clip.crops.shape[-1]
    for frame, view in np.ndindex(*clip.valid.shape):
        picture = np.ascontiguousarray(clip.crops[frame, view].transpose(1, 2, 0))
        found = detector.find(cv2.copyMakeBorder(picture, MARGIN, MARGIN, MARGIN, MARGIN, cv2.BORDER_REPLICATE))
        if found:
            landmarks[frame, view] = 2 * (found[0].mesh - MARGIN) / size - 1
            valid[frame, view] = True
    confidence = np.broadcast_to(valid[..., None], clip.landmark_confidence.shape).astype(np.float32)
    return replace(clip, landmarks=landmarks.astype(np.float32), landmark_confidence=confidence, valid=valid)


def face_error_mm(head, clip, sequence, truth, alignment: str) -> float:
    face = head.regions["face"].numpy()
    found, real = (build_meshes(s, head).canonical[:, :, face] for s in (sequence, truth))
    return float(mpve(found, real, alignment)[clip.valid].mean())


def test_three_calibrated_views_give_the_metric_face(filmed):
    head, clip, truth = filmed
    assert clip.valid.mean() > 0.8
    sequence = DirectFitting(head).annotate(clip)
    assert face_error_mm(head, clip, sequence, truth, "rigid") < 2.5
    mean = replace(truth, shape=np.zeros_like(truth.shape), expression=np.zeros_like(truth.expression))
    assert face_error_mm(head, clip, sequence, truth, "rigid") < 0.8 * face_error_mm(head, clip, mean, truth, "rigid")


def test_three_uncalibrated_views_give_the_face_up_to_its_size(filmed):
    head, clip, truth = filmed
    views = tuple(replace(view, camera=None) for view in clip.segment.views)
    uncalibrated = replace(clip, segment=replace(clip.segment, views=views))
    sequence = DirectFitting(head).annotate(uncalibrated)
    assert sequence.translation is None
    assert face_error_mm(head, clip, sequence, truth, "similarity") < 2.5
    assert np.sqrt((sequence.shape**2).mean()) < 1.5
