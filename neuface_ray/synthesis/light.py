"""Light for rendered faces: a soft environment as spherical harmonics and one key light that casts a shadow."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from neuface_ray.synthesis.materials import material_files, read_map

N_HARMONICS = 9


@dataclass(frozen=True)
class Lighting:
    """Light around a head in the view frame, linear colour.

    Args:
        harmonics: (9, 3) radiance coefficients as `geometry.render.spherical_harmonics` takes them.
        key_direction: (3,) unit vector to the key light. key_colour: (3,). softness: radius of the key light, radians.
    """

    harmonics: np.ndarray
    key_direction: np.ndarray
    key_colour: np.ndarray
    softness: float


def harmonic_basis(directions: np.ndarray) -> np.ndarray:
    """Real spherical harmonics (..., 9) of bands 0 to 2 at unit directions (..., 3), orthonormal on the sphere."""
    x, y, z = np.moveaxis(np.asarray(directions), -1, 0)
    return np.stack(
        [
            np.full_like(x, 0.282095),
            0.488603 * y,
            0.488603 * z,
            0.488603 * x,
            1.092548 * x * y,
            1.092548 * y * z,
            0.315392 * (3 * z * z - 1),
            1.092548 * x * z,
            0.546274 * (x * x - y * y),
        ],
        -1,
    )


def sample_lighting(rng: np.random.Generator, hdr_folder: str | Path | None = None) -> Lighting:
    """Random light: an environment (from an HDR map of the folder in two of three cases, if given) and a key light.

    The whole is scaled so that a grey surface towards the viewer is lit by about 1, give or take half a stop.
    """
    maps = material_files(str(hdr_folder), "hdr") if hdr_folder is not None else ()
    if maps and rng.random() < 0.67:
        harmonics = _balance_white(_hdr_harmonics(maps[rng.integers(len(maps))], int(rng.integers(8))))
    else:
        harmonics = _random_harmonics(rng)
    azimuth = rng.normal() * 0.9 if rng.random() < 0.8 else rng.uniform(-np.pi, np.pi)
    elevation = np.clip(rng.normal(0.45, 0.4), -0.4, 1.4)
    direction = np.array([np.sin(azimuth) * np.cos(elevation), np.sin(elevation), np.cos(azimuth) * np.cos(elevation)])
    share = rng.beta(2.0, 1.7) * 0.85
    warmth = rng.normal() * 0.07
    colour = np.array([1 + warmth, 1.0, 1 - warmth])
    ambient = _mean_light(harmonics)
    exposure = np.exp(rng.normal() * 0.2)
    facing = max(direction[2], 0.35)
    return Lighting(
        harmonics * (exposure * (1 - share) / ambient),
        direction,
        colour * (exposure * share / facing),
        float(np.exp(rng.uniform(np.log(0.02), np.log(0.4)))),
    )


def rotate_lighting(light: Lighting, rotation: np.ndarray) -> Lighting:
    """The same light in axes turned by a rotation (3, 3): a direction d of the old axes is ``rotation @ d`` in the new."""
    probes = np.random.default_rng(0).normal(size=(64, 3))
    probes /= np.linalg.norm(probes, axis=1, keepdims=True)
    turned = np.linalg.lstsq(harmonic_basis(probes @ rotation.T), harmonic_basis(probes), rcond=None)[0]
    return Lighting(turned @ light.harmonics, rotation @ light.key_direction, light.key_colour, light.softness)


def _random_harmonics(rng: np.random.Generator) -> np.ndarray:
    """A dim sky and floor and a few broad lobes of slightly different colours, projected onto the harmonics."""
    coefficients = np.zeros((N_HARMONICS, 3))
    coefficients[0] = 3.5 * rng.uniform(0.2, 0.9) * (1 + rng.normal(size=3) * 0.03)
    coefficients[1] = rng.uniform(0.0, 0.9) * (1 + rng.normal(size=3) * 0.06)
    for _ in range(rng.integers(1, 4)):
        direction = rng.normal(size=3) + np.array([0, 0.3, 0.4])
        direction /= np.linalg.norm(direction)
        colour = rng.uniform(0.2, 1.6) * (1 + rng.normal() * np.array([0.07, 0.0, -0.07]))
        coefficients += harmonic_basis(direction)[:, None] * np.array([1, 1, 1, 1, 0.7, 0.7, 0.7, 0.7, 0.7])[:, None] * colour
    return coefficients


@lru_cache(maxsize=256)
def _hdr_harmonics(path: Path, turn: int) -> np.ndarray:
    """Radiance coefficients (9, 3) of an equirectangular map, turned about the vertical by ``turn`` eighths."""
    image = read_map(path, 64).astype(np.float64)
    image = np.minimum(image, np.percentile(image, 99.5))
    polar = (np.arange(32) + 0.5) / 32 * np.pi
    azimuth = (np.arange(64) + 0.5) / 64 * 2 * np.pi + turn * np.pi / 4
    directions = np.stack(
        [
            np.sin(polar)[:, None] * np.sin(azimuth),
            np.broadcast_to(np.cos(polar)[:, None], (32, 64)),
            np.sin(polar)[:, None] * np.cos(azimuth),
        ],
        -1,
    )
    solid_angle = (np.sin(polar) * (np.pi / 32) * (2 * np.pi / 64))[:, None, None]
    return np.einsum("hwk,hwc->kc", harmonic_basis(directions) * solid_angle, image)


def _balance_white(harmonics: np.ndarray) -> np.ndarray:
    """The coefficients with their colour cast halved, as a camera's white balance does."""
    grey = harmonics.mean(1, keepdims=True)
    cast = harmonics[0] / harmonics[0].mean()
    return 0.5 * harmonics / cast + 0.35 * harmonics + 0.15 * grey


def _mean_light(harmonics: np.ndarray) -> float:
    """Irradiance, grey, averaged over normals that a viewer sees (divided by pi, as for a constant environment of 1)."""
    normals = np.array([[0, 0, 1.0], [0.6, 0, 0.8], [-0.6, 0, 0.8], [0, 0.6, 0.8], [0, -0.6, 0.8]])
    band = np.array([1, 2 / 3, 2 / 3, 2 / 3, 1 / 4, 1 / 4, 1 / 4, 1 / 4, 1 / 4])
    return max(float((harmonic_basis(normals) * band @ harmonics).mean()), 1e-3)
