"""What GLVD promises, each a rule on rows, and the tables of its comparison.

A row has ``identity``, ``method``, ``views`` (how many), ``view`` (the one it is scored in) and the numbers of
`neuface_ray.evaluation.glvd.scores`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neuface_ray.evaluation.report import Claim
from neuface_ray.metrics.statistics import compare, summarise

Row = dict[str, object]
SCORE = "mpve_rigid_face_mm"
GAIN, SIGNIFICANT, FASTER = 0.10, 0.05, 5.0
FALLS_UNTIL, WOBBLE = 8, 0.01
LVD, GLVD, PAPER_FORM = "lvd", "glvd", "neuface, paper's form"
MEASURES = ("mpve_none_face_mm", SCORE, "mpve_similarity_face_mm", "chamfer_vertex_mm", "chamfer_surface_mm", "keypoints_mm")


def of(rows: Sequence[Row], method: str, views: int | None = None, view: str | None = None) -> list[Row]:
    """The rows of a method, of a number of views, scored in a view; None for any."""
    return [r for r in rows if r["method"] == method and views in (None, r["views"]) and view in (None, r["view"])]


def mean_of(rows: Sequence[Row], key: str) -> float:
    """Mean of the rows' numbers under ``key``; NaN for none."""
    return summarise(np.array([row.get(key, np.nan) for row in rows], np.float64)).mean


def claims(rows: Sequence[Row], curves: dict[tuple[str, int], np.ndarray], speed: Sequence[Row]) -> list[Claim]:
    """All claims.

    Args:
        curves: errors (T + 1,) by method and number of views. speed: rows of ``method`` and ``seconds_per_face``.
    """
    return [better(rows), falling(curves), more_views(rows), faster(speed)]


def better(rows: Sequence[Row]) -> Claim:
    """G1: single views, all of them, paired by identity and view; whole identities are resampled."""
    found = {name: {(r["identity"], r["view"]): r[SCORE] for r in of(rows, name, 1)} for name in (LVD, GLVD)}
    both = sorted(found[LVD].keys() & found[GLVD].keys())
    lvd, glvd = (np.array([found[name][key] for key in both], np.float64) for name in (LVD, GLVD))
    test = compare(glvd, lvd, np.array([str(identity) for identity, _ in both]))
    gain = 1 - glvd.mean() / lvd.mean() if len(both) else float("nan")
    return Claim(
        "G1",
        "from one view GLVD's rigidly aligned vertex error is at least 10 % below LVD's",
        bool(gain >= GAIN and test.p < SIGNIFICANT),
        f"{np.sum(glvd) / max(len(both), 1):.2f} mm against {np.sum(lvd) / max(len(both), 1):.2f} mm, {100 * gain:.1f} % less, "
        f"paired difference {test.difference:.2f} ({test.low:.2f} to {test.high:.2f}), p {test.p:.3f}, {len(both)} pictures",
    )


def falling(curves: dict[tuple[str, int], np.ndarray]) -> Claim:
    """G2: no step up to the eighth raises the mean error by more than a hundredth, and none before was better than the last."""
    errors = curves.get((GLVD, 1), np.full(1, np.nan))[: FALLS_UNTIL + 1]
    falls = len(errors) == FALLS_UNTIL + 1 and bool((errors[1:] <= (1 + WOBBLE) * errors[:-1]).all())
    settled = falls and bool(errors[-1] <= (1 + WOBBLE) * errors.min())
    told = ", ".join(f"{value:.1f}" for value in errors)
    return Claim("G2", "GLVD's error falls in every step up to the eighth", settled, f"mm at t = 0, 1, ...: {told}")


def more_views(rows: Sequence[Row]) -> Claim:
    """G3: every larger number of views is at least as good as one, in the view that all have in common."""
    counts = sorted({int(row["views"]) for row in of(rows, GLVD)})
    first = next((row["view"] for row in of(rows, GLVD) if row["views"] == max(counts, default=1)), None)
    means = {count: mean_of(of(rows, GLVD, count, first), SCORE) for count in counts}
    passed = len(means) > 1 and counts[0] == 1 and all(means[count] <= means[1] for count in counts)
    told = ", ".join(f"{count} {'view' if count == 1 else 'views'} {value:.2f} mm" for count, value in means.items())
    return Claim("G3", "more views are at least as good for GLVD as one", passed, told)


def faster(speed: Sequence[Row]) -> Claim:
    """G4: time per face of one view, one thread."""
    seconds = {str(row["method"]): float(row["seconds_per_face"]) for row in speed}
    ours, theirs = (seconds.get(name, float("nan")) for name in (GLVD, PAPER_FORM))
    told = f"{ours:.3f} s against {theirs:.1f} s a face, {theirs / ours:.0f} times"
    return Claim("G4", "GLVD is at least 5 times faster than NeuFace in the paper's form", theirs >= FASTER * ours, told)


def tables(rows: Sequence[Row], speed: Sequence[Row], real: Sequence[Row]) -> dict[str, Sequence[Row]]:
    """All tables by heading."""
    found: dict[str, Sequence[Row]] = {}
    methods, counts = list(dict.fromkeys(r["method"] for r in rows)), sorted({int(r["views"]) for r in rows})
    first = next(iter(rows))["view"] if rows else None
    found["Errors in the front view, mm"] = [
        {"method": name, "views": count, "faces": len(chosen)} | {key: mean_of(chosen, key) for key in MEASURES}
        for count in counts
        for name in methods
        if (chosen := of(rows, name, count, first))
    ]
    found["One view, by where it stands, rigid mm"] = [
        {"view": view} | {name: mean_of(of(rows, name, 1, view), SCORE) for name in (LVD, GLVD)}
        for view in dict.fromkeys(r["view"] for r in rows)
    ]
    found["Time for a face, one thread"] = list(speed)
    if real:
        found["Real clips"] = list(real)
    return found
