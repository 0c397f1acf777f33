"""Acceptance criteria of NeuFace: those of the paper (CVPR 2023, Tables 2 and S1, Fig. 4), N1 to N7, and two more, O1 and O2.

Each is a rule on rows with ``sequence``, ``method`` and the numbers of `scores.score`. "Better with p < .05" means
the paired bootstrap over sequences; all else compares means over the same sequences.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neuface_ray.evaluation.neuface.variants import DIRECT, ENCODER, FULL, POINTS, TEMPORAL, VIEW, low_pass_name
from neuface_ray.evaluation.report import Criterion
from neuface_ray.evaluation.tables import Row
from neuface_ray.metrics.statistics import Comparison, compare

HIGHER_IS_BETTER = {"msi_l", "msi_v"}
SIGNIFICANT, AMPLITUDE, SAME_NME = 0.05, 0.9, 0.1
VIEW_FACTOR, TEMPORAL_FACTOR = 1.5, 3.0
EQUAL_STABILITY = "encoder, low-pass at equal MSI"


def by_sequence(rows: Sequence[Row], method: str, name: str) -> dict[object, float]:
    """A method's numbers by sequence; NaN where a row lacks them."""
    return {row["sequence"]: float(row.get(name, np.nan)) for row in rows if row["method"] == method}


