"""From what the user names to a list of segments that can be counted before a pixel is decoded.

Videos are demuxed (not decoded) for their true number of frames, several at a time. An input that cannot be read does not
stop the others: it becomes a segment with the empty range ``[0, 0)``, which fails in ``prepare`` with its own reason, so
that committed plus quarantined segments always equal planned ones.

Every still is a sequence of its own, and every video. Files are joined to synchronised views by a manifest's ``sequence``
column, by MEAD's layout, or by ``views=folder``, which takes the files of each folder for views of one sequence.
"""

from __future__ import annotations

import glob
import hashlib
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import fsspec
import numpy as np

from neuface_ray.errors import DataError, UsageError
from neuface_ray.extras import check_scheme
from neuface_ray.media import manifest
from neuface_ray.media.config import MediaConfig
from neuface_ray.media.decode import probe_video, sampled_frames
from neuface_ray.media.layouts import Place, recognise
from neuface_ray.media.source import open_local
from neuface_ray.types import Segment, View
from neuface_ray.uri import SourceUri, is_remote, local_path, local_uri

VIDEO_NAMES = "mp4 mov m4v avi mkv webm mpg mpeg ts mts m2ts flv wmv 3gp ogv gif y4m mxf dv"
IMAGE_NAMES = "jpg jpeg png bmp tif tiff webp ppm pgm pnm jp2 avif mpo"
VIDEO_SUFFIXES = frozenset(f".{name}" for name in VIDEO_NAMES.split())
IMAGE_SUFFIXES = frozenset(f".{name}" for name in IMAGE_NAMES.split())
PROBES_AT_ONCE = 8


@dataclass(frozen=True)
class Recording:
    """Synchronised views of one sequence, before it is cut into segments; times in seconds."""

    sequence: str
    views: tuple[View, ...]
    is_image: bool
    person: str | None = None
    licence: str | None = None
    start: float | None = None
    end: float | None = None


def plan(input: str | os.PathLike[str], options: MediaConfig) -> list[Segment]:
    """Segments of one video or image, a folder, a glob or a manifest, in a fixed order, each id once.

    Raises:
        UsageError: the path does not exist, nothing was found, or the manifest is wrong.
    """
    recordings = find_recordings(os.fspath(input), options)
    with ThreadPoolExecutor(PROBES_AT_ONCE) as pool:
        parts = list(pool.map(partial(_segments, options=options), recordings))
    return [segment for part in parts for segment in part]


def find_recordings(input: str, options: MediaConfig) -> list[Recording]:
    """What ``input`` names, not yet opened; see ``plan``."""
    if os.path.splitext(input.partition("?")[0] if is_remote(input) else input)[1].lower() in manifest.SUFFIXES:
        uri = SourceUri(input) if is_remote(input) else local_uri(os.path.expanduser(input))
        return _from_manifest(manifest.read_manifest(uri, options), options)
    root, found = _list_remote(input, options) if is_remote(input) else _list_local(input, options)
    recordings = _from_files(root, found, options)
    if not recordings:
        raise UsageError(f"input={SourceUri(input)!s}: no file fits media.layout={options.layout}")
    return recordings


def segment_identity(sequence: str, views: Sequence[View], ranges: Sequence[int], stride: int, fps: float | None) -> str:
    """Twenty hex digits over (sequence, view URIs, range, sampling)."""
    content = json.dumps([sequence, [str(view.uri) for view in views], [int(x) for x in ranges], stride, fps])
    return hashlib.sha256(content.encode()).hexdigest()[:20]


