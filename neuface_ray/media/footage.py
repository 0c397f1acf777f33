"""Footage of any kind behind one door: a video, an animation, the pages of a file, or numbered stills."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import fsspec
import numpy as np

from neuface_ray.errors import DataError
from neuface_ray.media import decord
from neuface_ray.media.config import Limits
from neuface_ray.media.decode import VideoFacts, probe_video, read_video
from neuface_ray.media.kinds import HEAD_BYTES, Kind, kind_of
from neuface_ray.media.source import open_local
from neuface_ray.media.stills import open_pictures, read_image
from neuface_ray.uri import SourceUri, content_hash, is_remote, local_path, local_uri

NUMBER = re.compile(r"(?P<before>(?:.*\D)?)(?P<number>\d+)(?P<after>\D*)", re.DOTALL)
STILL_FPS = 1.0


@dataclass(frozen=True)
class Footage:
    """What can be read of one view.

    Args:
        facts: times of its frames. read: yields (H, W, 3) uint8 RGB as shown, None where one is unreadable, for ascending frame
            numbers, and adds to a set what was done. content_hash: sha256 of its bytes.
    """

    facts: VideoFacts
    read: Callable[[Sequence[int], set[str]], Iterator[np.ndarray | None]]
    content_hash: Callable[[], str]


@contextlib.contextmanager
def open_footage(uri: str, limits: Limits, stills_fps: float | None = None, decoder: str = "pyav") -> Iterator[Footage]:
    """A video or an animation; with ``stills_fps`` numbered stills, or the pages of a file, of this rate.

    Args:
        decoder: of videos, as ``media.decoder``.

    Raises:
        DataError: it cannot be opened, as for `open_local`, `probe_video` and `read_image`; with ``uri`` in the message.
    """
    if stills_fps is not None and is_pattern(uri):
        yield _numbered(uri, limits, stills_fps)
        return
    with open_local(uri, limits.max_file_bytes) as path, _named(path, uri):
        yield _video(path, limits, decoder) if stills_fps is None else _pages(path, limits, stills_fps)


@contextlib.contextmanager
def open_source(uri: str, limits: Limits) -> Iterator[Footage]:
    """Footage by what a dataset says of it, its URI alone; frames are then found by their ``source_frame``.

    Raises:
        DataError: as ``open_footage``.
    """
    if is_pattern(uri):
        yield _numbered(uri, limits, STILL_FPS)
        return
    with open_local(uri, limits.max_file_bytes) as path, _named(path, uri):
        yield _pages(path, limits, STILL_FPS) if _is_still(path, limits) else _video(path, limits)


def pattern_of(uri: str) -> str | None:
    """The URI with the last number of the file's name replaced by ``%d``; None if the name holds none."""
    address = getattr(uri, "address", uri)
    folder, slash, name = address.rpartition("/")
    stem, suffix = os.path.splitext(name)
    found = None if "?" in address else NUMBER.fullmatch(stem)
    if found is None:
        return None
    before, after = (found[part].replace("%", "%%") for part in ("before", "after"))
    pattern = f"{folder}{slash}{before}%d{after}{suffix.replace('%', '%%')}"
    return SourceUri(pattern) if is_remote(uri) else pattern


def is_pattern(uri: str) -> bool:
    """True if a URI names numbered stills, not a file."""
    name = str(uri).rpartition("/")[2]
    return "%d" in name.replace("%%", "") and (is_remote(uri) or not os.path.lexists(local_path(uri)))


def number_in(uri: str) -> tuple[int, str]:
    """What numbered files are ordered by: their number, then the text."""
    found = NUMBER.fullmatch(os.path.splitext(str(uri).rpartition("/")[2])[0])
    return int(found["number"]), str(uri)


def numbered_files(pattern: str) -> list[str]:
    """The files that a URI with ``%d`` names, in the order of their numbers.

    Raises:
        DataError: ``not_found`` or ``unreachable``.
    """
    address = getattr(pattern, "address", pattern)
    folder, _, name = address.rpartition("/")
    parts = [re.escape(part.replace("%%", "%")) for part in re.split(r"(?<!%)(?:%%)*%d", name, maxsplit=1)]
    wanted = re.compile(r"\d+".join(parts))
    try:
        if is_remote(pattern):
            filesystem, path = fsspec.core.url_to_fs(folder)
            names = [each["name"].rpartition("/")[2] for each in filesystem.ls(path, detail=True)]
        else:
            names = os.listdir(local_path(folder))
    except FileNotFoundError:
        names = []
    except Exception as error:  # each fsspec backend raises errors of its own, whose text may hold the credentials
        raise DataError(f"{pattern!s}: cannot be listed ({type(error).__name__})", code="unreachable") from None
    found = [f"{folder}/{name}" for name in names if wanted.fullmatch(name)]
    if not found:
        raise DataError(f"{pattern!s}: does not exist", code="not_found")
    return sorted((SourceUri(uri) if is_remote(pattern) else local_uri(local_path(uri)) for uri in found), key=number_in)


def _video(path: str, limits: Limits, decoder: str = "pyav") -> Footage:
    facts = probe_video(path, limits)

    def read(frames: Sequence[int], notes: set[str]) -> Iterator[np.ndarray | None]:
        by_decord = decoder == "decord" and not facts.animation
        images = decord.read_video(path, facts, frames, limits) if by_decord else read_video(path, facts, frames, limits, notes)
        yield from (image for _, image in images)

    return Footage(facts, read, lambda: content_hash(path))


def _numbered(pattern: str, limits: Limits, fps: float) -> Footage:
    files = numbered_files(pattern)

    def read(frames: Sequence[int], notes: set[str]) -> Iterator[np.ndarray | None]:
        for frame in frames:
            try:
                with open_local(files[frame], limits.max_file_bytes) as path:
                    yield read_image(path, limits, 0, notes)
            except DataError:
                yield None

    def hashed() -> str:
        digest = hashlib.sha256()
        for file in files:
            with open_local(file, limits.max_file_bytes) as path:
                digest.update(content_hash(path).encode())
        return digest.hexdigest()

    return Footage(_steady(len(files), fps), read, hashed)


def _pages(path: str, limits: Limits, fps: float) -> Footage:
    count, moves = open_pictures(path, limits)

    def read(frames: Sequence[int], notes: set[str]) -> Iterator[np.ndarray | None]:
        for frame in frames:
            yield read_image(path, limits, frame, notes)

    return Footage(_steady(1 if moves else count, fps), read, lambda: content_hash(path))


def _steady(count: int, fps: float) -> VideoFacts:
    numbers = np.arange(count)
    return VideoFacts(numbers / fps, np.full(count, np.nan), numbers, False, fps, 0, 0)


def _is_still(path: str, limits: Limits) -> bool:
    with open(path, "rb") as file:
        kind = kind_of(file.read(HEAD_BYTES), path)
    return kind is Kind.STILL or (kind is Kind.PICTURES and not open_pictures(path, limits)[1])


@contextlib.contextmanager
def _named(path: str, uri: str) -> Iterator[None]:
    """Errors name the URI, not the place to which it was fetched."""
    try:
        yield
    except DataError as error:
        raise DataError(str(error).replace(path, uri), code=error.code) from error
