"""What a person's surface looks like: skin, brows, lips, eyes and mouth as linear colours at points of the head.

An Appearance is sampled once for a person. Skin is painted from the fields of the UV atlas and tileable noise, or read from a
texture in the head's UV space; brows, lips, make-up, stubble and eyes are painted over either.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from neuface_ray.errors import DataError
from neuface_ray.synthesis.materials import material_files
from neuface_ray.synthesis.uv_atlas import UvAtlas, sample_bilinear

SKIN_TONES = np.array(
    [[246, 214, 198], [236, 196, 172], [222, 177, 146], [198, 149, 117], [165, 113, 82], [121, 79, 57], [84, 55, 44]]
)
HAIR_COLOURS = np.array(
    [[18, 15, 14], [38, 28, 23], [62, 43, 31], [98, 69, 45], [158, 121, 78], [200, 168, 118], [135, 72, 40]]
)
GREY_HAIR = np.array([168.0, 165, 162])
IRIS_COLOURS = np.array([[62, 40, 26], [88, 60, 36], [104, 88, 52], [92, 108, 84], [92, 122, 146], [120, 132, 140]])
NOISE_SIZE = 256
DISPLAY_EXPONENT = 1 / 2.2


def srgb_to_linear(srgb: np.ndarray) -> np.ndarray:
    """Linear colour in [0, 1] of 8-bit display values."""
    return ((np.asarray(srgb) / 255) ** (1 / DISPLAY_EXPONENT)).astype(np.float32)


def linear_to_display(colour: np.ndarray) -> np.ndarray:
    """Display values in [0, 1] of linear colour."""
    return np.clip(colour, 0, 1) ** DISPLAY_EXPONENT


@dataclass(frozen=True)
class Appearance:
    """A person's colours (linear RGB, (3,)) and the strengths of what is painted on the skin.

    Args:
        texture_file: texture in the head's UV space, or None for painted skin of colour ``skin``. tint: (3,) factor on it.
        seed: of the person's noise patterns. age: 0 to 1, drives creases. brow_mm: half thickness.
        untextured: everything, eyes too, has the one colour ``skin``, as scans without a texture have. reach_m: nothing further
            than this from the tip of the nose is there. exponent: from light to display values of a person drawn
            unshaded: no shadows, no occlusion, no light under the skin; None draws as in nature, with a camera's 1 / 2.2.
    """

    seed: int
    skin: np.ndarray
    texture_file: Path | None
    tint: np.ndarray
    age: float
    gloss: float
    mottle: float
    freckles: float
    flush: float
    hair: np.ndarray
    brow_mm: float
    brow_density: float
    brow_raise_mm: float
    lip: np.ndarray
    lip_gloss: float
    liner: float
    shadow: np.ndarray
    stubble: float
    scalp: float
    iris: np.ndarray
    sclera: np.ndarray
    iris_radius: float
    untextured: bool = False
    reach_m: float = np.inf
    exponent: float | None = None


def sample_appearance(rng: np.random.Generator, textures: str | Path | None = None) -> Appearance:
    """A random person; half of them wear a texture from the folder ``textures``, if there is one."""
    tone = rng.uniform(0, len(SKIN_TONES) - 1)
    skin = srgb_to_linear(_between(SKIN_TONES, tone)) * np.exp(rng.normal(size=3) * [0.05, 0.035, 0.06])
    files = material_files(str(textures), "textures") if textures is not None else ()
    texture_file = files[rng.integers(len(files))] if files and rng.random() < 0.5 else None
    age, dark = rng.beta(1.2, 1.6), tone > 3.2
    hair = srgb_to_linear(_between(HAIR_COLOURS[:4] if dark else HAIR_COLOURS, rng.uniform(0, 2 if dark else 6)))
    grey = float(np.clip((age - 0.6) * 3 + rng.normal() * 0.3, 0, 1))
    hair = (1 - grey) * hair + grey * srgb_to_linear(GREY_HAIR) * rng.uniform(0.5, 1.4)
    made_up = rng.random() < 0.3
    lip = skin * np.array([0.9, 0.62, 0.66]) * rng.uniform(0.75, 1.1)
    if made_up and rng.random() < 0.6:
        lip = 0.5 * lip + 0.5 * srgb_to_linear(rng.uniform([120, 20, 30], [215, 110, 120]))
    return Appearance(
        seed=int(rng.integers(2**31)),
        skin=skin.astype(np.float32),
        texture_file=texture_file,
        tint=np.exp(rng.normal() * 0.12 + rng.normal(size=3) * 0.05).astype(np.float32),
        age=float(age),
        gloss=float(rng.gamma(2.0, 0.05)),
        mottle=float(rng.uniform(0.04, 0.14)),
        freckles=float(rng.beta(0.5, 3.0)) * (not dark),
        flush=float(rng.uniform(0.0, 0.35)),
        hair=hair.astype(np.float32),
        brow_mm=float(rng.uniform(2.4, 5.6)),
        brow_density=float(rng.uniform(0.5, 1.15)),
        brow_raise_mm=float(rng.normal() * 0.8),
        lip=lip.astype(np.float32),
        lip_gloss=float(rng.gamma(1.5, 0.08) * (1 + made_up)),
        liner=float(rng.uniform(0.7, 1.0) if made_up else rng.uniform(0.3, 0.8)),
        shadow=srgb_to_linear(rng.uniform(60, 200, 3)) * (made_up and rng.random() < 0.4),
        stubble=float(rng.beta(0.6, 1.4)) if rng.random() < 0.45 and not made_up else 0.0,
        scalp=float(rng.beta(2.0, 1.0)),
        iris=srgb_to_linear(_between(IRIS_COLOURS[:3] if dark else IRIS_COLOURS, rng.uniform(0, 1.2 if dark else 5))),
        sclera=srgb_to_linear(rng.uniform([190, 180, 175], [232, 226, 222])),
        iris_radius=float(rng.uniform(0.0054, 0.0062)),
    )


def remove_texture(rng: np.random.Generator, appearance: Appearance) -> Appearance:
    """Show the same person as a scan without a texture: one colour, dull, and in half of the cases the face alone."""
    colour = srgb_to_linear(rng.uniform(110, 235)) if rng.random() < 0.4 else appearance.skin
    reach = rng.uniform(0.085, 0.13) if rng.random() < 0.5 else np.inf
    skin = np.broadcast_to(np.float32(colour), 3) * np.float32(rng.uniform(0.7, 1.2))
    return replace(appearance, untextured=True, skin=skin, gloss=float(rng.gamma(1.0, 0.03)), reach_m=float(reach), stubble=0.0)


def remove_shading(rng: np.random.Generator, appearance: Appearance) -> Appearance:
    """Show the same person as a renderer without shadows does, with any exponent between display values and linear ones."""
    return replace(appearance, exponent=float(rng.uniform(DISPLAY_EXPONENT, 1.0)))


@lru_cache(maxsize=64)
def read_texture(path: Path) -> np.ndarray:
    """Read a texture as linear float32 [H, W, 3]; raises DataError when the file is no image."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(f"{path} is no readable image")
    return srgb_to_linear(image[..., ::-1]).astype(np.float32)


