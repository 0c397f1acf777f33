"""Folders, stills and views as people bring them, from the plan to the clips."""

from dataclasses import replace
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image

from neuface_ray.errors import DataError, UsageError
from neuface_ray.media import Limits, MediaConfig, make_plan, plan, prepare
from neuface_ray.media.detect import FaceDetector
from neuface_ray.media.footage import numbered_files, open_source, pattern_of
from tests.media.files import number_of, numbered, portrait, talking, write_audio, write_video
from tests.media.odd_files import write_late, write_ts

CONFIG = MediaConfig()


def save(path: Path, image: np.ndarray, **options: object) -> Path:
    Image.fromarray(image).save(path, **options)
    return path


def planned(path: object, **options: object) -> dict[str, tuple[int, int, bool]]:
    return {s.sequence_id: (s.start, s.stop, s.is_image) for s in plan(path, MediaConfig(**options))}


def test_content_decides_what_a_folder_holds(tmp_path: Path) -> None:
    save(tmp_path / "IMG_0001.HEIC", portrait(64))
    save(tmp_path / "saved.jfif", portrait(64), format="JPEG")
    save(tmp_path / "renamed.mp4", portrait(64), format="PNG")
    save(tmp_path / "no_suffix", portrait(64), format="BMP")
    write_video(tmp_path / "picam.h264", numbered(10))
    write_video(tmp_path / "a.mp4", numbered(8)).rename(tmp_path / "film.jpg")
    (tmp_path / "notes.txt").write_text("words")
    (tmp_path / "table.csv").write_text("uri\nsaved.jfif\n")
    (tmp_path / "nothing").touch()
    (tmp_path / "raw.dng").write_bytes(b"II*\x00" + bytes(100))
    (tmp_path / ".hidden.mp4").write_bytes(b"x")
    (tmp_path / "broken.mov").write_bytes(b"x")
    write_audio(tmp_path / "voice.m4a")
    write_audio(tmp_path / "a.mp4").rename(tmp_path / "voice.part")
    assert planned(tmp_path) == {
        "IMG_0001": (0, 1, True),
        "saved": (0, 1, True),
        "renamed": (0, 1, True),
        "no_suffix": (0, 1, True),
        "picam": (0, 10, False),
        "film": (0, 8, False),
        "broken": (0, 0, False),
    }
    left_out = {Path(each.uri).name: each.reason for each in make_plan(tmp_path, CONFIG).left_out}
    assert left_out == {
        "notes.txt": "neither a video nor a picture",
        "table.csv": "neither a video nor a picture",
        "nothing": "the file is empty",
        "raw.dng": "a camera's raw file; develop it to a picture first",
        ".hidden.mp4": "hidden: its name begins with a dot",
        "voice.m4a": "sound only",
        "voice.part": "has no video stream",
    }


def test_left_out_by_layout_and_links(tmp_path: Path) -> None:
    (tmp_path / "id00012" / "21Uxsk56VDQ").mkdir(parents=True)
    write_video(tmp_path / "id00012" / "21Uxsk56VDQ" / "00001.mp4", numbered(3))
    write_video(tmp_path / "other.mp4", numbered(3))
    (tmp_path / "link").symlink_to(tmp_path / "id00012")
    made = make_plan(tmp_path, MediaConfig(layout="voxceleb2"))
    assert [s.sequence_id for s in made.segments] == ["id00012/21Uxsk56VDQ/00001"]
    reasons = {Path(each.uri).name: each.reason for each in made.left_out}
    assert reasons["other.mp4"] == "does not fit media.layout=voxceleb2"
    assert len(reasons) == 2
    assert any("reached through a link" in reason for reason in reasons.values())


def test_a_picture_read_since_later_takes_no_name(tmp_path: Path) -> None:
    write_video(tmp_path / "IMG_1.mov", numbered(3))
    before = plan(tmp_path, CONFIG)[0].segment_id
    save(tmp_path / "IMG_1.heic", portrait(64))
    segments = {s.sequence_id: s.segment_id for s in plan(tmp_path, CONFIG)}
    assert segments.keys() == {"IMG_1", "IMG_1.heic"}
    assert segments["IMG_1"] == before


