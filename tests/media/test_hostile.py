"""Three hundred mutated files: every one is processed or refused with its own reason, and the good one beside it is kept."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from neuface_ray.errors import DataError
from neuface_ray.media import Limits, MediaConfig, plan, prepare
from neuface_ray.media.detect import FaceDetector
from tests.media.files import portrait, talking, write_audio, write_video

CODES = {"not_found", "not_media", "truncated", "corrupt", "no_video_stream", "no_frames", "too_large", "empty", "not_a_file"}
CODES |= {"empty_range", "permission", "unreachable"}
SECONDS_PER_FILE = 20


def seeds(root: Path) -> dict[str, bytes]:
    frames, front = talking(5, 128), {"movflags": "faststart"}
    write_video(root / "a.mp4", frames, options={"g": "3"})
    write_video(root / "b.mp4", frames, options={"g": "3"}, container_options=front)
    write_video(root / "c.mkv", frames)
    write_video(root / "d.avi", frames, codec="mpeg4")
    write_video(root / "e.mpg", frames, codec="mpeg1video")
    write_video(root / "f.gif", frames, fps=10, codec="gif")
    Image.fromarray(portrait(128)).save(root / "g.jpg")
    Image.fromarray(portrait(128)).save(root / "h.png")
    Image.fromarray(portrait(128)).save(root / "i.webp")
    Image.fromarray(portrait(128)).save(root / "j.tif")
    pages = [Image.fromarray(image) for image in frames]
    pages[0].save(root / "k.heic")
    pages[0].save(root / "l.webp", save_all=True, append_images=pages[1:], duration=40)
    pages[0].save(root / "m.png", save_all=True, append_images=pages[1:], duration=40)
    pages[0].save(root / "n.tif", save_all=True, append_images=pages[1:])
    write_video(root / "o.ts", frames, options={"g": "3"})
    write_video(root / "p.h264", frames, options={"g": "3"})
    return {path.name: path.read_bytes() for path in sorted(root.iterdir())}


def mutations(name: str, content: bytes, rng: np.random.Generator) -> Iterator[tuple[str, bytes]]:
    stem, suffix = os.path.splitext(name)
    for part in (0.02, 0.3, 0.6, 0.9, 0.99):
        yield f"{stem}_cut{part}{suffix}", content[: int(len(content) * part)]
    for number in range(6):
        flipped = bytearray(content)
        for position in rng.integers(0, len(content), 1 + 4 * number):
            flipped[position] ^= 1 << rng.integers(8)
        yield f"{stem}_flip{number}{suffix}", bytes(flipped)
    for number in range(3):
        start = int(rng.integers(0, len(content)))
        yield f"{stem}_hole{number}{suffix}", content[:start] + bytes(200) + content[start + 200 :]
    yield f"{stem}_header{suffix}", b"\xff" * 64 + content[64:]
    yield f"{stem}_tail{suffix}", content + rng.bytes(500)
    yield f"{stem}_twice{suffix}", content * 2
    yield f"{stem}_shifted{suffix}", content[17:]
    yield f"{stem}_noise{suffix}", rng.bytes(3000)
    yield f"{stem}_renamed{'.png' if suffix != '.png' else '.mp4'}", content


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root, rng = tmp_path_factory.mktemp("hostile"), np.random.default_rng(7)
    for name, content in seeds(tmp_path_factory.mktemp("seeds")).items():
        for mutated, data in mutations(name, content, rng):
            (root / mutated).write_bytes(data)
    write_video(root / "good.mp4", talking(5, 128))
    write_video(root / "odd_size.mkv", [image[:98, :114] for image in talking(3, 128)])
    write_audio(root / "audio.mp4")
    (root / "zero.mp4").touch()
    (root / "text.mp4").write_text("text")
    (root / "folder.mp4").mkdir()
    (root / "dangling.mp4").symlink_to(root / "nowhere")
    os.mkfifo(root / "pipe.mp4")
    Image.new("1", (15000, 15000)).save(root / "bomb.png")
    Image.new("L", (1, 1)).save(root / "dot.png")
    Image.new("L", (3000, 1)).save(root / "line.png")
    Image.fromarray(portrait(128)).convert("CMYK").save(root / "cmyk.jpg")
    return root


def test_three_hundred_bad_files_and_a_good_one(folder: Path, detector: FaceDetector) -> None:
    options = MediaConfig(limits=Limits(max_pixels=4_000_000, max_file_bytes=50_000_000))
    segments = plan(folder, options)
    assert len(segments) >= 300
    assert len({segment.segment_id for segment in segments}) == len(segments)
    outcomes: Counter[str] = Counter()
    for segment in segments:
        started = time.monotonic()
        refused = None
        try:
            clips = prepare(segment, options, detector)
        except DataError as error:
            refused = error
        if refused is not None:
            assert refused.code in CODES
            assert segment.views[0].uri in str(refused)
            outcomes[refused.code] += 1
        else:
            covered = {int(f) for clip in clips for f in clip.frame_index[clip.core]}
            assert covered == set(range(segment.start, segment.stop))
            assert all(np.isfinite(clip.landmarks).all() for clip in clips)
            outcomes["ok"] += 1
            if segment.sequence_id == "good":
                assert clips[0].valid.all()
                outcomes["good"] += 1
        assert time.monotonic() - started < SECONDS_PER_FILE
    assert outcomes["good"] == 1
    assert {
        "ok",
        "not_media",
        "truncated",
        "no_video_stream",
        "too_large",
        "empty",
        "not_a_file",
        "not_found",
    } <= outcomes.keys()
