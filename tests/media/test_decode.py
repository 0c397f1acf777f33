from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuface_ray.errors import DataError
from neuface_ray.media import Limits, decode
from tests.media.files import number_of, numbered, portrait, rotate_container, write_audio, write_video

LIMITS = Limits()


def read(path: Path, wanted: list[int] | None = None) -> list[tuple[int, np.ndarray | None]]:
    facts = decode.probe_video(str(path), LIMITS)
    return list(decode.read_video(str(path), facts, range(facts.n_frames) if wanted is None else wanted, LIMITS))


def code_of(path: Path, limits: Limits = LIMITS) -> str:
    with pytest.raises(DataError) as error:
        decode.probe_video(str(path), limits)
    assert str(path) in str(error.value)
    return error.value.code


def test_every_frame_once_in_order(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", numbered(90), options={"bf": "2", "g": "20"})
    facts = decode.probe_video(str(path), LIMITS)
    assert (facts.n_frames, facts.lost, facts.width, facts.height) == (90, 0, 64, 48)
    assert facts.fps == pytest.approx(25)
    np.testing.assert_allclose(facts.times_s, np.arange(90) / 25, atol=1e-6)
    got = read(path)
    assert [index for index, _ in got] == list(range(90))
    assert [number_of(image) for _, image in got] == list(range(90))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.mov", "a.avi", "a.ts", "a.mpg"])
def test_seeking_gives_the_same_pictures_as_decoding_from_the_start(tmp_path: Path, name: str) -> None:
    codec = {"mpg": "mpeg1video", "avi": "mpeg4"}.get(name[2:], "libx264")
    options = {"g": "12", "bf": "2"} if codec != "mpeg4" else {"g": "12"}
    path = write_video(tmp_path / name, numbered(120), codec=codec, options=options)
    whole = dict(read(path))
    assert [number_of(image) for image in whole.values()] == list(range(120))
    for wanted in ([0], [50, 51, 60], [119], [77, 118]):
        part = read(path, wanted)
        assert [index for index, _ in part] == wanted
        assert all(np.array_equal(image, whole[index]) for index, image in part)


def test_variable_frame_rate_is_sampled_by_time(tmp_path: Path) -> None:
    times = np.cumsum([0] + [0.02] * 30 + [0.1] * 20)
    path = write_video(tmp_path / "vfr.mp4", numbered(len(times)), times_s=times)
    facts = decode.probe_video(str(path), LIMITS)
    np.testing.assert_allclose(facts.times_s, times, atol=2e-3)
    sampled = decode.sampled_frames(facts, fps=10)
    expected = [int(np.flatnonzero(times <= k / 10 + 1e-3)[-1]) for k in range(int(times[-1] * 10 + 1e-3) + 1)]
    assert sampled.tolist() == sorted(set(expected))
    assert [number_of(image) for _, image in read(path, sampled.tolist())] == sampled.tolist()


def test_sampling_by_stride_and_above_the_source_rate() -> None:
    facts = decode.VideoFacts(np.arange(10) / 25, np.arange(10) / 25, np.arange(10), True, 25.0, 64, 48)
    assert decode.sampled_frames(facts, stride=4).tolist() == [0, 4, 8]
    assert decode.sampled_frames(facts, fps=100).tolist() == list(range(10))
    assert decode.sampled_frames(facts, fps=12.5).tolist() == [0, 2, 4, 6, 8]


@pytest.mark.parametrize("turns", [0, 1, 2, 3])
def test_rotation_flag(tmp_path: Path, turns: int) -> None:
    image = portrait(96)[:, :64]
    path = write_video(tmp_path / "r.mp4", [image] * 3)
    rotate_container(path, turns)
    (_, decoded), *_ = read(path)
    expected = np.rot90(image, -turns)
    assert decoded.shape == expected.shape
    assert np.abs(decoded.astype(int) - expected).mean() < 6
    assert decoded.flags.c_contiguous


def test_a_container_that_promises_more_frames_than_it_shows(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", numbered(60), options={"bf": "0", "g": "60"})
    data = bytearray(path.read_bytes())
    assert data.count(b"elst") == 1
    entry = data.find(b"elst") + 12  # version, flags and count precede the first entry: duration, media time
    data[entry + 4 : entry + 8] = (20 * 512).to_bytes(4, "big")  # begin with frame 20 of a 1/12800 s time base
    path.write_bytes(data)
    facts = decode.probe_video(str(path), LIMITS)
    shown = read(path)
    assert facts.n_frames == len(shown) == 40
    assert [number_of(image) for _, image in shown] == list(range(20, 60))


def test_truncated_with_its_index_in_front(tmp_path: Path) -> None:
    front = {"movflags": "faststart"}
    path = write_video(tmp_path / "t.mp4", numbered(80, 128, 96), options={"g": "10"}, container_options=front)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 6 // 10])
    facts = decode.probe_video(str(path), LIMITS)
    assert facts.n_frames == 80
    assert 10 < facts.lost < 60
    got = dict(read(path))
    readable = [index for index, image in got.items() if image is not None]
    assert readable == list(range(len(readable)))
    assert len(readable) > 10
    assert all(number_of(got[index]) == index for index in readable)
    assert got[79] is None


def test_truncated_without_its_index(tmp_path: Path) -> None:
    path = write_video(tmp_path / "t.mp4", numbered(40))
    path.write_bytes(path.read_bytes()[:-400])
    assert code_of(path) == "truncated"


def test_damaged_frames_are_not_invented(tmp_path: Path) -> None:
    frames = [portrait(96, (k % 7, k % 5)) for k in range(60)]
    path = write_video(tmp_path / "d.mp4", frames, options={"g": "10", "bf": "0"})
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle : middle + 60] = bytes(60)
    path.write_bytes(data)
    got = read(path)
    assert [index for index, _ in got] == list(range(60))
    missing = [index for index, image in got if image is None]
    assert 0 < len(missing) <= 20
    assert all(np.abs(image.astype(int) - frames[index]).mean() < 8 for index, image in got if image is not None)


def test_things_that_are_not_video(tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("this is not a video\n" * 100)
    assert code_of(text) == "not_media"
    (tmp_path / "noise.mp4").write_bytes(np.random.default_rng(0).bytes(5000))
    assert code_of(tmp_path / "noise.mp4") == "not_media"
    assert code_of(write_audio(tmp_path / "audio.m4a")) == "no_video_stream"


def test_playlists_cannot_open_other_files(tmp_path: Path) -> None:
    video = write_video(tmp_path / "secret.mp4", numbered(5))
    for number, text in enumerate((f"ffconcat version 1.0\nfile {video}\n", f"#EXTM3U\n#EXTINF:1,\n{video}\n#EXT-X-ENDLIST\n")):
        path = tmp_path / f"list{number}.mp4"
        path.write_text(text)
        assert code_of(path) == "not_media"


def test_limits_come_before_pixels(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", numbered(50))
    assert code_of(path, Limits(max_pixels=1000)) == "too_large"
    assert code_of(path, Limits(max_seconds=1)) == "too_large"
    assert code_of(path, Limits(max_frames=20)) == "too_large"
    image = tmp_path / "bomb.png"
    Image.new("1", (20000, 20000)).save(image)
    with pytest.raises(DataError, match="pixels") as error:
        decode.read_image(str(image), LIMITS)
    assert error.value.code == "too_large"
    Image.new("1", (200, 100)).save(image)
    with pytest.raises(DataError, match="200x100"):
        decode.read_image(str(image), Limits(max_pixels=19_999))


def test_animated_gif_is_a_video(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.gif", numbered(6), fps=10, codec="gif")
    assert [number_of(image) for _, image in read(path)] == list(range(6))


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "P", "RGBA", "CMYK", "1", "I;16", "F"])
def test_image_modes(tmp_path: Path, mode: str) -> None:
    colour = Image.fromarray(portrait(64))
    grey = np.asarray(colour.convert("L"))
    if mode == "I;16":
        image, name = Image.fromarray(grey.astype(np.uint16) * 257), "a.png"
    elif mode == "F":
        image, name = Image.fromarray(grey.astype(np.float32) / 255), "a.tif"
    else:
        image = colour.quantize(256) if mode == "P" else colour.convert(mode)
        name = "a.jpg" if mode == "CMYK" else "a.png"
    image.save(tmp_path / name)
    pixels = decode.read_image(str(tmp_path / name), LIMITS)
    assert pixels.shape == (64, 64, 3)
    assert pixels.dtype == np.uint8
    expected = grey if mode in ("L", "LA", "I;16", "F", "1") else np.asarray(colour)
    difference = pixels.mean(2) - (expected if expected.ndim == 2 else expected.mean(2))
    assert np.abs(difference).mean() < {"1": 100, "P": 5, "CMYK": 5}.get(mode, 1)


def test_exif_orientation(tmp_path: Path) -> None:
    image = Image.fromarray(portrait(64)[:, :48])
    exif = Image.Exif()
    exif[0x0112] = 6  # turn clockwise to see it upright
    image.rotate(90, expand=True).save(tmp_path / "e.png", exif=exif)
    assert np.array_equal(decode.read_image(str(tmp_path / "e.png"), LIMITS), np.asarray(image))


def test_broken_images(tmp_path: Path) -> None:
    whole = tmp_path / "a.jpg"
    Image.fromarray(portrait(128)).save(whole)
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(whole.read_bytes()[:2000])
    text = tmp_path / "text.png"
    text.write_text("no image")
    for path, code in ((cut, "truncated"), (text, "not_media")):
        with pytest.raises(DataError) as error:
            decode.read_image(str(path), LIMITS)
        assert error.value.code == code
