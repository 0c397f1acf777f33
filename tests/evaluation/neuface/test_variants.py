"""What NeuFace's comparison runs: variants by name, withheld landmarks, the filtered encoder."""

import numpy as np
import pytest

from neuface_ray.evaluation.neuface import variants
from neuface_ray.evaluation.neuface.settings import NeufaceEvaluation
from neuface_ray.evaluation.neuface.variants import low_pass
from neuface_ray.evaluation.synthetic_clips import from_image, in_image
from neuface_ray.fitting.settings import ObjectiveSettings
from neuface_ray.heads import load_head
from neuface_ray.metrics.annotation import accelerations
from neuface_ray.types import MeshSequence
from tests.fitting.made import make_clip


@pytest.fixture(scope="module")
def head():
    return load_head()


def sequence_of(truth, camera, valid):
    frames, views = valid.shape
    numbers = {
        "shape": truth.shape.expand(frames, views, -1).numpy(),
        "expression": truth.expression.expand(frames, views, -1).numpy(),
        "pose": truth.pose.numpy(),
        "camera": camera,
    }
    arrays = {name: np.asarray(value, dtype=np.float32) for name, value in numbers.items()}
    return MeshSequence("clip", "test", "head", **arrays, valid=valid.copy())


@pytest.fixture(scope="module")
def filmed(head):
    clip, truth = make_clip(head, frames=9, azimuths=(0.0, 0.4), calibrated=False)
    camera = np.tile(np.float32([8.0, 0.01, -0.02]), (9, 2, 1))
    return clip, sequence_of(truth, camera, clip.valid)


def test_every_fifth_landmark_is_withheld(head):
    out, valid = variants.withheld_landmarks(head, "mediapipe478"), head.embedding("mediapipe478").valid.numpy()
    assert not (out & ~valid).any()
    assert out.sum() == pytest.approx(valid.sum() / 5, abs=1)


def test_the_variants_are_what_their_names_say():
    settings = NeufaceEvaluation(curve_iterations=[3], curve_steps=[7])
    by_name = {variant.name: variant for variant in variants.all_variants(settings, "stage1")}
    terms = {
        name: by_name[name].annotator.settings.fit.objective for name in (variants.POINTS, variants.VIEW, variants.TEMPORAL)
    }
    assert (terms[variants.POINTS].view, terms[variants.POINTS].temporal, terms[variants.POINTS].smoothness) == (0, 0, 0)
    assert terms[variants.VIEW].view > 0 == terms[variants.VIEW].temporal
    assert terms[variants.TEMPORAL].temporal > 0 == terms[variants.TEMPORAL].view
    assert by_name[variants.FULL].annotator.settings.fit == settings.neuface
    assert by_name[variants.WHOLE].annotator.settings.fit.trainable_from == "stage1"
    assert by_name[variants.CALIBRATED].calibrated
    assert by_name[variants.curve_name(variants.FULL, 3)].annotator.settings.fit.iterations == 3
    assert by_name[variants.curve_name(variants.DIRECT, 7)].annotator.settings.steps == 7
    assert variants.choose_terms(ObjectiveSettings(), view=True, temporal=True) == ObjectiveSettings()


def test_low_pass_leaves_the_still_alone_and_calms_the_shaking(filmed):
    clip, sequence = filmed
    shaking = sequence.pose.copy()
    shaking[..., 0] += 0.05 * (-1.0) ** np.arange(9)[:, None]
    still = np.broadcast_to(sequence.pose[:1], sequence.pose.shape).copy()
    held = low_pass(
        MeshSequence(**{**vars(sequence), "pose": still, "expression": sequence.expression[:1].repeat(9, 0)}), clip, 2.0
    )
    assert np.allclose(held.pose, still, atol=1e-5)
    assert np.array_equal(held.shape, sequence.shape)
    calm = low_pass(MeshSequence(**{**vars(sequence), "pose": shaking}), clip, 1.5)
    before, after = (np.abs(accelerations(pose[:, 0, :3])).mean() for pose in (shaking, calm.pose))
    assert after < 0.1 * before
    assert np.abs(np.diff(calm.expression, axis=0)).mean() <= np.abs(np.diff(sequence.expression, axis=0)).mean()


def test_low_pass_filters_the_camera_in_the_image_and_skips_frames_without_a_crop(filmed):
    clip, sequence = filmed
    crops = clip.crop_to_image.copy()
    crops[:, :, 0, 2] += np.where(np.arange(9) % 2, 6.0, -6.0)[:, None]
    jumping = type(clip)(**{**vars(clip), "crop_to_image": crops, "valid": clip.valid.copy()})
    camera = from_image(in_image(sequence.camera[:1].repeat(9, 0), clip.crop_to_image[:1].repeat(9, 0)), crops)
    jumping.valid[4], jumping.crop_to_image[4] = False, np.eye(3)
    steady = MeshSequence(**{**vars(sequence), "camera": camera.astype(np.float32)})
    smooth = low_pass(steady, jumping, 1.0)
    kept = jumping.valid[:, 0]
    assert np.allclose(in_image(smooth.camera, crops)[kept], in_image(camera, crops)[kept], atol=1e-2)
