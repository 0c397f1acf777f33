"""One person in each clip: cuts, dissolves and fades to somebody else end it; motion, hands, blinks and light do not."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from neuface_ray.media import MediaConfig, prepare
from neuface_ray.media.detect import FaceDetector
from neuface_ray.media.identity import Change, Likeness, changes, face_parts, weighted_distances
from neuface_ray.types import FaceClip
from tests.media.files import portrait, stranger, swaying, talking, video_segment, write_video
from tests.media.odd_files import write_ts

SHOT = 20
PLACES = face_parts().shape[1]
Frames = list[np.ndarray]


def first() -> Frames:
    return swaying(portrait(256), SHOT)


def second() -> Frames:
    return swaying(stranger(), SHOT, phase=2.0)


def prepared(path: Path, frames: Frames, detector: FaceDetector, fps: int = 25, **options: object) -> list[FaceClip]:
    video = write_video(path / "a.mp4", frames, fps)
    return prepare(video_segment(video, 0, len(frames)), MediaConfig(**options), detector)


def valid_frames(clip: FaceClip) -> list[int]:
    return clip.frame_index[clip.valid[:, 0]].tolist()


def on_a_backdrop(frames: Frames) -> Frames:
    """A small picture in a large one that does not change."""
    result = []
    for image in frames:
        canvas = np.full((360, 640, 3), (60, 70, 80), np.uint8)
        canvas[60:300, 200:440] = cv2.resize(image, (240, 240), interpolation=cv2.INTER_AREA)
        result.append(canvas)
    return result


def beside_another(frames: Frames) -> Frames:
    """The left half of a picture in whose right half somebody else talks on."""
    other = swaying(stranger(2), len(frames))
    return [np.hstack([image, right]) for image, right in zip(frames, other, strict=True)]


@pytest.mark.parametrize("place", [list, on_a_backdrop])
def test_a_cut_to_another_person_ends_the_clip(tmp_path: Path, detector: FaceDetector, place) -> None:
    one, two = sorted(prepared(tmp_path, place(first() + second()), detector), key=lambda clip: clip.frame_index[0])
    assert valid_frames(one) == list(range(SHOT))
    assert set(range(SHOT + 2, 2 * SHOT)) <= set(valid_frames(two)) <= set(range(SHOT, 2 * SHOT))


def test_a_cut_in_a_part_of_the_picture(tmp_path: Path, detector: FaceDetector) -> None:
    clips = prepared(tmp_path, beside_another(first() + second()), detector)
    spans = sorted((clip.frame_index[0], clip.frame_index[-1]) for clip in clips)
    assert spans[0] == (0, SHOT - 1)
    assert (0, 2 * SHOT - 1) in spans
    assert len(spans) == 3


@pytest.mark.parametrize("length", [4, 8, 14])
@pytest.mark.parametrize("fps", [15, 25])
def test_frames_of_a_dissolve_are_nobodys(tmp_path: Path, detector: FaceDetector, length: int, fps: int) -> None:
    before, after = first() + first()[:length], second()[:length] + second()
    frames = before[:SHOT]
    for k in range(length):
        share = (k + 1) / (length + 1)
        frames.append(cv2.addWeighted(before[SHOT + k], 1 - share, after[k], share, 0))
    frames += after[length:]
    clips = prepared(tmp_path, frames, detector, fps)
    one, two = sorted((clip for clip in clips if clip.valid.any()), key=lambda clip: clip.frame_index[0])
    shown = {SHOT + k: (k + 1) / (length + 1) for k in range(length)}
    assert max(valid_frames(one)) >= SHOT - 4
    assert min(valid_frames(two)) <= SHOT + length + 3
    assert all(shown.get(frame, 0) < 0.25 for frame in valid_frames(one))  # of the other person
    assert all(shown.get(frame, 1) > 0.75 for frame in valid_frames(two))
    assert not set(valid_frames(one)) & set(valid_frames(two))


@pytest.mark.parametrize("through", [0, 255])
def test_a_fade_through_black_or_white(tmp_path: Path, detector: FaceDetector, through: int) -> None:
    dim = np.full((256, 256, 3), through, np.uint8)
    out = [cv2.addWeighted(image, 1 - k / 8, dim, k / 8, 0) for k, image in enumerate(first()[:8])]
    into = [cv2.addWeighted(image, k / 8, dim, 1 - k / 8, 0) for k, image in enumerate(second()[:9])]
    frames = first() + out + into + second()[8:] + second()[::-1][:12]
    clips = [clip for clip in prepared(tmp_path, frames, detector) if clip.valid.any()]
    one, two = sorted(clips, key=lambda clip: clip.frame_index[0])
    assert SHOT - 1 <= max(valid_frames(one)) <= SHOT + 4
    assert SHOT + 12 <= min(valid_frames(two)) <= SHOT + 20


def hand(image: np.ndarray, k: int, rise: int) -> np.ndarray:
    """A hand that covers most of the face from frame 8 on for some frames."""
    covered = image.copy()
    if 8 <= k < 18:
        top = 256 - min(k - 7, 18 - k, rise) * (170 // rise)
        cv2.ellipse(covered, (130, top + 90), (80, 90), 0, 0, 360, (205, 150, 125), -1)
    return covered


def lit(image: np.ndarray, k: int) -> np.ndarray:
    """A lamp from the left that goes on at frame 12, and the room's light off at frame 20."""
    side = np.linspace(1.5, 0.6, 256)[None, :, None] if k >= 12 else 1.0
    return np.clip(image * side * (0.5 if k >= 20 else 1.0), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("kind", ["hand", "sudden hand", "light", "flash", "blur", "fast", "zoom", "dark and back"])
@pytest.mark.parametrize("who", [portrait, stranger])
def test_one_person_stays_one_clip(tmp_path: Path, detector: FaceDetector, kind: str, who) -> None:
    calm = swaying(who(), 32)
    flash = np.full((256, 256, 3), 255, np.uint8)
    frames = {
        "hand": lambda: [hand(image, k, 6) for k, image in enumerate(calm)],
        "sudden hand": lambda: [hand(image, k, 1) for k, image in enumerate(calm)],
        "light": lambda: [lit(image, k) for k, image in enumerate(calm)],
        "flash": lambda: [cv2.addWeighted(image, 0.3, flash, 0.7, 0) if k == 15 else image for k, image in enumerate(calm)],
        "blur": lambda: [cv2.GaussianBlur(image, (0, 0), 5) if 10 <= k < 16 else image for k, image in enumerate(calm)],
        "fast": lambda: [swaying(who(), 1, phase=1.5 * k)[0] for k in range(32)],
        "zoom": lambda: [cv2.resize(image[2 * k : 256 - k, k : 256 - 2 * k], (256, 256)) for k, image in enumerate(calm)],
        "dark and back": lambda: [np.uint8(image * (1 - 0.97 * np.sin(np.pi * k / 31))) for k, image in enumerate(calm)],
    }[kind]()
    faces = [clip for clip in prepared(tmp_path, frames, detector) if clip.valid.any()]
    assert len(faces) == 1
    assert faces[0].valid.sum() >= 14


def test_a_face_at_the_same_place_of_a_picture_of_another_size_is_another_clip(tmp_path: Path, detector: FaceDetector) -> None:
    """Positions before and after are not comparable, however alike the faces are."""
    narrow = talking(24)
    wide = [cv2.copyMakeBorder(image, 0, 0, 0, 128, cv2.BORDER_REPLICATE) for image in narrow[12:]]
    parts = [write_ts(tmp_path / "0.ts", narrow[:12]), write_ts(tmp_path / "1.ts", wide, offset_s=12 / 25)]
    both = tmp_path / "both.ts"
    both.write_bytes(b"".join(part.read_bytes() for part in parts))
    clips = prepare(video_segment(both, 0, 24), MediaConfig(), detector)
    assert sorted(valid_frames(clip) for clip in clips) == [list(range(12)), list(range(12, 24))]
    assert [len(np.unique(clip.image_sizes[:, 0], axis=0)) for clip in clips] == [1, 1]


def test_a_stable_track_is_what_it_was(tmp_path: Path, detector: FaceDetector) -> None:
    (clip,) = prepared(tmp_path, talking(40), detector)
    assert valid_frames(clip) == list(range(40))


def faces(seed: int, count: int, noise: float = 0.05) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(1, PLACES, 3)) + noise * rng.normal(size=(count, PLACES, 3))