def split_range(start: int, stop: int, max_frames: int, overlap: int) -> list[tuple[int, int, int, int]]:
    """Cuts ``[start, stop)`` into equal parts: (start, stop, context_start, context_stop) of each.

    The parts differ by one frame at most, and with their context hold at most ``max_frames``.
    """
    total = stop - start
    count = 1 if total <= max_frames else -(-total // (max_frames - 2 * overlap))
    edges = [start + total * k // count for k in range(count + 1)]
    return [(a, b, max(start, a - overlap), min(stop, b + overlap)) for a, b in itertools.pairwise(edges)]


def _list_local(input: str, options: MediaConfig) -> tuple[str, list[str]]:
    """Folder that names are relative to, and the files of a local file, folder or glob, sorted."""
    path = os.path.expanduser(local_path(input))
    if os.path.isdir(path):
        found = sorted(_walk(path))
        if not found:
            raise UsageError(f"input={input}: the folder holds no video or image; known are {', '.join(sorted(_known()))}")
        root = path
    elif os.path.lexists(path):
        root, found = os.path.dirname(os.path.abspath(path)), [path]
    elif glob.has_magic(path):
        found = sorted(p for p in glob.glob(path, recursive=True) if not os.path.isdir(p) and _suffix(p) in _known())
        if not found:
            raise UsageError(f"input={input}: the pattern matches no video or image")
        root = os.path.commonpath([os.path.dirname(os.path.abspath(p)) for p in found])
    else:
        raise UsageError(f"input={input}: does not exist")
    _check_count(len(found), input, options)
    return os.path.abspath(root), [local_uri(p) for p in found]


def _list_remote(input: str, options: MediaConfig) -> tuple[str, list[str]]:
    """As ``_list_local``, through fsspec."""
    shown = SourceUri(input)
    check_scheme(shown)
    try:
        filesystem, path = fsspec.core.url_to_fs(input)
        if glob.has_magic(_path(shown)):
            found = [filesystem.unstrip_protocol(p) for p in filesystem.glob(path)]
        elif _suffix(_path(shown)) in _known():
            return os.path.dirname(_path(shown)), [shown]
        else:
            found = [filesystem.unstrip_protocol(p) for p in filesystem.find(path)]
    except Exception as error:  # each backend raises errors of its own, whose text may hold the credentials
        raise UsageError(f"input={shown!s}: cannot be listed ({type(error).__name__})") from None
    found = sorted(uri for uri in found if _suffix(uri) in _known())
    if not found:
        raise UsageError(f"input={shown!s}: holds no video or image")
    _check_count(len(found), str(shown), options)
    uris = [SourceUri(uri) for uri in found]
    return os.path.commonpath([os.path.dirname(_path(uri)) for uri in uris]), uris


def _walk(folder: str) -> Iterable[str]:
    """Media files below ``folder``, links followed once; hidden files are skipped, empty folders named like media are not."""
    visited: set[str] = set()
    for base, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(base)
        if real in visited:
            folders.clear()
            continue
        visited.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(base, name) for name in names if not name.startswith(".") and _suffix(name) in _known())
        if base != folder and _suffix(base) in _known() and not names and not folders:
            yield base


def _from_files(root: str, uris: Sequence[str], options: MediaConfig) -> list[Recording]:
    paths = [_path(uri) for uri in uris]
    groups: dict[tuple[str, str, bool], list[tuple[str, str, str | None]]] = {}
    for uri, path, place in zip(uris, paths, _places(paths, root, options), strict=True):
        if place is not None:
            key = place.root, place.sequence, _suffix(path) in IMAGE_SUFFIXES
            groups.setdefault(key, []).append((_printable(place.view), uri, place.person))
    recordings, used = [], set()
    for (_, sequence, is_image), group in groups.items():
        name = base = _printable(sequence)
        number = 2
        while name in used:
            name, number = f"{base}#{number}", number + 1
        used.add(name)
        views = tuple(View(view, uri) for view, uri, _ in sorted(group, key=lambda member: member[:2]))
        recordings.append(Recording(name, views, is_image, person=group[0][2]))
    return recordings


def _places(paths: Sequence[str], root: str, options: MediaConfig) -> list[Place | None]:
    """Sequence and view of every file; None for files that an explicitly chosen layout does not know."""
    names = [path.removeprefix(root.rstrip("/") + "/") for path in paths]
    stems = [os.path.splitext(name)[0] for name in names]
    shared = Counter(stems)
    short = [stem if shared[stem] == 1 else name for stem, name in zip(stems, names, strict=True)]
    if options.views == "folder":
        outer = os.path.basename(root.rstrip("/")) or "views"
        return [Place(os.path.dirname(name) or outer, os.path.basename(name), None, root) for name in short]
    loose = options.layout in ("auto", "files")
    files = [Place(name, "front", None, root) if loose else None for name in short]
    return [recognise(path, options.layout) or file for path, file in zip(paths, files, strict=True)]


def _from_manifest(entries: Sequence[manifest.Entry], options: MediaConfig) -> list[Recording]:
    groups: dict[str, list[manifest.Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.sequence or _default_sequence(entry), []).append(entry)
    return [_recording(sequence, group) for sequence, group in groups.items()]


def _recording(sequence: str, group: Sequence[manifest.Entry]) -> Recording:
    first = group[0]
    for other in group[1:]:
        if (other.start, other.end) != (first.start, first.end):
            raise UsageError(f"{other.where}: start and end differ from those of the sequence's first view ({first.where})")
        if other.person != first.person:
            raise UsageError(f"{other.where}: person differs from that of the sequence's first view ({first.where})")
    names = [entry.view or (f"view{k}" if len(group) > 1 else "front") for k, entry in enumerate(group)]
    if len(set(names)) < len(names):
        repeated = next(name for name in names if names.count(name) > 1)
        raise UsageError(f"{first.where}: sequence {sequence!r} names the view {repeated!r} twice")
    kinds = {_suffix(_path(entry.uri)) in IMAGE_SUFFIXES for entry in group}
    if len(kinds) > 1:
        raise UsageError(f"{first.where}: sequence {sequence!r} mixes stills and videos")
    views = sorted(zip(names, group, strict=True), key=lambda pair: pair[0])
    return Recording(
        sequence=_printable(sequence),
        views=tuple(View(name, entry.uri, entry.camera) for name, entry in views),
        is_image=kinds.pop(),
        person=first.person,
        licence=first.licence,
        start=first.start,
        end=first.end,
    )


def _default_sequence(entry: manifest.Entry) -> str:
    stem = os.path.splitext(_path(entry.uri))[0].lstrip("/")
    span = (
        ""
        if entry.start is None and entry.end is None
        else f"@{entry.start or 0:g}-{'' if entry.end is None else f'{entry.end:g}'}"
    )
    return stem + span


def _segments(recording: Recording, options: MediaConfig) -> list[Segment]:
    ranges = [(0, 1, 0, 1)] if recording.is_image else _ranges(recording, options)
    stride, fps = (1, None) if recording.is_image else (options.stride, options.fps)
    return [
        Segment(
            segment_id=segment_identity(recording.sequence, recording.views, frames, stride, fps),
            sequence_id=recording.sequence,
            views=recording.views,
            start=frames[0],
            stop=frames[1],
            context_start=frames[2],
            context_stop=frames[3],
            person=recording.person,
            stride=stride,
            fps=fps,
            is_image=recording.is_image,
            licence=recording.licence,
        )
        for frames in ranges
    ]


def _ranges(recording: Recording, options: MediaConfig) -> list[tuple[int, int, int, int]]:
    """Ranges of a video's segments; one empty range if a view cannot be read or has no frames there."""
    first, last = np.inf, 0
    for view in recording.views:
        try:
            with open_local(view.uri, options.limits.max_file_bytes) as path:
                facts = probe_video(path, options.limits)
        except DataError:
            return [(0, 0, 0, 0)]
        times = facts.times_s[sampled_frames(facts, options.stride, options.fps)]
        first = min(first, np.searchsorted(times, (recording.start or 0.0) - 1e-6))
        last = max(last, len(times) if recording.end is None else np.searchsorted(times, recording.end - 1e-6))
    if last <= first:
        return [(0, 0, 0, 0)]
    return split_range(int(first), int(last), options.max_frames, options.overlap)


def _check_count(count: int, input: str, options: MediaConfig) -> None:
    if count > options.limits.max_files:
        raise UsageError(f"input={input}: {count} files, more than media.limits.max_files={options.limits.max_files}")


def _path(uri: str) -> str:
    return str(uri).partition("?")[0].partition("://")[2] if is_remote(uri) else local_path(uri)


def _suffix(path: str) -> str:
    return os.path.splitext(path)[1].lower()


def _known() -> frozenset[str]:
    return VIDEO_SUFFIXES | IMAGE_SUFFIXES


def _printable(name: str) -> str:
    """A name for tables: control characters and bytes that are not UTF-8 become underscores."""
    return re.sub(r"[\x00-\x1f\x7f\ud800-\udfff]", "_", name)
