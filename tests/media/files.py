"""Media files that the tests make for themselves."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from fractions import Fraction
from functools import cache
from pathlib import Path

import av
import cv2
import numpy as np

from neuface_ray.types import Segment, View


@cache
def astronaut() -> np.ndarray:
    """(512, 512, 3) NASA portrait with one face of about 90 pixels at (225, 130)."""
    from skimage import data

    return data.astronaut()


def portrait(size: int = 256, shift: tuple[float, float] = (0.0, 0.0), zoom: float = 1.0, turn_deg: float = 0.0) -> np.ndarray:
    """(size, size, 3) close-up of the astronaut's face, moved by ``shift`` pixels."""
    scale = zoom * size / 256 * 1.1
    matrix = cv2.getRotationMatrix2D((225, 130), turn_deg, scale)
    matrix[:, 2] += np.array([size / 2 - 225, size / 2 - 130]) + shift
    return cv2.warpAffine(astronaut(), matrix, (size, size), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT)


def talking(n_frames: int, size: int = 256) -> list[np.ndarray]:
    """A face that sways."""
    return [portrait(size, (12 * np.sin(k / 4), 6 * np.cos(k / 5)), turn_deg=6 * np.sin(k / 6)) for k in range(n_frames)]


@cache
def stranger(number: int = 4) -> np.ndarray:
    """(256, 256, 3) close-up of a drawn person, another one for each number."""
    from neuface_ray.heads import load_head
    from neuface_ray.synthesis.faces import FaceOptions, make_face
    from neuface_ray.synthesis.motion import MotionRange
    from neuface_ray.synthesis.renderer import Renderer

    calm = MotionRange(yaw_deg=5, pitch_deg=5, roll_deg=3, wide=0, random_expressions=0, turning=0)
    options = FaceOptions(size=256, occluded=0.0, crop_scale=1.8, motion=calm)
    return make_face(Renderer(load_head()), options, 7, number).image


def turned(image: np.ndarray, turn_deg: float) -> tuple[np.ndarray, np.ndarray]:
    """The whole picture turned counter-clockwise on a larger one, and the (2, 3) map of its pixel centres at whole numbers."""
    height, width = image.shape[:2]
    side = int(np.ceil(np.hypot(height, width)))
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), turn_deg, 1)
    matrix[:, 2] += np.array([side - width, side - height]) / 2
    return cv2.warpAffine(image, matrix, (side, side), borderValue=(90, 90, 90)), matrix


def swaying(image: np.ndarray, n_frames: int, phase: float = 0.0) -> list[np.ndarray]:
    """A picture of somebody, moved as by ``talking``."""
    frames = []
    for k in range(n_frames):
        matrix = cv2.getRotationMatrix2D((128, 128), 5 * np.sin(k / 6 + phase), 1)
        matrix[:, 2] += 8 * np.sin(k / 4 + phase), 5 * np.cos(k / 5 + phase)
        frames.append(cv2.warpAffine(image, matrix, image.shape[1::-1], borderMode=cv2.BORDER_REFLECT))
    return frames


def numbered(n_frames: int, width: int = 64, height: int = 48) -> list[np.ndarray]:
    """Frames that tell their number by eight black or white blocks; see ``number_of``."""
    frames = []
    for number in range(n_frames):
        bits = np.array([(number >> k) & 1 for k in range(8)], np.uint8) * 255
        blocks = np.repeat(np.repeat(bits.reshape(2, 4), height // 2, 0), width // 4, 1)
        frames.append(np.repeat(blocks[..., None], 3, -1))
    return frames


def number_of(image: np.ndarray) -> int:
    """The number painted by ``numbered``."""
    height, width = image.shape[:2]
    means = image.mean(2).reshape(2, height // 2, 4, width // 4).mean((1, 3)).ravel()
    return int(sum(1 << k for k in range(8) if means[k] > 127))


def write_video(
    path: Path,
    frames: Sequence[np.ndarray],
    fps: int = 25,
    codec: str = "libx264",
    times_s: Sequence[float] | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
) -> Path:
    """Encodes RGB frames; ``times_s`` gives a variable frame rate."""
    settings = {"crf": "12", "preset": "ultrafast"} if codec == "libx264" else {}
    with av.open(str(path), "w", options=container_options or {}) as container:
        stream = container.add_stream(codec, rate=fps, options={**settings, **(options or {})})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
        if times_s is not None:
            stream.time_base = stream.codec_context.time_base = Fraction(1, 1000)
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            if times_s is not None:
                frame.pts, frame.time_base = round(times_s[number] * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def write_audio(path: Path, seconds: float = 1.0) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        stream.layout = "mono"
        samples = (np.sin(np.arange(int(16000 * seconds)) / 10) * 0.3).astype(np.float32)
        for start in range(0, len(samples) - 1024, 1024):
            frame = av.AudioFrame.from_ndarray(samples[None, start : start + 1024], format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 16000, start
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def rotate_container(path: Path, quarter_turns: int) -> None:
    """Writes a display matrix into the track header of an MP4: a clockwise rotation, as phones do."""
    data = bytearray(path.read_bytes())
    start = data.find(b"tkhd") + 4
    matrix = start + 40 + (12 if data[start] == 1 else 0)  # version 1 has 64-bit times
    one = 1 << 16
    cos, sin = [(one, 0), (0, one), (-one, 0), (0, -one)][quarter_turns % 4]
    data[matrix : matrix + 36] = struct.pack(">9i", cos, sin, 0, -sin, cos, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def video_segment(path: object, start: int, stop: int, context: tuple[int, int] | None = None, **kwargs: object) -> Segment:
    first, last = context or (start, stop)
    return Segment("segment", "sequence", (View("front", str(path)),), start, stop, first, last, **kwargs)


def still_segment(*paths: object) -> Segment:
    views = tuple(View(f"view{k}", str(path)) for k, path in enumerate(paths))
    return Segment("segment", "sequence", views, 0, 1, 0, 1, is_image=True)