def test_distances_are_weighted_correlations() -> None:
    rng = np.random.default_rng(0)
    colours, weights = rng.normal(size=(5, 40, 3)), rng.uniform(size=(5, 40))
    weights[4, 3:] = 0
    got = weighted_distances(colours, weights)
    for i in range(4):
        for j in range(4):
            both = weights[i] * weights[j]
            a, b = (x - (both[:, None] * x).sum(0) / both.sum() for x in (colours[i], colours[j]))
            share = (both[:, None] * a * b).sum() / np.sqrt((both[:, None] * a * a).sum() * (both[:, None] * b * b).sum())
            assert got[i, j] == pytest.approx(1 - share, abs=1e-9)
    assert np.isnan(got[4]).all()


def test_the_part_that_is_most_alike_counts() -> None:
    two = np.repeat(faces(1, 1), 2, 0)
    upper = face_parts()[3]
    two[1, ~upper] = faces(2, 1)[0, ~upper]
    distance = Likeness(two, np.ones((2, PLACES))).distances()[0, 1]
    assert distance == pytest.approx(0, abs=1e-9)
    assert weighted_distances(two, np.ones((2, PLACES)))[0, 1] > 0.2


def test_changes_of_descriptions() -> None:
    frames = np.arange(24)
    weights = np.ones((24, PLACES))
    swapped = np.concatenate([faces(1, 12), faces(2, 12)])
    assert changes(Likeness(swapped, weights), frames, 25.0) == [Change(11, 12)]
    assert changes(Likeness(faces(1, 24), weights), frames, 25.0) == []
    hidden = faces(1, 24)
    hidden[8:14] = faces(3, 6)
    assert changes(Likeness(hidden, weights), frames, 25.0) == []  # somebody's back again
    three = np.concatenate([faces(1, 8), faces(2, 8), faces(4, 8)])
    assert changes(Likeness(three, weights), frames, 25.0) == [Change(7, 8), Change(15, 16)]
    assert changes(Likeness(swapped[8:13], weights[8:13]), frames[8:13], 25.0) == []
    brighter = faces(1, 24)
    brighter[12:] = 0.5 * brighter[12:] + 1
    assert changes(Likeness(brighter, weights), frames, 25.0) == []
