"""Hair, beards and headwear as shells around the skull, and glasses and clothes: the translucent and rigid things of a head.

Scalp shells are grids over azimuth and the way from the crown to a hairline, offset from the person's own skull, with an
optional curtain that hangs from the line.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from neuface_ray.geometry.rays import RayCaster
from neuface_ray.heads.model import HeadModel
from neuface_ray.synthesis.appearance import Appearance, srgb_to_linear
from neuface_ray.synthesis.uv_atlas import UvAtlas

N_AZIMUTH, N_CAP, N_CURTAIN, N_ELEVATION = 64, 14, 8, 36
CENTRE = np.array([0.0, 0.03, 0.005])
LOWEST_DEG = -60.0
_LINE_DEG = [0, 25, 45, 62, 76, 86, 100, 118, 140, 160, 180]
_SHORT_LINE = [34, 32, 27, 16, -4, 2, 9, -14, -32, -40, -42]


@dataclass(frozen=True)
class Shell:
    """A thin surface in the head frame at rest or posed.

    Args:
        vertices: (N, 3) metres. faces: (T, 3). colour: (N, 3) linear. alpha: (N,) cover before noise. texture: (N, 2)
            coordinates, millimetres, the second along the strands. strands: contrast of the strands; 0 for smooth things,
            whose cover is not roughened either. gloss: (N,).
    """

    vertices: np.ndarray
    faces: np.ndarray
    colour: np.ndarray
    alpha: np.ndarray
    texture: np.ndarray
    strands: float
    gloss: np.ndarray


@dataclass(frozen=True)
class Style:
    """What a person wears, in numbers that do not depend on the head; None where there is nothing."""

    hair: dict | None = None
    beard_mm: float = 0.0
    glasses: dict | None = None
    cloth: np.ndarray = field(default_factory=lambda: np.full(3, 0.2))
    collar: float = 0.5


def sample_style(rng: np.random.Generator, appearance: Appearance) -> Style:
    """Random hair or headwear, beard, glasses and clothes."""
    beard = rng.gamma(2.0, 3.0) if appearance.stubble > 0.55 and rng.random() < 0.6 else 0.0
    cloth = srgb_to_linear(np.clip(rng.uniform(5, 235) + rng.normal(size=3) * rng.gamma(1.0, 22.0), 2, 250))
    glasses = _sample_glasses(rng) if rng.random() < 0.22 else None
    return Style(_sample_hair(rng, appearance), float(beard), glasses, np.clip(cloth, 0.01, 0.8), float(rng.random()))


def _sample_hair(rng: np.random.Generator, appearance: Appearance) -> dict | None:
    kind = rng.choice(["bald", "short", "medium", "long", "afro", "hat", "scarf"], p=[0.1, 0.36, 0.2, 0.2, 0.05, 0.06, 0.03])
    if kind == "bald":
        return None
    line = np.array(_SHORT_LINE, float) + rng.normal() * 2
    line[:4] += np.array([1, 1, 1.2, 0.8]) * (rng.gamma(1.5, 5.0) if rng.random() < 0.3 else rng.normal() * 3)
    top, side = {
        "short": (rng.uniform(4, 16), rng.uniform(2, 8)),
        "medium": (rng.uniform(10, 32), rng.uniform(6, 18)),
        "long": (rng.uniform(8, 24), rng.uniform(6, 20)),
        "afro": (rng.uniform(28, 60), rng.uniform(22, 50)),
        "hat": (rng.uniform(6, 22), rng.uniform(4, 10)),
        "scarf": (rng.uniform(6, 14), rng.uniform(6, 12)),
    }[kind]
    curtain = None
    if kind in ("medium", "long") and rng.random() < 0.45:
        line[:3] -= rng.uniform(6, 24) * np.array([rng.uniform(0.3, 1), 1, 1])
    if kind in ("long", "scarf"):
        front = rng.uniform(52, 95) if kind == "long" else rng.uniform(42, 60)
        curtain = {"front_deg": front, "end_m": rng.uniform(-0.30, -0.05), "flare": rng.uniform(-0.1, 0.35)}
        line = np.where(np.array(_LINE_DEG) > front - 15, np.maximum(np.minimum(line, 6), -8), line)
    if kind == "hat":
        line = np.array([30, 30, 28, 24, 16, 12, 10, 4, -6, -12, -14]) + rng.normal() * 4
    worn = kind in ("hat", "scarf")
    colour = srgb_to_linear(rng.uniform(15, 235, 3) * rng.uniform(0.3, 1)) if worn else appearance.hair
    strands = 0.0 if worn else rng.uniform(0.35, 0.8) * (0.6 if kind == "afro" else 1)
    return {
        "line": line,
        "top_mm": top,
        "side_mm": side,
        "curtain": curtain,
        "colour": colour,
        "strands": strands,
        "cover": 1.0 if worn else rng.uniform(0.95, 1.3),
        "parting": rng.normal() * 0.5,
        "seed": int(rng.integers(2**31)),
        "lumps": 0.05 if worn else rng.uniform(0.1, 0.4),
    }


class Skull:
    """Where rays from a point inside the head leave it, on a grid of azimuth and elevation; found once for a head model."""

    def __init__(self, head: HeadModel, uv_atlas: UvAtlas):
        faces = head.faces.numpy()[uv_atlas.part == 0]
        azimuth = np.linspace(-np.pi, np.pi, N_AZIMUTH, endpoint=False)
        elevation = np.deg2rad(np.linspace(90, LOWEST_DEG, N_ELEVATION))
        self.azimuth = azimuth
        out = np.stack(
            [
                np.sin(azimuth)[:, None] * np.cos(elevation),
                np.broadcast_to(np.sin(elevation), (N_AZIMUTH, N_ELEVATION)),
                np.cos(azimuth)[:, None] * np.cos(elevation),
            ],
            -1,
        ).reshape(-1, 3)
        hits = RayCaster(uv_atlas.rest, faces).cast(CENTRE + 0.5 * out, -out)
        self.corners = faces[np.maximum(hits.triangle, 0)]
        self.barycentric = hits.barycentric * (hits.triangle >= 0)[:, None]
        self.missed = (hits.triangle < 0).reshape(N_AZIMUTH, N_ELEVATION)

    def surface(self, neutral: np.ndarray) -> np.ndarray:
        """Points (64, 36, 3) on the neutral head (N, 3); rays that leave through the neck repeat the point above."""
        points = np.einsum("pk,pkc->pc", self.barycentric, neutral[self.corners]).reshape(N_AZIMUTH, N_ELEVATION, 3)
        for row in range(1, N_ELEVATION):
            gone = self.missed[:, row]
            points[gone, row] = points[gone, row - 1] - [0, 0.004, 0]
        return points


def hair_shell(hair: dict, skull: Skull, neutral: np.ndarray) -> Shell:
    """The scalp shell of a neutral head (N, 3) in its rest frame."""
    rng = np.random.default_rng(hair["seed"])
    surface = skull.surface(neutral)
    degrees = np.abs(np.rad2deg(skull.azimuth))
    ragged = rng.normal(size=N_AZIMUTH) * (0 if hair["strands"] == 0 else 1.6)
    line = np.interp(degrees, _LINE_DEG, hair["line"]) + ragged
    way = np.linspace(0, 1, N_CAP)
    elevation = 90 - way * (90 - line[:, None])
    position = (90 - elevation) / (90 - LOWEST_DEG) * (N_ELEVATION - 1)
    low = np.clip(position.astype(int), 0, N_ELEVATION - 2)
    columns = np.arange(N_AZIMUTH)[:, None]
    mix = (position - low)[..., None]
    base = (1 - mix) * surface[columns, low] + mix * surface[columns, low + 1]
    outward = base - CENTRE
    outward /= np.linalg.norm(outward, axis=-1, keepdims=True)
    blend = np.clip(outward[..., 1] * 1.6, 0, 1)
    wave = _periodic_noise(rng, (N_AZIMUTH, N_CAP))
    thickness = 1e-3 * (hair["side_mm"] + blend * (hair["top_mm"] - hair["side_mm"])) * (1 + hair["lumps"] * wave)
    side = np.sin(skull.azimuth)[:, None] * np.sign(hair["parting"])
    thickness *= 1 + abs(hair["parting"]) * 0.35 * side * blend
    edge = 0.3 if hair["strands"] else 0.75
    if hair["curtain"] is None:
        thickness *= 1 - (1 - edge) * way**5
    cap = base + outward * thickness[..., None]
    alpha = np.broadcast_to(
        hair["cover"] * (1 if hair["strands"] == 0 else np.interp(way, [0, 0.8, 1], [1, 1, 0.35])), cap.shape[:2]
    )
    rows, covers = [cap], [alpha]
    if hair["curtain"] is not None:
        hang, cover = _curtain(hair, cap[:, -1], degrees, rng)
        rows.append(hang)
        covers.append(cover)
    vertices = np.concatenate(rows, 1)
    arc = 95.0 * (skull.azimuth + np.pi)
    length = np.concatenate([np.zeros((N_AZIMUTH, 1)), np.linalg.norm(np.diff(vertices, axis=1), axis=-1).cumsum(1)], 1)
    texture = np.stack([np.broadcast_to(arc[:, None], length.shape), 1e3 * length], -1)
    count = vertices.shape[0] * vertices.shape[1]
    return Shell(
        vertices.reshape(-1, 3),
        _grid_faces(N_AZIMUTH, vertices.shape[1], wrap=True),
        np.broadcast_to(hair["colour"], (count, 3)),
        np.concatenate(covers, 1).reshape(-1),
        texture.reshape(-1, 2),
        hair["strands"],
        np.full(count, 0.12 if hair["strands"] else 0.02),
    )


def _curtain(hair: dict, edge: np.ndarray, degrees: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Rows (64, 8, 3) that hang from the hairline (64, 3) to a height, and their cover; there is none before the face."""
    spec, t = hair["curtain"], np.linspace(1 / N_CURTAIN, 1, N_CURTAIN)
    end = np.minimum(spec["end_m"] + rng.normal(size=len(edge)) * (0.006 if hair["strands"] else 0.0), edge[:, 1])
    hanging = degrees > spec["front_deg"]
    y = edge[:, None, 1] + np.where(hanging, end - edge[:, 1], 0.0)[:, None] * t
    spread = 1 + spec["flare"] * t * (1 - 0.3 * t) * hanging[:, None]
    wave = 1 + 0.02 * _periodic_noise(rng, (len(edge), N_CURTAIN))
    hang = np.stack([edge[:, None, 0] * spread * wave, y, edge[:, None, 2] * spread * wave], -1)
    fade = np.interp(t, [0, 0.8, 1], [1, 1, 0.4]) if hair["strands"] else np.ones(N_CURTAIN)
    return hang, hair["cover"] * hanging[:, None] * fade


