from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuface_ray.errors import DataError
from neuface_ray.media import Limits, decode
from neuface_ray.media.kinds import Kind, kind_of
from neuface_ray.media.stills import open_pictures, read_image
from tests.media.files import number_of, numbered, portrait, write_audio, write_video

LIMITS = Limits()
TURNS = {
    1: lambda image: image,
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, -1),
    7: lambda image: image.swapaxes(0, 1)[::-1, ::-1],
    8: lambda image: np.rot90(image),
}
"""What a viewer does to the stored pixels for each value of the EXIF tag Orientation (EXIF 2.32, 4.6.4)."""


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.heic", "a.avif"])
def test_all_eight_orientations_of_stills(tmp_path: Path, orientation: int, name: str) -> None:
    stored = portrait(64)[:, :48]
    exif = Image.Exif()
    exif[0x0112] = orientation
    lossless = {"a.webp": {"lossless": True}, "a.jpg": {"quality": 95}, "a.avif": {"quality": 95}}.get(name, {})
    Image.fromarray(stored).save(tmp_path / name, exif=exif, **lossless)
    shown, expected = read_image(str(tmp_path / name), LIMITS), TURNS[orientation](stored)
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).mean() < 8


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_hidden_pixels_are_not_shown(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(portrait(64))
    if mode in ("RGBA", "LA"):
        mask = np.full((64, 64), 255, np.uint8)
        mask[16:48, 16:48] = 0
        image = image.convert(mode)
        image.putalpha(Image.fromarray(mask))
        image.save(tmp_path / "a.png")
        hidden = mask == 0
    elif mode == "P":
        image = image.quantize(16)
        hidden = np.asarray(image) == 3
        image.save(tmp_path / "a.png", transparency=3)
    else:
        colour = (9, 8, 7)
        image.paste(colour, (8, 8, 24, 24))
        image.save(tmp_path / "a.png", transparency=colour)
        hidden = (np.asarray(image) == colour).all(-1)
    notes: set[str] = set()
    shown = read_image(str(tmp_path / "a.png"), LIMITS, notes=notes)
    assert hidden.any()
    assert (shown[hidden] == 255).all()
    assert np.array_equal(shown[~hidden], np.asarray(image.convert("RGB"))[~hidden])
    assert notes == {"alpha_composited"}


def test_half_transparent_pixels_are_mixed(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([portrait(32), np.full((32, 32), 102, np.uint8)])).save(tmp_path / "a.png")
    expected = portrait(32) * 0.4 + 255 * 0.6
    np.testing.assert_allclose(read_image(str(tmp_path / "a.png"), LIMITS), expected, atol=1)
    notes: set[str] = set()
    Image.fromarray(np.dstack([portrait(32), np.full((32, 32), 255, np.uint8)])).save(tmp_path / "b.png")
    assert np.array_equal(read_image(str(tmp_path / "b.png"), LIMITS, notes=notes), portrait(32))
    assert notes == set()


def test_heic_is_read_whole(tmp_path: Path) -> None:
    image = portrait(600)
    Image.fromarray(image).save(tmp_path / "a.HEIC", quality=95)
    assert np.abs(read_image(str(tmp_path / "a.HEIC"), LIMITS).astype(int) - image).mean() < 4
    with pytest.raises(DataError) as error:
        read_image(str(tmp_path / "a.HEIC"), Limits(max_pixels=1000))
    assert error.value.code == "too_large"


def test_pages(tmp_path: Path) -> None:
    frames = [Image.fromarray(image) for image in numbered(3)]
    for name in ("a.tif", "a.heic"):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:])
        assert open_pictures(str(tmp_path / name), LIMITS) == (3, False)
        assert [number_of(read_image(str(tmp_path / name), LIMITS, page)) for page in range(3)] == [0, 1, 2]
        with pytest.raises(DataError, match="3 pages, page 4"):
            read_image(str(tmp_path / name), LIMITS, 3)


def test_small_copies_in_a_tiff_are_no_pages(tmp_path: Path) -> None:
    first, second = (Image.fromarray(image) for image in numbered(2))
    copy = first.resize((16, 12))
    copy.encoderinfo = {"tiffinfo": {254: 1}}
    first.save(tmp_path / "a.tif", save_all=True, append_images=[copy, second])
    assert open_pictures(str(tmp_path / "a.tif"), LIMITS) == (2, False)
    assert number_of(read_image(str(tmp_path / "a.tif"), LIMITS, 1)) == 1


@pytest.mark.parametrize("name", ["a.webp", "a.png", "a.gif", "a.avif"])
def test_animations_keep_their_times(tmp_path: Path, name: str) -> None:
    durations = [40, 70, 120, 40, 200, 50]
    frames = [Image.fromarray(image) for image in numbered(6, 96, 96)]
    options = {"a.webp": {"lossless": True}, "a.avif": {"quality": 90}}.get(name, {})
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=durations, loop=0, **options)
    path = str(tmp_path / name)
    facts = decode.probe_video(path, LIMITS)
    np.testing.assert_allclose(facts.times_s, np.cumsum([0, *durations[:-1]]) / 1000, atol=1e-6)
    np.testing.assert_allclose(facts.source_times_s, facts.times_s)
    assert [number_of(image) for _, image in decode.read_video(path, facts, range(6), LIMITS)] == list(range(6))
    assert [number_of(image) for _, image in decode.read_video(path, facts, [2, 5], LIMITS)] == [2, 5]
    with pytest.raises(DataError):
        decode.probe_video(path, Limits(max_frames=3))
    with pytest.raises(DataError):
        decode.probe_video(path, Limits(max_seconds=0.1))


