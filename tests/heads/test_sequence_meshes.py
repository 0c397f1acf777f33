"""Meshes of a sequence, from parameters and from vertices."""

import numpy as np
import torch

from neuface_ray.geometry.rotations import rotvec_to_matrix
from neuface_ray.heads.sequence_meshes import build_meshes


def test_canonical_meshes_of_vertices_do_not_depend_on_rotation(make, head):
    _, sequence = make(as_vertices=True)
    before = build_meshes(sequence, head)
    turn = rotvec_to_matrix(torch.tensor([0.2, -0.7, 0.1])).numpy()
    sequence.vertices = sequence.vertices @ turn.T + np.float32(0.1)
    after = build_meshes(sequence, head)
    np.testing.assert_allclose(after.canonical, before.canonical, atol=1e-6)
    np.testing.assert_allclose(after.rotation, turn @ before.rotation, atol=1e-5)
