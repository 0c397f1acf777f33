import math

import pytest
import torch

from neuface_ray.methods.glvd.network import GLVD, relative_encoding
from neuface_ray.methods.lvd.network import apply_similarity, descent_error
from tests.methods.lvd.test_network import TINY, random_views


def tiny(**options):
    torch.manual_seed(0)
    return GLVD(20, **({"n_keypoints": 4, "heatmap_options": {"width": 16, "depth": 1}} | TINY | options)).eval()


def test_encoding_equals_its_formula_and_only_knows_distances():
    points, keypoints = torch.randn(1, 3, 3).double(), torch.randn(1, 2, 3).double()
    encoding = relative_encoding(points, keypoints)
    assert encoding.shape == (1, 3, 16)
    d = (points[0, 1] - keypoints[0, 0]).norm()
    near = math.exp(-(d**2) / (2 * 0.25**2))
    expected = [d, near * d]
    expected += [near * math.sin(2**octave * math.pi * d) for octave in range(3)]
    expected += [near * math.cos(2**octave * math.pi * d) for octave in range(3)]
    assert torch.allclose(encoding[0, 1, 0::2], torch.tensor(expected, dtype=torch.float64))
    turn = torch.linalg.qr(torch.randn(3, 3).double())[0]
    assert torch.allclose(relative_encoding(points @ turn + 1, keypoints @ turn + 1), encoding)
    coincident = points[:, :1].clone().requires_grad_()
    relative_encoding(coincident, points[:, :1].detach()).sum().backward()
    assert coincident.grad.isfinite().all()


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"heatmaps": "none"},
        {"heatmaps": "landmarks"},
        {"relative": "none"},
        {"relative": "distances"},
        {"mask": True},
        {"canonical": True},
    ],
    ids=str,
)
def test_every_switch_gives_a_network_that_descends_and_learns(options):
    model = tiny(**options).train()
    images, to_view = torch.rand(2, 3, model.n_channels, 32, 32), random_views(2, 3)
    scene = model.scene(images, to_view, landmarks=torch.rand(2, 3, 4, 2) * 2 - 1)
    descent = model.descend(scene, 2)
    assert descent.trajectory.shape == (3, 2, 20, 3)
    assert descent.keypoint_trajectory.shape == (3, 2, 4, 3)
    (descent.vertices.square().sum() + descent.keypoints.square().sum()).backward()
    learned = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.abs().sum() > 0}
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith("heatmap_net.")}
    assert bool(frozen) == (options.get("heatmaps", "network") == "network")
    idle = {name for name, p in model.named_parameters() if p.requires_grad} - learned
    assert not {name for name in idle if "confidence" not in name and "distance" not in name}


def test_own_values_are_the_diagonal_of_the_dense_fields():
    model = tiny()
    with torch.no_grad():
        scene = model.scene(torch.rand(2, 2, 3, 32, 32), random_views(2, 2))
        points, keypoints = torch.randn(2, 20, 3) * 0.3, torch.randn(2, 4, 3) * 0.3
        dense = model.displacements(scene, points, keypoints).diagonal(dim1=1, dim2=2).transpose(1, 2)
        assert torch.allclose(model.paired_displacements(scene, points, keypoints)[0], dense, atol=1e-6)
        moves = model.step(scene, points, keypoints) - points
        assert torch.allclose(moves, dense.clamp(-model.limit, model.limit), atol=1e-6)
        dense = model.keypoint_displacements(scene, keypoints).diagonal(dim1=1, dim2=2).transpose(1, 2)
        assert torch.allclose(model.paired_keypoint_displacements(scene, keypoints)[0], dense, atol=1e-6)
        moves = model.step_keypoints(scene, keypoints) - keypoints
        assert torch.allclose(moves, dense.clamp(-model.limit, model.limit), atol=1e-6)


def test_order_and_copies_of_views_change_nothing():
    model = tiny(heatmaps="landmarks")
    images, to_view, marks = torch.rand(1, 3, 3, 32, 32), random_views(1, 3), torch.rand(1, 3, 4, 2) - 0.5

    def run(order):
        return model.descend(model.scene(images[:, order], to_view[:, order], landmarks=marks[:, order]), 3)

    with torch.no_grad():
        all_views, permuted, one, copies = run([0, 1, 2]), run([1, 2, 0]), run([0]), run([0, 0, 0])
    assert torch.allclose(all_views.vertices, permuted.vertices, atol=1e-5)
    assert torch.allclose(one.vertices, copies.vertices, atol=1e-5)
    assert torch.allclose(one.keypoints, copies.keypoints, atol=1e-5)


