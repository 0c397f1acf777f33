"""Ground-truth clips: what the detector sees of them, and their files."""

import numpy as np
import pytest

from neuface_ray.evaluation import synthetic_clips
from neuface_ray.evaluation.synthetic_clips import from_image, in_image
from neuface_ray.heads import load_head
from neuface_ray.media import MediaConfig
from neuface_ray.metrics.landmarks import source_landmarks
from neuface_ray.synthesis.faces import FaceOptions
from neuface_ray.synthesis.renderer import Renderer
from neuface_ray.synthesis.sequences import SequenceOptions


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def options():
    return SequenceOptions(frames=3, views=2, face=FaceOptions(size=144, crop_scale=1.7, occluded=0.0))


@pytest.mark.parametrize("landmarks", ["detected", "true"])
def test_a_ground_truth_clip_is_seen_by_the_detector_and_survives_its_file(head, options, landmarks, tmp_path):
    media = MediaConfig(crop_size=128, max_faces=1)
    known = synthetic_clips.make_ground_truth_clip(Renderer(head), options, 5, 0, media, landmarks)
    assert known.clip.crops.shape == (3, 2, 3, 128, 128)
    assert known.clip.valid.any()
    given = source_landmarks(known.clip)[known.clip.valid]
    off = np.linalg.norm(given - known.points[known.clip.valid], axis=-1).mean()
    size = np.ptp(known.points, axis=2).mean()
    assert off < (0.1 if landmarks == "detected" else 1e-5) * size
    assert (known.clip.blendshapes is None) == (landmarks == "true")
    assert np.abs(known.clip.landmarks).max() < 1.2
    synthetic_clips.save(known, tmp_path / "clip.npz")
    read = synthetic_clips.load(tmp_path / "clip.npz", options, 5, 0)
    for record, again in ((known.clip, read.clip), (known.truth, read.truth)):
        for name, value in vars(record).items():
            if isinstance(value, np.ndarray):
                assert np.array_equal(value, getattr(again, name)), name
    assert read.clip.clip_id == known.clip.clip_id
    assert read.clip.segment.views[1].name == "left_30"
    assert synthetic_clips.uncalibrated(read.clip).segment.views[1].camera is None
    assert read.clip.segment.views[1].camera is not None


def test_the_store_is_another_one_for_other_options(head, options):
    media = MediaConfig(crop_size=128)
    names = [
        synthetic_clips.store_name(options, seed, head, media, landmarks)[0]
        for seed, landmarks in ((1, "detected"), (2, "detected"), (1, "true"), (1, "detected"))
    ]
    assert len(set(names)) == 3
    assert names[0] == names[3]


def test_cameras_in_the_image_and_back():
    rng = np.random.default_rng(0)
    camera = rng.uniform(0.5, 3, (4, 2, 3))
    crops = np.zeros((4, 2, 3, 3))
    crops[..., 0, 0] = crops[..., 1, 1] = rng.uniform(50, 90, (4, 2))
    crops[..., :2, 2], crops[..., 2, 2] = rng.uniform(100, 300, (4, 2, 2)), 1
    image = in_image(camera, crops)
    assert np.allclose(from_image(image, crops), camera)
    point = np.array([0.02, -0.03])
    crop = camera[0, 0, 0] * (point + camera[0, 0, 1:]) * [1, -1]
    pixel = crops[0, 0, :2, :2] @ crop + crops[0, 0, :2, 2]
    assert np.allclose(image[0, 0, 1:] + image[0, 0, 0] * point * [1, -1], pixel)
