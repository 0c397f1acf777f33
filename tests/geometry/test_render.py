import numpy as np
import pytest
import trimesh

from neuface_ray.geometry import render as R
from neuface_ray.geometry.rays import PinholeCamera, WeakCamera, crop_to_pixels

SIZE = (60, 40)
WEAK = WeakCamera(np.array([12.0, 0.01, -0.005]), crop_to_pixels(*SIZE))
PINHOLE = PinholeCamera(np.array([0.01, -0.01, -0.5]), np.array([[150.0, 0, 30], [0, 150, 20], [0, 0, 1]]))
CAMERAS = pytest.mark.parametrize("camera", [WEAK, PINHOLE], ids=["weak", "pinhole"])


@pytest.fixture(scope="module")
def ball():
    mesh = trimesh.creation.icosphere(subdivisions=3, radius=0.05)
    return np.array(mesh.vertices) * [1, 0.8, 1.2], np.array(mesh.faces)


@CAMERAS
def test_pixels_show_the_point_that_projects_there(ball, camera):
    vertices, faces = ball
    raster = R.rasterise(vertices, faces, camera, SIZE)
    assert raster.triangle.shape == (40, 60)
    rows, columns = np.nonzero(raster.mask)
    assert 200 < len(rows) < 2000
    points = R.interpolate(raster, faces, vertices)[rows, columns].astype(np.float64)
    np.testing.assert_allclose(camera.project(points), np.stack([columns, rows], -1) + 0.5, atol=2e-3)
    np.testing.assert_allclose(raster.depth[rows, columns], camera.depth(points), atol=1e-5)
    assert np.isinf(raster.depth[~raster.mask]).all()
    np.testing.assert_allclose(raster.barycentric[rows, columns].sum(-1), 1, atol=1e-6)


@CAMERAS
def test_every_vertex_lies_at_or_behind_what_its_pixel_shows(ball, camera):
    vertices, faces = ball
    raster = R.rasterise(vertices, faces, camera, SIZE, samples=4)
    pixels = np.floor(camera.project(vertices) * 4).astype(int)
    shown = raster.depth[pixels[:, 1], pixels[:, 0]]
    steep = np.abs(R.smooth_normals(vertices, faces)[:, 2]) < 0.5
    seen = np.isfinite(shown) & ~steep
    assert seen.sum() > 200
    assert (camera.depth(vertices)[seen] > shown[seen] - 2e-3).all()


@CAMERAS
def test_culling_does_not_change_a_closed_surface(ball, camera):
    vertices, faces = ball
    whole, culled = (R.rasterise(vertices, faces, camera, SIZE, cull=cull) for cull in (False, True))
    assert (whole.mask == culled.mask).all()
    np.testing.assert_allclose(whole.depth[whole.mask], culled.depth[whole.mask], atol=1e-5)
    assert not R.rasterise(vertices, faces[:, ::-1], camera, SIZE, cull=True).depth.min() < whole.depth.min() + 0.01


def test_nothing_to_see(ball):
    vertices, faces = ball
    raster = R.rasterise(vertices + np.array([5, 0, 0]), faces, WEAK, SIZE)
    assert not raster.mask.any()
    assert not R.rasterise(vertices, faces[:0], WEAK, SIZE).mask.any()
    image = np.full((40, 60, 3), 7, np.uint8)
    assert (R.draw_mesh(image, vertices + np.array([5, 0, 0]), faces, WEAK) == image).all()


def test_texture_lookup_and_orientation():
    texture = np.zeros((4, 8, 3), np.uint8)
    texture[0, :, 0] = 200
    texture[:, 7, 1] = 100
    uv = np.array([[[0.5 / 8, 1 - 0.5 / 4], [7.5 / 8, 0.5 / 4], [6 / 8 + 1 / 8, 0.5]]])
    got = R.sample_texture(texture, uv)
    np.testing.assert_allclose(got[0], [[200, 0, 0], [0, 100, 0], [0, 50, 0]], atol=0.5)


def test_lambert_naive_twin():
    normals = np.random.default_rng(0).normal(size=(5, 3))
    normals /= np.linalg.norm(normals, axis=-1, keepdims=True)
    lights = (R.Light((0, 0, 2.0), 0.5), R.Light((1.0, 1, 0), (0.1, 0.2, 0.3)))
    got = R.lambert(normals, 0.2, lights)
    for i, n in enumerate(normals):
        expected = 0.2 + 0.5 * max(n[2], 0) + np.array([0.1, 0.2, 0.3]) * max((n[0] + n[1]) / np.sqrt(2), 0)
        np.testing.assert_allclose(got[i], expected, atol=1e-6)


