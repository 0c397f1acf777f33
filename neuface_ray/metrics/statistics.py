"""Statistics of samples with intervals, and paired comparisons, by bootstrap over sequences."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np


@dataclass(frozen=True)
class SampleStatistics:
    """Mean, median and standard deviation of ``n`` values, ``excluded`` NaN, and the 95 % interval of the mean."""

    mean: float
    median: float
    std: float
    n: int
    excluded: int
    low: float
    high: float

    def as_dict(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class Comparison:
    """Mean of paired differences a - b, its 95 % interval, the one-sided ``p`` that a is not below b, the number of pairs."""

    difference: float
    low: float
    high: float
    p: float
    n: int


def summarise(values: np.ndarray, groups: np.ndarray | None = None, resamples: int = 1000, seed: int = 0) -> SampleStatistics:
    """Summarise per-item values.

    Args:
        values: (n,) numbers; NaN is left out and counted.
        groups: (n,) labels such as sequence names: whole groups are resampled; every value is its own group if None.

    Returns:
        `SampleStatistics`; all NaN for no values.
    """
    values, groups, excluded = _finite(values, groups)
    if not len(values):
        return SampleStatistics(*[float("nan")] * 3, 0, excluded, *[float("nan")] * 2)
    low, high = np.percentile(_bootstrap_means(values, groups, resamples, seed), [2.5, 97.5])
    return SampleStatistics(
        float(values.mean()), float(np.median(values)), float(values.std()), len(values), excluded, float(low), float(high)
    )


def compare(a: np.ndarray, b: np.ndarray, groups: np.ndarray | None = None, resamples: int = 1000, seed: int = 0) -> Comparison:
    """Compare pairs by the bootstrap of a - b (n,), for "lower is better" numbers; pairs with a NaN are left out.

    ``p`` is the share of resamples in which a is not below b, at least 1 / (resamples + 1).
    """
    differences, groups, _ = _finite(np.asarray(a, np.float64) - np.asarray(b, np.float64), groups)
    if not len(differences):
        return Comparison(float("nan"), float("nan"), float("nan"), 1.0, 0)
    means = _bootstrap_means(differences, groups, resamples, seed)
    low, high = np.percentile(means, [2.5, 97.5])
    p = (1 + (means >= 0).sum()) / (resamples + 1)
    return Comparison(float(differences.mean()), float(low), float(high), float(p), len(differences))


def _finite(values: np.ndarray, groups: np.ndarray | None) -> tuple[np.ndarray, np.ndarray, int]:
    values = np.asarray(values, np.float64).reshape(-1)
    groups = np.arange(len(values)) if groups is None else np.asarray(groups).reshape(-1)
    known = ~np.isnan(values)
    return values[known], groups[known], int((~known).sum())


def _bootstrap_means(values: np.ndarray, groups: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    """Means (resamples,) over groups drawn with replacement, each weighted by its number of values."""
    _, member = np.unique(groups, return_inverse=True)
    sums, counts = np.bincount(member, values), np.bincount(member)
    drawn = np.random.default_rng(seed).integers(len(sums), size=(resamples, len(sums)))
    return sums[drawn].sum(1) / counts[drawn].sum(1)
