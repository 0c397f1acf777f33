import numpy as np
import pytest
import torch

from neuface_ray.geometry.cameras import project_weak
from neuface_ray.methods.augment import move_points
from neuface_ray.methods.lvd.labels import head_to_view, locate, typical_place
from neuface_ray.methods.lvd.network import apply_similarity, compose
from tests.training.made import codes


@pytest.fixture
def batch(head):
    numbers = codes(np.random.default_rng(0), head, 2, 3)
    numbers["pose"][..., 6:9] = 0.1  # jaw
    tensors = {name: torch.from_numpy(value) for name, value in numbers.items()}
    return tensors | {"view_valid": torch.ones(2, 3, dtype=torch.bool)}


@pytest.mark.parametrize("canonical", [False, True])
def test_targets_lie_where_the_cameras_see_the_mesh(head, batch, canonical):
    targets = locate(head, batch, head_to_view(head, batch), canonical)
    posed = head(batch["shape"], batch["expression"], batch["pose"])
    seen = project_weak(posed, batch["camera"])
    placed = apply_similarity(targets.to_view, targets.vertices[:, None])
    assert torch.allclose(placed[..., :2] * torch.tensor([1.0, -1.0]), seen, atol=1e-4)
    size = (posed[:, 0] - posed[:, 0].mean(1, keepdim=True)).norm(dim=-1).mean(-1)
    found = targets.vertices * targets.metres[:, None, None]
    assert torch.allclose((found - found.mean(1, keepdim=True)).norm(dim=-1).mean(-1), size, atol=1e-5)
    if not canonical:
        assert torch.allclose(targets.to_view[:, 0], torch.eye(3, 4).expand(2, 3, 4), atol=1e-5)
        depth = batch["camera"][:, :1, :1] * posed[:, 0, :, 2:]
        assert torch.allclose(targets.vertices[..., 2:], depth, atol=1e-4)


def test_targets_move_with_the_picture(head, batch):
    motion = torch.tensor([[0.9, -0.2, 0, 0.1], [0.2, 0.9, 0, -0.05], [0, 0, 0.92, 0]]).expand(2, 3, 3, 4)
    still = locate(head, batch, head_to_view(head, batch), False)
    moved = locate(head, batch, compose(motion, head_to_view(head, batch)), False)
    flip = torch.tensor([1.0, -1.0])
    assert torch.allclose(move_points(still.vertices[..., :2] * flip, motion[:, 0]), moved.vertices[..., :2] * flip, atol=1e-4)
    second = apply_similarity(still.to_view[:, 1], still.vertices)[..., :2] * flip
    second_moved = apply_similarity(moved.to_view[:, 1], moved.vertices)[..., :2] * flip
    assert torch.allclose(move_points(second, motion[:, 1]), second_moved, atol=1e-4)


def test_the_typical_place_is_where_an_average_picture_shows_the_resting_head(head):
    rest = {name: torch.zeros(1, 1, size) for name, size in (("shape", 1), ("expression", 1), ("pose", 15))}
    rest |= {"camera": torch.tensor([[[10.0, 0.0, 0.02]]]), "view_valid": torch.ones(1, 1, dtype=torch.bool)}
    for canonical in (False, True):
        found = locate(head, rest, head_to_view(head, rest), canonical).vertices[0]
        assert torch.allclose(typical_place(head.template, canonical), found, atol=1e-3)
