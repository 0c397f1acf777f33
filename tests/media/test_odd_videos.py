"""What people really bring: every picture that a player shows once, at its time, as it is shown."""

from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition

from neuface_ray.media import Limits, decode
from neuface_ray.media.packets import shows_picture
from neuface_ray.media.upright import square_pixels, turn
from tests.media.files import number_of, numbered, portrait, write_video
from tests.media.odd_files import remux, rewrite_packet, set_matrix, write_late, write_streams, write_ts, write_webm

LIMITS = Limits()


def read(path: Path) -> tuple[decode.VideoFacts, list[int | None], set[str]]:
    """What is known, the numbers that the pictures show (None: unreadable), and what was done to them."""
    facts, notes = decode.probe_video(str(path), LIMITS), set()
    pictures = decode.read_video(str(path), facts, range(facts.n_frames), LIMITS, notes)
    return facts, [None if image is None else number_of(image) for _, image in pictures], notes


def note(facts: decode.VideoFacts, name: str) -> str | None:
    found = [text.partition("=")[2] for text in facts.notes if text.partition("=")[0] == name]
    assert len(found) < 2
    return found[0] if found else None


def test_one_repeated_time_costs_one_time(tmp_path: Path) -> None:
    stamps = np.cumsum([0, *np.random.default_rng(0).choice([30, 34, 50, 67], 39)])
    written = stamps.copy()
    written[20] = stamps[19]
    facts, shown, _ = read(write_webm(tmp_path / "a.webm", numbered(40), written))
    assert shown == list(range(40))
    true = stamps / 1000
    good = np.arange(40) != 20
    np.testing.assert_allclose(facts.times_s[good], true[good], atol=1e-9)
    assert facts.times_s[20] == pytest.approx((true[19] + true[21]) / 2)
    np.testing.assert_allclose(facts.source_times_s[good], true[good], atol=1e-9)
    assert np.isnan(facts.source_times_s[20])
    assert facts.fps == pytest.approx(1 / np.median(np.diff(facts.times_s)))
    assert note(facts, "times_mended") == "1"


def test_a_wrong_stamp_far_away_is_mended_alone(tmp_path: Path) -> None:
    path = write_webm(tmp_path / "a.webm", numbered(40), np.arange(40) * 40)

    def late(data: bytearray, start: int) -> None:
        data[start - 3 : start - 1] = (20_000).to_bytes(2, "big")  # ms after the cluster's time

    rewrite_packet(path, 11, late)
    facts, shown, _ = read(path)
    assert shown == list(range(40))
    np.testing.assert_allclose(facts.times_s, np.arange(40) * 0.04, atol=1e-9)
    assert np.flatnonzero(np.isnan(facts.source_times_s)).tolist() == [11]


def test_pictures_that_are_only_predicted_from_are_not_shown(tmp_path: Path) -> None:
    path = write_webm(tmp_path / "a.webm", numbered(40), np.arange(40) * 40)

    def hide(data: bytearray, start: int) -> None:
        data[start] &= ~0x10

    hidden = (7, 8, 25)
    for number in hidden:
        rewrite_packet(path, number, hide)
    facts, shown, _ = read(path)
    assert shown == [number for number in range(40) if number not in hidden]
    np.testing.assert_allclose(facts.times_s, [k * 0.04 for k in range(40) if k not in hidden], atol=1e-9)
    assert facts.seekable


def test_frames_of_vp9_that_are_shown() -> None:
    shown, hidden, again = 0x86, 0x84, 0x88  # a shown frame, a hidden one, an earlier one shown again
    for frames, expected in [
        ([shown], True),
        ([hidden], False),
        ([again], True),
        ([hidden, shown], True),
        ([hidden] * 2, False),
    ]:
        sizes = bytes([5] * len(frames))
        marker = bytes([0xC0 | len(frames) - 1])
        index = marker + sizes + marker if len(frames) > 1 else b""
        packet = av.Packet(b"".join(bytes([first, 0, 0, 0, 0]) for first in frames) + index)
        assert shows_picture(packet, "vp9") is expected


def test_stamps_in_the_order_of_coding(tmp_path: Path) -> None:
    frames = numbered(48)
    facts, shown, _ = read(write_video(tmp_path / "a.avi", frames, options={"bf": "2", "g": "24"}))
    assert shown == list(range(48))
    np.testing.assert_allclose(facts.times_s, np.arange(48) / 25, atol=1e-6)
    assert np.isnan(facts.source_times_s).all()
    assert facts.start_offset_s == 0