def beard_shell(
    appearance: Appearance, length_mm: float, uv_atlas: UvAtlas, faces: np.ndarray, vertices: np.ndarray, normals: np.ndarray
) -> Shell:
    """The skin's bearded part, grown outwards and down, on posed vertices (N, 3)."""
    field = uv_atlas.sample(uv_atlas.coordinates)
    share = field[:, 4] * np.clip((field[:, 2] - 1.0) / 3.0, 0, 1) * (field[:, 3] > 8)
    grown = faces[(share[faces] > 0.05).all(1) & (uv_atlas.part == 0)]
    used, index = np.unique(grown, return_inverse=True)
    moustache = np.clip((uv_atlas.coordinates[used, 1] - uv_atlas.coordinates[used, 1].min()) / 60, 0.25, 1)
    length = 1e-3 * length_mm * share[used] * (1.3 - moustache)
    count = len(used)
    return Shell(
        vertices[used] + normals[used] * length[:, None],
        index.reshape(-1, 3),
        np.broadcast_to(appearance.hair, (count, 3)),
        share[used] * 1.1,
        uv_atlas.coordinates[used] * [1.0, 0.35],
        0.6,
        np.full(count, 0.06),
    )


def _sample_glasses(rng: np.random.Generator) -> dict:
    sun = rng.random() < 0.3
    return {
        "width_mm": rng.uniform(22, 29),
        "height_mm": rng.uniform(14, 24),
        "power": rng.uniform(2.0, 5.0),
        "rim_mm": rng.uniform(0.5, 2.6),
        "forward_mm": rng.uniform(19, 27),
        "drop_mm": rng.uniform(-2, 5),
        "colour": srgb_to_linear(rng.uniform(5, 60, 3) if rng.random() < 0.7 else rng.uniform(30, 210, 3)),
        "lens": srgb_to_linear(rng.uniform(5, 60, 3)) if sun else np.array([0.3, 0.32, 0.34]),
        "opacity": rng.uniform(0.6, 0.97) if sun else rng.uniform(0.0, 0.12),
    }


