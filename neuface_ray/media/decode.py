"""Videos to frames, believing the data and not the header.

PyAV decodes. One thread of it is as fast as decord (640x360: 1450 against 1420 frames/s, 1280x720: 350 against 310, 1920x1080:
200 against 115), which also invents frames where a file is damaged; `neuface_ray.media.decord` says what else was measured.

What is trusted: presentation times of the packets, read by demuxing the whole file (4 to 26 ms for files of 0.2 to 3 MB).
They give the true number of frames and the rate, also for variable frame rates and edit lists. Frames are found by their
time, so every frame number means the same picture wherever decoding begins. Where the times contradict each other or the
decoder (see ``Packets.in_order``), the whole file is decoded once to see which pictures it shows, in which order; they are
then found by counting from its beginning, and `neuface_ray.media.timeline` mends their times.

A frame that the decoder reports as damaged, and all that are predicted from it up to the next key frame, count as unreadable.
One full frame is held at a time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from fractions import Fraction
from functools import lru_cache, partial

import av
import numpy as np

from neuface_ray.errors import DataError
from neuface_ray.media.config import Limits
from neuface_ray.media.kinds import HEAD_BYTES, Kind, kind_of_content
from neuface_ray.media.packets import read_packets
from neuface_ray.media.pictures import are_listed, decoded, decoded_frames, listed
from neuface_ray.media.stills import animation_durations, open_pictures, read_animation, read_image
from neuface_ray.media.streams import choose_stream, open_container, video_streams
from neuface_ray.media.timeline import Timeline, mend
from neuface_ray.media.upright import Upright, deinterlaced, square_pixels

__all__ = ["VideoFacts", "probe_video", "read_image", "read_video", "sampled_frames"]

INDEXED_FORMATS = ("mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm")  # elsewhere times after a seek are off by a frame at times
JUMPING_FORMATS = ("mpegts", "mpeg", "rm", "nut")  # whose clock may begin anew, as FFmpeg sees it
RAW_FORMATS = ("h264", "hevc", "vvc", "mpegvideo", "m4v", "mjpeg", "obu", "vc1", "h263", "cavsvideo", "dirac")  # without stamps
JUMP_S, LONGEST_STEP_S = 10.0, 3600.0  # a longer step is a jump of the clock: in those formats, in all others
USUAL_FPS = 25.0
SEEK_MARGIN = 32  # frames decoded before the first wanted one: leading pictures of an open group need their predecessors


@dataclass(frozen=True)
class VideoFacts:
    """What is known of a video before its pixels are read.

    Args:
        times_s: (N,) time of every picture that is shown after the first one's, seconds, ascending.
        source_times_s: (N,) its stamp as written, seconds; NaN where there is none or it was mended.
        keys: (N,) by which a picture is known when it is decoded: its stamp in units of the stream if ``by_stamp``, else its
            number among the pictures that a decoder gives from the beginning on, -1 if it gives none.
        lost: frames at the end that the index promises and the file, cut off, does not hold; they are part of N.
        fps: frames per second, from the median distance in time.
        width, height: of the picture with square pixels, before any rotation.
        seekable: decoding may begin at a key frame in the middle.
        stream: index of the video among the streams; start_offset_s: its first picture's time after the container's start.
        notes: what is unusual: ``video_stream``, ``frames_before_key_frame``, ``times_mended``, ``times_by_order`` (its stamps
            follow the order of coding), ``clock_joined``, ``no_clock``; with ``=`` and a number where there is one.
        animation: the file is for Pillow.
    """

    times_s: np.ndarray
    source_times_s: np.ndarray
    keys: np.ndarray
    by_stamp: bool
    fps: float
    width: int
    height: int
    lost: int = 0
    seekable: bool = False
    stream: int = 0
    start_offset_s: float = 0.0
    notes: tuple[str, ...] = ()
    animation: bool = False

    @property
    def n_frames(self) -> int:
        return len(self.times_s)


def probe_video(path: str, limits: Limits) -> VideoFacts:
    """Times of the pictures of a video or an animation; decoded only where its stamps contradict each other.

    Raises:
        DataError: ``not_media``, ``truncated``, ``no_video_stream``, ``no_frames`` or ``too_large``.
    """
    status = os.stat(path)
    return _probe(path, astuple(limits), status.st_size, status.st_mtime_ns)


def sampled_frames(facts: VideoFacts, stride: int = 1, fps: float | None = None) -> np.ndarray:
    """Source frame (K,) of every sampled frame: each stride-th, or the one on display at times 0, 1/fps, 2/fps ...

    A rate above the source's takes every frame once.
    """
    if fps is None:
        return np.arange(0, facts.n_frames, stride)
    instants = np.arange(np.floor(facts.times_s[-1] * fps + 1e-6) + 1) / fps
    return np.unique(np.searchsorted(facts.times_s, instants + 1e-6, side="right") - 1)


def read_video(
    path: str, facts: VideoFacts, wanted: Sequence[int], limits: Limits, notes: set[str] | None = None
) -> Iterator[tuple[int, np.ndarray | None]]:
    """Yields (source frame, (H, W, 3) uint8 RGB as shown) for ascending frame numbers; None where one is unreadable.

    Adds ``deinterlaced`` and ``alpha_composited`` to ``notes`` where that was done.

    Raises:
        DataError: ``not_media``, ``no_video_stream`` or ``too_large``.
    """
    wanted, notes = [int(index) for index in wanted], set() if notes is None else notes
    if facts.animation:
        yield from zip(wanted, read_animation(path, wanted, limits, notes), strict=True)
        return
    position, first = 0, wanted[0] - SEEK_MARGIN
    for start in (first, 0) if facts.seekable and first > 0 else (0,):
        for index, image in _decode(path, facts, start, wanted[-1], limits, notes):
            if start > 0 and index > wanted[0] and position == 0:
                break  # the seek landed too late: decode from the beginning
            while position < len(wanted) and wanted[position] < index:
                yield wanted[position], None
                position += 1
            if position < len(wanted) and wanted[position] == index:
                yield index, None if image is None else image()
                position += 1
            if position == len(wanted):
                return
        if position:
            break
    for index in wanted[position:]:
        yield index, None


@lru_cache(maxsize=8)
def _probe(path: str, limits: tuple, size: int, modified: int) -> VideoFacts:
    limits = Limits(*limits)
    with open(path, "rb") as file:
        head = file.read(HEAD_BYTES)
    if kind_of_content(head) is Kind.PICTURES and open_pictures(path, limits)[1]:
        facts = _probe_animation(path, limits)
    else:
        facts = _probe_container(path, limits, size)
    if facts.times_s[-1] > limits.max_seconds:
        raise DataError(f"{path}: longer than media.limits.max_seconds={limits.max_seconds:g}", code="too_large")
    return facts


def _probe_animation(path: str, limits: Limits) -> VideoFacts:
    written, shown, (width, height) = animation_durations(path, limits)
    times, stamps = (np.concatenate([[0.0], np.cumsum(d)[:-1]]) / 1000 for d in (shown, written))
    numbers = np.arange(len(times))
    return VideoFacts(
        times_s=times,
        source_times_s=np.where(times == stamps, stamps, np.nan),
        keys=numbers,
        by_stamp=False,
        fps=1000 / float(np.median(shown)),
        width=width,
        height=height,
        animation=True,
    )


def _probe_container(path: str, limits: Limits, size: int) -> VideoFacts:
    with open_container(path) as container:
        name, start = container.format.name, container.start_time
        streams, indexed = video_streams(container, path), name in INDEXED_FORMATS
        packets = read_packets(container, streams, path, limits.max_frames, try_decoders=not indexed)
        stream = choose_stream(streams, packets)
        number, decoder, base = stream.index, stream.codec_context, float(stream.time_base or 1)
        found = packets[number]
        width, height = square_pixels(decoder.width, decoder.height, stream.sample_aspect_ratio)
        if max(width * height, decoder.width * decoder.height) > limits.max_pixels:
            message = f"{path}: {width}x{height} is above media.limits.max_pixels={limits.max_pixels}"
            raise DataError(message, code="too_large")
        lost = sum(entry.pos + entry.size > size for entry in stream.index_entries)
        if lost:
            found.drop_damaged()
        if not any(found.shown):
            raise DataError(f"{path}: holds no video frames", code="no_frames")
        notes = [f"video_stream={number} of {len(streams)} video streams"] if len(streams) > 1 else []
        plain = are_listed(found, decoder, indexed, name in JUMPING_FORMATS)
        fps = _header_fps(stream, name in RAW_FORMATS, notes)
    jump = (JUMP_S if name in JUMPING_FORMATS else LONGEST_STEP_S) / base
    pictures = listed(found) if plain else decoded(path, number, found, limits.max_pixels, jump)
    timeline = mend(pictures.stamps, 1 / (fps * base), jump)
    written = timeline.as_written & (pictures.as_written and name not in RAW_FORMATS)
    notes += [f"frames_before_key_frame={pictures.dropped}"] if pictures.dropped else []
    notes += [] if pictures.as_written else ["times_by_order"]
    mended = int((~timeline.as_written).sum()) if np.isfinite(pictures.stamps).any() else 0
    notes += [f"times_mended={mended}"] if mended else []
    notes += [f"clock_joined={timeline.joins}"] if timeline.joins else []
    times_s = timeline.times * base
    period_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else timeline.period * base
    tail = times_s[-1] + period_s * np.arange(1, lost + 1)
    return VideoFacts(
        times_s=np.concatenate([times_s, tail]),
        source_times_s=np.concatenate([np.where(written, pictures.stamps * base, np.nan), np.full(lost, np.nan)]),
        keys=np.concatenate([pictures.keys, np.full(lost, -1)]),
        by_stamp=pictures.by_stamp,
        lost=lost,
        fps=1 / max(period_s, 1e-6),
        width=width,
        height=height,
        seekable=indexed and pictures.by_stamp,
        stream=number,
        start_offset_s=_start_offset(pictures.stamps, timeline, base, start),
        notes=tuple(notes),
    )


def _header_fps(stream: av.VideoStream, raw: bool, notes: list[str]) -> float:
    """The rate that counts where times do not tell; noted for a raw stream, which has none but what its header says."""
    if not raw:
        return float(stream.average_rate or stream.guessed_rate or USUAL_FPS)
    rate = stream.codec_context.framerate
    notes.append(f"no_clock={float(rate or USUAL_FPS):.6g} fps {'by the header' if rate else 'assumed'}")
    return float(rate or USUAL_FPS)


def _start_offset(stamps: np.ndarray, timeline: Timeline, base: float, start_us: int | None) -> float:
    """Seconds from the container's start, as players count, to the first picture."""
    if start_us is None or not timeline.as_written.any():
        return 0.0
    known = int(timeline.as_written.argmax())
    first_s = float((stamps[known] - timeline.times[known]) * base)
    return max(0.0, first_s - max(0.0, start_us / av.time_base))


