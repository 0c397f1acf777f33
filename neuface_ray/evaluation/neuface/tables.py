"""The tables of NeuFace's comparison."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neuface_ray.evaluation.neuface.criteria import EQUAL_STABILITY, at_equal_stability, by_sequence, compare_methods
from neuface_ray.evaluation.neuface.settings import NeufaceEvaluation
from neuface_ray.evaluation.neuface.variants import (
    APART,
    CALIBRATED,
    DIRECT,
    ENCODER,
    FULL,
    POINTS,
    TEMPORAL,
    VIEW,
    WHOLE,
    curve_name,
    low_pass_name,
)
from neuface_ray.evaluation.tables import Row
from neuface_ray.metrics.annotation import nan_mean

PAPER = {"MSI_L": "msi_l", "MSI_V": "msi_v", "CVD mm": "cvd", "CVD L2 mm": "cvd_l2", "NME %": "nme"}
ABLATION = {"CVD mm": "cvd", "MSI_L": "msi_l", "MSI_V": "msi_v", "NME %": "nme", "NME true %": "nme_true"}
ABLATION |= {"MPVE rigid mm": "mpve_rigid"}
TRUTH = {
    "NME true %": "nme_true",
    "NME box %": "nme_box",
    "MPVE root mm": "mpve_root",
    "MPVE rigid mm": "mpve_rigid",
    "MPVE similarity mm": "mpve_similarity",
    "yaw error °": "yaw_error_deg",
    "identity norm": "identity_norm",
}
MOTION = {
    "blinks kept": "lids_kept",
    "slope": "lids_gain",
    "mouth kept": "lips_kept",
    "slope ": "lips_gain",
    "MSI_V": "msi_v",
    "MSI_V median": "msi_v_median",
    "acceleration mm/frame²": "acceleration_mm",
    "jitter px/frame²": "jitter_px",
}
WITHHELD = {
    "NME % on points left out": "nme_withheld",
    "NME true % on them": "nme_true_withheld",
    "NME % on all points": "nme",
    "MPVE rigid mm": "mpve_rigid",
}
COST = {"fit s": "seconds", "face-frames/s": "face_frames_per_s", "NME %": "nme", "NME true %": "nme_true"}
COST |= {"MPVE rigid mm": "mpve_rigid", "diverged": "diverged"}
DIFFERENCES = ("msi_l", "msi_v", "cvd", "nme", "nme_true", "mpve_root", "mpve_rigid", "mpve_similarity", "jitter_px", "seconds")
REAL = {"NME %": "nme", "MSI_L": "msi_l", "MSI_V": "msi_v", "acceleration mm/frame²": "acceleration_mm"}
REAL |= {
    "jitter px/frame²": "jitter_px",
    "CVD mm": "cvd",
    "identity norm": "identity_norm",
    "face-frames/s": "face_frames_per_s",
}


def make_tables(rows: Sequence[Row], real: Sequence[Row], settings: NeufaceEvaluation) -> dict[str, list[Row]]:
    """Make all tables by heading; means over sequences, MSI in frame^4 / mm^2."""
    strengths = sorted(settings.low_pass)
    fits = (ENCODER, APART, DIRECT, CALIBRATED, POINTS, VIEW, TEMPORAL, FULL)
    filtered = [*rows, *at_equal_stability(rows, strengths)]
    family = [ENCODER, *map(low_pass_name, strengths), EQUAL_STABILITY, FULL]
    curve = [curve_name(FULL, count) for count in sorted(settings.curve_iterations)]
    curve += [curve_name(DIRECT, count) for count in sorted(settings.curve_steps)]
    both = _common(rows, [WHOLE])
    result = {
        "Table 2: methods": table(rows, ("truth", ENCODER, APART, DIRECT, CALIBRATED, FULL), PAPER),
        "Table S1: terms of the objective": table(rows, (POINTS, VIEW, TEMPORAL, FULL), ABLATION),
        "Against the truth": table(rows, ("truth", "landmarks given", *fits), TRUTH),
        "Movement": table(rows, ("truth", "landmarks given", *fits), MOTION),
        "The encoder filtered along time": table(filtered, family, {**TRUTH, **MOTION}),
        "Every fifth landmark left out of the fit": table(
            rows, (ENCODER, f"{DIRECT}, fifth left out", f"{FULL}, fifth left out"), WITHHELD
        ),
        "Paired differences (first - second; MSI: second - first; negative is better)": [
            line for baseline in (ENCODER, DIRECT) for line in differences(rows, FULL, baseline)
        ],
        "Speed, one thread": table(rows, fits, COST),
        "Error against time": table(_common(rows, curve), [ENCODER, *curve], COST),
        "The top alone and the whole network": table(both, (FULL, WHOLE), {**PAPER, **TRUTH, **COST}),
        "The top alone against the whole network, paired": differences(both, FULL, WHOLE),
    }
    if real:
        result["Real clips"] = real_table(real)
        result["Real clips, means"] = table(real, [m for m in (*fits, *family) if by_sequence(real, m, "nme")], REAL)
    return {heading: lines for heading, lines in result.items() if lines}


def table(rows: Sequence[Row], chosen: Sequence[str], columns: dict[str, str]) -> list[Row]:
    """A line for each method: means over sequences, and over how many."""
    lines: list[Row] = []
    for method in dict.fromkeys(chosen):
        values = {heading: np.array(list(by_sequence(rows, method, name).values())) for heading, name in columns.items()}
        count = len(by_sequence(rows, method, "nme"))
        if count:
            lines.append({"method": method, **{heading: float(nan_mean(v)) for heading, v in values.items()}, "n": count})
    return lines


def differences(rows: Sequence[Row], first: str, second: str) -> list[Row]:
    """Paired differences of two methods with their 95 % intervals and one-sided p."""
    lines: list[Row] = []
    for name in DIFFERENCES:
        found = compare_methods(rows, first, second, name)
        if found.n:
            names = {"first": first, "second": second, "measure": name, "difference": found.difference}
            lines.append({**names, "low": found.low, "high": found.high, "p": found.p, "n": found.n})
    return lines


def real_table(rows: Sequence[Row]) -> list[Row]:
    """The bare encoder, direct fitting and NeuFace on each real clip."""
    return [
        {"clip": row["sequence"], "method": row["method"], **{heading: row.get(name) for heading, name in REAL.items()}}
        for row in rows
        if row["method"] in (ENCODER, DIRECT, FULL)
    ]


def _common(rows: Sequence[Row], wanted: Sequence[str]) -> list[Row]:
    """The rows of the sequences on which the wanted methods ran."""
    sequences = {row["sequence"] for row in rows if row["method"] in wanted}
    return [row for row in rows if row["sequence"] in sequences]
