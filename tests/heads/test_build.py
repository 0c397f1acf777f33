"""The pieces from which the open head is built, without the data that only the build needs."""

import numpy as np
import pytest
import torch

from neuface_ray.geometry.rays import PinholeCamera
from neuface_ray.heads.build import anatomy, embedding, identity
from neuface_ray.heads.build.anny_head import PARTS
from neuface_ray.heads.build.appearance import Painter, PortraitScene, sample_portrait_scene
from neuface_ray.heads.build.contour import LEFT_OF_RIGHT, JawLine, contour_rows, mirror_68


@pytest.fixture(scope="module")
def parts(open_head):
    """Template, triangles, regions, part of each triangle and masks of the packaged head."""
    template, triangles = open_head.template.numpy(), open_head.faces.numpy()
    regions = {name: index.numpy() for name, index in open_head.regions.items()}
    part = np.full(len(triangles), PARTS.index("mouth_cavity"))
    for name, label in (("skin", "head"), ("left_eye", "eye_front.L"), ("right_eye", "eye_front.R"), ("teeth", "teeth")):
        part[np.isin(triangles, regions[name]).all(1)] = PARTS.index(label)
    masks = {name: np.isin(np.arange(len(template)), regions[name]).astype(float) for name in ("lips", "lids", "face")}
    return template, triangles, regions, part, masks


def camera(size=384, depth=1.0):
    focal = 2.0 * size * depth / 0.75
    return PinholeCamera(np.array([0.0, 0.0, -depth]), np.array([[focal, 0, size / 2], [0, focal, size / 2], [0, 0, 1]]))


def test_the_packaged_embedding_agrees_with_the_detector_on_a_picture(open_head, parts):
    painter = Painter(*parts)
    scene = PortraitScene(
        (0.80, 0.61, 0.50), (0.70, 0.42, 0.38), (0.15, 0.1, 0.08), (0.3, 0.2, 0.1), (0.5, 0.5, 0.55), (0.2, 0.5, 0.8)
    )
    weight = open_head.embedding("mediapipe478").weight.numpy()
    with embedding.create_landmarker() as detector:
        for yaw in (-20, 0, 20):
            turn, view = embedding.yaw_pitch_matrix(yaw), camera()
            found = embedding.detect_landmarks(detector, painter.render_head(parts[0], turn, view, 384, scene))
            expected = view.project(open_head.landmarks(open_head.template, "mediapipe478").numpy() @ turn.T)
            error = np.linalg.norm(found - expected, axis=1) / np.linalg.norm(expected[263] - expected[33])
            assert np.average(error, weights=weight) < 0.03


def test_pictures_show_skin_before_the_background_and_looks_are_repeatable(parts):
    scene = sample_portrait_scene(np.random.default_rng(3))
    assert scene == sample_portrait_scene(np.random.default_rng(3))
    picture = Painter(*parts).render_head(parts[0], np.eye(3), camera(96), 96, scene)
    assert picture.shape == (96, 96, 3)
    np.testing.assert_allclose(picture[0, 0], 255 * np.array(scene.background), atol=1)
    assert np.abs(picture[48, 48].astype(int) - picture[0, 0]).max() > 20


def test_jaw_line_of_the_template_is_the_packaged_one(open_head, parts, mirror):
    template, triangles, regions, _, _ = parts
    corners, barycentric = contour_rows(
        JawLine(template, triangles, regions["face"], template[regions["eyes"], 1].mean()), mirror
    )
    rebuilt = (template[corners] * barycentric[..., None]).sum(-2)
    packaged = open_head.contour
    stored = (template[triangles[packaged.face_index]] * packaged.barycentric.numpy()[..., None]).sum(-2)
    assert np.linalg.norm(rebuilt - stored, axis=-1).max() < 1e-3


def test_mirrors_are_involutions(open_head):
    table = mirror_68()
    np.testing.assert_array_equal(table[table], np.arange(68))
    assert len(LEFT_OF_RIGHT) == 21
    assert (table == np.arange(68)).sum() == 10
    points = open_head.landmarks(open_head.template, "mediapipe478").numpy()
    pairs = embedding.mirror_pairs(points)
    np.testing.assert_array_equal(pairs[pairs], np.arange(478))
    assert pairs[[33, 133, 159, 61, 468, 469, 470]].tolist() == [263, 362, 386, 291, 473, 476, 475]
    assert (pairs == np.arange(478)).sum() == 28