@lru_cache(maxsize=1)
def build_noise_tiles() -> np.ndarray:
    """Build tileable noise float32 [256, 256, 4] of unit variance: white, fine, coarse, and strands along the second axis."""
    rng = np.random.default_rng(7)
    fy, fx = np.meshgrid(np.fft.fftfreq(NOISE_SIZE), np.fft.fftfreq(NOISE_SIZE), indexing="ij")
    radius = np.hypot(fx, fy) + 1e-3
    filters = [np.ones_like(radius), radius**-0.8, radius**-1.7, np.exp(-((fy / 0.008) ** 2)) * np.exp(-((fx / 0.35) ** 2))]
    tiles = []
    for response in filters:
        response[0, 0] = 0
        tile = np.fft.ifft2(np.fft.fft2(rng.normal(size=radius.shape)) * response).real
        tiles.append(tile / tile.std())
    return np.stack(tiles, -1).astype(np.float32)


def sample_noise(points: np.ndarray, tile_mm: float, seed: int) -> np.ndarray:
    """The four noises (P, 4) at atlas coordinates (P, 2), one tile spanning ``tile_mm``; another seed shifts the pattern."""
    shift = np.float32([seed % 251, seed // 251 % 241])
    pixels = (np.asarray(points, np.float32) * np.float32(NOISE_SIZE / tile_mm) + shift) % NOISE_SIZE
    return sample_bilinear(build_noise_tiles(), pixels, cv2.BORDER_WRAP)


def paint_skin(
    appearance: Appearance, uv_atlas: UvAtlas, points: np.ndarray, texture: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray]:
    """Albedo (P, 3) and gloss (P,) of the skin at atlas coordinates (P, 2); ``texture`` (P, 3) replaces the painted base."""
    field = uv_atlas.sample(points)
    brow, along, lip, eye, beard, scalp, flush, crease = field.T
    fine, coarse = sample_noise(points, 70.0, appearance.seed), sample_noise(points, 260.0, appearance.seed + 1)
    if texture is None:
        base = appearance.skin * (1 + appearance.mottle * (coarse[:, 2:3] + 0.35 * fine[:, 1:2]))
        base = base * (1 - appearance.flush * flush[:, None] * np.float32([0.05, 0.38, 0.32]))
        spots = appearance.freckles * _smooth(fine[:, 1] + 0.4 * fine[:, 0], 0.9, 1.9)
        base = base * (1 - spots[:, None] * np.float32([0.25, 0.42, 0.5]))
    else:
        base = texture * appearance.tint * (1 + 0.5 * appearance.mottle * coarse[:, 2:3])
    base = base * (1 - (0.1 + 0.45 * appearance.age) * crease[:, None] * np.float32([0.4, 0.55, 0.55]))
    lid = np.exp(-np.clip(eye, 0, None) / 3.5)[:, None]
    base = base * (1 - 0.25 * lid * np.float32([0.6, 1.0, 0.9]))
    if appearance.shadow.any():
        base = base * (1 - 0.6 * lid * (1 - appearance.shadow))
    wobble = 0.35 * fine[:, 1] + 0.25 * fine[:, 0]
    on_lip = _smooth(-lip + 0.4 * fine[:, 1], -1.2, 1.2) * (0.85 if texture is None else 0.45)
    base = _mix(base, appearance.lip * (1 + 0.06 * fine[:, 1:2]), on_lip)
    width = appearance.brow_mm * np.clip(1.15 - 0.75 * along**1.5, 0.15, 1) * np.clip(along * 5 + 0.55, 0, 1)
    on_brow = appearance.brow_density * _smooth(width - brow + wobble, -0.9, 1.1) * np.clip(0.8 + 0.35 * fine[:, 0], 0.3, 1)
    base = _mix(base, 0.8 * appearance.hair + 0.05 * appearance.skin, on_brow)
    grown = np.clip(0.6 + 0.35 * fine[:, 0] + 0.2 * coarse[:, 1], 0, 1)
    if appearance.stubble > 0:
        clear = _smooth(lip, 0.5, 3.0)
        base = _mix(base, 0.7 * appearance.hair + 0.12 * appearance.skin, 0.75 * appearance.stubble * beard * clear * grown)
    if appearance.scalp > 0:
        base = _mix(base, 0.85 * appearance.hair + 0.08 * appearance.skin, 0.9 * appearance.scalp * scalp * grown)
    lash = appearance.liner * np.exp(-((np.clip(eye - 0.3, 0, None) / 1.0) ** 2)) * (np.abs(eye) < 4)
    base = _mix(base, 0.25 * appearance.hair + 0.004, 0.85 * lash)
    gloss = appearance.gloss * (1 + 0.35 * fine[:, 1]) * (1 - 0.6 * appearance.stubble * beard) + appearance.lip_gloss * on_lip
    return np.clip(base, 0.004, 0.95), np.clip(gloss, 0, None)


def paint_eye(appearance: Appearance, directions: np.ndarray, eyeball_mm: float = 12.0) -> tuple[np.ndarray, np.ndarray]:
    """Albedo (P, 3) and gloss (P,) of an eyeball at unit directions (P, 3) from its centre at rest (z forward)."""
    from_axis = eyeball_mm * np.arctan2(np.hypot(directions[:, 0], directions[:, 1]), directions[:, 2])
    iris_mm = 1e3 * appearance.iris_radius
    turn = np.arctan2(directions[:, 1], directions[:, 0])
    rays = 1 + 0.18 * np.sin(23 * turn) * np.sin(from_axis * 2.1 + 5 * turn) + 0.12 * np.cos(from_axis * 1.3)
    colour = appearance.sclera * (1 - 0.25 * _smooth(from_axis, 7.5, 13)[:, None] * np.float32([0.4, 1, 1]))
    colour = _mix(colour, appearance.iris * rays[:, None], _smooth(-from_axis, -iris_mm - 0.25, -iris_mm + 0.25))
    ring = np.exp(-(((from_axis - iris_mm) / 0.7) ** 2))
    colour = _mix(colour, 0.25 * appearance.iris, 0.6 * ring)
    colour = _mix(colour, np.full(3, 0.006), _smooth(-from_axis, -2.3, -1.8))
    return colour, np.full(len(directions), 0.9)


def paint_mouth(part: str, depth_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Albedo (P, 3) and gloss (P,) inside the mouth at a distance (P,) behind the lips' plane, millimetres."""
    colour, gloss = {
        "teeth": ((0.78, 0.72, 0.62), 0.35),
        "tongue": ((0.42, 0.15, 0.14), 0.2),
    }.get(part, ((0.2, 0.055, 0.05), 0.05))
    shade = np.exp(-np.clip(depth_mm, 0, None) / 16.0)
    return np.asarray(colour) * shade[:, None], gloss * shade


def _between(table: np.ndarray, position: float) -> np.ndarray:
    low = min(int(position), len(table) - 2)
    return table[low] + (position - low) * (table[low + 1] - table[low])


def _smooth(value: np.ndarray, low: float, high: float) -> np.ndarray:
    t = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def _mix(base: np.ndarray, over: np.ndarray, share: np.ndarray) -> np.ndarray:
    return base + np.asarray(share, np.float32)[:, None] * (np.asarray(over, np.float32) - base)
