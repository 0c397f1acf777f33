"""Which way up faces are: found upright in any turn of the picture, never with the eyes on the mouth."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuface_ray.media import MediaConfig, prepare
from neuface_ray.media.detect import ALL_LEVELS, FaceDetector
from neuface_ray.media.orientation import angle_between, in_picture, quarter_turns, roll_deg, turned_crop, turned_picture
from tests.media.files import astronaut, portrait, still_segment, stranger, turned, video_segment, write_video


def lean(turn_deg: float, own_deg: float) -> float:
    return 180.0 - (180.0 - turn_deg - own_deg) % 360.0


@pytest.mark.parametrize("turn_deg", range(0, 360, 45))
@pytest.mark.parametrize("who", ["portrait", "stranger", "far"])
def test_a_face_is_found_upright_however_the_picture_is_turned(detector: FaceDetector, who: str, turn_deg: int) -> None:
    image = {"portrait": portrait, "stranger": stranger, "far": astronaut}[who]()
    (known,) = detector.find(image, (), ALL_LEVELS)
    picture, matrix = turned(image, turn_deg)
    (found,) = detector.find(picture, (), ALL_LEVELS, search_turned=True)
    expected = known.mesh @ matrix[:, :2].T + matrix[:, 2]
    eyes = np.linalg.norm(expected[33] - expected[263])
    assert np.linalg.norm(found.mesh - expected, axis=1).mean() < 0.06 * eyes
    assert angle_between(found.roll_deg, lean(turn_deg, known.roll_deg)) < 6


def test_an_upright_mesh_on_an_inverted_face_is_not_believed(detector: FaceDetector) -> None:
    """Where the landmarker alone sees an upright face, the one that is there is found, also when it was just expected."""
    wrong = 0
    for image in (portrait(), stranger(), stranger(0), stranger(2)):
        picture = np.ascontiguousarray(image[::-1, ::-1])
        claims = detector._detect(picture)
        wrong += sum(abs(claim.roll_deg) < 90 for claim in claims)
        for expected in ((), claims):
            for face in detector.find(picture, expected, doubt_all=True):
                assert abs(face.roll_deg) > 165
    assert wrong > 0


def test_a_video_that_was_filmed_sideways(tmp_path: Path, detector: FaceDetector) -> None:
    """Each crop lies as the picture does; by how many quarters the face is turned stands beside it."""
    frames = [turned(portrait(256, (4 * np.sin(k / 3), 0)), 120)[0][:360, :360] for k in range(12)]
    path = write_video(tmp_path / "sideways.mp4", frames)
    (clip,) = prepare(video_segment(path, 0, 12), MediaConfig(), detector)
    assert clip.valid.all()
    assert clip.quarter_turns.tolist() == [[1]] * 12
    for landmarks in clip.landmarks[:, 0]:
        assert angle_between(roll_deg(landmarks), 118) < 8


def test_a_head_that_turns_over_is_followed(tmp_path: Path, detector: FaceDetector) -> None:
    frames = [turned(portrait(256), 10.0 * k)[0][:362, :362] for k in range(37)]
    path = write_video(tmp_path / "spinning.mp4", frames)
    (clip,) = prepare(video_segment(path, 0, 37), MediaConfig(), detector)
    assert clip.valid.all()
    rolls = [roll_deg(landmarks) for landmarks in clip.landmarks[:, 0]]
    assert max(angle_between(roll, 10 * k - 2) for k, roll in enumerate(rolls)) < 8
    assert (
        max(angle_between(roll, 90 * turns) for roll, turns in zip(rolls, clip.quarter_turns[:, 0].tolist(), strict=True)) <= 60
    )
    assert set(clip.quarter_turns.ravel()) == {0, 1, 2, 3}


@pytest.mark.parametrize("turn_deg", [-40, 0, 40])
def test_crops_of_faces_that_lean_are_what_they_were(tmp_path: Path, detector: FaceDetector, turn_deg: int) -> None:
    Image.fromarray(portrait(256, turn_deg=turn_deg)).save(tmp_path / "a.png")
    (clip,) = prepare(still_segment(tmp_path / "a.png"), MediaConfig(), detector)
    assert clip.quarter_turns is None
    (plain,) = detector._detect(portrait(256, turn_deg=turn_deg))
    matrix = clip.crop_to_image[0, 0]
    np.testing.assert_allclose(clip.landmarks[0, 0] * matrix[0, 0] + matrix[:2, 2], plain.mesh, atol=1e-4)


def test_quarter_turns() -> None:
    assert quarter_turns([0, 44, 59, 61, 80, 40, 29, 0]).tolist() == [0, 0, 0, 1, 1, 1, 0, 0]
    assert quarter_turns([46]).tolist() == [1]
    assert quarter_turns([-46]).tolist() == [3]
    assert quarter_turns([180, -170, 170, -130, -115]).tolist() == [2, 2, 2, 2, 3]


@pytest.mark.parametrize("quarters", range(4))
def test_turned_pictures_and_crops_say_where_their_pixels_come_from(quarters: int) -> None:
    image = np.random.default_rng(quarters).integers(0, 255, (40, 60, 3)).astype(np.uint8)
    picture, to_image = turned_picture(image, quarters)
    for x, y in ((0, 0), (3, 7), (picture.shape[1] - 1, picture.shape[0] - 1)):
        column, row = np.floor(to_image[:, :2] @ [x + 0.5, y + 0.5] + to_image[:, 2]).astype(int)
        np.testing.assert_array_equal(picture[y, x], image[row, column])
    crop, back = turned_crop(image, np.array([20.0, 10, 40, 30]), 1.0, 20, 90.0 * quarters)
    column, row = np.floor(back[:, :2] @ [4.5, 6.5] + back[:, 2]).astype(int)
    np.testing.assert_array_equal(crop[6, 4], image[row, column])
    up = in_picture(90.0 * quarters) @ [0, -1]
    np.testing.assert_array_equal(up, [(0, -1), (-1, 0), (0, 1), (1, 0)][quarters])


def test_roll_is_positive_counter_clockwise() -> None:
    mesh = np.zeros((478, 2))
    mesh[10], mesh[152] = (0, -1), (0, 1)
    assert roll_deg(mesh) == 0
    mesh[10], mesh[152] = (-1, 0), (1, 0)
    assert roll_deg(mesh) == 90
    mesh[10], mesh[152] = (0, 1), (0, -1)
    assert roll_deg(mesh) == 180
    assert angle_between(-170, 170) == 20
