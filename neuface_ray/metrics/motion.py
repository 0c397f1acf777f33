"""Distances between sets of motions: Frechet distance and average pairwise distance."""

from __future__ import annotations

import numpy as np
from scipy.linalg import sqrtm


def frechet_distance(first: np.ndarray, second: np.ndarray, ridge: float = 1e-6) -> float:
    """Frechet distance of the Gaussians fitted to features (n, D) and (m, D), in squared units of the features.

    ``||m1 - m2||^2 + Tr(C1 + C2 - 2 (C1 C2)^(1/2))`` with ``ridge`` added to the covariances' diagonals.
    Source: Heusel et al., "GANs Trained by a Two Time-Scale Update Rule", NeurIPS 2017 (FID), here on motion features.
    """
    c1, c2 = (np.atleast_2d(np.cov(x, rowvar=False)) + ridge * np.eye(x.shape[1]) for x in (first, second))
    mean = ((first.mean(0) - second.mean(0)) ** 2).sum()
    return float(mean + np.trace(c1 + c2 - 2 * np.real(sqrtm(c1 @ c2))))


def average_pairwise_distance(runs: np.ndarray) -> float:
    """Mean distance between corresponding points of all pairs of runs (R, F, K, D), in the unit of the points."""
    first, second = np.triu_indices(len(runs), 1)
    distances = [np.linalg.norm(runs[a] - runs[b], axis=-1).mean() for a, b in zip(first, second, strict=True)]
    return float(np.mean(distances))