def test_nothing_but_other_files_names_one(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("words")
    with pytest.raises(UsageError, match=r"no video or image; left out: .*notes.txt \(neither a video nor a picture\)"):
        plan(tmp_path, CONFIG)


def test_pages_are_stills_of_their_own(tmp_path: Path, detector: FaceDetector) -> None:
    pages = [Image.fromarray(portrait(200, turn_deg=turn)) for turn in (-8, 0, 8)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    save(tmp_path / "one.tif", portrait(200))
    assert planned(tmp_path) == {
        "one": (0, 1, True),
        "pages/page_1": (0, 1, True),
        "pages/page_2": (1, 2, True),
        "pages/page_3": (2, 3, True),
    }
    segments = [s for s in plan(tmp_path, CONFIG) if s.sequence_id != "one"]
    clips = [prepare(segment, CONFIG, detector)[0] for segment in segments]
    assert [clip.source_frame.tolist() for clip in clips] == [[[0]], [[1]], [[2]]]
    assert all(clip.valid.all() for clip in clips)
    assert not np.array_equal(clips[0].crops, clips[1].crops)
    with open_source(str(tmp_path / "pages.tif"), Limits()) as source:
        assert [np.array_equal(image, pages[k]) for k, image in zip((0, 2), source.read([0, 2], set()), strict=True)] == [
            True
        ] * 2


def test_animations_are_clips(tmp_path: Path, detector: FaceDetector) -> None:
    frames = [Image.fromarray(image) for image in talking(8, 160)]
    for name in ("a.webp", "b.png", "c.gif"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=[40, 80] * 4)
    assert planned(tmp_path) == dict.fromkeys("abc", (0, 8, False))
    for segment in plan(tmp_path, CONFIG):
        (clip,) = prepare(segment, CONFIG, detector)
        np.testing.assert_allclose(clip.timestamps_s, [0, 0.04, 0.12, 0.16, 0.24, 0.28, 0.36, 0.4], atol=1e-9)
        np.testing.assert_allclose(clip.source_timestamps_s[:, 0], clip.timestamps_s)
        assert clip.valid.all()


@pytest.mark.parametrize("kind", ["numbered", "pages"])
def test_stills_that_make_a_sequence(tmp_path: Path, detector: FaceDetector, kind: str) -> None:
    frames = talking(11, 160)
    if kind == "numbered":
        for number, image in enumerate(frames, start=1):
            save(tmp_path / f"frame_{number}.png", image)
        save(tmp_path / "other.png", portrait(160))
        save(tmp_path / "frame_x.png", portrait(160))
        name, uri = "frame_%d", str(tmp_path / "frame_%d.png")
    else:
        pages = [Image.fromarray(image) for image in frames]
        pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
        name, uri = "pages", str(tmp_path / "pages.tif")
    assert len(planned(tmp_path)) == (13 if kind == "numbered" else 11)
    options = MediaConfig(stills="sequence", stills_fps=10)
    segments = {s.sequence_id: s for s in plan(tmp_path, options)}
    assert len(segments) == (3 if kind == "numbered" else 1)
    segment = segments[name]
    assert (segment.start, segment.stop, segment.is_image, segment.views[0].uri) == (0, 11, False, uri)
    (clip,) = prepare(segment, options, detector)
    assert clip.source_frame[:, 0].tolist() == list(range(11))
    np.testing.assert_allclose(clip.timestamps_s, np.arange(11) / 10)
    assert clip.fps == 10
    with open_source(uri, Limits()) as source:
        assert all(np.array_equal(a, b) for a, b in zip(source.read(range(11), set()), frames, strict=True))
        assert source.content_hash() == clip.source_hash[0]
    part = plan(tmp_path, replace(options, fps=5))
    assert next(s for s in part if s.sequence_id == name).stop == 6


def test_remote_files_are_told_by_content_and_numbered(tmp_path: Path) -> None:
    bucket = fsspec.filesystem("memory")
    for number in (1, 2, 10):
        bucket.pipe(f"/shots/take/f_{number}.jpg", save(tmp_path / "a.jpg", portrait(64, turn_deg=number)).read_bytes())
    bucket.pipe("/shots/b.jfif", (tmp_path / "a.jpg").read_bytes())
    bucket.pipe("/shots/c.txt", b"words")
    made = make_plan("memory://shots", MediaConfig(stills="sequence"))
    assert {s.sequence_id: s.stop for s in made.segments} == {"b": 1, "take/f_%d": 3}
    assert [each.reason for each in made.left_out] == ["neither a video nor a picture"]
    take = next(s for s in made.segments if s.stop == 3)
    with open_source(take.views[0].uri, Limits()) as source:
        assert sum(image is not None for image in source.read(range(3), set())) == 3


def test_numbered_stills_beside_others_in_a_folder_of_views(tmp_path: Path) -> None:
    for name in ("front_1.png", "front_2.png", "side_1.png", "side_2.png", "mask.png"):
        save(tmp_path / name, portrait(64))
    segments = plan(tmp_path, MediaConfig(views="folder", stills="sequence"))
    assert sorted((s.stop, s.is_image, [view.name for view in s.views]) for s in segments) == [
        (1, True, ["mask"]),
        (2, False, ["front_%d", "side_%d"]),
    ]


def test_natural_order_of_numbers(tmp_path: Path) -> None:
    for name in ("a_1.jpg", "a_2.jpg", "a_10.jpg", "a_02.jpg", "a_1b.jpg", "b%d_3.jpg", "b%d_20.jpg", "c.jpg"):
        save(tmp_path / name, portrait(32))
    names = [Path(uri).name for uri in numbered_files(str(tmp_path / "a_%d.jpg"))]
    assert names == ["a_1.jpg", "a_02.jpg", "a_2.jpg", "a_10.jpg"]
    assert pattern_of(str(tmp_path / "b%d_3.jpg")) == str(tmp_path / "b%%d_%d.jpg")
    assert [Path(uri).name for uri in numbered_files(str(tmp_path / "b%%d_%d.jpg"))] == ["b%d_3.jpg", "b%d_20.jpg"]
    assert pattern_of("c.jpg") is None
    with pytest.raises(DataError) as error:
        numbered_files(str(tmp_path / "z_%d.jpg"))
    assert error.value.code == "not_found"


def test_views_of_different_rates_are_paired_by_time(tmp_path: Path, detector: FaceDetector) -> None:
    frames = talking(24, 160)
    write_video(tmp_path / "fast.mp4", frames, fps=24)
    write_video(tmp_path / "slow.mp4", frames[::2], fps=12)
    (segment,) = plan(tmp_path, MediaConfig(views="folder"))
    assert segment.stop == 12
    (clip,) = prepare(segment, CONFIG, detector)
    assert clip.source_frame.tolist() == [[2 * k, k] for k in range(12)]
    np.testing.assert_allclose(clip.timestamps_s, np.arange(12) / 12, atol=1e-6)
    assert clip.fps == 12
    np.testing.assert_allclose(clip.source_timestamps_s[:, 0], clip.source_timestamps_s[:, 1], atol=1e-6)


def test_views_that_begin_at_different_times(tmp_path: Path, detector: FaceDetector) -> None:
    frames = talking(20, 160)
    write_video(tmp_path / "a.mp4", frames)
    write_video(tmp_path / "b.mp4", frames[4:])
    manifest = tmp_path / "m.csv"
    manifest.write_text("uri,sequence,view,offset_s\na.mp4,s,a,\nb.mp4,s,b,0.16\n")
    (segment,) = plan(manifest, CONFIG)
    (clip,) = prepare(segment, CONFIG, detector)
    assert clip.source_frame.tolist() == [[k, k - 4 if k >= 4 else -1] for k in range(20)]
    assert clip.valid.tolist() == [[True, k >= 4] for k in range(20)]
    assert clip.invalid_reason[:4, 1].tolist() == ["no_partner"] * 4
    assert (clip.invalid_reason[clip.valid] == "").all()
    same = np.abs(clip.crops[4:, 0].astype(int) - clip.crops[4:, 1]).mean()
    assert same < 6
    manifest.write_text("uri,sequence,view,offset_s\na.mp4,s,a,0\nb.mp4,s,b,-0.6\n")
    (segment,) = plan(manifest, CONFIG)
    with pytest.raises(
        DataError, match=r"a: 20 frames, 25 fps, begins at 0 s, b: 16 frames, 25 fps, begins at -0.6 s"
    ) as error:
        prepare(segment, CONFIG, detector)
    assert error.value.code == "not_synchronised"
    manifest.write_text("uri,sequence,view,offset_s\na.mp4,s,a,soon\n")
    with pytest.raises(UsageError, match="offset_s"):
        plan(manifest, CONFIG)


def test_a_part_counts_from_the_containers_start(tmp_path: Path, detector: FaceDetector) -> None:
    write_late(tmp_path / "late.mov", talking(40, 160), late_s=0.4, sound_s=2.0)
    manifest = tmp_path / "part.csv"
    manifest.write_text("uri,start,end\nlate.mov,1.0,1.4\n")
    (segment,) = plan(manifest, CONFIG)
    assert (segment.start, segment.stop) == (15, 25)
    (clip,) = prepare(segment, CONFIG, detector)
    core = clip.core
    np.testing.assert_allclose(clip.timestamps_s[core], 0.6 + np.arange(10) / 25, atol=1e-3)
    np.testing.assert_allclose(clip.source_timestamps_s[core, 0], 1.0 + np.arange(10) / 25, atol=1e-3)
    assert clip.start_offset_s == pytest.approx(0.4, abs=1e-3)


def test_every_picture_has_its_own_size(tmp_path: Path, detector: FaceDetector) -> None:
    parts = [write_ts(tmp_path / "0.ts", talking(12, 160)), write_ts(tmp_path / "1.ts", talking(12, 256), offset_s=12 / 25)]
    (tmp_path / "both.ts").write_bytes(b"".join(part.read_bytes() for part in parts))
    (segment,) = plan(tmp_path / "both.ts", CONFIG)
    first, second = sorted(prepare(segment, CONFIG, detector), key=lambda clip: clip.frame_index[0])
    assert first.frame_index.tolist() == list(range(12))
    assert second.frame_index.tolist() == list(range(12, 24))
    for clip, side in ((first, 160), (second, 256)):
        assert clip.valid.all()
        assert clip.image_size.tolist() == [[side, side]]
        assert clip.image_sizes.tolist() == [[[side, side]]] * 12


def test_a_hidden_face_is_not_annotated(tmp_path: Path, detector: FaceDetector) -> None:
    image = np.dstack([portrait(256), np.zeros((256, 256), np.uint8)])
    image[:20, :, 3] = 255
    save(tmp_path / "redacted.png", image)
    (segment,) = plan(tmp_path / "redacted.png", CONFIG)
    with pytest.raises(DataError) as error:
        prepare(segment, CONFIG, detector)
    assert error.value.code == "no_visible_face"
    image[..., 3] = 255
    image[:20, :, 3] = 0
    save(tmp_path / "framed.png", image)
    (clip,) = prepare(plan(tmp_path / "framed.png", CONFIG)[0], CONFIG, detector)
    assert clip.valid.all()
    assert clip.notes == ("alpha_composited",)


def test_what_is_unusual_is_noted(tmp_path: Path, detector: FaceDetector) -> None:
    whole = write_ts(tmp_path / "whole.ts", talking(40, 160), options={"g": "16", "sc_threshold": "0"}).read_bytes()
    (tmp_path / "cut.ts").write_bytes(whole[188 * (len(whole) // 188 * 3 // 20) :])
    (segment,) = plan(tmp_path / "cut.ts", CONFIG)
    assert (segment.start, segment.stop) == (0, 24)
    (clip,) = prepare(segment, CONFIG, detector)
    (noted,) = clip.notes
    assert noted.startswith("frames_before_key_frame=")
    plain = prepare(plan(write_video(tmp_path / "plain.mp4", talking(4, 160)), CONFIG)[0], CONFIG, detector)[0]
    assert plain.notes == ()
    assert plain.start_offset_s == 0
    np.testing.assert_allclose(plain.source_timestamps_s[:, 0], plain.timestamps_s)


def test_a_video_is_read_back_by_its_numbers(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", numbered(30))
    with open_source(str(path), Limits()) as source:
        assert [number_of(image) for image in source.read([0], set())] == [0]
        assert [number_of(image) for image in source.read([3, 29], set())] == [3, 29]
