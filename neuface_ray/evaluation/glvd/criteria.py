"""Acceptance criteria of GLVD, G1 to G4, each a rule on rows; and the tables of its comparison.

A row has ``identity``, ``method``, ``views`` (how many), ``view`` (the one it is scored in) and the numbers of
`neuface_ray.evaluation.glvd.scores`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neuface_ray.evaluation.report import Criterion
from neuface_ray.evaluation.tables import Row, numbers, select
from neuface_ray.metrics.statistics import compare, summarise

SCORE = "mpve_rigid_face_mm"
GAIN, SIGNIFICANT, FASTER = 0.10, 0.05, 5.0
FALLS_UNTIL, WOBBLE = 8, 0.01
LVD, GLVD, PAPER_FORM = "lvd", "glvd", "neuface, paper's form"
MEASURES = ("mpve_none_face_mm", SCORE, "mpve_similarity_face_mm", "chamfer_vertex_mm", "chamfer_surface_mm", "keypoints_mm")


def mean_of(rows: Sequence[Row], key: str) -> float:
    """Mean of the rows' numbers under ``key``; NaN for none."""
    return summarise(numbers(rows, key)).mean


def all_criteria(rows: Sequence[Row], curves: dict[tuple[str, int], np.ndarray], speed: Sequence[Row]) -> list[Criterion]:
    """List all criteria.

    Args:
        curves: errors (T + 1,) by method and number of views. speed: rows of ``method`` and ``seconds_per_face``.
    """
    return [below_lvd(rows), falling_error(curves), more_views(rows), faster(speed)]


def below_lvd(rows: Sequence[Row]) -> Criterion:
    """G1: single views, all of them, paired by identity and view; whole identities are resampled."""
    found = {name: {(r["identity"], r["view"]): r[SCORE] for r in select(rows, method=name, views=1)} for name in (LVD, GLVD)}
    both = sorted(found[LVD].keys() & found[GLVD].keys())
    lvd, glvd = (np.array([found[name][key] for key in both], np.float64) for name in (LVD, GLVD))
    test = compare(glvd, lvd, np.array([str(identity) for identity, _ in both]))
    gain = 1 - glvd.mean() / lvd.mean() if len(both) else float("nan")
    return Criterion(
        "G1",
        "from one view GLVD's rigidly aligned vertex error is at least 10 % below LVD's",
        bool(gain >= GAIN and test.p < SIGNIFICANT),
        f"{np.sum(glvd) / max(len(both), 1):.2f} mm against {np.sum(lvd) / max(len(both), 1):.2f} mm, {100 * gain:.1f} % less, "
        f"paired difference {test.difference:.2f} ({test.low:.2f} to {test.high:.2f}), p {test.p:.3f}, {len(both)} pictures",
    )


def falling_error(curves: dict[tuple[str, int], np.ndarray]) -> Criterion:
    """G2: no step up to the eighth raises the mean error by more than a hundredth, and none before was better than the last."""
    errors = curves.get((GLVD, 1), np.full(1, np.nan))[: FALLS_UNTIL + 1]
    falls = len(errors) == FALLS_UNTIL + 1 and bool((errors[1:] <= (1 + WOBBLE) * errors[:-1]).all())
    ends_lowest = falls and bool(errors[-1] <= (1 + WOBBLE) * errors.min())
    measured = ", ".join(f"{value:.1f}" for value in errors)
    return Criterion("G2", "GLVD's error falls in every step up to the eighth", ends_lowest, f"mm at t = 0, 1, ...: {measured}")


def more_views(rows: Sequence[Row]) -> Criterion:
    """G3: every larger number of views is at least as good as one, in the view that all have in common."""
    counts = sorted({int(row["views"]) for row in select(rows, method=GLVD)})
    first = next((row["view"] for row in select(rows, method=GLVD) if row["views"] == max(counts, default=1)), None)
    means = {count: mean_of(select(rows, method=GLVD, views=count, view=first), SCORE) for count in counts}
    passed = len(means) > 1 and counts[0] == 1 and all(means[count] <= means[1] for count in counts)
    measured = ", ".join(f"{count} {'view' if count == 1 else 'views'} {value:.2f} mm" for count, value in means.items())
    return Criterion("G3", "more views are at least as good for GLVD as one", passed, measured)


def faster(speed: Sequence[Row]) -> Criterion:
    """G4: time per face of one view, one thread."""
    seconds = {str(row["method"]): float(row["seconds_per_face"]) for row in speed}
    glvd, paper = (seconds.get(name, float("nan")) for name in (GLVD, PAPER_FORM))
    measured = f"{glvd:.3f} s against {paper:.1f} s a face, {paper / glvd:.0f} times"
    return Criterion("G4", "GLVD is at least 5 times faster than NeuFace in the paper's form", paper >= FASTER * glvd, measured)


def make_tables(rows: Sequence[Row], speed: Sequence[Row], real: Sequence[Row]) -> dict[str, Sequence[Row]]:
    """Make all tables by heading."""
    tables: dict[str, Sequence[Row]] = {}
    methods, counts = list(dict.fromkeys(r["method"] for r in rows)), sorted({int(r["views"]) for r in rows})
    first = next(iter(rows))["view"] if rows else None
    tables["Errors in the front view, mm"] = [
        {"method": name, "views": count, "faces": len(chosen)} | {key: mean_of(chosen, key) for key in MEASURES}
        for count in counts
        for name in methods
        if (chosen := select(rows, method=name, views=count, view=first))
    ]
    tables["One view, by where it stands, rigid mm"] = [
        {"view": view} | {name: mean_of(select(rows, method=name, views=1, view=view), SCORE) for name in (LVD, GLVD)}
        for view in dict.fromkeys(r["view"] for r in rows)
    ]
    tables["Time for a face, one thread"] = list(speed)
    if real:
        tables["Real clips"] = list(real)
    return tables