def test_spherical_harmonics_against_integration_over_the_sphere():
    """Irradiance over pi of a random band-limited environment, by summing radiance times cosine over directions."""
    rng = np.random.default_rng(1)
    coefficients = rng.normal(size=(9, 2))
    index = np.arange(40000) + 0.5
    z, phi = 1 - 2 * index / len(index), np.pi * (1 + 5**0.5) * index
    d = np.stack([np.sqrt(1 - z**2) * np.cos(phi), np.sqrt(1 - z**2) * np.sin(phi), z], -1)
    x, y, z = d.T
    basis = [0.282095 + 0 * x, 0.488603 * y, 0.488603 * z, 0.488603 * x, 1.092548 * x * y, 1.092548 * y * z]
    basis += [0.315392 * (3 * z**2 - 1), 1.092548 * x * z, 0.546274 * (x**2 - y**2)]
    radiance = np.stack(basis, -1) @ coefficients
    normals = d[::4001]
    expected = np.clip(normals @ d.T, 0, None) @ radiance * 4 * np.pi / len(d) / np.pi
    np.testing.assert_allclose(R.spherical_harmonics(normals, coefficients), expected, atol=2e-3)
    constant = np.zeros((9, 1))
    constant[0] = 1 / 0.282095
    np.testing.assert_allclose(R.spherical_harmonics(normals, constant), 1, atol=1e-5)


def test_shading_takes_colour_for_all_at_vertices_or_at_pixels(ball):
    vertices, faces = ball
    raster = R.rasterise(vertices, faces, WEAK, SIZE)
    one = R.shade(raster, vertices, faces, (0.5, 0.4, 0.3))
    at_vertices = R.shade(raster, vertices, faces, np.tile([0.5, 0.4, 0.3], (len(vertices), 1)))
    at_pixels = R.shade(raster, vertices, faces, np.broadcast_to([0.5, 0.4, 0.3], (40, 60, 3)))
    np.testing.assert_allclose(one, at_vertices, atol=1e-6)
    np.testing.assert_allclose(one, at_pixels, atol=1e-6)
    assert (one[~raster.mask] == 0).all()
    assert one[raster.mask].std() > 0.02


@CAMERAS
def test_overlay_touches_only_the_mesh_and_keeps_the_rest(ball, camera):
    vertices, faces = ball
    image = np.random.default_rng(0).integers(0, 255, size=(40, 60, 3), dtype=np.uint8)
    before = image.copy()
    drawn = R.draw_mesh(image, vertices, faces, camera, alpha=1.0)
    assert (image == before).all()
    raster = R.rasterise(vertices, faces, camera, SIZE, samples=3)
    cover = raster.mask.reshape(40, 3, 60, 3).mean((1, 3))
    assert (drawn == image)[cover == 0].all()
    expected = R.shade(R.rasterise(vertices, faces, camera, SIZE), vertices, faces, R.CLAY, gloss=R.GLOSS)
    inside = cover == 1
    assert np.abs(drawn[inside] / 255 - expected[inside]).mean() < 0.01
    edge = (cover > 0.3) & (cover < 0.7)
    between = np.abs(drawn[edge].astype(int) - image[edge]).mean()
    assert 0 < between < np.abs(drawn[inside].astype(int) - image[inside]).mean()


def test_overlay_opacity_at_the_vertices(ball):
    vertices, faces = ball
    image = np.full((40, 60, 3), 100, np.uint8)
    half = R.draw_mesh(image, vertices, faces, WEAK, alpha=np.where(vertices[:, 0] < 0, 0.0, 1.0))
    assert (half[:, :25] == 100).all()
    assert (half[15:25, 35:40] != 100).any()


def test_a_mesh_that_reaches_behind_the_camera_is_drawn_over_the_whole_image(ball):
    vertices, _ = ball
    near = PinholeCamera(np.array([0, 0, -0.02]), PINHOLE.intrinsics)
    assert R.projected_box(vertices, near, SIZE) == (0, 0, 60, 40)


def test_box_holds_the_mesh(ball):
    vertices, faces = ball
    left, top, right, bottom = R.projected_box(vertices, WEAK, SIZE)
    mask = R.rasterise(vertices, faces, WEAK, SIZE).mask
    outside = mask.copy()
    outside[top:bottom, left:right] = False
    assert mask.any()
    assert not outside.any()
    assert (right - left) * (bottom - top) < 0.9 * mask.size
