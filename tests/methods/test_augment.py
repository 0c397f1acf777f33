import torch

from neuface_ray.methods.augment import change_colours, move_images, move_points, random_motion
from neuface_ray.methods.lvd.network import compose
from neuface_ray.methods.settings import AugmentSettings
from neuface_ray.networks.hourglass import gaussian_heatmaps, heatmap_peaks


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_pictures_and_points_move_together():
    points = torch.tensor([[[0.2, -0.3], [-0.4, 0.1], [0.0, 0.5]]]).repeat(6, 1, 1)
    config = AugmentSettings(rotation_deg=30, scale=0.2, shift=0.2)
    motion = random_motion((6,), config, generator())
    pictures = gaussian_heatmaps(points, 64, 0.06)
    found, _ = heatmap_peaks(move_images(pictures, motion), window=4)
    moved = move_points(points, motion)
    assert (moved - points).norm(dim=-1).mean() > 0.05
    assert (found - moved).abs().max() < 0.015


def test_motions_compose():
    first, second = random_motion((2, 3), AugmentSettings(), generator())
    points = torch.rand(3, 5, 2) - 0.5
    assert torch.allclose(
        move_points(points, compose(second, first)), move_points(move_points(points, first), second), atol=1e-6
    )


def test_colours_change_with_their_probability_and_stay_in_range():
    images = torch.rand(40, 1, 3, 8, 8)
    assert torch.allclose(change_colours(images, 0.0, generator()), images.clamp_min(1e-4), atol=1e-5)
    changed = change_colours(images, 0.3, generator())
    assert changed.min() >= 0
    assert changed.max() <= 1
    untouched = ((changed - images).abs().amax((1, 2, 3, 4)) < 1e-3).float().mean()
    assert 0.02 < untouched < 0.5  # 0.7 ** 5 = 0.17
    assert torch.equal(changed, change_colours(images, 0.3, generator()))
    grey = torch.full((5, 1, 3, 4, 4), 0.5)
    same = change_colours(grey, 1.0, generator())
    assert torch.allclose(same, same[:, :, :1].expand_as(same), atol=1e-5)
