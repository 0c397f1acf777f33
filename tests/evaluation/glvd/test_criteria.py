"""GLVD's acceptance criteria are met or not by their numbers."""

import numpy as np
import pytest

from neuface_ray.evaluation.glvd.criteria import PAPER_FORM, SCORE, below_lvd, falling_error, faster, make_tables, more_views


def rows_of(lvd, glvd, several=()):
    """Rows of single views (people x views) and, by number of views, of GLVD's front view."""
    names = ("front", "side")
    rows = [
        {"identity": person, "method": method, "views": 1, "view": names[v], SCORE: float(value)}
        for method, values in (("lvd", lvd), ("glvd", glvd))
        for (person, v), value in np.ndenumerate(values)
    ]
    for count, values in several:
        more = enumerate(np.ravel(values))
        rows += [{"identity": i, "method": "glvd", "views": count, "view": "front", SCORE: float(e)} for i, e in more]
    return rows


def noisy(mean, seed):
    return mean + 0.1 * np.random.default_rng(seed).normal(size=(12, 2))


@pytest.mark.parametrize(("glvd", "passed"), [(4.0, True), (4.4, True), (4.7, False), (5.5, False)])
def test_g1_wants_a_tenth_less(glvd, passed):
    criterion = below_lvd(rows_of(noisy(5.0, 0), noisy(glvd, 1)))
    assert criterion.passed == passed
    assert criterion.line.startswith(f"G1 {'PASS' if passed else 'FAIL'}")
    assert "24 pictures" in criterion.measured


def test_g1_wants_more_than_luck():
    lvd, glvd = np.full((12, 2), 5.0), np.full((12, 2), 5.5)
    glvd[0] = -20.0  # one person decides the mean
    assert glvd.mean() < 0.9 * lvd.mean()
    assert not below_lvd(rows_of(lvd, glvd)).passed
    assert not below_lvd([]).passed


@pytest.mark.parametrize(
    ("errors", "passed"),
    [
        ([100, 60, 30, 15, 10, 9, 8, 7.5, 7.4, 9], True),
        ([100, 60, 30, 15, 10, 9, 9.05, 9, 9, 9], True),
        ([100, 60, 30, 15, 10, 9, 9.2, 8, 7, 7], False),
        ([100, 60, 30, 15, 10, 10.09, 10.18, 10.27, 10.36], False),
        ([100, 60, 30], False),
    ],
)
def test_g2_wants_a_fall_up_to_the_eighth_step(errors, passed):
    assert falling_error({("glvd", 1): np.array(errors, float)}).passed == passed
    assert not falling_error({("lvd", 1): np.array(errors, float)}).passed


@pytest.mark.parametrize(("three", "six", "passed"), [(4.5, 4.4, True), (4.0, 4.9, True), (5.2, 4.4, False), (4.5, 5.2, False)])
def test_g3_wants_no_number_of_views_to_hurt(three, six, passed):
    glvd = np.stack([np.full(12, 5.0), np.full(12, 1.0)], 1)  # the side view does not count
    rows = rows_of(noisy(5.0, 0), glvd, [(3, np.full(12, three)), (6, np.full(12, six))])
    assert more_views(rows).passed == passed
    assert not more_views(rows_of(glvd, glvd)).passed


@pytest.mark.parametrize(("ours", "passed"), [(1.0, True), (2.1, False)])
def test_g4_compares_with_the_papers_form(ours, passed):
    speed = [{"method": "glvd", "seconds_per_face": ours}, {"method": "neuface", "seconds_per_face": 0.1}]
    assert not faster(speed).passed
    assert faster([*speed, {"method": PAPER_FORM, "seconds_per_face": 10.0}]).passed == passed


def test_tables_count_and_average():
    rows = rows_of(np.full((2, 2), 3.0), np.array([[1.0, 5.0], [3.0, 7.0]]), [(3, [2.0, 2.5])])
    found = make_tables(rows, [{"method": "glvd", "seconds_per_face": 1.0}], [])
    front = {(line["method"], line["views"]): line for line in found["Errors in the front view, mm"]}
    assert front["glvd", 1][SCORE] == 2.0
    assert front["glvd", 3][SCORE] == 2.25
    assert front["lvd", 1]["faces"] == 2
    assert {line["view"]: line["glvd"] for line in found["One view, by where it stands, rigid mm"]} == {
        "front": 2.0,
        "side": 6.0,
    }
    assert "Real clips" not in found
