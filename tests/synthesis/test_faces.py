import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from neuface_ray.errors import DataError, UsageError
from neuface_ray.geometry.cameras import project_pinhole, project_weak
from neuface_ray.geometry.rays import PinholeCamera
from neuface_ray.heads import load_head
from neuface_ray.media.crop import landmark_box
from neuface_ray.synthesis.appearance import DISPLAY_EXPONENT
from neuface_ray.synthesis.faces import (
    FaceOptions,
    head_landmarks,
    make_face,
    make_person,
    posed_vertices,
    render_person,
)
from neuface_ray.synthesis.hair import Style
from neuface_ray.synthesis.light import Lighting
from neuface_ray.synthesis.motion import MotionRange
from neuface_ray.synthesis.renderer import Renderer
from neuface_ray.synthesis.shards import write_shard
from neuface_ray.types import ARKIT_NAMES


@pytest.fixture(scope="module")
def renderer():
    torch.set_num_threads(1)
    return Renderer(load_head())


def test_a_face_depends_on_seed_and_index_alone(renderer):
    options = FaceOptions(size=64)
    first = make_face(renderer, options, 5, 11)
    make_face(renderer, options, 6, 3)
    again = make_face(Renderer(renderer.head), options, 5, 11)
    for name in ("image", "shape", "expression", "pose", "landmarks"):
        assert np.array_equal(getattr(first, name), getattr(again, name)), name
    assert not np.array_equal(first.image, make_face(renderer, options, 6, 11).image)


def test_images_of_one_person_share_identity_and_nothing_else(renderer):
    options = FaceOptions(size=48, images_per_person=2)
    a, b, c = (make_face(renderer, options, 1, index) for index in (2, 3, 4))
    assert np.array_equal(a.shape, b.shape)
    assert not np.array_equal(a.shape, c.shape)
    assert not np.array_equal(a.pose, b.pose)
    assert np.abs(a.shape).max() <= options.max_sd


def test_truth_is_exact(renderer):
    options = FaceOptions(size=64, occluded=0.0)
    for index in range(4):
        face = make_face(renderer, options, 9, index)
        points = head_landmarks(renderer.head, posed_vertices(renderer.head, face.shape, face.expression, face.pose))
        pixels = project_pinhole(*map(torch.from_numpy, (points, face.translation, face.intrinsics))).numpy()
        np.testing.assert_allclose(pixels / 32 - 1, face.landmarks, atol=2e-4)
        box = landmark_box(face.landmarks)
        assert (np.abs(box) < 1.15).all()
        assert 1.2 < (box[2:] - box[:2]).mean() < 1.75
        weak = project_weak(torch.from_numpy(points), torch.from_numpy(face.camera.astype(np.float64))).numpy()
        assert np.abs(weak - face.landmarks).mean() < 0.03
        assert face.image.shape == (64, 64, 3)
        assert face.image.std() > 3


def test_landmarks_of_the_far_side_are_hidden_and_the_near_side_is_seen(renderer):
    from neuface_ray.synthesis.motion import MotionRange

    turned = FaceOptions(size=64, occluded=0.0, motion=MotionRange(turning=0, wide=0, yaw_deg=0.1, pitch_deg=0.1, roll_deg=0.1))
    frontal = make_face(renderer, turned, 0, 0)
    assert frontal.visible[[1, 4, 61, 291]].all()
    many = [make_face(renderer, FaceOptions(size=64, occluded=0.0), 2, i) for i in range(24)]
    yaw = np.array([face.pose[1] for face in many])
    nose_bridge_sides = np.array([face.visible[[133, 362]] for face in many])  # inner corners of the right and the left eye
    assert (np.abs(yaw) > 0.8).sum() >= 3
    assert not nose_bridge_sides[yaw > 0.95, 1].all() or not nose_bridge_sides[yaw < -0.95, 0].all()


def test_what_the_picture_shows_is_at_the_landmarks(renderer):
    """A darker brow, red lips and the whites of the eyes are where the landmarks say, in most pictures."""
    options = FaceOptions(size=128, occluded=0.0)
    redder = 0
    faces = (make_face(renderer, options, 4, 4 * i) for i in range(16))
    faces = [face for face in faces if face.visible[[0, 17, 50, 280]].all()]
    for face in faces:

        def patch(index, face=face):
            x, y = ((face.landmarks[index] + 1) * 64).astype(int)
            return face.image[max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3].reshape(-1, 3).mean(0).astype(float)

        lips, cheeks = (patch(0) + patch(17)) / 2, (patch(50) + patch(280)) / 2
        redder += lips[1] / cheeks[1] < lips[0] / cheeks[0] + 0.02
    assert len(faces) >= 5
    assert redder >= 0.7 * len(faces)


