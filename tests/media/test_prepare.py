from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from neuface_ray.errors import DataError
from neuface_ray.media import MediaConfig, plan, prepare
from neuface_ray.media.crop import blur
from neuface_ray.media.detect import FaceDetector
from neuface_ray.media.prepare import frame_ranges
from neuface_ray.types import FaceClip, View
from tests.media.files import numbered, portrait, still_segment, stranger, swaying, talking, video_segment, write_video

CONFIG = MediaConfig()
WALL = cv2.GaussianBlur(portrait(256), (0, 0), 25)  # no face to be seen


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "talking.mp4", talking(40), options={"g": "15", "bf": "2"})


def same(a: FaceClip, b: FaceClip, frames_a: slice, frames_b: slice) -> bool:
    names = (
        "crops",
        "landmarks",
        "crop_to_image",
        "valid",
        "source_frame",
        "timestamps_s",
        "frame_index",
        "blendshapes",
        "blur",
    )
    return all(np.array_equal(getattr(a, name)[frames_a], getattr(b, name)[frames_b]) for name in names)


def test_one_video(video: Path, detector: FaceDetector) -> None:
    (clip,) = prepare(video_segment(video, 0, 40), CONFIG, detector)
    assert clip.crops.shape == (40, 1, 3, 224, 224)
    assert clip.crops.dtype == np.uint8
    assert clip.landmarks.shape == (40, 1, 478, 2)
    assert clip.landmark_scheme == "mediapipe478"
    assert clip.valid.all()
    assert clip.core.all()
    np.testing.assert_array_equal(clip.frame_index, np.arange(40))
    np.testing.assert_array_equal(clip.source_frame[:, 0], np.arange(40))
    np.testing.assert_allclose(clip.timestamps_s, np.arange(40) / 25, atol=1e-6)
    assert clip.fps == 25
    np.testing.assert_array_equal(clip.image_size, [[256, 256]])
    assert (np.abs(clip.landmarks) < 1.2).all()
    assert (clip.face_px > 60).all()
    assert clip.blur[3, 0] == pytest.approx(blur(clip.crops[3, 0]))
    assert clip.landmark_confidence.min() == 1
    assert set(clip.seconds) == {"decode", "detect", "crop", "track"}
    assert len(clip.source_hash[0]) == 64
    sway = clip.crop_to_image[:, 0, 0, 2]
    expected = 128 + 12 * np.sin(np.arange(40) / 4)
    assert np.corrcoef(sway, expected)[0, 1] > 0.95


def test_landmarks_lie_on_the_same_point_of_crop_and_image(detector: FaceDetector, tmp_path: Path) -> None:
    image = portrait(256)
    Image.fromarray(image).save(tmp_path / "a.png")
    (clip,) = prepare(still_segment(tmp_path / "a.png"), CONFIG, detector)
    (found,) = detector.find(image)
    matrix = clip.crop_to_image[0, 0]
    back = clip.landmarks[0, 0] @ matrix[:2, :2].T + matrix[:2, 2]
    np.testing.assert_allclose(back, found.mesh, atol=1e-4)
    again = detector.find(np.ascontiguousarray(clip.crops[0, 0].transpose(1, 2, 0)))[0].mesh / 112 - 1
    eyes = np.linalg.norm(again[33] - again[263])
    assert np.linalg.norm(np.mean(again - clip.landmarks[0, 0], 0)) < 0.02 * eyes


def test_a_segment_alone_gives_the_rows_it_gives_among_others(video: Path, detector: FaceDetector) -> None:
    options = replace(CONFIG, max_frames=20, overlap=3)
    segments = plan(video, options)
    assert [(s.start, s.stop, s.context_start, s.context_stop) for s in segments] == [
        (0, 13, 0, 16),
        (13, 26, 10, 29),
        (26, 40, 23, 40),
    ]
    clips = [prepare(segment, options, detector)[0] for segment in segments]
    assert clips[1].core.tolist() == [False] * 3 + [True] * 13 + [False] * 3
    assert np.concatenate([clip.frame_index[clip.core] for clip in clips]).tolist() == list(range(40))
    (alone,) = prepare(segments[1], options)
    assert alone.clip_id == clips[1].clip_id
    assert same(alone, clips[1], slice(None), slice(None))
    assert same(clips[0], clips[1], slice(10, 16), slice(0, 6))
    assert len({clip.clip_id for clip in clips}) == 3


def test_clip_identity_does_not_know_the_configuration(video: Path, detector: FaceDetector) -> None:
    first = prepare(video_segment(video, 0, 3), CONFIG, detector)[0]
    second = prepare(video_segment(video, 0, 3), replace(CONFIG, crop_size=64, crop_scale=1.6), detector)[0]
    assert first.clip_id == second.clip_id
    assert second.crops.shape[-2:] == (64, 64)
    assert (second.crop_to_image[:, 0, 0, 0] > first.crop_to_image[:, 0, 0, 0]).all()