def test_an_animation_without_times_is_shown_as_browsers_do(tmp_path: Path) -> None:
    frames = [Image.fromarray(image) for image in numbered(4, 96, 96)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:], duration=0)
    facts = decode.probe_video(str(tmp_path / "a.gif"), LIMITS)
    np.testing.assert_allclose(facts.times_s, np.arange(4) * 0.1)
    assert np.isnan(facts.source_times_s[1:]).all()


def test_the_hidden_first_picture_of_an_apng(tmp_path: Path) -> None:
    frames = [Image.fromarray(image) for image in numbered(4, 96, 96)]
    frames[3].save(tmp_path / "a.png", save_all=True, default_image=True, append_images=frames[:3], duration=40)
    facts = decode.probe_video(str(tmp_path / "a.png"), LIMITS)
    shown = [number_of(image) for _, image in decode.read_video(str(tmp_path / "a.png"), facts, range(facts.n_frames), LIMITS)]
    assert shown == [0, 1, 2]


def test_transparent_animations_are_laid_over_white(tmp_path: Path) -> None:
    hidden = np.dstack([portrait(64), np.full((64, 64), 255, np.uint8)])
    hidden[16:48, 16:48, 3] = 0
    other = hidden.copy()
    other[:8, :8, :3] = 0
    first, second = Image.fromarray(hidden), Image.fromarray(other)
    first.save(tmp_path / "a.webp", save_all=True, append_images=[second], duration=40, lossless=True, exact=True)
    notes: set[str] = set()
    facts = decode.probe_video(str(tmp_path / "a.webp"), LIMITS)
    for _, image in decode.read_video(str(tmp_path / "a.webp"), facts, range(2), LIMITS, notes):
        assert (image[16:48, 16:48] == 255).all()
    assert notes == {"alpha_composited"}


def saved(image: Image.Image, **options: object) -> Callable[[Path], None]:
    return lambda path: image.save(path, **options)


def test_content_decides_what_a_file_is(tmp_path: Path) -> None:
    still, moving = Image.fromarray(portrait(64)), [Image.fromarray(image) for image in numbered(3, 96, 96)]
    for kind, name, make in [
        (Kind.STILL, "a.jpg", saved(still)),
        (Kind.STILL, "a.png", saved(still)),
        (Kind.STILL, "a.bmp", saved(still)),
        (Kind.STILL, "a.ppm", saved(still)),
        (Kind.STILL, "a.jp2", saved(still)),
        (Kind.PICTURES, "a.tif", saved(still)),
        (Kind.PICTURES, "a.gif", saved(still)),
        (Kind.PICTURES, "a.webp", saved(still)),
        (Kind.PICTURES, "a.avif", saved(still)),
        (Kind.PICTURES, "a.heic", saved(still)),
        (Kind.PICTURES, "b.png", saved(moving[0], save_all=True, append_images=moving[1:])),
        *((Kind.VIDEO, f"a.{suffix}", lambda path: write_video(path, numbered(20))) for suffix in ("mp4", "mov", "mkv", "ts")),
        *((Kind.VIDEO, f"a.{suffix}", lambda path: write_video(path, numbered(20))) for suffix in ("avi", "h264", "flv")),
        (Kind.VIDEO, "a.hevc", lambda path: write_video(path, numbered(20), codec="libx265")),
        (Kind.VIDEO, "a.mpg", lambda path: write_video(path, numbered(20), codec="mpeg2video")),
        (Kind.VIDEO, "a.m2v", lambda path: write_video(path, numbered(20), codec="mpeg2video")),
        (Kind.VIDEO, "a.m4v", lambda path: write_video(path, numbered(20), codec="mpeg4")),
        (Kind.VIDEO, "a.webm", lambda path: write_video(path, numbered(20), codec="libvpx")),
        (Kind.VIDEO, "a.ivf", lambda path: write_video(path, numbered(20), codec="libvpx")),
        (Kind.VIDEO, "a.m4a", write_audio),
        (None, "a.txt", lambda path: path.write_text("BMW P1 \n")),
        (None, "a.ico", saved(still)),
        (None, "a.zip", lambda path: path.write_bytes(b"PK\x03\x04" + bytes(5000))),
        (None, "a.bin", lambda path: path.write_bytes(bytes(5000))),
        (None, "none", lambda path: path.touch()),
    ]:
        make(tmp_path / name)
        head = (tmp_path / name).read_bytes()[:4096]
        assert (name, kind_of(head, "no_suffix")) == (name, kind)
    cut = (tmp_path / "a.ts").read_bytes()[77:]
    assert kind_of(cut[:4096], "no_suffix") is Kind.VIDEO
    assert kind_of(b"text", "broken.mp4") is Kind.VIDEO
    assert kind_of(b"text", "broken.jpg") is Kind.PICTURES
