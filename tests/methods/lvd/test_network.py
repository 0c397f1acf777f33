import math

import pytest
import torch

from neuface_ray.geometry.rotations import rotvec_to_matrix
from neuface_ray.methods.lvd.network import (
    LVD,
    PointField,
    Scene,
    apply_similarity,
    confidence_error,
    descent_error,
    fuse_displacements,
    iterate,
    sample_maps,
    soft_clamp,
)
from neuface_ray.methods.lvd.settings import PROFILES

TINY = {"crop_size": 32, "width": 16, "stacks": 2, "depth": 1, "reduction": 2, "hidden": 32}


def tiny(n_vertices=20, **options):
    torch.manual_seed(0)
    return LVD(n_vertices, **(TINY | options)).eval()


def random_views(batch, views, seed=0):
    generator = torch.Generator().manual_seed(seed)
    rotation = rotvec_to_matrix(torch.randn(batch, views, 3, generator=generator) * 0.5)
    scale = 0.8 + 0.4 * torch.rand(batch, views, 1, 1, generator=generator)
    shift = 0.1 * torch.randn(batch, views, 3, 1, generator=generator)
    return torch.cat([scale * rotation, shift], -1)


def test_samples_equal_map_values_at_pixel_centres_and_vanish_outside():
    maps = [torch.rand(2, 3, 8, 8), torch.rand(2, 5, 4, 4)]
    place = torch.tensor([[(2 * 5 + 1) / 8 - 1, (2 * 2 + 1) / 8 - 1], [3.0, 0.0]]).expand(2, 2, 2)
    sampled = sample_maps(maps, place)
    assert sampled.shape == (2, 2, 8)
    assert torch.allclose(sampled[:, 0, :3], maps[0][:, :, 2, 5])
    assert (sampled[:, 1] == 0).all()


def test_own_values_are_the_diagonal_of_the_dense_field():
    model = tiny()
    for views in (1, 3):
        with torch.no_grad():
            torch.nn.init.normal_(model.vertex_field.confidence.weight)
            scene = model.scene(torch.rand(2, views, 3, 32, 32), random_views(2, views))
            points = torch.randn(2, 20, 3) * 0.4
            dense = model.displacements(scene, points)
            some = model.displacements(scene, points, torch.tensor([7, 3]))
            paired, confidence = model.paired_displacements(scene, points)
            moved = model.step(scene, points) - points
        assert dense.shape == (2, 20, 20, 3)
        assert paired.abs().max() > model.limit
        assert confidence.shape == (2, views, 20, 2)
        assert torch.allclose(moved, paired.clamp(-model.limit, model.limit), atol=1e-6)
        assert torch.allclose(paired, dense.diagonal(dim1=1, dim2=2).transpose(1, 2), atol=1e-6)
        assert torch.allclose(some, dense[:, :, [7, 3]], atol=1e-6)


@pytest.mark.parametrize("limit", [0.3, 0.05])
def test_oracle_field_arrives_in_as_many_steps_as_the_clamp_allows(limit):
    generator = torch.Generator().manual_seed(1)
    targets, start = torch.rand(2, 1, 30, 3, generator=generator) * 2 - 1
    distance = (targets - start).abs().max().item()

    def step(state):
        return (state[0] + (targets - state[0]).clamp(-limit, limit),)

    needed = math.ceil(distance / limit)
    (path,) = iterate(step, (start,), needed)
    assert torch.allclose(path[-1], targets, atol=1e-5)
    assert (path[-2] - targets).abs().max() > 1e-3
    errors = (path - targets).abs().mean((1, 2, 3))
    assert (errors.diff() < 0).all()


def test_the_loss_is_that_of_clamped_displacements_and_tells_how_far_even_beyond():
    wanted = torch.tensor([0.1, -0.2, 0.5, -2.0], dtype=torch.float64)
    found = torch.tensor([0.2, -0.2, 0.9, 1.0], dtype=torch.float64, requires_grad=True)
    naive = [0.1, 0.0, 0.1 * 0.4, 0.1 * 3 + 0.9 * 0.6]
    error = descent_error(found, wanted, 0.3)
    assert error.item() == pytest.approx(sum(naive) / 4)
    error.backward()
    assert torch.allclose(4 * found.grad, torch.tensor([1, 0, 0.1, 0.1], dtype=torch.float64))
    assert torch.allclose(soft_clamp(wanted, 1e9), wanted)