def _decode(
    path: str, facts: VideoFacts, first: int, last: int, limits: Limits, notes: set[str]
) -> Iterator[tuple[int, Callable[[], np.ndarray] | None]]:
    """(source frame, function that returns its pixels, or None if damaged) from ``first`` or earlier on, in order."""
    there = facts.n_frames - facts.lost
    number = {key: index for index, key in enumerate(facts.keys[:there].tolist()) if facts.by_stamp or key >= 0}
    with open_container(path) as container:
        stream = container.streams[facts.stream]
        upright, in_container = Upright(notes), container.format.name in INDEXED_FORMATS
        aspect = stream.sample_aspect_ratio
        if first > 0:
            container.seek(int(facts.keys[min(first, there - 1)]), stream=stream, backward=True)

        def wanted() -> Iterator[tuple[tuple[int, bool, Fraction | None], av.VideoFrame]]:
            frames = (each for each in decoded_frames(container, stream, limits.max_pixels) if each[1] is not None)
            for count, (_, frame, damaged) in enumerate(frames):
                index = number.get(frame.pts if facts.by_stamp else count)
                if index is not None:
                    damaged = damaged and facts.by_stamp  # else those that are have no number
                    shape = aspect if in_container else stream.codec_context.sample_aspect_ratio or aspect
                    yield (index, damaged, shape), frame

        for (index, damaged, shape), frame in deinterlaced(wanted(), notes):
            yield index, None if damaged else partial(upright, frame, shape)
            if index >= last:
                return
