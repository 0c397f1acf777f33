import numpy as np
import pytest

from neuface_ray.metrics.statistics import compare, summarise


def test_summary_counts_and_leaves_out_nan():
    got = summarise(np.array([1.0, 2.0, np.nan, 6.0]))
    assert (got.mean, got.median, got.n, got.excluded) == (3, 2, 3, 1)
    assert got.std == pytest.approx(np.std([1, 2, 6]))
    assert got.low <= got.mean <= got.high


def test_summary_of_nothing():
    got = summarise(np.array([np.nan]))
    assert np.isnan(got.mean)
    assert (got.n, got.excluded) == (0, 1)


def test_interval_covers_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for seed in range(200):
        got = summarise(rng.normal(size=50), resamples=300, seed=seed)
        covered += got.low <= 0 <= got.high
    assert 0.88 <= covered / 200 <= 0.99


def test_groups_widen_the_interval():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(8), 50)
    values = rng.normal(size=8)[groups] + 0.01 * rng.normal(size=400)
    grouped, single = summarise(values, groups), summarise(values)
    assert grouped.high - grouped.low > 3 * (single.high - single.low)


def test_compare_sees_a_small_paired_gain():
    rng = np.random.default_rng(2)
    b = rng.normal(10, 5, size=40)
    a = b - 0.2 + 0.1 * rng.normal(size=40)
    got = compare(a, b)
    assert got.high < 0
    assert got.p < 0.05
    assert compare(b, a).p > 0.95
    assert compare(np.array([np.nan]), np.array([1.0])).p == 1
