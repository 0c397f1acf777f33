"""The rules of geometry's acceptance criteria."""

from neuface_ray.evaluation.geometry.criteria import (
    ONE,
    TURNING,
    VIEWS,
    more_views_criterion,
    one_view_criterion,
    public_gain_criterion,
)
from neuface_ray.evaluation.scan_benchmark import MEAN_HEAD


def rows_of(name, head, mean_head, neuface, encoder, together, turning):
    """Rows as the evaluation makes them: single views at 0, 40 and 60 degrees."""

    def row(method, seen, turn, error):
        return {"set": name, "head": head, "method": method, "seen": seen, "turn": turn, "similarity_inner_mean": error}

    rows = [row(MEAN_HEAD, "", "", mean_head)]
    rows += [row("neuface", ONE, turn, neuface + (turn == 60) * 0.1) for turn in (0.0, 40.0, 60.0)]
    rows += [row("encoder", ONE, turn, encoder) for turn in (0.0, 40.0, 60.0)]
    return [*rows, row("neuface", VIEWS, "", together), row("neuface", TURNING, "", turning)]


def heads(name, count=4, **errors):
    normal = {"mean_head": 2.0, "neuface": 1.2, "encoder": 1.5, "together": 1.0, "turning": 1.1} | errors
    return [row for index in range(count) for row in rows_of(name, f"{name} {index}", **normal)]


def test_d1_holds_on_every_set_for_both_methods():
    good = heads("scans")
    assert one_view_criterion(good + heads("synthetic")).passed
    assert not one_view_criterion(good + heads("synthetic", encoder=1.7)).passed
    assert not one_view_criterion(good + heads("synthetic", neuface=1.6)).passed
    unsure = rows_of("scans", "a", 2.0, 0.5, 1.5, 1.0, 1.0) + rows_of("scans", "b", 2.0, 2.0, 1.5, 1.0, 1.0)
    assert not one_view_criterion(unsure).passed
    missing = [row | {"similarity_inner_mean": float("nan")} if row["turn"] == 60 else row for row in good]
    assert one_view_criterion(missing).passed


def test_d2_compares_with_single_views_that_are_turned_as_far():
    together, turn = [-40.0, 0.0, 40.0], 40.0
    assert more_views_criterion(heads("scans"), together, turn, True).passed
    assert not more_views_criterion(heads("scans", together=1.2), together, turn, True).passed
    assert not more_views_criterion(heads("scans", turning=1.21), together, turn, True).passed
    assert more_views_criterion(heads("scans", turning=1.21), together, 60.0, True).passed
    assert not more_views_criterion(heads("scans"), together, turn, False).passed


def test_d3_counts_scans_if_there_are_any():
    assert public_gain_criterion(heads("scans", neuface=1.3)).passed
    assert not public_gain_criterion(heads("scans", neuface=1.5) + heads("synthetic")).passed
    assert public_gain_criterion(heads("synthetic")).passed
