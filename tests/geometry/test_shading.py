"""Image formation at points against naive twins, the renderer's conventions and numerical gradients."""

import numpy as np
import torch
from torch.autograd import gradcheck

from neuface_ray.geometry.cameras import project_pinhole
from neuface_ray.geometry.rays import PinholeCamera
from neuface_ray.geometry.render import spherical_harmonics
from neuface_ray.geometry.shading import directions_to_viewer, facing, sample_image, sh_basis, shade
from neuface_ray.synthesis.light import harmonic_basis


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.nn.functional.normalize(random(*shape, 3, seed=seed), dim=-1)


def test_the_basis_is_that_of_rendered_light_and_orthonormal():
    normals = unit(2, 5)
    np.testing.assert_allclose(sh_basis(normals).numpy(), harmonic_basis(normals.numpy()), rtol=1e-12)
    sphere = unit(200_000, seed=1)
    moments = 4 * torch.pi * sh_basis(sphere).T @ sh_basis(sphere) / len(sphere)
    torch.testing.assert_close(moments, torch.eye(9, dtype=torch.float64), atol=0.03, rtol=0)


def test_shading_is_a_sum_over_harmonics_for_every_point_and_colour():
    albedo, normals, gamma = random(2, 4, 3).abs(), unit(2, 4, seed=1), random(2, 9, 3, seed=2)
    basis = harmonic_basis(normals.numpy())
    expected = np.zeros((2, 4, 3))
    for picture in range(2):
        for point in range(4):
            for colour in range(3):
                light = sum(gamma[picture, band, colour] * basis[picture, point, band] for band in range(9))
                expected[picture, point, colour] = albedo[picture, point, colour] * light
    np.testing.assert_allclose(shade(albedo, normals, gamma).numpy(), expected, rtol=1e-12)
    torch.testing.assert_close(shade(albedo[0], normals, gamma[1])[1], shade(albedo[0], normals[1], gamma[1]))


def test_light_of_the_renderer_shades_alike():
    normals, radiance = unit(50), random(9, 3)
    lambert = torch.tensor([1, 2 / 3, 2 / 3, 2 / 3, 1 / 4, 1 / 4, 1 / 4, 1 / 4, 1 / 4], dtype=torch.float64)
    ours = shade(torch.ones(50, 3, dtype=torch.float64), normals, lambert[:, None] * radiance)
    np.testing.assert_allclose(ours.numpy(), spherical_harmonics(normals.numpy(), radiance.numpy()), atol=1e-5)


def bilinear(image: np.ndarray, x: float, y: float) -> np.ndarray:
    """Naive twin: one point of a picture (C, H, W), the edge continued outside."""
    _, height, width = image.shape
    column, row = (x + 1) / 2 * width - 0.5, (y + 1) / 2 * height - 0.5
    left, top = int(np.floor(column)), int(np.floor(row))
    total = np.zeros(len(image))
    for j, share_x in ((left, left + 1 - column), (left + 1, column - left)):
        for i, share_y in ((top, top + 1 - row), (top + 1, row - top)):
            total += share_x * share_y * image[:, np.clip(i, 0, height - 1), np.clip(j, 0, width - 1)]
    return total


def test_lookups_are_bilinear_between_pixel_centres():
    images, points = random(2, 3, 5, 8), 1.2 * random(2, 40, 2, seed=1).clamp(-1.2, 1.2)
    expected = [
        [bilinear(image.numpy(), *point.tolist()) for point in some] for image, some in zip(images, points, strict=True)
    ]
    np.testing.assert_allclose(sample_image(images, points).numpy(), expected, atol=1e-12)
    rows, columns = torch.meshgrid(torch.arange(5).double(), torch.arange(8).double(), indexing="ij")
    centres = torch.stack([(2 * columns + 1) / 8 - 1, (2 * rows + 1) / 5 - 1], -1).flatten(0, 1)
    torch.testing.assert_close(sample_image(images, centres).mT.unflatten(-1, (5, 8)), images)


def test_one_picture_serves_many_sets_of_points_and_the_other_way_round():
    image, points = random(3, 6, 6), random(4, 2, 10, 2, seed=1).clamp(-1, 1)
    colours = sample_image(image, points)
    assert colours.shape == (4, 2, 10, 3)
    torch.testing.assert_close(colours[3, 1], sample_image(image, points[3, 1]))
    images = random(4, 2, 3, 6, 6, seed=2)
    torch.testing.assert_close(sample_image(images, points[0, 0])[2, 1], sample_image(images[2, 1], points[0, 0]))


def test_facing_agrees_with_the_ray_casters_camera():
    normals, points = unit(2, 6), 0.1 * random(2, 6, 3, seed=1)
    torch.testing.assert_close(facing(normals), normals[..., 2])
    translation = torch.tensor([[0.05, -0.02, -0.4], [0.0, 0.1, -2.0]], dtype=torch.float64)
    towards = directions_to_viewer(points, translation)
    cosine = facing(normals, towards)
    for k in range(2):
        camera = PinholeCamera(translation[k].numpy(), np.eye(3))
        expected = (normals[k].numpy() * camera.towards_viewer(points[k].numpy())).sum(-1)
        np.testing.assert_allclose(cosine[k].numpy(), expected, rtol=1e-12)
    nearer = points + 0.01 * towards
    seen = [project_pinhole(p, translation, torch.eye(3, dtype=torch.float64)) for p in (points, nearer)]
    torch.testing.assert_close(*seen)


def test_gradients():
    albedo, normals, gamma = random(2, 4, 3), unit(2, 4, seed=1), random(2, 9, 3, seed=2)
    points = torch.tensor([[0.03, -0.21], [0.55, 0.37], [-0.71, 0.12]], dtype=torch.float64).expand(2, 3, 2).clone()
    images, translation = random(2, 3, 5, 4, seed=3), torch.tensor([0.1, 0.0, -0.5], dtype=torch.float64)
    for function, inputs in (
        (shade, (albedo, normals, gamma)),
        (sample_image, (images, points)),
        (directions_to_viewer, (0.1 * albedo, translation)),
        (facing, (normals, unit(2, 4, seed=4))),
    ):
        assert gradcheck(function, [value.clone().requires_grad_() for value in inputs])