def paired(rows: Sequence[Row], first: str, second: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """The numbers of two methods on the sequences that both ran on and where both could be measured."""
    a, b = by_sequence(rows, first, name), by_sequence(rows, second, name)
    both = np.array([(a[key], b[key]) for key in a if key in b]).reshape(-1, 2)
    both = both[~np.isnan(both).any(1)]
    return both[:, 0], both[:, 1]


def means(rows: Sequence[Row], first: str, second: str, name: str) -> tuple[float, float]:
    """Means of two methods over the sequences that both have; NaN for none."""
    a, b = paired(rows, first, second, name)
    return (float(a.mean()), float(b.mean())) if len(a) else (float("nan"), float("nan"))


def compare_methods(rows: Sequence[Row], first: str, second: str, name: str) -> Comparison:
    """Test by paired bootstrap that ``first`` is better than ``second``; the difference is first - second, negated where higher
    is better, so that negative is better."""
    a, b = paired(rows, first, second, name)
    return compare(b, a) if name in HIGHER_IS_BETTER else compare(a, b)


def _ratio(a: float, b: float) -> float:
    return a / b if b else float("nan")


def _formatted(rows: Sequence[Row], first: str, second: str, name: str) -> str:
    a, b = means(rows, first, second, name)
    return f"{name} {a:.3g} against {b:.3g} (p {compare_methods(rows, first, second, name).p:.3f})"


def paper_criteria(rows: Sequence[Row]) -> list[Criterion]:
    """N1 to N7."""
    return [rule(rows) for rule in (n1, n2, n3, n4, n5, n6, n7)]


def n1(rows: Sequence[Row]) -> Criterion:
    """The full objective beats the encoder in CVD, MSI and NME at once, each with p < .05."""
    names = ("cvd", "msi_l", "msi_v", "nme")
    passed = all(compare_methods(rows, FULL, ENCODER, name).p < SIGNIFICANT for name in names)
    measured = "; ".join(_formatted(rows, FULL, ENCODER, name) for name in names)
    return Criterion("N1", "the full objective beats the encoder in CVD, MSI and NME at once", passed, measured)


def n2(rows: Sequence[Row]) -> Criterion:
    """It beats direct fitting in CVD and MSI with p < .05; its NME is not worse: the interval of the difference reaches 0."""
    passed = all(compare_methods(rows, FULL, DIRECT, name).p < SIGNIFICANT for name in ("cvd", "msi_l", "msi_v"))
    nme = compare_methods(rows, FULL, DIRECT, "nme")
    measured = "; ".join(_formatted(rows, FULL, DIRECT, name) for name in ("cvd", "msi_l", "msi_v", "nme"))
    measured += f", difference [{nme.low:.3g}, {nme.high:.3g}]"
    statement = "the full objective beats direct fitting in CVD and MSI, with NME not worse"
    return Criterion("N2", statement, bool(passed and nme.low <= 0), measured)


def n3(rows: Sequence[Row]) -> Criterion:
    """Landmarks alone lower NME and raise CVD against the encoder (signs)."""
    nme, cvd = (means(rows, POINTS, ENCODER, name) for name in ("nme", "cvd"))
    measured = "; ".join(_formatted(rows, POINTS, ENCODER, name) for name in ("nme", "cvd"))
    return Criterion(
        "N3", "2D alone lowers NME and raises CVD against the encoder", nme[0] < nme[1] and cvd[0] > cvd[1], measured
    )


def n4(rows: Sequence[Row]) -> Criterion:
    """The view term divides CVD by 1.5 at least, and NME stays within .1."""
    nme, cvd = (means(rows, VIEW, POINTS, name) for name in ("nme", "cvd"))
    passed = cvd[1] >= VIEW_FACTOR * cvd[0] and abs(nme[0] - nme[1]) <= SAME_NME
    measured = f"CVD {cvd[1]:.3g} to {cvd[0]:.3g}, factor {_ratio(cvd[1], cvd[0]):.2f}; NME {nme[1]:.3f} to {nme[0]:.3f}"
    return Criterion("N4", f"the view term cuts CVD {VIEW_FACTOR:g} times or more, NME within {SAME_NME:g}", passed, measured)


def n5(rows: Sequence[Row]) -> Criterion:
    """The temporal term multiplies MSI, of landmarks and of vertices, by 3 at least."""
    pairs = {name: means(rows, TEMPORAL, POINTS, name) for name in ("msi_l", "msi_v")}
    passed = all(after >= TEMPORAL_FACTOR * before for after, before in pairs.values())
    measured = "; ".join(f"{name} {b:.3g} to {a:.3g}, factor {_ratio(a, b):.2f}" for name, (a, b) in pairs.items())
    return Criterion("N5", f"the temporal term raises MSI {TEMPORAL_FACTOR:g} times or more", passed, measured)


def n6(rows: Sequence[Row]) -> Criterion:
    """With both terms MSI, of landmarks and of vertices, lies above the temporal term's alone (signs)."""
    pairs = {name: means(rows, FULL, TEMPORAL, name) for name in ("msi_l", "msi_v")}
    measured = "; ".join(_formatted(rows, FULL, TEMPORAL, name) for name in pairs)
    return Criterion(
        "N6", "both terms give a higher MSI than the temporal term alone", all(a > b for a, b in pairs.values()), measured
    )


def n7(rows: Sequence[Row]) -> Criterion:
    """Vertex error NeuFace <= direct < encoder, root-aligned as the paper's figure and rigidly aligned."""
    passed, measured = True, []
    for alignment in ("root", "rigid", "similarity"):
        name = f"mpve_{alignment}"
        against_direct, against_encoder = means(rows, FULL, DIRECT, name), means(rows, DIRECT, ENCODER, name)
        if alignment != "similarity":
            passed &= against_direct[0] <= against_direct[1] and against_encoder[0] < against_encoder[1]
        measured.append(f"{alignment} {against_direct[0]:.2f}, {against_direct[1]:.2f}, {against_encoder[1]:.2f} mm")
    return Criterion("N7", "vertex error of NeuFace <= direct fitting < encoder (root and rigid)", passed, "; ".join(measured))


def added_criteria(rows: Sequence[Row], strengths: Sequence[float]) -> list[Criterion]:
    """What keeps stability honest: O1 and O2."""
    return [o1(rows), o2(rows, strengths)]


def o1(rows: Sequence[Row]) -> Criterion:
    """Movement is kept: nine tenths of the amplitude of blinks and of mouth opening."""
    shares = {name: np.array(list(by_sequence(rows, FULL, f"{name}_kept").values())) for name in ("lids", "lips")}
    slopes = {name: np.array(list(by_sequence(rows, FULL, f"{name}_gain").values())) for name in shares}
    share = {name: _mean_of_known(values) for name, values in shares.items()}
    measured = "; ".join(
        f"{what} {100 * share[name]:.0f} % of the amplitude in {np.isfinite(shares[name]).sum()} moving sequences, "
        f"slope on the truth {_mean_of_known(slopes[name]):.2f}"
        for name, what in (("lids", "blinks"), ("lips", "mouth"))
    )
    statement = f"at least {100 * AMPLITUDE:.0f} % of the amplitude of blinks and mouth opening is kept"
    return Criterion("O1", statement, all(value >= AMPLITUDE for value in share.values()), measured)


def o2(rows: Sequence[Row], strengths: Sequence[float]) -> Criterion:
    """A filter does not do as well: vertex error against the encoder filtered to the same stability."""
    matched, measured = [*rows, *at_equal_stability(rows, strengths)], []
    test = compare_methods(matched, FULL, EQUAL_STABILITY, "mpve_rigid")
    for name in ("mpve_rigid", "mpve_root", "msi_v"):
        a, b = means(matched, FULL, EQUAL_STABILITY, name)
        measured.append(f"{name} {a:.3g} against {b:.3g}")
    statement = "NeuFace beats the low-pass filtered encoder in vertex error at equal MSI"
    text = f"{'; '.join(measured)} (p {test.p:.3f}, {test.n} sequences)"
    return Criterion("O2", statement, test.p < SIGNIFICANT, text)


def _mean_of_known(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def at_equal_stability(rows: Sequence[Row], strengths: Sequence[float]) -> list[Row]:
    """Rows of the filtered encoder with, in each sequence, NeuFace's ``msi_v``.

    Errors are interpolated linearly in log MSI between the strengths, strength 0 being the bare encoder; beyond the family's
    ends the nearest member is taken.
    """
    members = [ENCODER, *(low_pass_name(strength) for strength in sorted(strengths))]
    wanted, matched = by_sequence(rows, FULL, "msi_v"), []
    for sequence, target in wanted.items():
        family = [row for name in members for row in rows if row["method"] == name and row["sequence"] == sequence]
        stability = np.maximum.accumulate([float(row["msi_v"]) for row in family])
        if np.isnan(target) or not np.isfinite(stability).all() or not len(stability):
            continue
        row: Row = {"sequence": sequence, "method": EQUAL_STABILITY}
        for name in ("mpve_root", "mpve_rigid", "mpve_similarity", "nme_true", "lids_kept", "lips_kept", "jitter_px"):
            values = np.array([float(one.get(name, np.nan)) for one in family])
            row[name] = float(np.interp(np.log(target), np.log(stability), values))
        row["msi_v"] = float(np.clip(target, stability[0], stability[-1]))
        matched.append(row)
    return matched
