import cv2
import numpy as np
import pytest

from neuface_ray.errors import DataError
from neuface_ray.geometry.render import spherical_harmonics
from neuface_ray.synthesis.light import harmonic_basis, rotate_lighting, sample_lighting


def _sphere(count=4000):
    k = np.arange(count) + 0.5
    height, turn = 1 - 2 * k / count, k * np.pi * (3 - np.sqrt(5))
    return np.stack([np.sqrt(1 - height**2) * np.cos(turn), height, np.sqrt(1 - height**2) * np.sin(turn)], -1)


def test_basis_is_orthonormal_on_the_sphere():
    basis = harmonic_basis(_sphere())
    np.testing.assert_allclose(4 * np.pi * basis.T @ basis / len(basis), np.eye(9), atol=2e-3)


def test_irradiance_is_the_cosine_weighted_mean_of_the_radiance():
    light = sample_lighting(np.random.default_rng(1))
    directions = _sphere()
    radiance = harmonic_basis(directions) @ light.harmonics
    for normal in _sphere(7):
        cosine = np.clip(directions @ normal, 0, None)
        naive = 4 * (cosine[:, None] * radiance).mean(0)
        np.testing.assert_allclose(spherical_harmonics(normal[None], light.harmonics)[0], naive, atol=5e-3)


def test_turned_light_comes_from_the_turned_direction():
    light = sample_lighting(np.random.default_rng(2))
    rotation = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    turned = rotate_lighting(light, rotation)
    directions = _sphere(50)
    np.testing.assert_allclose(
        harmonic_basis(directions @ rotation.T) @ turned.harmonics, harmonic_basis(directions) @ light.harmonics, atol=1e-6
    )
    np.testing.assert_allclose(turned.key_direction, rotation @ light.key_direction)


def test_hdr_maps_are_read_and_a_bright_side_lights_that_side(tmp_path):
    image = np.full((16, 32, 3), 0.1, np.float32)
    image[:, 4:12] = 3.0  # azimuth 45 to 135 degrees: from +z over +x
    cv2.imwrite(str(tmp_path / "side.hdr"), image)
    from neuface_ray.synthesis.light import _hdr_harmonics

    harmonics = _hdr_harmonics(tmp_path / "side.hdr", 0)
    left, right = spherical_harmonics(np.array([[1.0, 0, 0], [-1.0, 0, 0]]), harmonics)
    assert (left > 3 * np.abs(right)).all()
    seeds = range(8)
    random, from_folder = (
        [sample_lighting(np.random.default_rng(s), folder).harmonics for s in seeds] for folder in (None, tmp_path)
    )
    from_map = [not np.allclose(a, b) for a, b in zip(random, from_folder, strict=True)]
    assert any(from_map)
    tilts = [h[3].mean() / h[0].mean() for h, used in zip(from_folder, from_map, strict=True) if used]
    assert max(map(abs, tilts)) > 0.3
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no \.hdr"):
        sample_lighting(np.random.default_rng(0), tmp_path / "empty")
