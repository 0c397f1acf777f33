"""Renders a person: head, hair and belongings under a light, before a camera."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from neuface_ray.geometry.rays import HeadCamera, RayCaster
from neuface_ray.geometry.render import Raster, projected_box, smooth_normals, spherical_harmonics
from neuface_ray.heads.model import HeadModel
from neuface_ray.synthesis.appearance import (
    DISPLAY_EXPONENT,
    Appearance,
    paint_eye,
    paint_mouth,
    paint_skin,
    read_texture,
    sample_noise,
)
from neuface_ray.synthesis.hair import Shell, Skull
from neuface_ray.synthesis.light import Lighting
from neuface_ray.synthesis.uv_atlas import PARTS, UvAtlas, build_uv_atlas, sample_bilinear


class Renderer:
    """Renders people of one head model, whose arrays, UV atlas and skull grid it holds. Build once, use for everybody."""

    def __init__(self, head: HeadModel):
        self.head = head
        self.faces = head.faces.numpy().astype(np.int32)
        self.uv_atlas: UvAtlas = build_uv_atlas(head)
        self.skull = Skull(head, self.uv_atlas)
        self.uv = None if head.uv is None else head.uv.numpy()
        self.uv_faces = None if head.uv is None else head.uv_faces.numpy()
        columns = [self.uv_atlas.coordinates, self.uv_atlas.rest, self.uv_atlas.occlusion[:, None]]
        self.table = np.concatenate(columns, 1, dtype=np.float32)

    def render(
        self,
        appearance: Appearance,
        vertices: np.ndarray,
        solid: Shell,
        shells: list[Shell],
        light: Lighting,
        camera: HeadCamera,
        size: int,
    ) -> RenderedImage:
        """Render posed vertices (N, 3), a solid shell (clothes) and translucent ones (hair, beard, glasses), square."""
        faces = np.concatenate([self.faces, solid.faces + len(self.uv_atlas.rest)]).astype(np.int32)
        present = self._present_faces(appearance, solid)
        mesh = _cast_mesh(np.concatenate([vertices, solid.vertices]), faces, camera, size, present)
        joined = _join_shells(shells)
        shell_mesh = _cast_mesh(joined.vertices, joined.faces, camera, size) if joined is not None else None
        mask, shading = mesh.raster.mask, Shading.of(appearance)
        colour = np.zeros((*mask.shape, 3), np.float32)
        if mask.any():
            surface = mesh.surface_points(mask)
            albedo, gloss, occlusion, bump = self._paint(appearance, surface, solid)
            normals = np.concatenate([smooth_normals(vertices, self.faces), smooth_normals(solid.vertices, solid.faces)])
            normals = surface.blend(normals) + bump
            casts = shell_mesh is not None and all(shell.strands > 0 or shell.alpha.min() >= 1 for shell in shells)
            key_share = np.ones(len(normals), np.float32)
            if shading.shadows:
                blockers = [mesh.caster, shell_mesh.caster] if casts else [mesh.caster]
                key_share = _key_light_share(surface.points, normals, mask, light, blockers)
            colour[mask] = _shade(normals, surface.points, albedo, gloss, occlusion, light, camera, key_share, shading)
        cover, depth = mask.astype(np.float32), mesh.raster.depth
        if shell_mesh is not None:
            colour, cover, depth = _blend_shells(colour, cover, depth, joined, shell_mesh, light, camera, shading)
        return RenderedImage(_tone_map(colour, shading.exponent), cover[..., None], depth)

    def _present_faces(self, appearance: Appearance, solid: Shell) -> np.ndarray:
        """Which faces of head and clothes are there, bool (T,)."""
        rest = self.uv_atlas.rest
        far = np.linalg.norm(rest - rest[rest[:, 2].argmax()], axis=-1) > appearance.reach_m
        return np.concatenate([~far[self.faces].any(-1), np.full(len(solid.faces), appearance.reach_m == np.inf)])

    def _paint(self, appearance: Appearance, surface: _SurfacePoints, solid: Shell) -> tuple[np.ndarray, ...]:
        """Albedo (P, 3), gloss (P,), occlusion (P,) and normal bump (P, 3) of P points of head and clothes."""
        atlas, triangle, weight = self.uv_atlas, surface.triangle, surface.weight
        n_head, n_solid = len(atlas.rest), len(solid.vertices)
        clothes = np.concatenate([solid.texture, np.zeros((n_solid, 3)), np.ones((n_solid, 1))], 1, dtype=np.float32)
        values = surface.blend(np.concatenate([self.table, clothes]))
        part = np.concatenate([atlas.part, np.full(len(solid.faces), -1)]).take(triangle)
        albedo, gloss = np.zeros((len(triangle), 3), np.float32), np.zeros(len(triangle), np.float32)
        occlusion, bump = values[:, 5].copy(), np.zeros((len(triangle), 3), np.float32)
        skin = np.flatnonzero(part == 0)
        texture, points = None, values[:, :2].take(skin, 0)
        if appearance.texture_file is not None and self.uv is not None:
            u, v = _blend(weight.take(skin, 0), self.uv, self.uv_faces.take(triangle.take(skin), 0)).T
            image = read_texture(appearance.texture_file)
            texture = sample_bilinear(image, np.stack([u * image.shape[1] - 0.5, (1 - v) * image.shape[0] - 0.5], -1))
        albedo[skin], gloss[skin] = paint_skin(appearance, atlas, points, texture)
        relief = sample_noise(points, 45.0, appearance.seed + 2)
        bump[skin] = np.float32(0.015 + 0.03 * appearance.age) * relief[:, [1, 2, 1]]
        for eye, centre in ((1, atlas.eye_centres[0]), (2, atlas.eye_centres[1])):
            on = part == eye
            direction = values[on, 2:5] - centre
            albedo[on], gloss[on] = paint_eye(appearance, _unit(direction))
            occlusion[on] = 0.62
        lips_plane = float(np.quantile(atlas.rest[:, 2], 0.97))
        for index in (3, 4, 5, 6):
            on = part == index
            albedo[on], gloss[on] = paint_mouth(PARTS[index], 1e3 * (lips_plane - values[on, 4]) - 8)
            occlusion[on] = 0.8 if index == 3 else 0.5
        if appearance.untextured:
            albedo[:], gloss[:], bump[:] = appearance.skin, appearance.gloss, 0.0
        worn = part == -1
        cloth = _blend(weight[worn], solid.colour, surface.corners[worn] - n_head)
        albedo[worn] = np.clip(cloth * (1 + 0.08 * sample_noise(values[worn, :2], 200.0, appearance.seed + 3)[:, 1:2]), 0, 1)
        gloss[worn] = 0.02
        return albedo, gloss, 0.15 + 0.85 * occlusion, bump


@dataclass(frozen=True)
class Shading:
    """How light becomes a picture.

    Args:
        exponent: from linear light to display values. bleed: how far (3,) the key light wraps around under the skin.
        shadows: whether surfaces hide the light from each other.
    """

    exponent: float = DISPLAY_EXPONENT
    bleed: tuple[float, float, float] = (0.28, 0.12, 0.08)
    shadows: bool = True

    @classmethod
    def of(cls, appearance: Appearance) -> Shading:
        """Shading as in nature, or, where the appearance has an exponent, without shadows and bleeding."""
        return cls() if appearance.exponent is None else cls(appearance.exponent, (0.0, 0.0, 0.0), False)

    def albedo(self, linear: np.ndarray) -> np.ndarray:
        """Linear albedo as this shading takes it: under light of 1 it is shown in its own colour whatever the exponent."""
        if self.exponent == DISPLAY_EXPONENT:
            return linear
        return np.clip(linear, 0, None) ** np.float32(DISPLAY_EXPONENT / self.exponent)


@dataclass(frozen=True)
class RenderedImage:
    """What the camera shows: display colour float32 [R, R, 3], cover float32 [R, R, 1] and depth [R, R] in metres (infinite
    outside) of everything that hides a face point behind it."""

    colour: np.ndarray
    cover: np.ndarray
    depth: np.ndarray


@dataclass(frozen=True)
class _SurfacePoints:
    """P points of a mesh: their triangle (P,), its vertices (P, 3), barycentric weights (P, 3) and the points (P, 3)."""

    triangle: np.ndarray
    corners: np.ndarray
    weight: np.ndarray
    points: np.ndarray

    def blend(self, table: np.ndarray) -> np.ndarray:
        """Rows (P, C) float32 of a table (N, C) of the vertices, mixed by the weights."""
        return _blend(self.weight, table, self.corners)


@dataclass(frozen=True)
class _CastMesh:
    """A mesh as the camera sees it: its faces (T, 3), raster, ray caster and the points seen [size, size, 3]."""

    faces: np.ndarray
    raster: Raster
    caster: RayCaster
    points: np.ndarray

    def surface_points(self, mask: np.ndarray) -> _SurfacePoints:
        """What the masked pixels see, all of them something. (``take`` is several times faster than indexing.)"""
        chosen = np.flatnonzero(mask)
        triangle = self.raster.triangle.take(chosen)
        weight, points = (table.reshape(-1, 3).take(chosen, 0) for table in (self.raster.barycentric, self.points))
        return _SurfacePoints(triangle, self.faces.take(triangle, 0), weight, points)


def _cast_mesh(
    vertices: np.ndarray, faces: np.ndarray, camera: HeadCamera, size: int, present: np.ndarray | None = None
) -> _CastMesh:
    """Casts a ray through every pixel the mesh can cover; of the faces ``present`` (T,) only those turned to the camera
    are met, without it all."""
    chosen = np.arange(len(faces))
    if present is not None:
        a, b, c = (vertices.take(faces[:, k], 0) for k in range(3))
        chosen = np.flatnonzero(present & (_dot(np.cross(b - a, c - a), camera.towards_viewer(a)) > 0))
    caster = RayCaster(vertices, faces.take(chosen, 0))
    left, top, right, bottom = projected_box(vertices, camera, (size, size))
    block, shape = np.s_[top:bottom, left:right], (bottom - top, right - left)
    pixels = np.stack(np.meshgrid(np.arange(left, right) + 0.5, np.arange(top, bottom) + 0.5), -1).reshape(-1, 2)
    origins, directions = camera.rays(pixels, vertices)
    hits = caster.cast(origins, directions)
    hit = hits.triangle >= 0
    met = origins + np.where(hit, hits.distance, 0.0)[:, None] * np.broadcast_to(directions, origins.shape)
    raster, points = Raster.empty((size, size)), np.zeros((size, size, 3))
    raster.triangle[block] = np.where(hit, chosen.take(hits.triangle, mode="wrap"), -1).reshape(shape)
    raster.barycentric[block] = hits.barycentric.reshape(*shape, 3)
    raster.depth[block] = np.where(hit, camera.depth(met), np.inf).reshape(shape)
    points[block] = met.reshape(*shape, 3)
    return _CastMesh(faces, raster, caster, points)


def _blend(weight: np.ndarray, table: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Rows (P, C) float32: the corners' (P, 3) rows of a table (N, C) mixed by barycentric weights (P, 3)."""
    return np.einsum("pk,pkc->pc", weight, np.asarray(table, np.float32).take(corners, 0))