@pytest.mark.parametrize(("first", "second"), [(0, 80_000), (80_000, 0), (0, 30), (30, 10)])
def test_a_clock_that_jumps_is_joined(tmp_path: Path, first: float, second: float) -> None:
    parts = [numbered(40)[:20], numbered(40)[20:]]
    files = [write_ts(tmp_path / f"{k}.ts", part, at) for k, (part, at) in enumerate(zip(parts, (first, second), strict=True))]
    both = tmp_path / "both.ts"
    both.write_bytes(b"".join(file.read_bytes() for file in files))
    facts, shown, _ = read(both)
    assert shown == list(range(40))
    np.testing.assert_allclose(facts.times_s, np.arange(40) / 25, atol=1e-4)
    assert note(facts, "clock_joined") == "1"
    apart = facts.source_times_s[20] - facts.source_times_s[19] - (second - first - 19 / 25)
    wrapped = 2**33 / 90_000  # where the clock of a transport stream begins anew
    assert min(abs(apart), abs(apart - wrapped)) < 0.2


def test_time_counts_from_the_containers_start(tmp_path: Path) -> None:
    facts, shown, _ = read(write_late(tmp_path / "late.mov", numbered(40), late_s=0.4, sound_s=2.0))
    assert shown == list(range(40))
    assert facts.start_offset_s == pytest.approx(0.4, abs=1e-3)
    np.testing.assert_allclose(facts.times_s, np.arange(40) / 25, atol=1e-6)
    np.testing.assert_allclose(facts.source_times_s, 0.4 + np.arange(40) / 25, atol=1e-3)
    assert read(write_ts(tmp_path / "a.ts", numbered(20), offset_s=500))[0].start_offset_s == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("options", [{"bf": "0"}, {"bf": "2"}])
