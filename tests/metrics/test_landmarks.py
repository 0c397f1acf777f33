"""Annotated points are read from every format and mean the same pixels; projections are those that quality measures."""

import numpy as np
import pytest
import scipy.io

from neuface_ray.errors import DataError
from neuface_ray.metrics import annotation as metrics
from neuface_ray.metrics.clip_quality import measure
from neuface_ray.metrics.landmarks import project_landmarks, read_annotated, source_landmarks


@pytest.fixture
def points():
    return np.random.default_rng(0).uniform(10, 200, (68, 2))


def test_every_format(tmp_path, points):
    lines = "\n".join(f"{x} {y}" for x, y in points)
    (tmp_path / "a.pts").write_text(f"version: 1\nn_points: 68\n{{\n{lines}\n}}\n")
    np.save(tmp_path / "b.npy", points)
    scipy.io.savemat(tmp_path / "c.mat", {"pt3d_68": np.concatenate([points.T, np.ones((1, 68))])})
    np.testing.assert_allclose(read_annotated(tmp_path / "a.jpg"), points - 0.5)
    np.testing.assert_allclose(read_annotated(tmp_path / "b.png"), points)
    np.testing.assert_allclose(read_annotated(tmp_path / "c.jpg"), points)
    assert read_annotated(tmp_path / "d.jpg") is None


def test_other_schemes_are_passed_over_and_damage_is_named(tmp_path, points):
    np.save(tmp_path / "five.npy", points[:5])
    assert read_annotated(tmp_path / "five.jpg") is None
    (tmp_path / "bad.pts").write_text("no braces")
    with pytest.raises(DataError, match=r"bad\.pts"):
        read_annotated(tmp_path / "bad.jpg")
    scipy.io.savemat(tmp_path / "other.mat", {"x": 1})
    with pytest.raises(DataError, match=r"other\.mat"):
        read_annotated(tmp_path / "other.jpg")


def test_projections_give_the_nme_that_quality_reports(head, make):
    made = make()
    clip, sequence = made[0], made[1]
    clip.landmarks = clip.landmarks + np.random.default_rng(0).normal(size=clip.landmarks.shape).astype(np.float32) * 0.02
    own, reference = project_landmarks(clip, sequence, head, clip.landmark_scheme), source_landmarks(clip)
    eyes = metrics.eye_distance(reference, clip.landmark_scheme)
    counted = head.embedding(clip.landmark_scheme).valid.numpy() & (clip.landmark_confidence > 0)
    error = np.where(clip.valid, metrics.nme(own, reference, eyes, counted), np.nan)
    np.testing.assert_allclose(error, measure(clip, sequence, head).nme, rtol=1e-4)
    assert np.nanmin(error) > 0.1
