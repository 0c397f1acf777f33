import pytest
import torch
from torch.nn import functional as F

from neuface_ray.networks.hourglass import HeatmapNet, StackedHourglass, doubled, gaussian_heatmaps, heatmap_peaks


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (8, 16)])
def test_doubling_is_bicubic_interpolation(size):
    x = torch.rand(2, 3, *size, dtype=torch.float64)
    expected = F.interpolate(x, scale_factor=2, mode="bicubic", align_corners=False)
    assert torch.allclose(doubled(x), expected, atol=1e-6)


@pytest.mark.parametrize(("channels", "reduction"), [(3, 2), (4, 4)])
def test_every_stack_gives_a_map(channels, reduction):
    net = StackedHourglass(channels, width=16, stacks=3, depth=2, reduction=reduction)
    maps = net(torch.rand(2, channels, 32, 32))
    assert [m.shape for m in maps] == [(2, 16, 32 // reduction, 32 // reduction)] * 3
    sum(m.square().mean() for m in maps).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_moving_the_content_by_a_coarse_pixel_moves_the_features():
    torch.manual_seed(0)
    net = StackedHourglass(3, width=16, stacks=1, depth=1, reduction=2).double()
    image = torch.zeros(1, 3, 96, 96, dtype=torch.float64)
    image += net.mean  # is zero after normalisation, as the padding is
    image[..., 40:52, 40:52] = torch.rand(1, 3, 12, 12, dtype=torch.float64)
    pixels = 4  # one pixel of the coarsest map
    with torch.no_grad():
        still = net(image)[-1]
        moved = net(image.roll((pixels, 2 * pixels), (2, 3)))[-1]
    back = moved.roll((-pixels // 2, -2 * pixels // 2), (2, 3))
    inner = (..., slice(14, 34), slice(14, 34))
    assert (still[inner] - back[inner]).abs().max() < 0.02 * still[inner].std()
    assert (still[inner] - moved[inner]).abs().max() > 0.5 * still[inner].std()


def test_gaussian_heatmaps_equal_their_formula_and_give_the_points_back():
    points = torch.tensor([[[0.1, -0.3], [0.62, 0.4]]], dtype=torch.float64)
    maps = gaussian_heatmaps(points, 32, sigma=0.1)
    x, y = (2 * 20 + 1) / 32 - 1, (2 * 11 + 1) / 32 - 1
    expected = torch.exp(-((x - points[0, 0, 0]) ** 2 + (y - points[0, 0, 1]) ** 2) / 0.02)
    assert maps.shape == (1, 2, 32, 32)
    assert torch.isclose(maps[0, 0, 11, 20], expected)
    found, height = heatmap_peaks(maps)
    assert (found - points).abs().max() < 0.02
    assert (height > 0.9).all()


def test_heatmap_net_learns_where_a_dot_is():
    torch.manual_seed(0)
    net = HeatmapNet(1, width=16, depth=2)
    optimiser = torch.optim.Adam(net.parameters(), 3e-3)
    points = torch.rand(24, 1, 2) * 1.2 - 0.6
    images = gaussian_heatmaps(points, 64, 0.08).expand(-1, 3, -1, -1)
    target = gaussian_heatmaps(points, 16, 0.12)
    for _ in range(40):
        loss = (net(images[:16]) - target[:16]).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        found, _ = heatmap_peaks(net(images[16:]))
    assert (found - points[16:]).norm(dim=-1).mean() < 0.15
