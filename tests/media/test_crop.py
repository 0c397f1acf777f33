import cv2
import numpy as np
import pytest

from neuface_ray.media import crop


def naive_cut(image: np.ndarray, matrix: np.ndarray, size: int, samples: int) -> np.ndarray:
    """Means of ``samples`` x ``samples`` point samples of the bilinear image inside every crop pixel."""
    offsets = (np.arange(size * samples) + 0.5) / (size * samples) * 2 - 1
    x = (matrix[0, 0] * offsets + matrix[0, 2] - 0.5).astype(np.float32)
    y = (matrix[1, 1] * offsets + matrix[1, 2] - 0.5).astype(np.float32)
    fine = cv2.remap(image.astype(np.float32), *np.meshgrid(x, y), cv2.INTER_LINEAR)
    return fine.reshape(size, samples, size, samples, 3).mean((1, 3)).transpose(2, 0, 1)


def smooth_image(height: int, width: int) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    channels = [127 + 100 * np.sin(x / 23 + y / 31), 127 + 100 * np.cos(x / 41), 127 + 90 * np.sin(y / 17)]
    return np.stack(channels, -1).round().astype(np.uint8)


@pytest.mark.parametrize(
    ("centre", "half", "size"),
    [
        ((150.3, 120.8), 40.0, 64),
        ((150.3, 120.8), 64.0, 64),
        ((201.0, 150.5), 100.0, 64),
        ((190.7, 140.2), 130.0, 32),
        ((150, 150), 9.0, 64),
    ],
)
def test_crop_shows_what_the_matrix_says(centre: tuple[float, float], half: float, size: int) -> None:
    image = smooth_image(301, 403)
    matrix = np.array([[half, 0, centre[0]], [0, half, centre[1]], [0, 0, 1]])
    result = crop.cut(image, matrix, size).astype(float)
    error = np.abs(result - naive_cut(image, matrix, size, samples=4)).mean()
    assert error < 1.5
    for axis in (0, 1):
        for shift in (-0.3, 0.3):
            shifted = matrix.copy()
            shifted[axis, 2] += shift * max(1.0, 2 * half / size)
            assert np.abs(result - naive_cut(image, shifted, size, samples=4)).mean() > error


def test_outside_of_the_image_is_black() -> None:
    image = np.full((100, 100, 3), 200, np.uint8)
    matrix = crop.crop_to_image(np.array([-30.0, 20, 50, 100]), 1.25)
    result = crop.cut(image, matrix, 64)
    x = ((np.arange(64) + 0.5) / 64 * 2 - 1) * matrix[0, 0] + matrix[0, 2]
    assert (result[:, 32, x < -2] == 0).all()
    assert (result[:, 32, (x > 2) & (x < 98)] == 200).all()
    assert not crop.cut(image, np.array([[5.0, 0, 900], [0, 5, 900], [0, 0, 1]]), 32).any()


def test_crop_box_follows_the_papers_rule() -> None:
    mesh = np.random.default_rng(0).uniform(100, 300, (478, 2))
    points = mesh[crop.IBUG_FROM_MEDIAPIPE]
    left, top, right, bottom = points[:, 0].min(), points[:, 1].min(), points[:, 0].max(), points[:, 1].max()
    size = int(((right - left) + (bottom - top)) / 2 * 1.1 * 1.25)
    matrix = crop.crop_to_image(crop.landmark_box(mesh), 1.25)
    np.testing.assert_allclose(matrix @ [-1, -1, 1], [(left + right - size) / 2, (top + bottom - size) / 2, 1])
    np.testing.assert_allclose(matrix @ [1, 1, 1], [(left + right + size) / 2, (top + bottom + size) / 2, 1])


def test_points_go_there_and_back() -> None:
    matrix = crop.crop_to_image(np.array([10.0, 20, 110, 150]), 1.25)
    points = np.random.default_rng(1).normal(size=(5, 7, 2)) * 100
    inside = crop.to_crop(points, matrix)
    np.testing.assert_allclose(inside @ matrix[:2, :2].T + matrix[:2, 2], points, atol=1e-9)


def test_the_68_points_are_where_they_should_be() -> None:
    assert crop.IBUG_FROM_MEDIAPIPE.shape == (68,)
    assert crop.IBUG_FROM_MEDIAPIPE[[8, 36, 45, 48, 54]].tolist() == [152, 33, 263, 61, 291]  # chin, outer eyes, mouth


def test_blur_falls_when_the_picture_is_blurred() -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3)).astype(np.uint8)
    sharp, soft = (crop.blur(image.transpose(2, 0, 1)) for image in (noise, cv2.GaussianBlur(noise, (0, 0), 2)))
    assert soft < sharp / 10


def test_crops_of_another_size_show_the_same_picture():
    picture = smooth_image(96, 96)
    blocks = picture.reshape(48, 2, 48, 2, 3).astype(int).sum((1, 3))
    assert np.abs(crop.resize(picture, 48) - blocks / 4).max() <= 0.5
    larger = crop.resize(picture, 192)
    assert np.abs(crop.resize(larger, 96).astype(int) - picture).max() <= 4
    assert crop.resize(picture, 96) is picture


def test_a_batch_of_crops_is_resized_one_by_one():
    crops = np.random.default_rng(0).integers(0, 255, (2, 3, 3, 40, 40), dtype=np.uint8)
    for size in (24, 56):
        small = crop.resize_crops(crops, size)
        assert small.shape == (2, 3, 3, size, size)
        np.testing.assert_array_equal(small[1, 2].transpose(1, 2, 0), crop.resize(crops[1, 2].transpose(1, 2, 0), size))
    assert crop.resize_crops(crops, 40) is crops