def test_a_beginning_between_key_frames(tmp_path: Path, options: dict[str, str]) -> None:
    whole = write_ts(tmp_path / "whole.ts", numbered(40), options={**options, "g": "16", "sc_threshold": "0"}).read_bytes()
    cut = tmp_path / "cut.ts"
    packets = len(whole) // 188
    cut.write_bytes(whole[188 * (packets * 3 // 20) :])
    facts, shown, _ = read(cut)
    assert shown == list(range(16, 40))
    assert 1 <= int(note(facts, "frames_before_key_frame")) <= 15
    assert facts.start_offset_s > 0
    np.testing.assert_allclose(facts.times_s, np.arange(24) / 25, atol=1e-4)


def test_a_matroska_beginning_between_key_frames(tmp_path: Path) -> None:
    whole = write_video(tmp_path / "whole.mkv", numbered(40), options={"g": "16", "bf": "0", "sc_threshold": "0"})
    facts, shown, _ = read(remux(whole, tmp_path / "cut.mkv", lambda number, _: number >= 6))
    assert shown == list(range(16, 40))
    assert note(facts, "frames_before_key_frame") == "10"


def test_a_picture_that_changes_its_size(tmp_path: Path) -> None:
    large, small = numbered(40, 128, 96)[:20], numbered(40, 64, 48)[20:]
    whole = tmp_path / "both.ts"
    parts = [write_ts(tmp_path / "0.ts", large), write_ts(tmp_path / "1.ts", small, offset_s=20 / 25)]
    whole.write_bytes(b"".join(part.read_bytes() for part in parts))
    facts = decode.probe_video(str(whole), LIMITS)
    got = [image for _, image in decode.read_video(str(whole), facts, range(facts.n_frames), LIMITS)]
    assert [number_of(image) for image in got] == list(range(40))
    assert [image.shape[:2] for image in got] == [(96, 128)] * 20 + [(48, 64)] * 20


@pytest.mark.parametrize("fps", [25, 50, Fraction(24000, 1001)])
def test_a_raw_stream_takes_the_rate_of_its_header(tmp_path: Path, fps: Fraction) -> None:
    path = write_video(tmp_path / "a.h264", numbered(30), fps=fps, options={"bf": "2", "g": "12"})
    facts, shown, _ = read(path)
    assert shown == list(range(30))
    np.testing.assert_allclose(facts.times_s, np.arange(30) / float(fps), atol=1e-6)
    assert "header" in note(facts, "no_clock")
    assert np.isnan(facts.source_times_s).all()


@pytest.mark.parametrize(("codec", "name", "told"), [("mjpeg", "a.mjpeg", "assumed"), ("mpeg2video", "a.m2v", "header")])
def test_stamps_that_a_demuxer_invents_are_no_clock(tmp_path: Path, codec: str, name: str, told: str) -> None:
    facts, shown, _ = read(write_video(tmp_path / name, numbered(20), codec=codec))
    assert shown == list(range(20))
    np.testing.assert_allclose(facts.times_s, np.arange(20) / 25, atol=1e-6)
    assert told in note(facts, "no_clock")
    assert np.isnan(facts.source_times_s).all()


def test_the_video_among_several_streams(tmp_path: Path) -> None:
    small, large = numbered(30, 64, 48), numbered(20, 128, 96)
    cover = {"frames": numbered(1, 256, 192)}
    shown = Disposition.default
    for name, streams, expected in [
        ("largest", [{"frames": small}, {"frames": large}], 1),
        ("flagged", [{"frames": small, "disposition": shown}, {"frames": large}], 0),
        ("both_flagged", [{"frames": small, "disposition": shown}, {"frames": large, "disposition": shown}], 1),
        ("equal", [{"frames": small}, {"frames": small}], 0),
        ("longest", [{"frames": small[:10]}, {"frames": small}], 1),
        ("one_picture", [cover, {"frames": small}], 1),
        ("flagged_picture", [{**cover, "disposition": shown}, {"frames": small}], 1),
    ]:
        facts = decode.probe_video(str(write_streams(tmp_path / f"{name}.mkv", streams)), LIMITS)
        chosen = streams[expected]["frames"]
        assert (name, facts.n_frames, facts.width) == (name, len(chosen), chosen[0].shape[1])
        assert note(facts, "video_stream") == f"{expected} of 2 video streams"
    pictures = [{**cover, "codec": "mjpeg", "disposition": Disposition.attached_pic}, {"frames": small}]
    facts = decode.probe_video(str(write_streams(tmp_path / "attached.mp4", pictures)), LIMITS)
    assert (facts.n_frames, note(facts, "video_stream")) == (30, None)


ORIENTATIONS = [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1), (0, 1, 1, 0), (1, 0, 0, -1)]
ORIENTATIONS += [(0, -1, -1, 0)]


def placed(image: np.ndarray, matrix: tuple[int, int, int, int]) -> np.ndarray:
    """Moves every pixel to where the matrix says, one by one."""
    a, b, c, d = matrix
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    x, y = a * columns + c * rows, b * columns + d * rows
    x, y = x - x.min(), y - y.min()
    result = np.zeros((y.max() + 1, x.max() + 1, 3), np.uint8)
    result[y, x] = image
    return result


@pytest.mark.parametrize("matrix", ORIENTATIONS)
def test_all_eight_orientations_of_a_container(tmp_path: Path, matrix: tuple[int, int, int, int]) -> None:
    image = portrait(96)[:, :64]
    full = np.array([[*matrix[:2], 0], [*matrix[2:], 0], [0, 0, 1]])
    np.testing.assert_array_equal(turn(image, full), placed(image, matrix))
    path = set_matrix(write_video(tmp_path / "a.mp4", [image] * 3), matrix)
    facts = decode.probe_video(str(path), LIMITS)
    (_, shown), *_ = decode.read_video(str(path), facts, range(3), LIMITS)
    expected = placed(image, matrix)
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).mean() < 6


def test_square_pixels_by_the_sample_aspect_ratio(tmp_path: Path) -> None:
    assert square_pixels(480, 360, Fraction(4, 3)) == (640, 360)
    assert square_pixels(640, 360, Fraction(1, 2)) == (640, 720)
    assert square_pixels(640, 360, None) == square_pixels(640, 360, Fraction(0)) == (640, 360)
    assert square_pixels(640, 360, Fraction(1, 1000)) == (640, 360)
    frames = numbered(12, 96, 96)
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"crf": "12"})
        stream.width, stream.height, stream.pix_fmt = 96, 96, "yuv420p"
        stream.codec_context.sample_aspect_ratio = Fraction(4, 3)
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    facts = decode.probe_video(str(path), LIMITS)
    got = [image for _, image in decode.read_video(str(path), facts, range(12), LIMITS)]
    assert (facts.width, facts.height) == (128, 96)
    assert {image.shape for image in got} == {(96, 128, 3)}
    assert [number_of(image) for image in got] == list(range(12))
    turned = set_matrix(path, (0, 1, -1, 0))
    (_, image), *_ = decode.read_video(str(turned), decode.probe_video(str(turned), LIMITS), [0], LIMITS)
    assert image.shape == (128, 96, 3)