def test_vertices_follow_the_keypoints_only_with_the_relative_encoding():
    here, there = torch.zeros(1, 4, 3), torch.full((1, 4, 3), 0.3)
    for relative in ("offsets", "distances", "none"):
        model = tiny(relative=relative)
        with torch.no_grad():
            scene = model.scene(torch.rand(1, 1, 3, 32, 32))
            moved = (model.step(scene, torch.zeros(1, 20, 3), here) - model.step(scene, torch.zeros(1, 20, 3), there)).abs()
        assert (moved.max() > 1e-4) == (relative != "none")


def test_offsets_turn_with_the_reference_frame_of_the_views():
    model, images, to_view = tiny(heatmaps="none"), torch.rand(1, 2, 3, 32, 32), random_views(1, 2)
    points, keypoints = torch.randn(1, 6, 3) * 0.3, torch.randn(1, 4, 3) * 0.3
    turn = torch.cat([torch.linalg.qr(torch.randn(3, 3))[0], torch.tensor([[0.1], [0.0], [-0.2]])], -1)
    square = torch.cat([turn, torch.tensor([[0.0, 0, 0, 1]])])
    with torch.no_grad():
        before = model.displacements(model.scene(images, to_view), points, keypoints)
        scene = model.scene(images, to_view @ square.inverse())
        after = model.displacements(scene, apply_similarity(turn, points), apply_similarity(turn, keypoints))
    assert torch.allclose(before @ turn[:, :3].T, after, atol=1e-5)


def test_given_keypoints_are_kept():
    model, known = tiny(), torch.rand(1, 4, 3)
    with torch.no_grad():
        descent = model.descend(model.scene(torch.rand(1, 1, 3, 32, 32)), 3, keypoints=known)
    assert torch.equal(descent.keypoints, known)


def test_missing_landmarks_are_an_error_and_unknown_ones_are_blank():
    model = tiny(heatmaps="landmarks")
    images = torch.rand(1, 1, 3, 32, 32)
    with pytest.raises(ValueError, match="landmarks"):
        model.scene(images)
    scene = model.scene(images, landmarks=torch.full((1, 1, 4, 2), math.nan))
    assert scene.keypoint_maps[0].isfinite().all()
    with pytest.raises(ValueError, match="heatmaps must be one of"):
        tiny(heatmaps="detector")
    with pytest.raises(ValueError, match="relative must be one of"):
        tiny(relative="angles")


@pytest.mark.slow
def test_overfits_one_face_with_its_own_keypoints():
    torch.manual_seed(0)
    model = tiny(heatmaps="none").train()
    image = torch.rand(1, 1, 3, 32, 32)
    target = torch.nn.functional.normalize(torch.randn(1, 20, 3), dim=-1) * torch.tensor([0.6, 0.8, 0.5])
    keypoint_target = target[:, :4]
    steps = 500
    optimiser = torch.optim.Adam(model.parameters(), 2e-3, betas=(0.5, 0.999))
    for step in range(steps):
        near = target[:, torch.randint(20, (64,))] + 0.05 * torch.randn(1, 64, 3)
        points = torch.cat([torch.rand(1, 64, 3) * 2.4 - 1.2, near], 1)
        scene = model.scene(image)
        noisy = keypoint_target + (0, 0.05, 0.15)[step % 3] * torch.randn(1, 4, 3)
        error = descent_error(model.displacements(scene, points, noisy), target[:, None] - points[:, :, None], 0.3)
        points = torch.cat([points[:, :64], keypoint_target.repeat(1, 16, 1) + 0.05 * torch.randn(1, 64, 3)], 1)
        moves = model.keypoint_displacements(scene, points)
        keypoint_error = descent_error(moves, keypoint_target[:, None] - points[:, :, None], 0.3)
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1, 2 - 2 * step / steps)
        optimiser.zero_grad()
        (error + keypoint_error).backward()
        optimiser.step()
    with torch.no_grad():
        descent = model.eval().descend(model.scene(image), 12)
    assert (descent.keypoints - keypoint_target).norm(dim=-1).mean() < 0.04
    assert (descent.vertices - target).norm(dim=-1).mean() < 0.04
