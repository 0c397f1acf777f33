"""The terms of the fitting objective, shared by direct fitting and NeuFace so that the two are comparable.

Shapes: F frames, V views, L landmarks, N vertices. All functions return a scalar, are differentiable, and ignore whatever
``valid`` or the weights exclude; without any observation they are exactly zero.
"""

from __future__ import annotations

from torch import Tensor


def landmark_l1(predicted: Tensor, observed: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean absolute landmark error (NeuFace Eq. 2 in the normalisation of its official code).

    Args:
        predicted, observed: (F, V, L, 2) crop coordinates. weight: (F, V, L), 0 for unobserved points.

    Returns:
        ``sum a (|dx| + |dy|) / (2 sum a)``, crop units.
    """
    error = (predicted - observed).abs().sum(-1)
    return (weight * error).sum() / (2 * weight.sum()).clamp_min(1e-8)


def temporal_orientation(quaternion: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Squared distance of the head orientations to their smoothed targets (NeuFace Eq. 3, squared as in the official code).

    Args:
        quaternion, target: (F, V, 4) unit quaternions. valid: (F, V).

    Returns:
        The mean over valid frames and the four components, summed over views.
    """
    error = ((quaternion - target) ** 2).mean(-1) * valid
    return (error.sum(0) / valid.sum(0).clamp_min(1)).sum()


def multiview_consistency(canonical: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean absolute distance of each view's canonical mesh to the bootstrapped one (NeuFace Eq. 4).

    Args:
        canonical: (F, V, N, 3) unposed meshes, metres. target: (F, N, 3). valid: (F, V).

    Returns:
        The mean over valid views, vertices and coordinates; 0 for a single view.
    """
    if canonical.shape[1] == 1:
        return canonical.new_zeros(())
    error = (canonical - target[:, None]).abs().mean((-1, -2)) * valid
    return error.sum() / valid.sum().clamp_min(1)


def mean_square(coefficients: Tensor, centre: Tensor | float = 0.0, valid: Tensor | None = None) -> Tensor:
    """Statistical regulariser: the mean squared deviation of coefficients from ``centre`` (NeuFace Eq. 5).

    Args:
        coefficients: (..., C). valid: (...), what enters the mean; None for all.
    """
    square = ((coefficients - centre) ** 2).mean(-1)
    return square.mean() if valid is None else (square * valid).sum() / valid.sum().clamp_min(1)


def acceleration(values: Tensor, valid: Tensor) -> Tensor:
    """Mean squared second difference in time, where three consecutive frames are valid.

    Args:
        values: (F, V, C). valid: (F, V).
    """
    if values.shape[0] < 3:
        return values.new_zeros(())
    second = values[2:] - 2 * values[1:-1] + values[:-2]
    both = (valid[2:] * valid[1:-1] * valid[:-2])[..., None]
    return (both * second**2).sum() / (both.sum() * values.shape[-1]).clamp_min(1)