def panning(n_frames: int, fields: bool) -> list[np.ndarray]:
    """A portrait that moves by 6 pixels a frame; with ``fields`` the even lines are half a frame later."""
    frames = []
    for k in range(n_frames):
        image = portrait(128, (6.0 * k - 30, 0))
        if fields:
            image = image.copy()
            image[::2] = portrait(128, (6.0 * k - 27, 0))[::2]
        frames.append(image)
    return frames


def test_fields_are_made_whole(tmp_path: Path) -> None:
    flags = {"flags": "+ildct+ilme", "g": "6", "bf": "0", "qscale": "2"}
    frames = panning(12, fields=True)
    path = tmp_path / "a.mpg"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg2video", rate=25, options=flags)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = 128, 128, "yuv420p", 8_000_000
        for image in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
    facts, notes = decode.probe_video(str(path), LIMITS), set()
    got = [image for _, image in decode.read_video(str(path), facts, range(facts.n_frames), LIMITS, notes)]
    assert len(got) == 12
    assert notes == {"deinterlaced"}

    def apart(a: np.ndarray, b: np.ndarray) -> float:
        return float(np.abs(a.astype(int) - b)[8:-8, 24:-24].mean())

    whole = panning(12, fields=False)
    for made, mixed, right in zip(got[1:], frames[1:], whole[1:], strict=True):
        assert apart(made, right) < 0.6 * apart(mixed, right)
    middle = [image for _, image in decode.read_video(str(path), facts, [5, 8], LIMITS)]
    assert np.array_equal(middle[0], got[5])
    assert np.array_equal(middle[1], got[8])
    plain = write_video(tmp_path / "plain.mpg", whole, codec="mpeg2video", options={"qscale": "2"})
    assert read(plain)[2] == set()


@pytest.mark.parametrize(("codec", "name", "pixels"), [("png", "a.mov", "rgba"), ("libvpx-vp9", "a.webm", "yuva420p")])
def test_transparent_video_is_laid_over_white(tmp_path: Path, codec: str, name: str, pixels: str) -> None:
    image = np.dstack([portrait(64), np.full((64, 64), 255, np.uint8)])
    image[16:48, 16:48, 3] = 0
    with av.open(str(tmp_path / name), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 64, pixels
        for _ in range(4):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgba")))
        container.mux(stream.encode())
    facts, notes = decode.probe_video(str(tmp_path / name), LIMITS), set()
    for _, shown in decode.read_video(str(tmp_path / name), facts, range(4), LIMITS, notes):
        assert (shown[20:44, 20:44] > 240).all()
        assert np.abs(shown[:12].astype(int) - image[:12, :, :3]).mean() < 12
    assert notes == {"alpha_composited"}


def test_unreadable_frames_on_the_way_keep_their_rows(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mkv", numbered(48, 128, 96), options={"g": "12", "bf": "0", "sc_threshold": "0"})

    def spoil(data: bytearray, start: int) -> None:
        data[start : start + 40] = bytes(40)

    rewrite_packet(path, 12, spoil)
    facts, shown, _ = read(path)
    assert shown == [*range(12), *[None] * 12, *range(24, 48)]
    assert facts.times_s[-1] == pytest.approx(47 / 25, abs=1e-3)


def test_what_is_predicted_from_lost_packets_is_unreadable(tmp_path: Path) -> None:
    path = write_ts(tmp_path / "whole.ts", numbered(48), options={"bf": "2", "g": "16", "sc_threshold": "0"})
    whole = path.read_bytes()
    packets = len(whole) // 188
    path.write_bytes(whole[: 188 * (packets // 2)] + whole[188 * (packets * 6 // 10) :])
    _, shown, _ = read(path)
    assert shown[:16] == list(range(16))
    assert shown[-16:] == list(range(32, 48))
    seen = [number for number in shown if number is not None]
    assert seen == sorted(set(seen))
    assert None in shown
