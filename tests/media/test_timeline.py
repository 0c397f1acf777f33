import itertools

import numpy as np
import pytest

from neuface_ray.media import timeline

NAN = float("nan")


def mended(*stamps: float, longest: float = 10.0, period: float = 1.0) -> tuple[list[float], list[int], int]:
    """Times, the places that were mended, and the number of joins."""
    made = timeline.mend(np.array(stamps, float), period, longest)
    assert (np.diff(made.times) > 0).all()
    assert made.times[0] == 0
    return made.times.tolist(), np.flatnonzero(~made.as_written).tolist(), made.joins


def test_good_stamps_are_kept_as_they_are() -> None:
    assert mended(7, 8, 9.5, 13) == ([0, 1, 2.5, 6], [], 0)
    assert mended(5) == ([0], [], 0)


@pytest.mark.parametrize(
    ("stamps", "times", "wrong"),
    [
        ((0, 1, 1, 3, 4), [0, 1, 2, 3, 4], [2]),  # repeated
        ((0, 1, 1, 1, 4), [0, 1, 2, 3, 4], [2, 3]),
        ((0, 1, NAN, 3, 4), [0, 1, 2, 3, 4], [2]),  # missing
        ((0, 1, 9, 3, 4), [0, 1, 2, 3, 4], [2]),  # early by some, late by much, far away
        ((0, 1, -5, 3, 4), [0, 1, 2, 3, 4], [2]),
        ((0, 1, 500, 3, 4), [0, 1, 2, 3, 4], [2]),
        ((0, 1, 2, 0.5, 4), [0, 1, 2, 3, 4], [3]),  # the one that is off, not its neighbour
        ((900, 1, 2, 3), [0, 1, 2, 3], [0]),  # the first
        ((0, 1, 2, 2), [0, 1, 2, 3], [3]),  # the last
        ((NAN, NAN, 2, 3), [0, 1, 2, 3], [0, 1]),
        ((NAN, NAN, NAN), [0, 1, 2], [0, 1, 2]),
    ],
)
def test_single_wrong_stamps_are_mended(stamps: tuple, times: list, wrong: list) -> None:
    assert mended(*stamps) == (times, wrong, 0)


def test_the_clock_is_joined_where_it_jumps() -> None:
    assert mended(0, 1, 2, 100, 101, 102) == ([0, 1, 2, 3, 4, 5], [], 1)
    assert mended(100, 101, 102, 0, 1, 2) == ([0, 1, 2, 3, 4, 5], [], 1)
    assert mended(100, 101, 102, 0, 0, 2, 500, 501, 502) == ([0, 1, 2, 3, 4, 5, 6, 7, 8], [4], 2)
    assert mended(0, 1, 9, 10, longest=10) == ([0, 1, 9, 10], [], 0)  # a pause


def test_interpolation_of_uneven_times_keeps_the_good_ones() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        true = np.cumsum(rng.uniform(0.5, 1.5, 40))
        stamps = true.copy()
        wrong = rng.choice(np.arange(1, 39), 1)
        stamps[wrong] = true[wrong - 1]
        times, places, joins = mended(*stamps)
        assert (places, joins) == (wrong.tolist(), 0)
        good = np.delete(np.arange(40), wrong)
        np.testing.assert_allclose(np.array(times)[good], (true - true[0])[good])


def test_nearest_is_the_naive_search() -> None:
    rng = np.random.default_rng(1)
    for count, reach in itertools.product((1, 2, 30), (0.2, 5.0)):
        times, instants = np.sort(rng.uniform(0, 20, count)), np.sort(rng.uniform(-3, 23, 50))
        distance = np.abs(instants[:, None] - times)
        expected = np.where(distance.min(1) <= reach, distance.argmin(1), -1)
        assert timeline.nearest(instants, times, reach).tolist() == expected.tolist()