def test_closest_points_and_triangle_index(parts):
    template, triangles, *_ = parts
    random = np.random.default_rng(0)
    chosen = random.integers(0, len(triangles), 30)
    weights = random.dirichlet(np.ones(3), 30)
    points = (template[triangles[chosen]] * weights[..., None]).sum(1)
    index, barycentric = embedding.closest_points(points, template, triangles)
    np.testing.assert_allclose((template[triangles[index]] * barycentric[..., None]).sum(1), points, atol=1e-5)
    shuffled = np.array([random.permutation(3) for _ in chosen])
    rows = np.arange(30)[:, None]
    index, barycentric = embedding.triangle_index(triangles[chosen][rows, shuffled], weights[rows, shuffled], triangles)
    np.testing.assert_array_equal(index, chosen)
    np.testing.assert_allclose(barycentric, weights)


def test_search_finds_points_from_their_own_projections(open_head, parts, mirror):
    """Detections made by projecting known surface points are explained exactly, up to the grid of candidates."""
    template, triangles, _, part, _ = parts
    points = open_head.landmarks(open_head.template, "mediapipe478").numpy()
    pairs = embedding.mirror_pairs(points)
    cameras, vertices, detected = [], [], []
    for yaw, pitch in ((-25, 5), (0, -8), (20, 0)):
        turn = embedding.yaw_pitch_matrix(yaw, pitch)
        cameras.append(camera(512, 1.2))
        vertices.append(template @ turn.T)
        detected.append(cameras[-1].project(points @ turn.T))
    scale = np.full(3, 1.12 / cameras[0].intrinsics[0, 0])
    views = embedding.DetectedViews(np.array(vertices, np.float32), cameras, np.array(detected), scale)
    skin = np.flatnonzero(part == PARTS.index("head"))
    eyes = np.flatnonzero(np.isin(part, [PARTS.index("eye_front.L"), PARTS.index("eye_front.R")]))
    guess = points + np.random.default_rng(0).normal(0, 0.001, points.shape)
    allowed = [skin] * 468 + [eyes] * 10
    corners, weights, spread = embedding.search_surface_points(guess, views, pairs, template, triangles, mirror, allowed)
    found = (template[corners] * weights[..., None]).sum(1)
    error = np.linalg.norm(found - points, axis=1)
    assert np.median(error) < 4e-4
    assert np.quantile(error, 0.98) < 2e-3
    assert np.median(spread) < 4e-4
    np.testing.assert_allclose(found[pairs] * [-1, 1, 1], found, atol=1e-6)


def test_alignment_removes_the_rigid_motion_and_reports_the_size():
    random = np.random.default_rng(0)
    target = random.standard_normal((40, 3))
    turn = embedding.yaw_pitch_matrix(33, -12)
    moved = np.stack([1.7 * target @ turn + [1, 2, 3], 0.4 * target])
    aligned, size = identity.align(moved, target, np.arange(25))
    np.testing.assert_allclose(aligned, np.stack([target, target]), atol=1e-9)
    np.testing.assert_allclose(size, [1.7, 0.4])


def test_sizes_are_compressed_to_the_breadth_of_people():
    random = np.random.default_rng(0)
    breadth, size = 0.15 * random.normal(1, 0.01, 3000), np.exp(random.normal(0, 0.11, 3000))
    sizes = identity.realistic_sizes(breadth, size)
    scaled = breadth * sizes
    assert abs(scaled.std() / scaled.mean() - identity.BREADTH_SD) < 1e-6
    assert abs(sizes.mean() - 1) < 1e-12
    assert (np.argsort(sizes) == np.argsort(size)).all()


def test_quads_are_split_at_the_shorter_diagonal_as_mirror_images():
    left = np.array([[1.0, 0, 0], [2, 0, 0], [2.5, 1, 0], [1, 1.2, 0]])
    template = np.concatenate([left, left * [-1, 1, 1]])
    quads = np.array([[0, 1, 2, 3], [5, 4, 7, 6]])
    triangles, uv_triangles, quad = anatomy.triangulate(template, quads, quads)
    np.testing.assert_array_equal(triangles, uv_triangles)
    assert quad.tolist() == [0, 0, 1, 1]
    shared = [set(triangles[0]) & set(triangles[1]), set(triangles[2]) & set(triangles[3])]
    assert shared == [{1, 3}, {5, 7}]
    area = torch.linalg.cross(*(torch.from_numpy(template[triangles[:, k]] - template[triangles[:, 0]]) for k in (1, 2)))[:, 2]
    assert (area > 0).all()