def glasses_shells(spec: dict, eyes: np.ndarray) -> list[Shell]:
    """Lenses first, then rims, bridge and temples, around the eye centres (2, 3: left, right) at rest."""
    turn = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    power = 2 / spec["power"]
    outline = np.stack([np.sign(np.cos(turn)) * np.abs(np.cos(turn)) ** power * spec["width_mm"],
                        np.sign(np.sin(turn)) * np.abs(np.sin(turn)) ** power * spec["height_mm"]], -1) * 1e-3  # fmt: skip
    shells, tubes = [], []
    for centre, sign in zip(eyes, (1.0, -1.0), strict=True):
        middle = centre + np.array([sign * 0.002, -1e-3 * spec["drop_mm"], 1e-3 * spec["forward_mm"]])
        wrap = -0.10 * np.abs(outline[:, :1]) * (np.sign(outline[:, :1]) == sign)
        rim = middle + np.concatenate([outline, wrap], 1)
        shells.append(_lens_shell(rim, middle, spec))
        tubes.append(np.concatenate([rim, rim[:1]]))
        hinge = rim[np.argmax(sign * rim[:, 0])]
        tubes.append(
            np.stack([hinge, np.array([sign * 0.078, eyes[0, 1] + 0.006, 0.045]), np.array([sign * 0.076, 0.012, 0.0])])
        )
    inner = [tubes[0][np.argmin(tubes[0][:, 0])], tubes[2][np.argmax(tubes[2][:, 0])]]
    tubes.append(np.stack([inner[0], np.mean(inner, 0) + np.array([0, 0.003, 0.002]), inner[1]]))
    frame = [_tube_shell(tube, 1e-3 * spec["rim_mm"], spec["colour"]) for tube in tubes]
    return [*shells, *frame]


