"""Photographs, pages and animations to pixels, through Pillow and libheif."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator, Sequence

import numpy as np
import pillow_heif
from PIL import Image, ImageOps

from neuface_ray.errors import DataError
from neuface_ray.media.config import Limits
from neuface_ray.media.upright import composited

IMAGE_FORMATS = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "PPM", "AVIF", "HEIF", "JPEG2000", "GIF")
MOVING_FORMATS = ("PNG", "WEBP", "GIF", "AVIF")
PAGED_FORMATS = ("TIFF", "HEIF")
SHORTEST_MS, USUAL_MS = 10, 100
"""Durations up to the first are shown for the second, as all browsers do."""
DNG_VERSION, SUBFILE_TYPE, REDUCED = 50706, 254, 1  # tags of TIFF; small copies have this bit set
ORIENTATION, MOST_PROPERTIES = 0x0112, 1 << 20
pillow_heif.register_heif_opener()


def read_image(path: str, limits: Limits, page: int = 0, notes: set[str] | None = None) -> np.ndarray:
    """A photograph, or one page of several, as (H, W, 3) uint8 RGB, upright by its EXIF tag, over white where transparent;
    16-bit, grey, palette and CMYK are converted.

    Adds ``alpha_composited`` to ``notes`` where pixels were hidden.

    Raises:
        DataError: ``not_media``, ``truncated``, ``empty_range`` (no such page) or ``too_large``; the size is checked before
            any pixel is decoded.
    """
    with _opened(path, limits) as image:
        pages = page_numbers(image)
        if page >= len(pages):
            raise DataError(f"{path}: has {len(pages)} pages, page {page + 1} was asked for", code="empty_range")
        if pages[page]:
            image.seek(pages[page])
            _check_pixels(image, path, limits)
        image.load()
        if image.format == "HEIF" and not _turned_by_container(path):
            image.getexif()[ORIENTATION] = image.info.get("original_orientation") or 1
        return _as_rgb(ImageOps.exif_transpose(image), set() if notes is None else notes)


def page_numbers(image: Image.Image) -> list[int]:
    """The pictures of a file that stand beside each other: one unless it is TIFF or HEIF; small copies of others left out."""
    if image.format not in PAGED_FORMATS or getattr(image, "n_frames", 1) == 1:
        return [0]
    pages = []
    for number in range(image.n_frames):
        image.seek(number)
        if not (image.format == "TIFF" and image.tag_v2.get(SUBFILE_TYPE, 0) & REDUCED):
            pages.append(number)
    image.seek(0)
    return pages or [0]


def open_pictures(path: str, limits: Limits) -> tuple[int, bool]:
    """How many pictures a file of a picture format holds, and whether they move: an animation, not pages.

    Raises:
        DataError: as ``read_image``.
    """
    with _opened(path, limits) as image:
        if image.format in MOVING_FORMATS:
            count = getattr(image, "n_frames", 1) - _hidden_first(image)
            return max(count, 1), count > 1
        return len(page_numbers(image)), False


def animation_durations(path: str, limits: Limits) -> tuple[np.ndarray, np.ndarray, tuple[int, int]]:
    """Durations (N,) in ms of an animation's pictures as written and as shown, and its width and height.

    Raises:
        DataError: as ``read_image``.
    """
    written = []
    with _opened(path, limits) as image:
        first = _hidden_first(image)
        for number in range(first, image.n_frames):
            if number - first >= limits.max_frames:
                raise DataError(f"{path}: more than media.limits.max_frames={limits.max_frames} frames", code="too_large")
            try:
                image.seek(number)
                image.load()
            except (EOFError, OSError, ValueError, SyntaxError):
                break
            written.append(float(image.info.get("duration", 0)))
        size = image.size
    if not written:
        raise DataError(f"{path}: no picture of the animation can be read", code="truncated")
    durations = np.array(written)
    return durations, np.where(durations <= SHORTEST_MS, USUAL_MS, durations), size


def read_animation(path: str, wanted: Sequence[int], limits: Limits, notes: set[str]) -> Iterator[np.ndarray | None]:
    """The pictures with the ascending numbers ``wanted``, as ``read_image`` gives them; None where one cannot be read."""
    with _opened(path, limits) as image:
        first = _hidden_first(image)
        for number in wanted:
            try:
                image.seek(first + number)
                image.load()
                yield _as_rgb(ImageOps.exif_transpose(image), notes)
            except (EOFError, OSError, ValueError, SyntaxError):
                yield None


def _hidden_first(image: Image.Image) -> int:
    """1 if the first picture of an APNG is only for programs that do not know animations."""
    return int(bool(getattr(image, "default_image", False)))


@contextlib.contextmanager
def _opened(path: str, limits: Limits) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own warning about large images: limits.max_pixels rules
            with Image.open(path, formats=IMAGE_FORMATS) as image:
                _check_pixels(image, path, limits)
                _check_not_raw(image, path)
                yield image
    except DataError:
        raise
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: too many pixels: {error}", code="too_large") from error
    except OSError as error:
        code = "truncated" if "truncated" in str(error) else "not_media"
        raise DataError(f"{path}: not a readable image ({_reason(error)})", code=code) from error
    except (ValueError, SyntaxError, TypeError, IndexError, OverflowError, MemoryError, RuntimeError, EOFError) as error:
        raise DataError(f"{path}: not a readable image ({_reason(error)})", code="not_media") from error


def _turned_by_container(path: str) -> bool:
    """True if a HEIF file says in its own way how it is turned or mirrored: libheif does that, and the EXIF tag is void."""
    with open(path, "rb") as file:
        while len(header := file.read(8)) == 8:
            length = int.from_bytes(header[:4], "big")
            if header[4:] == b"meta":
                properties = file.read(min(max(length - 8, 0), MOST_PROPERTIES))
                return b"irot" in properties or b"imir" in properties
            if length < 8:
                return False
            file.seek(length - 8, os.SEEK_CUR)
    return False


def _as_rgb(image: Image.Image, notes: set[str]) -> np.ndarray:
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, np.float64)
        top = 65535.0 if image.mode.startswith("I") else max(1.0, float(np.nanmax(values)))
        grey = np.clip(np.nan_to_num(values) * (255.0 / top), 0, 255).round().astype(np.uint8)
        return np.repeat(grey[..., None], 3, -1)
    if not image.has_transparency_data:
        return np.array(image.convert("RGB"))
    rgba = np.array(image.convert("RGBA"))
    if (rgba[..., 3] < 255).any():
        notes.add("alpha_composited")
    return composited(rgba)


def _check_pixels(image: Image.Image, path: str, limits: Limits) -> None:
    width, height = image.size
    if width * height > limits.max_pixels:
        message = f"{path}: {width}x{height} is above media.limits.max_pixels={limits.max_pixels}"
        raise DataError(message, code="too_large")


def _check_not_raw(image: Image.Image, path: str) -> None:
    """Raises DataError for a camera's raw file, of which a TIFF reader sees a thumbnail."""
    tags = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    if DNG_VERSION in tags:
        raise DataError(f"{path}: a camera's raw file; develop it to a picture first", code="not_media")


def _reason(error: BaseException) -> str:
    return getattr(error, "strerror", None) or type(error).__name__
