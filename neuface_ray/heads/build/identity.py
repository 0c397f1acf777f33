"""Natural random heads from Anny's sliders, and their principal components."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from neuface_ray.heads.build.anny_head import AnnyHead

HEAD_CHANGES = ("cheek", "chin", "ear", "eye", "eyebrows", "forehead", "head", "mouth", "nose")
BREADTH_SD = 0.04


@dataclass
class Identity:
    """Mean head (N, 3), basis (N, 3, S) of one standard deviation a component, and numbers on how it came out."""

    mean: np.ndarray
    basis: np.ndarray
    samples: np.ndarray
    report: dict[str, float]


def sample_heads(source: AnnyHead, count: int, seed: int, sigma: float = 0.15) -> np.ndarray:
    """Random symmetric heads (count, N, 3) float32 in Anny's place, adults and older children.

    Phenotypes are uniform and the ancestry mixture is Dirichlet(0.6); the local changes of head parts are N(0, sigma), equal
    on the left and the right. Changes that shift a part sideways are left out, so that every head is symmetric.
    """
    random = np.random.default_rng(seed)
    anny = source.anny
    phenotypes = random.uniform(0, 1, (count, len(anny.phenotype_labels)))
    column = {name: index for index, name in enumerate(anny.phenotype_labels)}
    for name, low, high in (("age", 0.45, 1.0), ("weight", 0.15, 0.85), ("muscle", 0.15, 0.85)):
        phenotypes[:, column[name]] = random.uniform(low, high, count)
    phenotypes[:, [column[name] for name in ("african", "asian", "caucasian")]] = random.dirichlet([0.6] * 3, count)
    draws: dict[str, np.ndarray] = {}
    changes = np.zeros((count, len(anny.local_change_labels)))
    for index, label in enumerate(anny.local_change_labels):
        key = label.removeprefix("l-").removeprefix("r-")
        sideways = key == label and key.endswith("trans-out")
        if key.split("-")[0] in HEAD_CHANGES and not sideways:
            if key not in draws:
                draws[key] = random.normal(0, sigma, count).clip(-1, 1)
            changes[:, index] = draws[key]
    coefficients = anny._get_phenotype_blendshape_coefficients(
        torch.from_numpy(phenotypes), torch.from_numpy(changes), torch.zeros(count, len(anny.facial_action_labels)).double()
    )
    flat = source.blendshapes.reshape(len(source.labels), -1).astype(np.float32)
    heads = coefficients.numpy().astype(np.float32) @ flat
    return heads.reshape(count, *source.template.shape) + source.template.astype(np.float32)


def align(points: np.ndarray, target: np.ndarray, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rotates and translates (B, N, 3) onto (N, 3) so that the chosen vertices fit best (Kabsch), and scales them alike.

    Returns:
        (B, N, 3) aligned points of one size, and (B,) the size of each before.
    """
    centre, goal = points[:, chosen].mean(1, keepdims=True), target[chosen].mean(0)
    u, _, vt = np.linalg.svd(np.swapaxes(points[:, chosen] - centre, 1, 2) @ (target[chosen] - goal))
    sign = np.ones((len(points), 3))
    sign[:, 2] = np.linalg.det(u @ vt)
    size = np.linalg.norm(points[:, chosen] - centre, axis=(1, 2)) / np.linalg.norm(target[chosen] - goal)
    return (points - centre) @ ((u * sign[:, None, :]) @ vt) / size[:, None, None] + goal, size


def realistic_sizes(breadth: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Sizes ``size ** power``, mean 1, for which heads of this unit-size breadth vary in breadth by BREADTH_SD."""
    low, high = 0.0, 1.0
    for _ in range(50):
        power = 0.5 * (low + high)
        breadths = breadth * size**power
        low, high = (power, high) if breadths.std() / breadths.mean() < BREADTH_SD else (low, power)
    return size**low / (size**low).mean()


def principal_components(source: AnnyHead, heads: np.ndarray, outer: np.ndarray, components: int) -> Identity:
    """Identity space of random heads.

    Heads are aligned on ``outer`` (the skin above the neck), which alone decides the components and their order; the other
    vertices follow by regression. The sliders' sizes, which vary far more than people's, are compressed until the breadth
    of the head has a standard deviation of 4 % (ANSUR II, Gordon et al. 2014: 3.6 % within each sex, 4.1 % over both).
    """
    ears = source.masks["ears"]
    skull = np.setdiff1d(outer, np.flatnonzero(ears > 0.02))
    raw = np.ptp(heads[:, skull, 0], axis=1)
    mean = heads.mean(0)
    for _ in range(3):
        aligned, size = align(heads, mean, outer)
        mean = aligned.mean(0)
    mean -= mean[ears > 0.5].mean(0) * [0, 1, 1]
    aligned, size = align(heads, mean, outer)
    unit_breadth = np.ptp(aligned[:, skull, 0], axis=1)
    heads = (aligned * realistic_sizes(unit_breadth, size)[:, None, None]).astype(np.float32)
    mean = symmetric(heads.mean(0), source.mirror)
    deviations = heads - mean
    flat = deviations[:, outer].reshape(len(heads), -1)
    values, vectors = np.linalg.eigh((flat @ flat.T).astype(np.float64))
    order = np.argsort(values)[::-1][:components]
    scores = vectors[:, order] * np.sqrt(len(heads))
    basis = np.einsum("bk,bnc->nck", scores.astype(np.float32), deviations, optimize=True) / len(heads)
    basis = symmetric(basis, source.mirror)
    columns = basis.reshape(-1, components)
    basis *= np.sign(columns[np.abs(columns).argmax(0), np.arange(components)])
    breadth = np.ptp(heads[:, skull, 0], axis=1)
    shares = np.cumsum(values[order]) / values.sum()
    report = {
        "breadth_mean_mm": 1e3 * breadth.mean(),
        "breadth_sd_percent_of_sliders": 100 * raw.std() / raw.mean(),
        "breadth_sd_percent": 100 * breadth.std() / breadth.mean(),
        **{f"variance_share_{k}": shares[k - 1] for k in (1, 10, 20, 40, 60, 80, components) if k <= components},
    }
    return Identity(mean, basis, heads, {key: float(value) for key, value in report.items()})


def symmetric(values: np.ndarray, mirror: np.ndarray) -> np.ndarray:
    """The mean of a field (N, 3, ...) and its mirror image."""
    flip = np.array([-1.0, 1.0, 1.0], dtype=values.dtype).reshape(1, 3, *[1] * (values.ndim - 2))
    return 0.5 * (values + values[mirror] * flip)