def _lens_shell(rim: np.ndarray, middle: np.ndarray, spec: dict) -> Shell:
    count = len(rim)
    faces = np.stack([np.full(count, count), np.arange(count), (np.arange(count) + 1) % count], -1)
    vertices = np.concatenate([rim, middle[None] + [[0, 0, 0.0015]]])
    ones = np.ones(count + 1)
    return Shell(vertices, faces, np.outer(ones, spec["lens"]), ones * spec["opacity"], vertices[:, :2], 0.0, ones * 0.5)


def _tube_shell(path: np.ndarray, radius: float, colour: np.ndarray, sides: int = 5) -> Shell:
    along = np.gradient(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9
    first = np.cross(along, [0.3, 0.9, 0.31])
    first /= np.linalg.norm(first, axis=1, keepdims=True) + 1e-9
    second = np.cross(along, first)
    turn = np.linspace(0, 2 * np.pi, sides, endpoint=False)
    ring = np.cos(turn)[:, None, None] * first + np.sin(turn)[:, None, None] * second
    vertices = (path + radius * ring).reshape(-1, 3)
    ones = np.ones(len(vertices))
    return Shell(
        vertices, _grid_faces(sides, len(path), wrap=True), np.outer(ones, colour), ones, vertices[:, :2], 0.0, ones * 0.6
    )


def clothes_shell(style: Style, appearance: Appearance, neck: np.ndarray) -> Shell:
    """Lower neck, chest and shoulders below the posed neck's lower end (3,), bare down to the collar."""
    height = np.array([0.02, 0.0, -0.015, -0.03, -0.045, -0.06, -0.09, -0.15, -0.30])
    across = np.array([0.05, 0.056, 0.063, 0.075, 0.10, 0.135, 0.19, 0.23, 0.25])
    deep = np.array([0.05, 0.055, 0.062, 0.069, 0.078, 0.087, 0.10, 0.12, 0.14])
    turn = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    shape = (len(turn), len(height))
    vertices = np.stack(
        [np.outer(np.sin(turn), across), np.broadcast_to(height, shape), np.outer(np.cos(turn), deep) - 0.004], -1
    )
    vertices[..., 1] += 0.02 * (np.abs(np.sin(turn)) - 1)[:, None] * np.linspace(0, 1, len(height))
    collar = 0.03 - 0.10 * style.collar * np.clip(np.cos(turn) + 0.6, 0.2, 1)
    bare = np.clip((vertices[..., 1] - collar[:, None]) / 0.006, 0, 1)[..., None]
    colour = bare * appearance.skin * 0.9 + (1 - bare) * style.cloth
    flat = (neck + vertices).reshape(-1, 3)
    ones = np.ones(len(flat))
    return Shell(flat, _grid_faces(*shape, wrap=True), colour.reshape(-1, 3), ones, 1e3 * flat[:, :2], 0.0, ones * 0.02)


def _grid_faces(columns: int, rows: int, wrap: bool) -> np.ndarray:
    """Triangles of a grid whose vertices run along rows first; outside when columns turn counter-clockwise seen from above."""
    a, b = np.meshgrid(np.arange(columns if wrap else columns - 1), np.arange(rows - 1), indexing="ij")
    here, right = a * rows + b, (a + 1) % columns * rows + b
    return np.stack([here, here + 1, right, right, here + 1, right + 1], -1).reshape(-1, 3)


def _periodic_noise(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Smooth noise of about unit variance that closes along the first axis."""
    azimuth = np.linspace(0, 2 * np.pi, shape[0], endpoint=False)[:, None]
    way = np.linspace(0, 1, shape[1])
    terms = [rng.normal() * np.sin(k * azimuth + rng.uniform(0, 6.3) + rng.uniform(-4, 4) * way) for k in (1, 2, 3, 5, 8, 13)]
    return np.sum(terms, 0) / np.sqrt(3)
