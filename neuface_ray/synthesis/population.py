"""Where people's identities lie in a head model's shape space."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from neuface_ray.geometry.alignment import rigid
from neuface_ray.heads.model import HeadModel
from neuface_ray.media.bundle import canonical_face

_SCHEME = "mediapipe478"
_NOISE_M, _ROUNDS = 0.006, 100


@lru_cache(maxsize=4)
def canonical_identity(head: HeadModel) -> np.ndarray:
    """Identity (S,) of the head nearest to MediaPipe's canonical face, in its own size.

    The mode of unit Gaussian coefficients given the 468 points with a noise of 6 mm (ours; the points' places on a head are
    not known better), by turns with the rigid alignment. The open head's mean is the mean of MakeHuman's sliders; that of real
    people lies elsewhere, and the canonical face tells where. Raises UsageError for a head without MediaPipe's points.
    """
    embedding = head.embedding(_SCHEME)
    face = canonical_face()
    known = np.flatnonzero(embedding.valid.numpy()[: len(face)])
    weight, face = embedding.weight.numpy()[known], face[known]
    heads = torch.cat([head.template[None], head.template + head.shape_basis.permute(2, 0, 1)])
    mean, *moved = head.landmarks(heads, _SCHEME).double().numpy()[:, known]
    basis = np.stack([points - mean for points in moved], -1)
    scaled = (weight[:, None, None] / _NOISE_M**2 * basis).reshape(-1, head.n_shape)
    curvature = basis.reshape(-1, head.n_shape).T @ scaled + np.eye(head.n_shape)
    identity = np.zeros(head.n_shape)
    for _ in range(_ROUNDS):
        target = rigid(face, mean + basis @ identity, weight).apply(face)
        identity = np.linalg.solve(curvature, scaled.T @ (target - mean).reshape(-1))
    return identity
