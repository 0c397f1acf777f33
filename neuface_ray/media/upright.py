"""Decoded frames as a player shows them: whole instead of fields, square pixels, upright, nothing hidden by transparency."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from functools import lru_cache
from typing import TypeVar

import av
import av.filter
import numpy as np
from av.sidedata.sidedata import Type
from av.video.reformatter import VideoReformatter

MOST_STRETCHED = 8
"""A sample aspect ratio beyond this, or below its inverse, is taken for a mistake."""
BACKGROUND = 255
"""What transparent pixels are laid over: white, as browsers do."""
TICK = Fraction(1, 1000)
Tag = TypeVar("Tag")


def square_pixels(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """Size of a picture with square pixels; the side that the aspect ratio of its samples makes longer is stretched."""
    if not aspect or not 1 / MOST_STRETCHED <= aspect <= MOST_STRETCHED:
        return width, height
    return (round(width * aspect), height) if aspect >= 1 else (width, round(height / aspect))


def turn(image: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """The picture (H, W, C) in the one of the eight orientations that is nearest to a display matrix.

    Args:
        matrix: (3, 3) of any scale, as in the track header of MP4 (ISO/IEC 14496-12, 8.3.2): row vectors (x, y, 1) times it
            are where a pixel is shown, x to the right and y down.
    """
    (a, b, _), (c, d, _), _ = matrix.tolist()
    if abs(b) + abs(c) > abs(a) + abs(d):
        image, a, d = image.swapaxes(0, 1), c, b
    return image[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1]


def composited(rgba: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 of (H, W, 4) with straight alpha, over the background."""
    alpha = rgba[..., 3:].astype(np.uint16)
    return ((rgba[..., :3] * alpha + BACKGROUND * (255 - alpha) + 127) // 255).astype(np.uint8)


class Upright:
    """Converts frames to (H, W, 3) uint8 RGB as shown; adds ``alpha_composited`` to ``notes`` where pixels were hidden."""

    def __init__(self, notes: set[str]):
        self._reformatter, self._notes = VideoReformatter(), notes

    def __call__(self, frame: av.VideoFrame, aspect: Fraction | None) -> np.ndarray:
        width, height = square_pixels(frame.width, frame.height, aspect)
        wanted = {} if (width, height) == (frame.width, frame.height) else {"width": width, "height": height}
        transparent = _has_alpha(frame.format.name)
        rgb = self._reformatter.reformat(
            frame, format="rgba" if transparent else "rgb24", threads=1, **(wanted and {**wanted, "interpolation": "BICUBIC"})
        ).to_ndarray()
        if transparent:
            if (rgb[..., 3] < 255).any():
                self._notes.add("alpha_composited")
            rgb = composited(rgb)
        matrix = frame.side_data.get(Type.DISPLAYMATRIX)
        if matrix is not None:
            rgb = turn(rgb, np.frombuffer(matrix, np.int32).reshape(3, 3))
        return np.ascontiguousarray(rgb)


@lru_cache(maxsize=64)
def _has_alpha(pixel_format: str) -> bool:
    return any(part.is_alpha for part in av.VideoFormat(pixel_format).components)


def deinterlaced(frames: Iterable[tuple[Tag, av.VideoFrame]], notes: set[str]) -> Iterator[tuple[Tag, av.VideoFrame]]:
    """The frames with their tags, those flagged as interlaced made whole by FFmpeg's bwdif: one picture for each coded frame.

    Adds ``deinterlaced`` to ``notes`` if there were any.
    """
    graph, size, count = None, None, 0
    waiting: deque[Tag] = deque()
    for tag, frame in frames:
        shape = frame.width, frame.height, frame.format.name
        if graph is not None and shape != size:
            yield from _drain(graph, waiting)
            graph = None
        if graph is None:
            if not frame.interlaced_frame:
                yield tag, frame
                continue
            notes.add("deinterlaced")
            graph, size = _whole_frames(frame), shape
        waiting.append(tag)
        frame.pts, frame.time_base, count = count, TICK, count + 1  # frames without times are dropped by the filter
        graph.push(frame)
        yield from _pull(graph, waiting)
    if graph is not None:
        yield from _drain(graph, waiting)


def _whole_frames(frame: av.VideoFrame) -> av.filter.Graph:
    graph = av.filter.Graph()
    graph.threads = 1
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format.name, time_base=TICK)
    deinterlacer, sink = graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced"), graph.add("buffersink")
    source.link_to(deinterlacer)
    deinterlacer.link_to(sink)
    graph.configure()
    return graph


def _pull(graph: av.filter.Graph, waiting: deque[Tag]) -> Iterator[tuple[Tag, av.VideoFrame]]:
    while waiting:
        try:
            frame = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        yield waiting.popleft(), frame


def _drain(graph: av.filter.Graph, waiting: deque[Tag]) -> Iterator[tuple[Tag, av.VideoFrame]]:
    graph.push(None)
    yield from _pull(graph, waiting)