def test_confidence_becomes_the_inverse_mean_square_of_the_errors_that_are_seen():
    generator = torch.Generator().manual_seed(0)
    error = torch.randn(4, 3000, 3, generator=generator) * torch.tensor([0.02, 0.02, 0.06])
    points = torch.rand(4, 3000, 3, generator=generator)
    points[:, :500, 0] = 2.0
    error[:, :500] = 9.0
    level = torch.zeros(2, requires_grad=True)
    optimiser = torch.optim.Adam([level], 0.1)
    for _ in range(200):
        optimiser.zero_grad()
        confidence_error(error, points, level.exp().expand(4, 1, 3000, 2)).backward()
        optimiser.step()
    assert torch.allclose(level.exp(), torch.tensor([0.1 / 0.02, 0.1 / 0.06]) ** 2, rtol=0.05)


def test_new_fields_lead_to_where_they_are_told_and_move_affinely():
    torch.manual_seed(0)
    field, places = PointField(2, 0, 32, 30), torch.randn(30, 3)
    field.begin_at(places)
    scene = Scene([], torch.eye(3, 4).expand(2, 1, 3, 4), torch.ones(2, 1, dtype=torch.bool), [])
    points = 0.3 * torch.randn(2, 5, 3)
    with torch.no_grad():
        found = field.dense(scene, [torch.randn(2, 2, 4, 4)], points, None, None) + points[:, :, None]
    assert torch.allclose(found.mean((0, 1)), places, atol=0.5)
    ones = torch.cat([torch.ones(30, 1), places], -1)
    for moved in found.flatten(0, 1):
        fitted = ones @ torch.linalg.lstsq(ones, moved).solution
        assert torch.allclose(moved, fitted, atol=1e-4)
        assert (moved - places).abs().max() > 1e-3


def test_displacements_are_joined_as_weighted_least_squares():
    generator = torch.Generator().manual_seed(3)
    to_view = random_views(1, 3).double()
    per_view = torch.randn(1, 3, 2, 4, 3, generator=generator, dtype=torch.float64)
    confidence = torch.rand(1, 3, 2, 2, generator=generator, dtype=torch.float64)
    joined = fuse_displacements(per_view, to_view, confidence)
    for p in range(2):
        for v in range(4):
            rows, right = [], []
            for n in range(3):
                linear = to_view[0, n, :, :3]
                scale = linear.det() ** (1 / 3)
                root = confidence[0, n, p, [0, 0, 1]].sqrt()
                rows.append(root[:, None] * linear / scale)
                right.append(root * per_view[0, n, p, v] / scale)
            naive = torch.linalg.lstsq(torch.cat(rows), torch.cat(right)).solution
            assert torch.allclose(joined[0, p, v].double(), naive, atol=1e-5)


def test_true_displacements_survive_the_change_of_frames():
    to_view, move = random_views(2, 4), torch.randn(2, 5, 3)
    per_view = torch.einsum("bnij,bpj->bnpi", to_view[..., :3], move)
    confidence = torch.rand(2, 4, 5, 2) + 0.01
    assert torch.allclose(fuse_displacements(per_view, to_view, confidence), move, atol=1e-5)


def test_the_view_that_sees_depth_decides_about_depth():
    side = rotvec_to_matrix(torch.tensor([0.0, math.pi / 2, 0.0]))
    to_view = torch.zeros(1, 2, 3, 4)
    to_view[0, 0, :, :3], to_view[0, 1, :, :3] = torch.eye(3), side
    truth = torch.tensor([0.1, 0.2, 0.3])
    per_view = torch.stack([truth, side @ truth])[None, :, None]
    per_view[..., 2] = 9.0  # neither view knows its own depth
    confidence = torch.tensor([1.0, 1e-6]).expand(1, 2, 1, 2)
    assert torch.allclose(fuse_displacements(per_view, to_view, confidence)[0, 0], truth, atol=1e-3)