@pytest.mark.parametrize("sampling", [{"stride": 4}, {"fps": 6.25}])
def test_sampling(video: Path, detector: FaceDetector, sampling: dict) -> None:
    (segment,) = plan(video, MediaConfig(**sampling))
    (clip,) = prepare(segment, CONFIG, detector)
    np.testing.assert_array_equal(clip.source_frame[:, 0], np.arange(0, 40, 4))
    np.testing.assert_array_equal(clip.frame_index, np.arange(10))
    assert clip.fps == pytest.approx(6.25)


def test_a_face_that_leaves_and_returns(tmp_path: Path, detector: FaceDetector) -> None:
    shown = [image if k < 10 or k >= 14 else WALL for k, image in enumerate(talking(30))]
    frames = [np.pad(image, ((64, 128), (128, 128), (0, 0)), constant_values=90) for image in shown]
    path = write_video(tmp_path / "a.mp4", frames)
    (clip,) = prepare(video_segment(path, 0, 30), replace(CONFIG, max_gap=6), detector)
    assert clip.valid[:, 0].tolist() == [True] * 10 + [False] * 4 + [True] * 16
    absent = ~clip.valid
    assert not clip.crops[absent].any()
    assert not clip.landmarks[absent].any()
    assert not clip.landmark_confidence[absent].any()
    assert (clip.source_frame >= 0).all()
    np.testing.assert_array_equal(clip.crop_to_image[absent], np.tile(np.eye(3), (4, 1, 1)))


def test_every_core_frame_has_a_row(tmp_path: Path, detector: FaceDetector) -> None:
    path = write_video(tmp_path / "a.mp4", [WALL] * 3 + talking(10) + [WALL] * 20)
    face, rest = prepare(video_segment(path, 2, 30, (0, 33)), replace(CONFIG, max_gap=4), detector)
    assert (face.frame_index[0], face.frame_index[-1]) == (0, 12)
    assert face.valid[:, 0].tolist() == [False] * 3 + [True] * 10
    assert rest.frame_index.tolist() == list(range(13, 30))
    assert rest.core.all()
    assert not rest.valid.any()
    assert sorted([*face.frame_index[face.core], *rest.frame_index[rest.core]]) == list(range(2, 30))


def test_no_face_at_all(tmp_path: Path, detector: FaceDetector) -> None:
    path = write_video(tmp_path / "wall.mp4", [WALL] * 6)
    (clip,) = prepare(video_segment(path, 0, 6), CONFIG, detector)
    assert clip.crops.shape == (6, 1, 3, 224, 224)
    assert not clip.valid.any()
    Image.fromarray(WALL).save(tmp_path / "wall.png")
    (still,) = prepare(still_segment(tmp_path / "wall.png"), CONFIG, detector)
    assert still.valid.tolist() == [[False]]


def test_two_people_and_a_cut(tmp_path: Path, detector: FaceDetector) -> None:
    left, right = talking(12, 200), talking(12, 260)
    both = [np.hstack([np.pad(a, ((0, 60), (0, 0), (0, 0))), b]) for a, b in zip(left, right, strict=True)]
    wide = np.full((260, 460, 3), (200, 60, 40), np.uint8)
    after = []
    for image in talking(9, 240):
        frame = wide.copy()
        frame[10:250, 200:440] = image
        after.append(frame)
    path = write_video(tmp_path / "a.mp4", both + after)
    clips = prepare(video_segment(path, 0, 21), CONFIG, detector)
    assert sorted((c.frame_index[0], c.frame_index[-1]) for c in clips) == [(0, 11), (0, 11), (12, 20)]
    assert all(clip.valid.all() for clip in clips)
    assert clips[0].crop_to_image[0, 0, 0, 2] > 200 > clips[1].crop_to_image[0, 0, 0, 2]
    assert len(prepare(video_segment(path, 0, 21), replace(CONFIG, max_faces=1), detector)) == 2  # and the rest without a face


def crowd(count: int) -> np.ndarray:
    """Rows of four people side by side."""
    faces = [portrait(160, zoom=1 - 0.03 * k) for k in range(count)]
    return np.vstack([np.hstack(faces[row : row + 4]) for row in range(0, count, 4)])


def test_faces_beyond_the_most_are_counted(tmp_path: Path, detector: FaceDetector) -> None:
    Image.fromarray(crowd(8)).save(tmp_path / "eight.png")
    clips = prepare(still_segment(tmp_path / "eight.png"), CONFIG, detector)
    assert [(clip.faces_found, clip.faces_left_out) for clip in clips] == [(8, 4)] * 4
    with FaceDetector(MediaConfig(max_faces=9)) as wide:
        clips = prepare(still_segment(tmp_path / "eight.png"), MediaConfig(max_faces=9), wide)
    assert [(clip.faces_found, clip.faces_left_out) for clip in clips] == [(8, 0)] * 8
    path = write_video(tmp_path / "eight.mp4", [crowd(8)] * 5)
    clips = prepare(video_segment(path, 0, 5), CONFIG, detector)
    assert {(clip.faces_found, clip.faces_left_out) for clip in clips} == {(8, 4)}
    Image.fromarray(WALL).save(tmp_path / "wall.png")
    (nobody,) = prepare(still_segment(tmp_path / "wall.png"), CONFIG, detector)
    assert (nobody.faces_found, nobody.faces_left_out) == (0, 0)


