"""Subjects seen from cameras that are known, and clips made of the pictures."""

import numpy as np
import pytest

from neuface_ray.evaluation.rendered_heads import (
    ScanSubject,
    SyntheticSubject,
    as_video,
    as_views,
    evaluation_faces,
    render_to_clip,
)
from neuface_ray.fitting.observations import Observations
from neuface_ray.heads import load_head
from neuface_ray.media import MediaConfig
from neuface_ray.media.detect import FaceDetector
from neuface_ray.metrics.landmarks import source_landmarks
from neuface_ray.synthesis.materials import Materials
from neuface_ray.synthesis.renderer import Renderer


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def subject(head):
    """A synthetic person with a resting face."""
    return SyntheticSubject(Renderer(head), evaluation_faces(256, 1.0, 0.0, Materials()), 3, 1, 1.0)


@pytest.fixture(scope="module")
def media():
    return MediaConfig(max_faces=1, crop_size=64)


@pytest.fixture(scope="module")
def detector(media):
    with FaceDetector(media) as opened:
        yield opened


def in_pixels(points_mm, camera):
    opencv = points_mm / 1000 @ camera.world_to_camera[:3, :3].T + camera.world_to_camera[:3, 3]
    pixels = opencv @ camera.intrinsics.T
    return pixels[:, :2] / pixels[:, 2:]


@pytest.mark.parametrize("yaw", [0.0, -35.0])
def test_a_synthetic_persons_camera_is_the_one_that_saw_her(subject, detector, yaw):
    render = subject.render(yaw, 5.0)
    found = detector.find(render.image)[0].mesh
    expected = in_pixels(subject.scan.landmarks, render.camera)
    eyes = np.linalg.norm(np.diff(subject.scan.landmarks[[33, 263]], axis=0)) / 1000 * 256 / 0.36
    assert np.nanmean(np.linalg.norm(found - expected, axis=-1)) < 0.06 * eyes
    assert subject.render(yaw, 5.0).image.tobytes() == render.image.tobytes()


def test_both_kinds_of_subjects_turn_alike(subject):
    still = ScanSubject(subject.scan, 256)
    a, b = subject.render(30.0, -4.0), still.render(30.0, -4.0)
    np.testing.assert_allclose(a.camera.world_to_camera, b.camera.world_to_camera)
    np.testing.assert_allclose(a.camera.intrinsics, b.camera.intrinsics)
    assert a.image.shape == b.image.shape == (256, 256, 3)


def test_stills_become_a_video_or_views(subject, media, detector):
    renders = [subject.render(yaw) for yaw in (-20.0, 0.0)]
    stills = [render_to_clip(render.image, media, detector) for render in [*renders, renders[0]]]
    stills[1] = render_to_clip(np.full((256, 256, 3), 80, np.uint8), media, detector)
    video = as_video(stills, 25.0)
    assert video.crops.shape == (3, 1, 3, 64, 64)
    assert video.valid[:, 0].tolist() == [True, False, True]
    assert video.timestamps_s.tolist() == [0, 0.04, 0.08]
    assert video.core.all()
    np.testing.assert_array_equal(video.landmarks[2], stills[2].landmarks[0])
    views = as_views([stills[0], stills[2]], [renders[0].camera, renders[1].camera])
    assert views.crops.shape == (1, 2, 3, 64, 64)
    assert views.image_size.tolist() == [[256, 256]] * 2
    assert len(views.source_hash) == len(views.segment.views) == 2
    assert Observations.of(views, subject.renderer.head).calibrated
    assert not Observations.of(video, subject.renderer.head).calibrated
    np.testing.assert_allclose(source_landmarks(views)[0, 0], source_landmarks(stills[0])[0, 0])
