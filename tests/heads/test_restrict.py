"""A head restricted to the vertices of its landmarks computes the same landmarks."""

import pytest
import torch

from neuface_ray.heads.restrict import landmark_vertices, restrict


@pytest.mark.parametrize("scheme", ["mediapipe478", "ibug68"])
def test_restricted_head_gives_the_same_landmarks_and_joints(open_head, scheme):
    small = restrict(open_head, landmark_vertices(open_head, scheme))
    generator = torch.Generator().manual_seed(0)
    shape, expression = torch.randn(2, 100, generator=generator).double(), torch.rand(2, 52, generator=generator).double()
    pose = 0.3 * torch.randn(2, 15, generator=generator).double()
    assert small.n_vertices < 0.6 * open_head.n_vertices
    expected = open_head.landmarks(open_head(shape, expression, pose), scheme, pose)
    torch.testing.assert_close(small.landmarks(small(shape, expression, pose), scheme, pose), expected)
    torch.testing.assert_close(small.joints(shape, expression), open_head.joints(shape, expression))
    assert small.embedding(scheme).valid.all()
    assert open_head.n_vertices == open_head.template.shape[0]


def test_landmarks_outside_the_kept_vertices_become_invalid(open_head):
    small = restrict(open_head, open_head.regions["skin"])
    valid = small.embedding("mediapipe478").valid
    assert valid[:468].all()
    assert not valid[468:].any()