def test_people_one_after_another_are_counted(tmp_path: Path, detector: FaceDetector) -> None:
    path = write_video(tmp_path / "a.mp4", [image for who in (portrait(256), stranger()) for image in swaying(who, 12)])
    clips = prepare(video_segment(path, 0, 24), replace(CONFIG, max_faces=1), detector)
    assert {(clip.faces_found, clip.faces_left_out) for clip in clips} == {(2, 1)}


def test_synchronised_views(tmp_path: Path, detector: FaceDetector) -> None:
    front = write_video(tmp_path / "front.mp4", talking(12))
    side = write_video(tmp_path / "side.mp4", [image[:, ::-1] if k < 8 else WALL for k, image in enumerate(talking(10))])
    segment = video_segment(front, 0, 12)
    segment = replace(segment, views=(View("front", str(front)), View("side", str(side))))
    (clip,) = prepare(segment, CONFIG, detector)
    assert clip.valid.shape == (12, 2)
    assert clip.valid[:, 0].all()
    assert clip.valid[:, 1].tolist() == [True] * 8 + [False] * 4
    assert clip.source_frame[:, 1].tolist() == [*range(10), -1, -1]
    assert len(clip.source_hash) == 2
    assert clip.source_hash[0] != clip.source_hash[1]
    with pytest.raises(DataError, match="nowhere"):
        prepare(replace(segment, views=(*segment.views, View("top", str(tmp_path / "nowhere.mp4")))), CONFIG, detector)


def test_stills_of_one_person(tmp_path: Path, detector: FaceDetector) -> None:
    for number, turn in enumerate((-10, 0, 10)):
        Image.fromarray(portrait(200 + 20 * number, turn_deg=turn)).save(tmp_path / f"{number}.png")
    (segment,) = plan(tmp_path, MediaConfig(views="folder"))
    (clip,) = prepare(segment, CONFIG, detector)
    assert clip.valid.tolist() == [[True, True, True]]
    assert clip.image_size.tolist() == [[200, 200], [220, 220], [240, 240]]


def test_a_broken_video_loses_only_what_is_broken(tmp_path: Path, detector: FaceDetector) -> None:
    front = {"movflags": "faststart"}
    path = write_video(tmp_path / "t.mp4", talking(60), options={"g": "10"}, container_options=front)
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    options = replace(CONFIG, max_frames=10, overlap=0)
    outcome = []
    for segment in plan(path, options):
        try:
            clips = prepare(segment, options, detector)
        except DataError as error:
            outcome.append(error.code)
        else:
            outcome.append("ok")
            assert clips[0].valid.all() or (clips[0].source_frame[~clips[0].valid] == -1).all()
    assert len(outcome) == 6
    assert set(outcome) == {"ok", "truncated"}
    assert outcome == sorted(outcome)


def test_what_failed_in_the_plan_fails_with_its_reason(tmp_path: Path, detector: FaceDetector) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "zero.mp4").touch()
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "fake.png").write_text("no picture")
    reasons = {}
    for segment in plan(tmp_path, CONFIG):
        with pytest.raises(DataError) as error:
            prepare(segment, CONFIG, detector)
        assert segment.views[0].uri in str(error.value)
        reasons[segment.sequence_id] = error.value.code
    assert reasons == {"text": "not_media", "zero": "empty", "folder": "not_a_file", "fake": "not_media"}
    video = write_video(tmp_path / "short.mp4", numbered(4))
    with pytest.raises(DataError, match="4 frames") as error:
        prepare(video_segment(video, 0, 0), CONFIG, detector)
    assert error.value.code == "empty_range"
    with pytest.raises(DataError, match="ends before frame 9"):
        prepare(video_segment(video, 9, 12), CONFIG, detector)


def test_frame_ranges() -> None:
    def ranges(people: list[dict], n: int, starts: list[int] | None = None, gap: int = 3) -> tuple[list[list[int]], list[int]]:
        spans, rest = frame_ranges([[dict.fromkeys(p, 0)] for p in people], n, starts or [], gap)
        return [[int(s[0]), int(s[-1])] for s in spans], rest.tolist()

    assert ranges([range(2, 8)], 10) == ([[0, 9]], [])
    assert ranges([range(2, 8)], 20) == ([[0, 7]], list(range(8, 20)))
    assert ranges([range(5), range(7, 12)], 12) == ([[0, 6], [7, 11]], [])
    assert ranges([range(5), range(7, 12)], 12, [5]) == ([[0, 4], [5, 11]], [])
    assert ranges([range(5), range(7, 12)], 12, [6]) == ([[0, 4], [7, 11]], [5, 6])
    assert ranges([range(10), range(3, 6)], 10) == ([[0, 9], [3, 5]], [])
    assert ranges([], 4) == ([], [0, 1, 2, 3])
