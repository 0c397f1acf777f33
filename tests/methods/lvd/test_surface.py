import torch

from neuface_ray.methods.lvd.surface import signed_distances, silhouettes


def sphere(count=4000):
    index = torch.arange(count) + 0.5
    z = 1 - 2 * index / count
    angle = torch.pi * (1 + 5**0.5) * index
    radius = (1 - z**2).sqrt()
    return torch.stack([radius * angle.cos(), radius * angle.sin(), z], -1)[None]


def test_distances_to_a_sphere_are_known():
    normals = sphere()
    points = torch.randn(1, 300, 3, generator=torch.Generator().manual_seed(0))
    points = torch.cat([points, torch.nn.functional.normalize(points, dim=-1) * 1.05], 1)
    found = signed_distances(points, 0.5 * normals, normals, limit=0.1)
    expected = (points.norm(dim=-1) - 0.5).clamp(-0.1, 0.1)
    assert (found - expected).abs().max() < 3e-3
    found = signed_distances(points[:, 300:], normals, normals, limit=0.1)
    assert torch.allclose(found, torch.tensor(0.05), atol=3e-3)


def test_silhouettes_cover_what_the_points_cover():
    points = sphere()[..., :2] * 0.6 + torch.tensor([0.1, -0.2])
    mask = silhouettes(points.expand(2, -1, -1), 64)
    assert mask.shape == (2, 1, 64, 64)
    centres = (2 * torch.arange(64) + 1) / 64 - 1
    inside = (centres[None] - 0.1) ** 2 + (centres[:, None] + 0.2) ** 2 < 0.6**2
    assert ((mask[0, 0] > 0.5) == inside).float().mean() > 0.95
    assert mask[0, 0][32, 32] == 1
    assert silhouettes(points + 5, 64).sum() == 0
