import cv2
import numpy as np
import pytest

from neuface_ray.media import MediaConfig
from neuface_ray.media.detect import ALL_LEVELS, Face, FaceDetector, is_part_of, overlap, tiles
from neuface_ray.types import ARKIT_NAMES
from tests.media.files import astronaut, portrait


def far_away(
    side: int, width: int = 1280, height: int = 720, at: tuple[int, int] = (900, 300)
) -> tuple[np.ndarray, np.ndarray]:
    """The astronaut as a picture of ``side`` pixels in a wide frame, and its corner."""
    canvas = np.full((720, 1280, 3), 90, np.uint8)
    small = cv2.resize(astronaut(), (side, side), interpolation=cv2.INTER_AREA)
    canvas[at[1] : at[1] + side, at[0] : at[0] + side] = small
    return canvas, np.array(at)


def test_a_portrait(detector: FaceDetector) -> None:
    (face,) = detector.find(portrait(256))
    assert face.mesh.shape == face.landmarks.shape == (478, 2)
    assert face.confidence.shape == (478,)
    assert 80 < face.side < 140
    left, right = face.mesh[33], face.mesh[263]
    assert left[0] < right[0]
    assert np.linalg.norm((left + right) / 2 - [128, 120]) < 25
    assert face.blendshapes.shape == (52,)
    score = dict(zip(ARKIT_NAMES, face.blendshapes, strict=True))
    assert min(score["mouthSmileLeft"], score["mouthSmileRight"]) > 0.5
    assert score["tongueOut"] == 0
    assert max(score["eyeBlinkLeft"], score["jawOpen"]) < 0.5


def test_no_face(detector: FaceDetector) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (240, 320, 3)).astype(np.uint8)
    assert detector.find(noise, search_levels=ALL_LEVELS) == []


def test_results_do_not_depend_on_what_came_before(detector: FaceDetector) -> None:
    images = [portrait(256, (k, -k), turn_deg=k) for k in (0, 8, -8)]
    first = [detector.find(image)[0].mesh for image in images]
    again = [detector.find(image)[0].mesh for image in reversed(images)][::-1]
    with FaceDetector(MediaConfig()) as fresh:
        alone = fresh.find(images[2])[0].mesh
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    np.testing.assert_array_equal(alone, first[2])


def test_arrays_that_are_not_contiguous(detector: FaceDetector) -> None:
    padded = np.zeros((256, 300, 3), np.uint8)
    padded[:, :256] = portrait(256)
    (view,), (copy,) = detector.find(padded[:, :256]), detector.find(portrait(256))
    np.testing.assert_array_equal(view.mesh, copy.mesh)


def test_far_faces_are_found_on_tiles_and_then_followed(detector: FaceDetector) -> None:
    (reference,) = detector.find(astronaut())
    canvas, corner = far_away(256)
    assert detector.find(canvas) == []
    (face,) = detector.find(canvas, search_levels=ALL_LEVELS)
    expected = reference.mesh / 2 + corner
    eyes = np.linalg.norm(expected[33] - expected[263])
    assert np.linalg.norm(face.mesh - expected, axis=1).mean() < 0.05 * eyes
    moved, _ = far_away(256, at=(912, 310))
    (followed,) = detector.find(moved, expected=[face])
    assert np.linalg.norm(followed.mesh - expected - [12, 10], axis=1).mean() < 0.05 * eyes


def test_the_largest_faces_are_kept(detector: FaceDetector) -> None:
    canvas = np.full((300, 900, 3), 80, np.uint8)
    for left, size in ((0, 200), (300, 280), (620, 240)):
        canvas[:size, left : left + size] = portrait(size)
    faces = detector.find(canvas, search_levels=ALL_LEVELS)
    assert [round(face.box[0] // 300) for face in faces] == [1, 2, 0]
    with FaceDetector(MediaConfig(max_faces=1)) as single:
        (face,) = single.find(canvas, search_levels=ALL_LEVELS)
    assert overlap(face.box, faces[0].box) > 0.8
    with FaceDetector(MediaConfig(min_face_px=(faces[1].side + faces[2].side) / 2)) as strict:
        assert len(strict.find(canvas, search_levels=ALL_LEVELS)) == 2


@pytest.mark.parametrize(("width", "height"), [(1920, 1080), (1080, 1920), (640, 360), (700, 700), (1281, 723)])
def test_tiles_cover_the_image_with_overlap(width: int, height: int) -> None:
    found = tiles(width, height, 24, ALL_LEVELS)
    for side in {tile[2] for tile in found}:
        covered = np.zeros((height, width), bool)
        for left, top, size in found:
            if size == side:
                assert left >= 0
                assert top >= 0
                assert covered[top : top + side, left : left + side].shape == (side, side)
                covered[top : top + side, left : left + side] = True
        assert covered.all()
    assert {tile[2] for tile in tiles(width, height, 24, 1)} == {max(tile[2] for tile in found)}
    assert tiles(width, height, 24, 0) == []


def test_overlap() -> None:
    box = np.array([0.0, 0, 10, 10])
    assert overlap(box, box) == 1
    assert overlap(box, box + 5) == pytest.approx(25 / 175)
    assert overlap(box, box + 20) == 0


def test_an_ear_is_no_face_and_a_child_is() -> None:
    def face(x: float, side: float) -> Face:
        mesh = np.array([x, 100.0]) + (np.random.default_rng(0).random((478, 2)) - 0.5) * side
        return Face(mesh, mesh, np.ones(478), np.zeros(52))

    assert is_part_of(face(160, 30), face(100, 100))
    assert not is_part_of(face(220, 30), face(100, 100))
    assert not is_part_of(face(160, 80), face(100, 100))
    assert not is_part_of(face(100, 100), face(160, 30))