@pytest.mark.parametrize("canonical", [False, True])
def test_order_and_copies_of_views_change_nothing(canonical):
    model = tiny(canonical=canonical)
    torch.nn.init.normal_(model.vertex_field.confidence.weight)
    images, to_view = torch.rand(2, 3, 3, 32, 32), random_views(2, 3)
    with torch.no_grad():
        reference = model.descend(model.scene(images, to_view), 3).vertices
        order = torch.tensor([2, 0, 1])
        permuted = model.descend(model.scene(images[:, order], to_view[:, order]), 3).vertices
        one = model.descend(model.scene(images[:, :1], to_view[:, :1]), 3).vertices
        copies = model.descend(model.scene(images[:, [0, 0, 0]], to_view[:, [0, 0, 0]]), 3).vertices
        ignored = model.descend(model.scene(images, to_view, torch.tensor([[True, False, False]] * 2)), 3).vertices
    assert torch.allclose(reference, permuted, atol=1e-5)
    assert torch.allclose(one, copies, atol=1e-5)
    assert torch.allclose(one, ignored, atol=1e-5)
    assert not torch.allclose(one, reference, atol=1e-3)


def test_a_field_in_view_frames_turns_with_the_reference_frame():
    model, images = tiny(), torch.rand(1, 2, 3, 32, 32)
    to_view, points = random_views(1, 2), torch.randn(1, 6, 3) * 0.3
    turn = torch.cat([rotvec_to_matrix(torch.tensor([0.2, -0.4, 0.1])), torch.tensor([[0.1], [0.0], [-0.2]])], -1)
    square = torch.cat([turn, torch.tensor([[0.0, 0, 0, 1]])])
    with torch.no_grad():
        before = model.displacements(model.scene(images, to_view), points)
        after = model.displacements(model.scene(images, to_view @ square.inverse()), apply_similarity(turn, points))
    assert torch.allclose(before @ turn[:, :3].T, after, atol=1e-5)


def test_descent_is_the_same_every_time_and_keeps_its_steps():
    model = tiny(mask=True)
    with torch.no_grad():
        scene = model.scene(torch.rand(2, 1, 4, 32, 32))
        first, second = model.descend(scene, 4), model.descend(scene, 4)
    assert first.trajectory.shape == (5, 2, 20, 3)
    assert torch.equal(first.trajectory, second.trajectory)
    assert torch.equal(first.vertices, first.trajectory[-1])
    assert first.keypoints is None


def test_gradients_of_the_field_are_exact():
    torch.manual_seed(0)
    field = PointField(2, 0, 4, 3).double()
    torch.nn.init.normal_(field.confidence.weight)
    to_view, valid = random_views(1, 2).double(), torch.ones(1, 2, dtype=torch.bool)
    maps, points = torch.rand(2, 2, 4, 4).double(), 0.3 * torch.randn(1, 3, 3).double()

    def both(maps, points):
        scene = Scene([maps], to_view, valid, [])
        return field.dense(scene, [maps], points, None, None), field.paired(scene, [maps], points, None)[0]

    assert torch.autograd.gradcheck(both, (maps.requires_grad_(), points.requires_grad_()))


def test_profiles_have_the_sizes_they_promise():
    paper = LVD(5, "paper")
    assert PROFILES["paper"]["crop_size"] == paper.crop_size == 256
    with torch.no_grad():
        maps = paper.scene(torch.rand(1, 1, 3, 256, 256)).maps
    assert [m.shape for m in maps] == [(1, 256, 128, 128)] * 4
    assert paper.vertex_field.first.weight.shape == (512, 1027)


@pytest.mark.slow
def test_overfits_one_face():
    torch.manual_seed(0)
    model = LVD(40, **TINY)
    image = torch.rand(1, 1, 3, 32, 32)
    directions = torch.nn.functional.normalize(torch.randn(1, 40, 3), dim=-1)
    target = directions * torch.tensor([0.6, 0.8, 0.5])
    optimiser = torch.optim.Adam(model.parameters(), 2e-3, betas=(0.5, 0.999))
    for step in range(700):
        near = target[:, torch.randint(40, (128,))] + 0.03 * torch.randn(1, 128, 3)
        points = torch.cat([torch.rand(1, 128, 3) * 2.4 - 1.2, near], 1)
        scene = model.scene(image)
        loss = descent_error(model.displacements(scene, points), target[:, None] - points[:, :, None], model.limit)
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * min(1, 2 - 2 * step / 700)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        descent = model.descend(model.scene(image), 12)
    errors = (descent.trajectory - target).norm(dim=-1).mean((1, 2))
    assert errors[0] > 0.5
    assert errors[-1] < 0.016  # 1 % of the size of the object
