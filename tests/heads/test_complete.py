"""Completion of the face region: exact on heads of the model, and faithful to what the model cannot say."""

import pytest
import torch

from neuface_ray.geometry.mesh import unique_edges
from neuface_ray.heads.complete import Completion, blend_weights, outer_loop


@pytest.fixture(scope="module")
def completion(open_head):
    return Completion(open_head)


@pytest.fixture(scope="module")
def truth(open_head):
    """Identities and expressions of a (2, 3) batch; the tongue, which the face does not show, rests."""
    random = torch.Generator().manual_seed(0)
    shape = torch.randn(2, 3, open_head.n_shape, generator=random, dtype=torch.float64)
    expression = torch.rand(2, 3, open_head.n_expression, generator=random, dtype=torch.float64) ** 3
    expression[..., open_head.expression_names.index("tongueOut")] = 0
    return shape, expression


@pytest.fixture(scope="module")
def bump(open_head):
    """A displacement (M, 3) of the face: 3 mm at the tip of the nose, gone at the cheeks."""
    face = open_head.template[open_head.regions["face"]]
    distance = (face - face[face[:, 2].argmax()]).norm(dim=-1)
    return torch.exp(-((distance / 0.008) ** 2))[:, None] * torch.tensor([0, 0, 0.003], dtype=torch.float64)


def test_heads_of_the_model_come_back_from_their_faces(open_head, completion, truth):
    head, face = open_head(*truth), open_head.regions["face"]
    whole = completion.complete(head[..., face, :])
    assert whole.shape == head.shape
    torch.testing.assert_close(whole, head, atol=5e-5, rtol=0)
    neutral = completion.without_expression(head[..., face, :])
    torch.testing.assert_close(neutral, open_head(truth[0])[..., face, :], atol=2e-6, rtol=0)


def test_a_batch_is_each_of_its_faces(open_head, completion, truth):
    face = open_head(*truth)[..., open_head.regions["face"], :]
    for function in (completion.complete, completion.without_expression):
        torch.testing.assert_close(function(face)[1, 2], function(face[1, 2]), atol=1e-12, rtol=0)


def test_what_the_model_cannot_say_survives(open_head, completion, truth, bump):
    head, face = open_head(*truth), open_head.regions["face"]
    whole = completion.complete(head[..., face, :] + bump)
    inside = completion.share == 1
    assert (whole - head)[..., face, :][..., inside, :].sub(bump[inside]).abs().max() < 1e-12
    neutral = completion.without_expression(head[..., face, :] + bump)
    kept = neutral - open_head(truth[0])[..., face, :]
    assert kept[..., bump[:, 2].argmax(), 2].sub(0.003).abs().max() < 5e-5
    assert kept.sub(bump).norm(dim=-1).mean() < 1e-4


def test_the_seam_is_two_rings_of_the_longest_loop(open_head, completion, truth):
    vertices, faces = completion.face_head.template, completion.face_head.faces
    loop = set(outer_loop(vertices, faces).tolist())
    neighbours = {vertex for edge in unique_edges(faces).tolist() if loop & set(edge) for vertex in edge} - loop
    expected = [1 / 3 if v in loop else 2 / 3 if v in neighbours else 1 for v in range(len(vertices))]
    assert completion.share.tolist() == pytest.approx(expected)
    assert vertices[list(loop), 1].max() > vertices[:, 1].max() - 0.005, "the loop runs along the forehead, not round an eye"

    face = open_head.regions["face"]
    lifted = open_head(*truth)[..., face, :] + 0.001 * torch.tensor([0.0, 0, 1], dtype=torch.float64)
    model = open_head(*completion.coefficients(lifted))
    step = (completion.complete(lifted) - model)[..., face, :] / (lifted - model[..., face, :])
    torch.testing.assert_close(step[..., 2], completion.share.expand(2, 3, -1), atol=1e-6, rtol=1e-6)


def test_closed_surfaces_have_no_seam():
    tetrahedron = torch.tensor([[0, 1, 2], [0, 3, 1], [0, 2, 3], [1, 3, 2]])
    with pytest.raises(ValueError, match="no boundary"):
        blend_weights(torch.randn(4, 3), tetrahedron, 2)


def test_allowing_for_noise_steadies_the_back_of_the_head(open_head, completion, truth):
    head, face = open_head(*truth), open_head.regions["face"]
    noise = 0.001 * torch.randn(head[..., face, :].shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    scalp = open_head.regions["scalp"]
    exact, steady = (
        (each.complete(head[..., face, :] + noise) - head)[..., scalp, :].norm(dim=-1).mean()
        for each in (completion, Completion(open_head, noise_mm=1.0))
    )
    assert steady < 0.7 * exact


def test_gradients_reach_the_face(open_head, completion):
    face = open_head.template[open_head.regions["face"]].clone().requires_grad_()
    completion.complete(face).square().sum().backward()
    assert face.grad.isfinite().all()
    assert (face.grad != 0).any(-1).all()
