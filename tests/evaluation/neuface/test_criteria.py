"""Each criterion's rule on rows that should pass and on rows that should fail."""

import numpy as np
import pytest

from neuface_ray.evaluation.neuface.criteria import added_criteria, at_equal_stability, means, n1, n2, paired, paper_criteria
from neuface_ray.evaluation.neuface.variants import DIRECT, ENCODER, FULL, POINTS, TEMPORAL, VIEW, low_pass_name

STRENGTHS = (1.0, 2.0)
GOOD = {
    ENCODER: {"cvd": 2.0, "msi_l": 0.1, "msi_v": 0.1, "nme": 5.0, "mpve_root": 20.0, "mpve_rigid": 4.0},
    DIRECT: {"cvd": 1.8, "msi_l": 0.2, "msi_v": 0.2, "nme": 3.0, "mpve_root": 15.0, "mpve_rigid": 3.0},
    POINTS: {"cvd": 3.0, "msi_l": 0.1, "msi_v": 0.1, "nme": 2.5},
    VIEW: {"cvd": 1.5, "msi_l": 0.1, "msi_v": 0.1, "nme": 2.55},
    TEMPORAL: {"cvd": 2.9, "msi_l": 0.5, "msi_v": 0.6, "nme": 2.6},
    FULL: {"cvd": 1.0, "msi_l": 0.8, "msi_v": 0.9, "nme": 2.6, "mpve_root": 12.0, "mpve_rigid": 2.5}
    | {"lids_kept": 0.95, "lids_gain": 0.9, "lips_kept": 0.92, "lips_gain": 0.9},
    low_pass_name(1): {"msi_v": 0.4, "mpve_root": 20.0, "mpve_rigid": 4.5},
    low_pass_name(2): {"msi_v": 4.0, "mpve_root": 21.0, "mpve_rigid": 6.0},
}


def rows(changes=(), sequences=6):
    """Rows of ``GOOD`` with (method, name, value) replaced, each sequence a little different but in the same order."""
    table = {method: dict(numbers) for method, numbers in GOOD.items()}
    for method, name, value in changes:
        table[method][name] = value
    spread = np.random.default_rng(0).uniform(0.99, 1.01, sequences)
    return [
        {"sequence": s, "method": method, **{name: value * spread[s] for name, value in numbers.items()}}
        for s in range(sequences)
        for method, numbers in table.items()
    ]


def criteria(changes=()):
    every = rows(changes)
    return {criterion.name: criterion for criterion in (*paper_criteria(every), *added_criteria(every, STRENGTHS))}


def test_all_criteria_are_met_where_they_should_be():
    found = criteria()
    assert list(found) == ["N1", "N2", "N3", "N4", "N5", "N6", "N7", "O1", "O2"]
    assert all(one.passed is True for one in found.values()), [one.line for one in found.values()]
    assert found["N4"].line.startswith("N4 PASS the view term")
    assert "factor 2.00" in found["N4"].measured


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("N1", (FULL, "nme", 5.5)),
        ("N1", (FULL, "cvd", 2.1)),
        ("N1", (FULL, "msi_l", 0.05)),
        ("N2", (FULL, "msi_v", 0.15)),
        ("N2", (DIRECT, "cvd", 0.9)),
        ("N2", (DIRECT, "nme", 2.3)),
        ("N3", (POINTS, "nme", 5.2)),
        ("N3", (POINTS, "cvd", 1.9)),
        ("N4", (VIEW, "cvd", 2.1)),
        ("N4", (VIEW, "nme", 2.7)),
        ("N4", (VIEW, "nme", 2.3)),
        ("N5", (TEMPORAL, "msi_l", 0.29)),
        ("N5", (TEMPORAL, "msi_v", 0.29)),
        ("N6", (FULL, "msi_v", 0.55)),
        ("N7", (FULL, "mpve_rigid", 3.1)),
        ("N7", (DIRECT, "mpve_root", 21.0)),
        ("O1", (FULL, "lids_kept", 0.89)),
        ("O1", (FULL, "lips_kept", 0.5)),
        ("O2", (FULL, "mpve_rigid", 6.5)),
        ("N4", (VIEW, "cvd", float("nan"))),
        ("O1", (FULL, "lids_kept", float("nan"))),
    ],
)
def test_a_criterion_that_is_not_met_fails(name, change):
    found = criteria([change])[name]
    assert found.passed is False
    assert found.line.startswith(f"{name} FAIL ")


def test_a_difference_that_some_sequences_contradict_is_no_evidence():
    every = rows()
    for row in every:
        if row["method"] == FULL and row["sequence"] % 2:
            row["nme"] = 8.0
    assert not n1(every).passed


def test_nme_not_worse_allows_a_difference_within_chance():
    every = rows([(DIRECT, "nme", 2.6)])
    for row in every:
        if row["method"] == FULL:
            row["nme"] += 0.3 * (-1) ** row["sequence"]
    assert n2(every).passed


def test_only_sequences_that_both_ran_on_are_compared():
    every = [row for row in rows() if not (row["method"] == VIEW and row["sequence"] > 1)]
    first, second = paired(every, VIEW, POINTS, "cvd")
    assert len(first) == len(second) == 2
    assert np.isnan(means(every, "no such method", POINTS, "cvd")).all()


def test_equal_stability_is_interpolated_in_log_msi():
    every = rows([(FULL, "msi_v", 0.2)], sequences=1)
    (row,) = at_equal_stability(every, STRENGTHS)
    assert np.isclose(row["msi_v"], next(r["msi_v"] for r in every if r["method"] == FULL))
    scale = every[0]["msi_v"] / 0.1
    assert np.isclose(row["mpve_rigid"] / scale, 4.25)  # 0.2 lies halfway from 0.1 to 0.4 in the logarithm
    (beyond,) = at_equal_stability(rows([(FULL, "msi_v", 100.0)], sequences=1), STRENGTHS)
    assert np.isclose(beyond["mpve_rigid"] / scale, 6.0)