def test_folders_of_textures_light_and_backgrounds_are_used(renderer, tmp_path):
    for name, colour in (("textures", (40, 200, 40)), ("backgrounds", (200, 30, 30))):
        (tmp_path / name).mkdir()
        cv2.imwrite(str(tmp_path / name / "a.png"), np.full((32, 32, 3), colour, np.uint8))
    options = FaceOptions(size=48, textures=str(tmp_path / "textures"), backgrounds=str(tmp_path / "backgrounds"))
    green = [make_face(renderer, options, 0, 4 * i).image.reshape(-1, 3).mean(0) for i in range(8)]
    assert any(mean[1] > mean[0] + 15 for mean in green)
    with pytest.raises(DataError, match=r"no \.png"):
        make_face(renderer, FaceOptions(textures=str(tmp_path / "nothing")), 0, 0)


def test_untextured_people_have_one_colour_and_the_same_shapes(renderer):
    textured, untextured = FaceOptions(size=64, occluded=0.0), FaceOptions(size=64, occluded=0.0, untextured=1.0)
    people = [(make_person(renderer, textured, 3, n), make_person(renderer, untextured, 3, n)) for n in range(8)]
    assert all(np.array_equal(a.shape, b.shape) for a, b in people)
    assert all(b.appearance.untextured and not a.appearance.untextured for a, b in people)
    assert all(b.hair is None and b.style.glasses is None for _, b in people)
    assert {np.isinf(b.appearance.reach_m) for _, b in people} == {True, False}
    light = Lighting(np.repeat(np.eye(9, 1) * 3.5, 3, 1), np.array([0.0, 0, 1]), np.zeros(3), 0.1)
    camera = PinholeCamera(np.array([0, 0, -1.0]), np.array([[250.0, 0, 32], [0, 250, 32], [0, 0, 1]]))
    head, face = (
        render_person(renderer, person, person.neutral, np.zeros(15), light, camera, 64)
        for person in (next(b for _, b in people if np.isfinite(b.appearance.reach_m) == apart) for apart in (False, True))
    )
    assert np.isfinite(face.depth).sum() < 0.8 * np.isfinite(head.depth).sum()
    hue = face.colour[np.isfinite(face.depth)] ** 2.2
    assert (hue / hue.sum(-1, keepdims=True)).std(0).max() < 0.02


@pytest.mark.parametrize("exponent", [DISPLAY_EXPONENT, 0.7, 1.0])
def test_unshaded_people_are_lit_without_shadows_and_keep_their_colour_under_even_light(renderer, exponent):
    options = FaceOptions(size=64, occluded=0.0, untextured=1.0, unshaded=1.0)
    people = (make_person(renderer, options, 3, n) for n in range(8))
    person = next(person for person in people if np.isinf(person.appearance.reach_m))
    skin = np.float32([0.3, 0.2, 0.1])
    appearance = replace(person.appearance, skin=skin, gloss=0.0, exponent=exponent)
    person = replace(person, appearance=appearance, style=Style(cloth=skin))
    camera = PinholeCamera(np.array([0, 0, -1.0]), np.array([[250.0, 0, 32], [0, 250, 32], [0, 0, 1]]))
    even, key = np.repeat(np.eye(9, 1) / 0.282095, 3, 1), np.array([0.6, 0.0, 0.8])

    def colours_under(light):
        rendered = render_person(renderer, person, person.neutral, np.zeros(15), light, camera, 64)
        return rendered.colour[18:46][np.isfinite(rendered.depth[18:46])]

    flat = colours_under(Lighting(even, key, np.zeros(3), 0.1))
    np.testing.assert_allclose(flat, np.broadcast_to(skin**DISPLAY_EXPONENT, flat.shape), rtol=1e-3)
    lit = colours_under(Lighting(np.zeros((9, 3)), key, np.full(3, 0.8), 0.1))
    cosine = (lit / skin**DISPLAY_EXPONENT) ** (1 / exponent) / 0.8
    assert 0.97 < cosine.max() < 1.03
    np.testing.assert_allclose(cosine, np.broadcast_to(cosine[:, :1], cosine.shape), atol=2e-3)


def test_the_share_of_unshaded_people_is_met_and_changes_no_shape(renderer):
    nature, mixed = FaceOptions(), FaceOptions(unshaded=0.5)
    people = [(make_person(renderer, nature, 5, n), make_person(renderer, mixed, 5, n)) for n in range(12)]
    assert all(np.array_equal(a.shape, b.shape) and a.appearance.exponent is None for a, b in people)
    exponents = [b.appearance.exponent for _, b in people if b.appearance.exponent is not None]
    assert 2 <= len(exponents) <= 10
    assert all(DISPLAY_EXPONENT <= exponent <= 1 for exponent in exponents)


