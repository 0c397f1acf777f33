from pathlib import Path

import numpy as np
import pytest

from neuface_ray.errors import ModelFileError
from neuface_ray.media import MediaConfig
from neuface_ray.media.detect import FaceDetector
from neuface_ray.media.fan import Fan, peaks
from tests.media.files import portrait

face_alignment = pytest.importorskip("face_alignment")


def naive_peaks(heatmaps: np.ndarray) -> np.ndarray:
    result = []
    for heat in heatmaps:
        y, x = np.unravel_index(heat.argmax(), heat.shape)
        point = np.array([x + 0.5, y + 0.5])
        if 0 < x < heat.shape[1] - 1 and 0 < y < heat.shape[0] - 1:
            point += 0.25 * np.sign([heat[y, x + 1] - heat[y, x - 1], heat[y + 1, x] - heat[y - 1, x]])
        result.append(point)
    return np.array(result)


def test_peaks_agree_with_the_loop() -> None:
    heatmaps = np.random.default_rng(0).random((200, 9, 9), np.float32)
    points, scores = peaks(heatmaps)
    np.testing.assert_array_equal(points, naive_peaks(heatmaps))
    np.testing.assert_array_equal(scores, heatmaps.max((1, 2)))


def test_missing_and_foreign_weights(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match=r"fan_weights=None.*2DFAN4"):
        FaceDetector(MediaConfig(detector="fan"))
    with pytest.raises(ModelFileError, match="no such file"):
        Fan(str(tmp_path / "absent.pth"))
    (tmp_path / "foreign.pth").write_bytes(b"not a checkpoint")
    with pytest.raises(ModelFileError, match="not the weights of 2DFAN-4"):
        Fan(str(tmp_path / "foreign.pth"))


def test_fan_replaces_landmarks_and_not_the_crop(tmp_path: Path, detector: FaceDetector) -> None:
    import torch
    from face_alignment.models import FAN

    torch.manual_seed(0)
    torch.save(FAN(4).state_dict(), tmp_path / "fan.pth")
    image = portrait(256)
    with FaceDetector(MediaConfig(detector="fan", fan_weights=str(tmp_path / "fan.pth"))) as with_fan:
        (face,) = with_fan.find(image)
    (plain,) = detector.find(image)
    assert face.landmarks.shape == (68, 2)
    assert face.confidence.shape == (68,)
    assert np.isfinite(face.landmarks).all()
    assert face.confidence.min() >= 0
    assert face.confidence.max() <= 1
    np.testing.assert_array_equal(face.box, plain.box)
