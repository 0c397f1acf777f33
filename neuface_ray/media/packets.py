"""What a container's packets say about the pictures of a video, without decoding them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import av
import numpy as np
from av.codec.context import Flags

from neuface_ray.errors import DataError

VP8_SHOWN = 0x10
WITHHOLDING = ("h264",)
"""Decoders that show nothing which is predicted from missing pictures, and may begin without a key frame."""
REORDERING = 16
"""Most places by which a picture is coded earlier than it is shown (the largest buffer of H.264 and HEVC)."""


@dataclass
class Packets:
    """The packets of one video stream in the order of the file; (P,) each once read.

    Args:
        pts, dts: stamps in units of the stream, NaN where missing. key: a decoder can begin here. damaged: known to be so.
        shown: it holds a picture that a player shows: not one hidden by an edit list, nor one that is only predicted from.
        first_decoded: the first packet from which a decoder made a whole picture, if that was tried.
    """

    pts: list[float] = field(default_factory=list)
    dts: list[float] = field(default_factory=list)
    key: list[bool] = field(default_factory=list)
    shown: list[bool] = field(default_factory=list)
    damaged: list[bool] = field(default_factory=list)
    first_decoded: int | None = None

    def add(self, packet: av.Packet, codec: str) -> None:
        self.pts.append(np.nan if packet.pts is None else packet.pts)
        self.dts.append(np.nan if packet.dts is None else packet.dts)
        self.key.append(packet.is_keyframe)
        self.shown.append(not packet.is_discard and (codec not in ("vp8", "vp9") or shows_picture(packet, codec)))
        self.damaged.append(packet.is_corrupt)

    def __len__(self) -> int:
        return len(self.pts)

    @property
    def span(self) -> float:
        """Time from the first to the last stamp, in units of the stream."""
        known = np.array(self.pts if np.isfinite(self.pts).any() else self.dts)
        return float(np.nanmax(known) - np.nanmin(known)) if np.isfinite(known).any() else 0.0

    def ascending(self) -> bool:
        """True if the stamps ascend in the order of coding."""
        return bool((np.diff(self.pts) > 0).all())

    def undamaged_at_joins(self, jump: float) -> frozenset[int]:
        """Numbers of the packets that count as damaged only because something else begins behind them.

        Where transport streams were joined their packets miscount, and one of the last two pictures before the join is blamed.
        It is a join if a key frame follows one period later, or after a step of the clock back or by ``jump`` or more.
        """
        steps = np.diff(self.dts)
        usual = float(np.median(steps[steps > 0])) if (steps > 0).any() else 0.0
        joins = {k + 1 for k, step in enumerate(steps) if self.key[k + 1] and not 1.5 * usual < step < jump}
        return frozenset(k for k in range(len(self)) if self.damaged[k] and {k + 1, k + 2} & joins)

    def drop_damaged(self) -> None:
        """Takes packets that the file does not hold whole for not there."""
        self.shown = [shown and not damaged for shown, damaged in zip(self.shown, self.damaged, strict=True)]
        self.damaged = [False] * len(self)

    def in_order(self, reorders: bool) -> bool:
        """True if the stamps alone tell which pictures are shown and when: complete, unique, in an order that a decoder can
        give, beginning with a key frame that nothing precedes, and undamaged."""
        pts = np.array(self.pts)[np.array(self.shown, bool)]
        if len(pts) == 0 or not np.isfinite(pts).all() or any(self.damaged) or not self.key[0]:
            return False
        order = np.argsort(pts, kind="stable")
        moved = int(np.abs(order - np.arange(len(order))).max())
        leads = order[0] == 0 or not self.shown[0]
        return len(np.unique(pts)) == len(pts) and leads and moved <= (REORDERING if reorders else 0)


def numbered(container: av.container.InputContainer, *streams: av.VideoStream) -> Iterator[tuple[int, av.Packet]]:
    """The packets of streams that hold data, each with its number within its stream; ends quietly where the file breaks."""
    counts = dict.fromkeys((stream.index for stream in streams), 0)
    with contextlib.suppress(av.error.FFmpegError, OSError):
        for packet in container.demux(*streams):
            if packet.size:
                yield counts[packet.stream_index], packet
                counts[packet.stream_index] += 1


def read_packets(
    container: av.container.InputContainer, streams: Sequence[av.VideoStream], path: str, most: int, try_decoders: bool
) -> dict[int, Packets]:
    """The packets of each stream, by its index.

    Args:
        most: packets of a stream. try_decoders: also decode each stream up to its first picture.

    Raises:
        DataError: ``too_large``.
    """
    found = {stream.index: Packets() for stream in streams}
    decoders = {stream.index: stream.codec_context for stream in streams}
    codecs = {index: decoder.name for index, decoder in decoders.items()}
    for decoder in decoders.values() if try_decoders else ():
        decoder.flags |= Flags.copy_opaque
    for number, packet in numbered(container, *streams):
        if number >= most:
            raise DataError(f"{path}: more than media.limits.max_frames={most} frames", code="too_large")
        of_stream = found[packet.stream_index]
        of_stream.add(packet, codecs[packet.stream_index])
        if try_decoders and of_stream.first_decoded is None:
            of_stream.first_decoded = _first_decoded(decoders[packet.stream_index], packet, number)
    return found


def _first_decoded(decoder: av.VideoCodecContext, packet: av.Packet, number: int) -> int | None:
    """Number of the packet from which the next picture was made, None if the decoder wants more."""
    packet.opaque = number
    try:
        frames = decoder.decode(packet)
    except (av.error.FFmpegError, OSError, ValueError):
        return None
    undamaged = (frame for frame in frames if not frame.is_corrupt and (frame.key_frame or decoder.name in WITHHOLDING))
    return next((frame.opaque for frame in undamaged), None)


def shows_picture(packet: av.Packet, codec: str) -> bool:
    """False for a packet of VP8 or VP9 whose pictures are only predicted from (RFC 6386, 9.1; VP9 specification, 7.2)."""
    data = memoryview(packet)
    if codec == "vp8":
        return bool(data[0] & VP8_SHOWN)
    return any(_vp9_shown(data[start]) for start in _vp9_frames(data) if start < len(data))


def _vp9_frames(data: memoryview) -> list[int]:
    """Where the frames of a packet begin; several stand in a superframe with an index at its end (annex B)."""
    marker = data[-1]
    count, width = (marker & 7) + 1, ((marker >> 3) & 3) + 1
    size = 2 + count * width
    if marker & 0xE0 != 0xC0 or len(data) < size or data[-size] != marker:
        return [0]
    lengths = [int.from_bytes(data[k : k + width], "little") for k in range(len(data) - size + 1, len(data) - 1, width)]
    return [sum(lengths[:k]) for k in range(count) if lengths[k]]


def _vp9_shown(first: int) -> bool:
    bits = first << 1 & 0xFF if first & 0x30 == 0x30 else first  # profile 3 has one more bit
    return bool(bits & 0x08) or bool(bits & 0x02)