def _key_light_share(
    points: np.ndarray, normals: np.ndarray, mask: np.ndarray, light: Lighting, blockers: list[RayCaster]
) -> np.ndarray:
    """Share (P,) of the key light, a disc, that reaches points (P, 3) of the masked pixels: one ray each, averaged with its
    neighbours'."""
    normals = _unit(normals)
    towards = _unit(light.key_direction + _key_light_jitter(mask.size)[: len(normals)] * light.softness)
    origins = points + 2e-3 * normals + 1e-3 * light.key_direction
    lit = np.arange(len(normals))
    for blocker in blockers:
        lit = lit[~blocker.blocked(origins.take(lit, 0), towards.take(lit, 0))]
    reached, free = np.zeros(len(normals), np.float32), np.zeros(mask.shape, np.float32)
    reached[lit] = 1
    free[mask] = reached
    width = 0.6 + 4.0 * light.softness
    count = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), width)
    return (cv2.GaussianBlur(free, (0, 0), width) / np.maximum(count, 1e-3))[mask]


@lru_cache(maxsize=8)
def _key_light_jitter(count: int) -> np.ndarray:
    """Unit Gaussian directions (count, 3), always the same ones."""
    return np.random.default_rng(7).normal(size=(count, 3))


def _shade(
    normals: np.ndarray,
    points: np.ndarray,
    albedo: np.ndarray,
    gloss: np.ndarray,
    occlusion: np.ndarray,
    light: Lighting,
    camera: HeadCamera,
    key_share: np.ndarray,
    shading: Shading,
) -> np.ndarray:
    """Linear colour (P, 3): soft environment, highlights, and a key light that reaches ``key_share`` (P,) and bleeds."""
    albedo = shading.albedo(albedo)
    if not shading.shadows:
        occlusion = np.ones_like(occlusion)
    view = camera.towards_viewer(points).astype(np.float32)
    direction, key_colour = light.key_direction.astype(np.float32), light.key_colour.astype(np.float32)
    normals = _unit(normals)
    facing = _dot(normals, view)
    normals = normals * np.where(facing < -0.1, np.float32(-1), np.float32(1))[:, None]
    soft = np.clip(spherical_harmonics(normals, light.harmonics), 0.02, None) * occlusion[:, None]
    cosine = normals @ direction
    bleed = np.float32(shading.bleed)
    wrapped = np.clip((cosine[:, None] + bleed) / (1 + bleed), 0, None)
    key = wrapped * key_share[:, None] * key_colour * (0.4 + 0.6 * occlusion[:, None])
    aligned = np.clip(_dot(normals, _unit(direction + view)), 0, 1)
    fresnel = 0.3 + 0.7 * (1 - np.clip(np.where(facing < -0.1, -facing, facing), 0, 1)) ** 4
    wet = gloss > 0.8
    sharp, strength = np.where(wet, np.float32(180), np.float32(22)), np.where(wet, np.float32(2.5), np.float32(1.6))
    highlight = gloss * fresnel * (aligned**sharp) * key_share * strength
    sheen = 0.25 * np.minimum(gloss, 0.4) * fresnel * occlusion
    return albedo * (soft + key) + highlight[:, None] * key_colour + sheen[:, None] * soft


