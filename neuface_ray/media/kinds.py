"""What kind of file it is, by its first bytes; a name's suffix decides only where these say nothing."""

from __future__ import annotations

import os
import re
from enum import Enum

HEAD_BYTES = 4096


class Kind(Enum):
    """VIDEO: for FFmpeg. STILL: one picture. PICTURES: a picture format that may hold several: pages, or an animation."""

    VIDEO = "video"
    STILL = "still"
    PICTURES = "pictures"


VIDEO_NAMES = "mp4 mov m4v avi mkv webm mpg mpeg ts mts m2ts flv wmv 3gp ogv y4m mxf dv"
IMAGE_NAMES = "jpg jpeg png bmp tif tiff webp ppm pgm pnm jp2 avif mpo gif heic heif"
VIDEO_SUFFIXES = frozenset(f".{name}" for name in VIDEO_NAMES.split())
IMAGE_SUFFIXES = frozenset(f".{name}" for name in IMAGE_NAMES.split())
STILL_HEADS = (b"\xff\xd8\xff", b"\x00\x00\x00\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")
PNM_HEAD = re.compile(rb"P[1-6][ \t\r\n]+(#|\d+\s)")
PICTURES_HEADS = (b"GIF87a", b"GIF89a", b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
PICTURE_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevm", b"hevs", b"mif1", b"mif2", b"avif", b"avis", b"jpeg"))
VIDEO_HEADS = (
    *(b"\x1aE\xdf\xa3", b"FLV\x01", b"OggS", b"0&\xb2u\x8ef\xcf\x11", b"DKIF", b"YUV4MPEG2 ", b"\x06\x0e+4\x02\x05\x01\x01"),
    *(b".RMF", b"nut/multimedia", b"\x1f\x07\x00", b"\x12\x00\x0a", b"BBCD"),
)
BOXES = frozenset((b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot", b"moof", b"styp"))
START_CODE = re.compile(rb"\x00{2,3}\x01(?P<first>.)(?P<rest>.{4})", re.DOTALL)
PACKET_SIZES, SYNC = (188, 192, 204), 0x47  # of transport streams: plain, with times (Blu-ray), with error correction
RAW_CAMERA = {".cr2", ".cr3", ".nef", ".arw", ".dng", ".orf", ".rw2", ".pef", ".raf", ".srw", ".nrw"}
SOUND_BRANDS = frozenset((b"M4A ", b"M4B ", b"M4P "))


def kind_of(head: bytes, name: str) -> Kind | None:
    """The kind of a file from its first ``HEAD_BYTES`` and, if they are unknown, from its name; None for anything else."""
    found = kind_of_content(head)
    suffix = os.path.splitext(name)[1].lower()
    if found is Kind.STILL and suffix in (".mjpeg", ".mjpg"):
        return Kind.VIDEO
    return found or kind_of_name(name)


def kind_of_name(name: str) -> Kind | None:
    """What the suffix promises."""
    suffix = os.path.splitext(name)[1].lower()
    return Kind.VIDEO if suffix in VIDEO_SUFFIXES else Kind.PICTURES if suffix in IMAGE_SUFFIXES else None


def kind_of_content(head: bytes) -> Kind | None:
    """What the first bytes say, None if nothing."""
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return Kind.STILL if b"IDAT" in head and b"acTL" not in head[: head.find(b"IDAT")] else Kind.PICTURES
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return Kind.PICTURES
    if head.startswith(PICTURES_HEADS):
        return Kind.PICTURES
    bitmap = head.startswith(b"BM") and head[6:10] == bytes(4)
    if head.startswith(STILL_HEADS) or bitmap or PNM_HEAD.match(head):
        return Kind.STILL
    if head[4:8] == b"ftyp" and head[8:12] in PICTURE_BRANDS:
        return Kind.PICTURES
    if head[4:8] in BOXES or head.startswith(VIDEO_HEADS) or _is_stream(head):
        return Kind.VIDEO
    return Kind.VIDEO if head[:4] == b"RIFF" and head[8:11] == b"AVI" else None


def why_left_out(head: bytes, name: str) -> str | None:
    """Why a file of a folder is not taken although it is a picture or sound in a known container; None if it is taken."""
    suffix = os.path.splitext(name)[1].lower()
    if suffix in RAW_CAMERA or (head[8:10] == b"CR" and head.startswith(b"II*\x00")):
        return "a camera's raw file; develop it to a picture first"
    return "sound only" if head[4:8] == b"ftyp" and head[8:12] in SOUND_BRANDS else None


def _is_stream(head: bytes) -> bool:
    """True for MPEG transport streams, wherever they were cut, and for streams that begin with a start code."""
    for size in PACKET_SIZES:
        last = len(head) - 4 * size
        if any(head[at] == SYNC and all(byte == SYNC for byte in head[at::size]) for at in range(min(size, max(last, 0)))):
            return True
    code = START_CODE.match(head)
    if code is None:
        return False
    first = code["first"][0]
    if first < 0x20:  # an object of MPEG-4, whose layer follows; icons begin alike
        return first in (6, 9) or (code["rest"][:3] == b"\x00\x00\x01" and 0x20 <= code["rest"][3] < 0x30)
    mpeg, h264, hevc = first in (0xB0, 0xB3, 0xB5, 0xBA, 0x0F), first & 0x9F == 7, first >> 1 in (32, 33, 35)
    return mpeg or h264 or hevc
