"""Which pictures a container shows, in which order: from its packets where they tell, else by decoding everything once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np

from neuface_ray.errors import DataError
from neuface_ray.media.packets import WITHHOLDING, Packets, numbered
from neuface_ray.media.streams import open_container, open_decoder

PROGRESSIVE = (0, 1)  # field orders: unknown, and whole frames
FIELD_CODECS = ("h264", "vc1")  # which may code each field as a picture of its own


@dataclass(frozen=True)
class Pictures:
    """The N pictures that are shown, in presentation order.

    Args:
        keys, by_stamp: how they are known again, as in `VideoFacts`. stamps: (N,) units of the stream, NaN for none.
        as_written: the stamps are the file's own. dropped: those before the first that can be decoded, not among the N.
    """

    keys: np.ndarray
    stamps: np.ndarray
    by_stamp: bool
    as_written: bool = True
    dropped: int = 0


def are_listed(packets: Packets, decoder: av.VideoCodecContext, indexed: bool, jumping: bool) -> bool:
    """True if the packets alone tell which pictures are shown, and when.

    Args:
        indexed: the container says where a decoder can begin; else the first picture was decoded to see that.
        jumping: the container's times are those of showing for sure, but may begin anew.
    """
    if not packets.in_order(decoder.has_b_frames):
        return False
    if not indexed and packets.first_decoded != packets.shown.index(True):
        return False
    fields_apart = decoder.name in FIELD_CODECS and getattr(decoder, "field_order", 0) not in PROGRESSIVE
    by_coding = decoder.has_b_frames and not jumping and packets.ascending()
    return not fields_apart and not by_coding


def listed(packets: Packets) -> Pictures:
    """The pictures as their packets tell."""
    stamps = np.sort(np.array(packets.pts)[np.array(packets.shown, bool)])
    return Pictures(stamps.astype(np.int64), stamps, by_stamp=True)


def decoded(path: str, stream: int, packets: Packets, max_pixels: int, jump: float) -> Pictures:
    """The pictures as the decoder gives them, from the beginning to the end; also those that it cannot read.

    Args:
        jump: a step of the clock, in units of the stream, that is none between pictures.

    Raises:
        DataError: ``corrupt`` if it can read none.
    """
    with open_container(path) as container:
        video = container.streams[stream]
        entries, fields = _decode_all(container, video, packets, max_pixels, jump)
    first = next((place for place, (number, _) in enumerate(entries) if number >= 0), None)
    if first is None:
        raise DataError(f"{path}: no frame can be decoded", code="corrupt")
    pts, shown = np.array(packets.pts), np.array(packets.shown, bool)
    begin = entries[first][1]
    entries = entries[first:]
    before = (np.arange(len(pts)) < begin) | (pts < pts[begin])
    missing = shown.copy()
    missing[[packet for _, packet in entries]] = False
    shown_pts = pts[[packet for number, packet in entries if number >= 0]]
    ordered = bool(np.isfinite(shown_pts).all() and (np.diff(shown_pts) > 0).all())
    by_coding = not ordered and packets.ascending()
    if ordered and not fields:
        entries += [(-1, int(packet)) for packet in np.flatnonzero(missing & ~before & np.isfinite(pts))]
    numbers, places = (np.array(column) for column in zip(*entries, strict=True))
    stamps = np.sort((np.array(packets.dts) if np.isfinite(packets.dts).all() else pts)[places]) if by_coding else pts[places]
    if ordered and np.isfinite(stamps).all():
        order = np.argsort(stamps, kind="stable")
        numbers, stamps = numbers[order], stamps[order]
        if (np.diff(stamps) > 0).all() and not any(packets.damaged):
            return Pictures(stamps.astype(np.int64), stamps, True, dropped=int((missing & before).sum()))
    return Pictures(numbers, stamps, False, not by_coding, int((missing & before).sum()))


def decoded_frames(
    container: av.container.InputContainer, stream: av.VideoStream, max_pixels: int, undamaged: frozenset[int] = frozenset()
) -> Iterator[tuple[int, av.VideoFrame | None, bool]]:
    """Frames in presentation order from where the container stands: number of the packet, the frame, whether it is damaged.

    A packet that the decoder refuses gives None. What is predicted from a damaged frame is damaged, up to a key frame, whether
    the decoder says so or the container, which notices that packets are missing.

    Args:
        undamaged: numbers of packets that are not damaged although they count so.
    """
    decoder, damaged, last = open_decoder(stream, max_pixels), False, 0
    spoilt: set[int] = set()
    for number, packet in itertools.chain(numbered(container, stream), [(-1, None)]):
        if packet is not None:
            broken = (packet.is_corrupt and number not in undamaged) or (last in spoilt and not packet.is_keyframe)
            packet.opaque = last = number
            if broken:
                spoilt.add(number)
        if number == 0:
            damaged = not packet.is_keyframe and decoder.name not in WITHHOLDING
        try:
            frames = decoder.decode(packet)
        except (av.error.FFmpegError, OSError, ValueError):
            damaged = True
            if packet is not None:
                yield number, None, True
            continue
        for frame in frames:
            source = last if frame.opaque is None else frame.opaque  # a decoder may forget it when it conceals errors
            damaged = (frame.is_corrupt and source not in undamaged) or source in spoilt or (damaged and not frame.key_frame)
            yield source, frame, damaged


def _decode_all(
    container: av.container.InputContainer, stream: av.VideoStream, packets: Packets, max_pixels: int, jump: float
) -> tuple[list[tuple[int, int]], bool]:
    """For each picture its number among those decoded (-1: unreadable), and its packet's; whether any has fields."""
    entries, count, fields = [], 0, False
    for packet, frame, damaged in decoded_frames(container, stream, max_pixels, packets.undamaged_at_joins(jump)):
        number, count = (-1, count) if frame is None else (count, count + 1)
        fields = fields or (frame is not None and frame.interlaced_frame)
        if packets.shown[packet]:
            entries.append((-1 if damaged else number, packet))
    return entries, fields
