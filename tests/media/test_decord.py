import sys
from pathlib import Path

import numpy as np
import pytest

from neuface_ray.errors import DataError, UsageError
from neuface_ray.media import Limits, MediaConfig, decode, decord, prepare
from tests.media.files import numbered, portrait, rotate_container, talking, video_segment, write_video

LIMITS = Limits()


def assert_same_frames(path: Path, wanted: list[int] | None = None) -> None:
    facts = decode.probe_video(str(path), LIMITS)
    wanted = list(range(facts.n_frames)) if wanted is None else wanted
    expected = list(decode.read_video(str(path), facts, wanted, LIMITS))
    got = list(decord.read_video(str(path), facts, wanted, LIMITS))
    assert [index for index, _ in got] == [index for index, _ in expected] == wanted
    assert all(np.array_equal(a, b) for (_, a), (_, b) in zip(got, expected, strict=True))


def refusal(path: Path) -> str:
    facts = decode.probe_video(str(path), LIMITS)
    with pytest.raises(DataError, match=r"media\.decoder=pyav") as error:
        list(decord.read_video(str(path), facts, range(facts.n_frames), LIMITS))
    assert error.value.code == "decoder"
    return str(error.value)


@pytest.mark.parametrize(
    ("name", "codec", "options"),
    [
        ("a.mp4", "libx264", {"bf": "2", "g": "12"}),
        ("a.mkv", "libx264", {"bf": "2", "g": "12"}),
        ("a.mov", "mpeg4", {"g": "12"}),
        ("a.webm", "libvpx-vp9", {"g": "12"}),
        ("hevc.mp4", "libx265", {"g": "12", "x265-params": "log-level=none"}),  # open groups of pictures
    ],
)
def test_frames_are_those_of_pyav_from_the_start_and_from_the_middle(
    tmp_path: Path, name: str, codec: str, options: dict[str, str]
) -> None:
    path = write_video(tmp_path / name, numbered(60, 128, 96), codec=codec, options=options)
    assert_same_frames(path)
    for wanted in ([20, 21, 40], [13], [59]):
        assert_same_frames(path, wanted)


def test_variable_rate_and_rotation(tmp_path: Path) -> None:
    times = np.cumsum([0] + [0.02] * 30 + [0.1] * 20)
    assert_same_frames(write_video(tmp_path / "vfr.mp4", numbered(len(times)), times_s=times))
    for turns in (1, 2, 3):
        path = write_video(tmp_path / f"{turns}.mp4", [portrait(128)[:, :64]] * 3)
        rotate_container(path, turns)
        assert_same_frames(path)


def test_files_whose_frames_decord_misplaces_are_refused(tmp_path: Path) -> None:
    assert "MP4, MOV, MKV and WebM" in refusal(write_video(tmp_path / "a.ts", numbered(60), options={"bf": "2"}))
    path = write_video(tmp_path / "hidden.mp4", numbered(60), options={"bf": "0", "g": "60"})
    data = bytearray(path.read_bytes())
    entry = data.find(b"elst") + 12  # version, flags and count precede the first entry: duration, media time
    data[entry + 4 : entry + 8] = (20 * 512).to_bytes(4, "big")  # begin with frame 20 of a 1/12800 s time base
    path.write_bytes(data)
    assert "counts 60 frames, shown are 40" in refusal(path)
    assert "4 channels" in refusal(write_video(tmp_path / "narrow.mp4", numbered(3, 96, 64)))


def test_clips_are_the_same_with_either_decoder(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", talking(12))
    segment = video_segment(path, 4, 12, (2, 12))
    (by_pyav,), (by_decord,) = (prepare(segment, MediaConfig(decoder=name)) for name in ("pyav", "decord"))
    assert by_pyav.valid.all()
    for name in ("crops", "landmarks", "valid", "source_frame", "timestamps_s"):
        np.testing.assert_array_equal(getattr(by_decord, name), getattr(by_pyav, name))


def test_a_missing_package_names_its_extra_and_an_unknown_decoder_the_known(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = write_video(tmp_path / "a.mp4", numbered(4))
    monkeypatch.setitem(sys.modules, "decord", None)
    with pytest.raises(UsageError, match=r'media\.decoder=decord.*pip install "neuface-ray\[decord\]"'):
        prepare(video_segment(path, 0, 4), MediaConfig(decoder="decord"))
    with pytest.raises(UsageError, match=r"media\.decoder='ffmpeg'.*pyav, decord"):
        MediaConfig(decoder="ffmpeg")
