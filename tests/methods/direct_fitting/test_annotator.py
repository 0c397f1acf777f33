"""The annotator's contract, kept by direct fitting."""

import numpy as np
import pytest

from neuface_ray.errors import UsageError
from neuface_ray.heads import load_head
from neuface_ray.methods.direct_fitting.settings import DirectFittingSettings
from neuface_ray.methods.registry import AnnotatorConfig, build_annotator
from tests.fitting.made import make_clip


@pytest.fixture(scope="module")
def annotator():
    settings = DirectFittingSettings(pose_steps=5, steps=10)
    return build_annotator(AnnotatorConfig("direct_fitting", "cpu", settings), load_head())


def test_a_sequence_has_numbers_for_every_frame_and_view(annotator):
    clip, _ = make_clip(annotator.head, frames=3, azimuths=(0.0, 0.5), calibrated=False)
    clip.valid[1, 0] = False
    sequence = annotator.annotate(clip)
    assert sequence.shape.shape == (3, 2, annotator.head.n_shape)
    assert sequence.expression.shape == (3, 2, annotator.head.n_expression)
    assert sequence.pose.shape == (3, 2, 15)
    assert sequence.camera.shape == (3, 2, 3)
    assert sequence.translation is None
    assert sequence.head_model == annotator.head.id
    assert (sequence.valid == clip.valid).all()
    assert (sequence.shape == sequence.shape[0, 0]).all()
    assert all(np.isfinite(getattr(sequence, name)).all() for name in ("shape", "expression", "pose", "camera"))


def test_calibrated_clips_get_a_translation_and_the_nearest_weak_camera(annotator):
    clip, _ = make_clip(annotator.head, frames=2, azimuths=(0.0, 0.5), calibrated=True)
    sequence = annotator.annotate(clip)
    assert sequence.translation.shape == (2, 2, 3)
    assert sequence.translation[..., 2].max() < -0.8
    assert (sequence.camera[..., 0] > 0).all()


def test_what_came_before_leaves_no_trace(annotator):
    first, _ = make_clip(annotator.head, frames=3, azimuths=(0.0,), calibrated=False, seed=1)
    second, _ = make_clip(annotator.head, frames=3, azimuths=(0.0,), calibrated=False, seed=2)
    alone = annotator.annotate(second)
    annotator.annotate(first)
    after = annotator.annotate(second)
    for name in ("shape", "expression", "pose", "camera"):
        assert np.array_equal(getattr(alone, name), getattr(after, name))


def test_an_unknown_annotator_is_a_usage_error_that_names_the_choices(annotator):
    with pytest.raises(UsageError, match="direct_fitting"):
        build_annotator(AnnotatorConfig(name="direct_fiting"), annotator.head)
