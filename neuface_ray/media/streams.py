"""Containers: opened with what may be read, the one of their streams that is the video, and its decoder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

import av
from av.codec.context import Flags
from av.stream import Disposition

from neuface_ray.errors import DataError
from neuface_ray.media.packets import Packets

VIDEO_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpeg,mpegts,mpegvideo,m4v,h264,hevc,vvc,obu,vc1,vc1test,h263,mjpeg,cavsvideo,"
    "dirac,ivf,flv,asf,ogg,yuv4mpegpipe,mxf,dv,nut,rm"
)
NOT_A_VIDEO = Disposition.attached_pic | Disposition.timed_thumbnails | Disposition.still_image
TRANSPARENT = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders that read the transparency of VP8 and VP9, which FFmpeg's own leave out."""
av.logging.set_level(None)


@contextlib.contextmanager
def open_container(path: str) -> Iterator[av.container.InputContainer]:
    """The container at ``path``, closed at the end; playlists, which could name other files, are refused.

    Raises:
        DataError: ``not_media`` or ``truncated``.
    """
    try:
        container = av.open(path, container_options={"format_whitelist": VIDEO_FORMATS}, metadata_errors="replace")
    except (av.error.FFmpegError, ValueError, OSError) as error:
        if _box_beyond_end(path):
            raise DataError(f"{path}: the file was cut off; its index is missing", code="truncated") from error
        raise DataError(f"{path}: not a video that can be read ({reason(error)})", code="not_media") from error
    with container:
        yield container


def video_streams(container: av.container.InputContainer, path: str) -> list[av.VideoStream]:
    """The streams that may be the video: no cover pictures, no thumbnails.

    Raises:
        DataError: ``no_video_stream``, or ``not_media`` if no decoder knows any of them.
    """
    streams = [stream for stream in container.streams.video if not stream.disposition & NOT_A_VIDEO]
    if not streams:
        raise DataError(f"{path}: has no video stream", code="no_video_stream")
    known = [stream for stream in streams if stream.codec_context is not None]
    if not known:
        raise DataError(f"{path}: no decoder knows its video", code="not_media")
    return known


def choose_stream(streams: list[av.VideoStream], packets: dict[int, Packets]) -> av.VideoStream:
    """The video among several streams: of those with more than one picture the one flagged as default; if none or several are,
    the largest width x height x duration, and then the lowest index."""
    tracks = [stream for stream in streams if len(packets[stream.index]) > 1] or streams
    flagged = [stream for stream in tracks if stream.disposition & Disposition.default]

    def extent(stream: av.VideoStream) -> float:
        seconds = packets[stream.index].span * float(stream.time_base or 1)
        return stream.codec_context.width * stream.codec_context.height * seconds

    return max(flagged if len(flagged) == 1 else tracks, key=lambda stream: (extent(stream), -stream.index))


def open_decoder(stream: av.VideoStream, max_pixels: int) -> av.VideoCodecContext:
    """A decoder on one thread, whose frames tell the number of their packet if that was given as ``opaque``."""
    context = stream.codec_context
    name = TRANSPARENT.get(context.name)
    if name in av.codecs_available and stream.metadata.get("alpha_mode") == "1":
        context = av.CodecContext.create(name, "r")
    context.thread_type, context.thread_count = "SLICE", 1
    context.flags |= Flags.copy_opaque
    context.options = {"max_pixels": str(max_pixels)}
    return context


def reason(error: BaseException) -> str:
    """The transport's words without the file name, which the caller's message has already."""
    return getattr(error, "strerror", None) or type(error).__name__


def _box_beyond_end(path: str) -> bool:
    """True for an MP4 or QuickTime file whose top-level boxes reach beyond its end."""
    size, position = os.path.getsize(path), 0
    with open(path, "rb") as file:
        while position + 8 <= size:
            file.seek(position)
            header = file.read(16)
            length = int.from_bytes(header[:4], "big")
            if position == 0 and header[4:8] not in (b"ftyp", b"moov", b"mdat", b"wide", b"free"):
                return False
            if length == 1:
                length = int.from_bytes(header[8:16], "big")
            if length < 8:
                return False
            position += length
    return position > size