def test_a_broken_off_set_of_shards_goes_on_and_reads_back(renderer, tmp_path):
    options = FaceOptions(size=32, images_per_person=2)
    first = write_shard(tmp_path, options, 1, 0, size=4)
    stamp = (first / "image.npy").stat().st_mtime_ns
    write_shard(tmp_path, options, 1, 0, size=4)
    write_shard(tmp_path, options, 1, 1, size=4)
    assert (first / "image.npy").stat().st_mtime_ns == stamp
    face = make_face(renderer, options, 1, 5)
    second = tmp_path / "shard-00001"
    assert np.array_equal(np.load(second / "image.npy")[1], face.image)
    assert np.array_equal(np.load(second / "pose.npy")[1], face.pose)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_detectors_landmarks_are_added_to_a_shard_that_lacks_them(tmp_path):
    options = FaceOptions(size=128, motion=MotionRange(yaw_deg=10), occluded=0.0)
    path = write_shard(tmp_path, options, 1, 0, size=4)
    assert not (path / "detected.npy").exists()
    np.save(path / "image.npy", np.concatenate([np.load(path / "image.npy")[:3], np.zeros((1, 128, 128, 3), np.uint8)]))
    write_shard(tmp_path, options, 1, 0, size=4, detect=True)
    detected, landmarks = np.load(path / "detected.npy"), np.load(path / "landmarks.npy")
    assert detected.dtype == np.float16
    assert detected.shape == (4, 478, 2)
    found = np.isfinite(detected).all((1, 2))
    assert found[:3].sum() >= 2
    assert not found[3]
    distance = np.linalg.norm(detected.astype(np.float32) - landmarks, axis=-1).mean(1)
    assert (distance[found] < 0.1).all()
    assert (distance[found] > 1e-3).all()


def test_a_shard_of_another_seed_or_other_options_is_not_taken_for_the_one_asked_for(renderer, tmp_path):
    options = FaceOptions(size=32)
    write_shard(tmp_path, options, 1, 0, size=1)
    with pytest.raises(UsageError, match="shard-00000 was made with seed 1, not 2; name another folder"):
        write_shard(tmp_path, options, 2, 0, size=1)
    with pytest.raises(UsageError, match=r"canonical 0\.0, not 1\.0"):
        write_shard(tmp_path, replace(options, canonical=1.0), 1, 0, size=1)


def test_a_shard_of_an_earlier_version_is_the_one_asked_for(renderer, tmp_path):
    options = FaceOptions(size=32, untextured=0.5, unshaded=0.25, motion=MotionRange(random_expressions=0.1))
    path = write_shard(tmp_path, options, 1, 0, size=1)
    about = json.loads((path / "about.json").read_text())
    stored = about["options"]
    stored |= {"skins": stored.pop("textures"), "sculpted": stored.pop("untextured"), "plain": stored.pop("unshaded")}
    stored["motion"]["odd"] = stored["motion"].pop("random_expressions")
    (path / "about.json").write_text(json.dumps(about))
    before = (path / "image.npy").stat().st_mtime_ns
    write_shard(tmp_path, options, 1, 0, size=1)
    assert (path / "image.npy").stat().st_mtime_ns == before
    with pytest.raises(UsageError, match="textures None, not '/other'"):
        write_shard(tmp_path, replace(options, textures="/other"), 1, 0, size=1)
    with pytest.raises(UsageError, match=r"unshaded 0\.25, not 0\.5"):
        write_shard(tmp_path, replace(options, unshaded=0.5), 1, 0, size=1)


def test_closed_eyes_hide_the_iris(renderer):
    open_face = np.zeros(52)
    shut = open_face.copy()
    shut[[ARKIT_NAMES.index("eyeBlinkLeft"), ARKIT_NAMES.index("eyeBlinkRight")]] = 1
    from neuface_ray.geometry.rays import WeakCamera, crop_to_pixels
    from neuface_ray.geometry.render import rasterise

    visible = []
    for expression in (open_face, shut):
        vertices = posed_vertices(renderer.head, np.zeros(100), expression, np.zeros(15))
        raster = rasterise(vertices, renderer.faces, WeakCamera(np.array([8.0, 0, 0]), crop_to_pixels(256, 256)), (256, 256))
        visible.append(np.isin(renderer.uv_atlas.part[raster.triangle[raster.mask]], [1, 2]).sum())
    assert visible[0] > 100
    assert visible[1] < 0.1 * visible[0]