def _dot(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Scalar products (P,) of vectors (P, 3)."""
    return np.einsum("pk,pk->p", a, b)


def _unit(vectors: np.ndarray) -> np.ndarray:
    """Vectors (P, 3) of length one; those of no length stay short."""
    return vectors / np.maximum(np.sqrt(_dot(vectors, vectors)), 1e-6)[:, None]


@dataclass(frozen=True)
class _JoinedShells:
    """Shells joined to one mesh: vertices (N, 3), faces (T, 3) and a table (N, 11): colour 3, cover, texture 2, gloss, strands,
    normal 3."""

    vertices: np.ndarray
    faces: np.ndarray
    table: np.ndarray


def _join_shells(shells: list[Shell]) -> _JoinedShells | None:
    if not shells:
        return None
    offsets = np.cumsum([0] + [len(shell.vertices) for shell in shells[:-1]])
    faces = np.concatenate([shell.faces + offset for shell, offset in zip(shells, offsets, strict=True)]).astype(np.int32)
    vertices = np.concatenate([shell.vertices for shell in shells])
    columns = [
        np.concatenate([getattr(shell, name).reshape(len(shell.vertices), -1) for shell in shells])
        for name in ("colour", "alpha", "texture", "gloss")
    ]
    strands = np.concatenate([np.full((len(shell.vertices), 1), shell.strands) for shell in shells])
    table = np.concatenate([*columns, strands, smooth_normals(vertices, faces)], 1).astype(np.float32)
    return _JoinedShells(vertices, faces, table)


def _blend_shells(
    colour: np.ndarray,
    cover: np.ndarray,
    depth: np.ndarray,
    joined: _JoinedShells,
    shell_mesh: _CastMesh,
    light: Lighting,
    camera: HeadCamera,
    shading: Shading,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Blends the nearest translucent surface over the solid image where it lies before it."""
    front = shell_mesh.raster.mask & (shell_mesh.raster.depth < depth)
    if not front.any():
        return colour, cover, depth
    surface = shell_mesh.surface_points(front)
    values = surface.blend(joined.table)
    albedo, alpha, texture, gloss, strand, normals = np.split(values, [3, 4, 6, 7, 8], axis=1)
    noise = sample_noise(texture * np.float32([1.6, 1.0]), 90.0, len(joined.vertices))
    fibre = noise[:, 3:4]
    albedo = albedo * np.clip(1 + strand * (0.55 * fibre + 0.2 * noise[:, 2:3]), 0.15, 2.2)
    alpha = np.where(strand > 0, np.clip(2.6 * alpha - 0.7 + 0.3 * fibre * (alpha < 0.95), 0, 1), alpha)
    gloss = np.where(strand > 0, gloss * np.clip(1 + fibre, 0, 3), gloss)[:, 0]
    occlusion = np.where(strand[:, 0] > 0, np.float32(0.75), np.float32(1))
    key_share = np.ones(len(values), np.float32)
    normals = normals + strand * 0.35 * noise[:, [3, 1, 0]]
    lit = _shade(normals, surface.points, albedo, gloss, occlusion, light, camera, key_share, shading)
    colour, cover, depth = colour.copy(), cover.copy(), depth.copy()
    before = cover[front][:, None]
    after = before + (1 - before) * alpha
    colour[front] = ((1 - alpha) * before * colour[front] + alpha * lit) / np.maximum(after, 1e-3)
    cover[front] = after[:, 0]
    depth[front] = np.where(alpha[:, 0] > 0.5, shell_mesh.raster.depth[front], depth[front])
    return colour, cover, depth


def _tone_map(colour: np.ndarray, exponent: float) -> np.ndarray:
    """Display values of linear colour, bright parts rolled off."""
    rolled = np.where(colour > 0.7, 0.7 + 0.3 * np.tanh((colour - 0.7) / 0.3 * 0.8), colour)
    return np.clip(rolled, 0, 1).astype(np.float32) ** np.float32(exponent)


def soften_edges(rendered: RenderedImage) -> RenderedImage:
    """Smooth the silhouette of a rendered image over a pixel, as a lens does."""
    cover = cv2.GaussianBlur(rendered.cover, (3, 3), 0.7)[..., None]
    spread = cv2.GaussianBlur(rendered.colour * rendered.cover, (3, 3), 0.7) / np.maximum(cover, 1e-3)
    colour = np.where(rendered.cover > 0.5, rendered.colour, spread)
    return RenderedImage(colour, cover, rendered.depth)
