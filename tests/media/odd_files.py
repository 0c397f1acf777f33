"""Media files as people bring them: with wrong clocks, odd pixels, several streams, broken beginnings."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from tests.media.files import write_video

MILLISECONDS = Fraction(1, 1000)


def remux(
    source: Path, target: Path, edit: Callable[[int, av.Packet], bool | None], options: dict[str, str] | None = None
) -> Path:
    """Copies the video's packets; ``edit(number, packet)`` may change one and drops it by returning False."""
    with av.open(str(source)) as reading, av.open(str(target), "w", options=options or {}) as writing:
        stream = reading.streams.video[0]
        copy = writing.add_stream_from_template(stream)
        packets = [packet for packet in reading.demux(stream) if packet.size]
        for number, packet in enumerate(packets):
            if edit(number, packet) is not False:
                packet.stream = copy
                writing.mux(packet)
    return target


def write_webm(path: Path, frames: Sequence[np.ndarray], stamps_ms: Sequence[int]) -> Path:
    """VP8 whose packets carry ``stamps_ms`` as they are, as live recorders write them."""
    with open(path, "wb") as raw:

        class Pipe:
            def write(self, data: bytes) -> int:
                return raw.write(data)

        with av.open(Pipe(), "w", format="webm", options={"live": "1"}) as container:
            options = {"deadline": "realtime", "lag-in-frames": "0", "auto-alt-ref": "0"}
            stream = container.add_stream("libvpx", rate=1000, options=options)
            stream.height, stream.width = frames[0].shape[:2]
            stream.pix_fmt, stream.bit_rate, stream.codec_context.time_base = "yuv420p", 2_000_000, MILLISECONDS
            packets = []
            for number, image in enumerate(frames):
                frame = av.VideoFrame.from_ndarray(image, format="rgb24")
                frame.pts, frame.time_base = 40 * number, MILLISECONDS
                packets += stream.encode(frame)
            packets += stream.encode()
            for packet, stamp in zip(packets, stamps_ms, strict=True):
                packet.pts = packet.dts = stamp
                packet.stream = stream
                container.mux(packet)
    return path


def rewrite_packet(path: Path, number: int, change: Callable[[bytearray, int], None]) -> None:
    """Changes a file in place: ``change`` gets its bytes and where those of the packet begin."""
    with av.open(str(path)) as container:
        payload = [bytes(packet) for packet in container.demux(video=0) if packet.size][number]
    data = bytearray(path.read_bytes())
    assert data.count(payload) == 1
    change(data, data.find(payload))
    path.write_bytes(data)


def write_ts(path: Path, frames: Sequence[np.ndarray], offset_s: float = 0.0, options: dict[str, str] | None = None) -> Path:
    """H.264 in an MPEG transport stream whose clock begins later."""
    settings = {"g": "12", "bf": "0"} | (options or {})
    return write_video(path, frames, options=settings, container_options={"output_ts_offset": str(offset_s)})


def write_streams(path: Path, streams: Sequence[dict[str, object]]) -> Path:
    """Several video streams: ``frames``, ``fps``, ``codec`` and ``disposition`` of each."""
    with av.open(str(path), "w") as container:
        made = []
        for each in streams:
            codec = each.get("codec", "libx264")
            stream = container.add_stream(codec, rate=each.get("fps", 25), options={"crf": "12"} if codec == "libx264" else {})
            stream.height, stream.width = each["frames"][0].shape[:2]
            stream.pix_fmt = "yuv420p" if codec == "libx264" else "yuvj420p"
            made.append(stream)
        for stream, each in zip(made, streams, strict=True):
            stream.disposition = each.get("disposition", 0)
        for stream, each in zip(made, streams, strict=True):
            for image in each["frames"]:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")))
            container.mux(stream.encode())
    return path


def write_late(path: Path, frames: Sequence[np.ndarray], late_s: float, sound_s: float) -> Path:
    """A video that begins ``late_s`` after its sound."""
    with av.open(str(path), "w") as container:
        sound = container.add_stream("aac", rate=16000, layout="mono")
        stream = container.add_stream("libx264", rate=25, options={"crf": "12", "preset": "ultrafast", "bf": "2"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        tone = (np.sin(np.arange(int(16000 * sound_s)) / 10) * 0.3).astype(np.float32)
        for start in range(0, len(tone) - 1024, 1024):
            piece = av.AudioFrame.from_ndarray(tone[None, start : start + 1024], format="fltp", layout="mono")
            piece.sample_rate, piece.pts = 16000, start
            container.mux(sound.encode(piece))
        container.mux(sound.encode())
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            frame.pts, frame.time_base = round(late_s * 25) + number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def set_matrix(path: Path, matrix: Sequence[int]) -> Path:
    """Writes the four numbers a, b, c, d of a display matrix into the track header of an MP4."""
    data = bytearray(path.read_bytes())
    start = data.find(b"tkhd") + 4
    place = start + 40 + (12 if data[start] == 1 else 0)  # version 1 has 64-bit times
    a, b, c, d = (value << 16 for value in matrix)
    data[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    return path
