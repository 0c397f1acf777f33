"""From what the user names to a list of segments that can be counted before a pixel is decoded.

Videos are demuxed (and decoded only where that tells too little) for their true number of frames, several at a time. An input
that cannot be read does not stop the others: it becomes a segment with the empty range ``[0, 0)``, which fails in ``prepare``
with its own reason, so that committed plus quarantined segments always equal planned ones.

Every still is a sequence of its own, and every page, and every video. Files are joined to synchronised views by a manifest's
``sequence`` column, by MEAD's layout, or by ``views=folder``, which takes the files of each folder for views of one sequence.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial

from neuface_ray.errors import DataError, UsageError
from neuface_ray.media import manifest
from neuface_ray.media.config import MediaConfig
from neuface_ray.media.find import Found, LeftOut, has_usual_name, list_local, list_remote, manifest_kind, path_of
from neuface_ray.media.footage import is_pattern, open_footage, pattern_of
from neuface_ray.media.kinds import Kind
from neuface_ray.media.layouts import Place, recognise
from neuface_ray.media.source import open_local
from neuface_ray.media.stills import open_pictures
from neuface_ray.media.synchrony import schedule
from neuface_ray.types import Segment, View
from neuface_ray.uri import SourceUri, is_remote, local_uri, uri_identity

PROBES_AT_ONCE = 8


@dataclass(frozen=True)
class Recording:
    """Synchronised views of one sequence, before it is cut into segments; times in seconds.

    Args:
        stills_fps: the views are numbered stills that make a clip. several: a still's file may hold several pictures.
    """

    sequence: str
    views: tuple[View, ...]
    is_image: bool
    person: str | None = None
    licence: str | None = None
    start: float | None = None
    end: float | None = None
    stills_fps: float | None = None
    several: bool = False


@dataclass(frozen=True)
class Plan:
    """The segments of an input, in a fixed order, each id once; and what was found in it and not taken."""

    segments: list[Segment]
    left_out: list[LeftOut]


def plan(input: str | os.PathLike[str], options: MediaConfig) -> list[Segment]:
    """Segments of one video or image, a folder, a glob or a manifest; see ``make_plan``, which also tells what is left out."""
    return make_plan(input, options).segments


def make_plan(input: str | os.PathLike[str], options: MediaConfig) -> Plan:
    """Segments of one video or image, a folder, a glob or a manifest.

    Raises:
        UsageError: the path does not exist, nothing was found, or the manifest is wrong.
    """
    recordings, left_out = survey(os.fspath(input), options)
    with ThreadPoolExecutor(PROBES_AT_ONCE) as pool:
        parts = list(pool.map(partial(_segments, options=options), recordings))
    return Plan([segment for part in parts for segment in part], left_out)


def find_recordings(input: str, options: MediaConfig) -> list[Recording]:
    """What ``input`` names, not yet opened; see ``survey``."""
    return survey(input, options)[0]


def survey(input: str, options: MediaConfig) -> tuple[list[Recording], list[LeftOut]]:
    """What ``input`` names, not yet opened but for the first bytes, and what is not taken; raises as ``make_plan``."""
    if os.path.splitext(input.partition("?")[0] if is_remote(input) else input)[1].lower() in manifest.SUFFIXES:
        uri = SourceUri(input) if is_remote(input) else local_uri(os.path.expanduser(input))
        return _from_manifest(manifest.read_manifest(uri, options), options), []
    found = list_remote(input, options) if is_remote(input) else list_local(input, options)
    recordings, strangers = _from_files(found, options)
    if not recordings:
        raise UsageError(f"input={SourceUri(input)!s}: no file fits media.layout={options.layout}")
    return recordings, [*found.left_out, *strangers]


def segment_identity(sequence: str, views: Sequence[View], ranges: Sequence[int], stride: int, fps: float | None) -> str:
    """Twenty hex digits over (sequence, view URIs, range, sampling)."""
    content = json.dumps([sequence, [uri_identity(view.uri) for view in views], [int(x) for x in ranges], stride, fps])
    return hashlib.sha256(content.encode()).hexdigest()[:20]


def split_range(start: int, stop: int, max_frames: int, overlap: int) -> list[tuple[int, int, int, int]]:
    """Cuts ``[start, stop)`` into equal parts: (start, stop, context_start, context_stop) of each.

    The parts differ by one frame at most, and with their context hold at most ``max_frames``.
    """
    total = stop - start
    count = 1 if total <= max_frames else -(-total // (max_frames - 2 * overlap))
    edges = [start + total * k // count for k in range(count + 1)]
    return [(a, b, max(start, a - overlap), min(stop, b + overlap)) for a, b in itertools.pairwise(edges)]


def _from_files(found: Found, options: MediaConfig) -> tuple[list[Recording], list[LeftOut]]:
    kinds = found.kinds
    if options.stills == "sequence":
        kinds = _joined(kinds)
    uris = list(kinds)
    places = _places([path_of(uri) for uri in uris], found.root, options)
    strangers: list[LeftOut] = []
    groups: dict[tuple[str, str, bool, bool], list[tuple[str, str, str | None]]] = {}
    for uri, place in zip(uris, places, strict=True):
        if place is None:
            strangers.append(LeftOut(str(uri), f"does not fit media.layout={options.layout}"))
        else:
            key = place.root, place.sequence, kinds[uri] is not Kind.VIDEO, is_pattern(uri)
            groups.setdefault(key, []).append((_printable(place.view), uri, place.person))
    recordings, used = [], set()
    for (_, sequence, is_image, is_numbered), group in groups.items():
        name = base = _printable(sequence)
        number = 2
        while name in used:
            name, number = f"{base}#{number}", number + 1
        used.add(name)
        members = sorted(group, key=lambda member: member[:2])
        views = tuple(View(view, uri) for view, uri, _ in members)
        several = any(kinds[uri] is Kind.PICTURES for _, uri, _ in members)
        fps = options.stills_fps if is_numbered else None
        is_still = is_image and not is_numbered
        recordings.append(Recording(name, views, is_still, person=group[0][2], stills_fps=fps, several=several))
    return recordings, strangers


def _joined(kinds: dict[str, Kind]) -> dict[str, Kind]:
    """Numbered stills under one URI for those of a folder that differ in their last number only; all others as they are."""
    members: dict[str, list[str]] = {}
    for uri, kind in kinds.items():
        pattern = None if kind is Kind.VIDEO else pattern_of(uri)
        members.setdefault(uri if pattern is None else pattern, []).append(uri)
    joined = {name: kinds[group[0]] if len(group) == 1 else Kind.STILL for name, group in members.items()}
    return {members[name][0] if len(members[name]) == 1 else name: kind for name, kind in joined.items()}


def _places(paths: Sequence[str], root: str, options: MediaConfig) -> list[Place | None]:
    """Sequence and view of every file; None for files that an explicitly chosen layout does not know."""
    names = [path.removeprefix(root.rstrip("/") + "/") for path in paths]
    stems = [os.path.splitext(name)[0] for name in names]
    shared, usual = Counter(stems), Counter(stem for stem, name in zip(stems, names, strict=True) if has_usual_name(name))
    counted = [usual if has_usual_name(name) else shared for name in names]  # what is read since later takes no other's name
    short = [stem if counts[stem] == 1 else name for stem, name, counts in zip(stems, names, counted, strict=True)]
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
    kinds = {uri: manifest_kind(uri) for uri in {entry.uri for entry in entries}}
    return [_recording(sequence, group, kinds, options) for sequence, group in groups.items()]


def _recording(sequence: str, group: Sequence[manifest.Entry], kinds: Mapping[str, Kind], options: MediaConfig) -> Recording:
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
    are_images = {kinds[entry.uri] is not Kind.VIDEO for entry in group}
    if len(are_images) > 1:
        raise UsageError(f"{first.where}: sequence {sequence!r} mixes stills and videos")
    views = sorted(zip(names, group, strict=True), key=lambda pair: pair[0])
    numbered = options.stills == "sequence" and all(is_pattern(entry.uri) for entry in group)
    fps = options.stills_fps if numbered else None
    return Recording(
        sequence=_printable(sequence),
        views=tuple(View(name, entry.uri, entry.camera, entry.offset_s) for name, entry in views),
        is_image=are_images.pop() and fps is None,
        person=first.person,
        licence=first.licence,
        start=first.start,
        end=first.end,
        stills_fps=fps,
        several=any(kinds[entry.uri] is Kind.PICTURES for entry in group),
    )


def _default_sequence(entry: manifest.Entry) -> str:
    stem = os.path.splitext(path_of(entry.uri))[0].lstrip("/")
    span = (
        ""
        if entry.start is None and entry.end is None
        else f"@{entry.start or 0:g}-{'' if entry.end is None else f'{entry.end:g}'}"
    )
    return stem + span


def _segments(recording: Recording, options: MediaConfig) -> list[Segment]:
    if not recording.is_image:
        return _cut(recording, _ranges(recording, options), options)
    pages, moves = _pages(recording, options) if recording.several else (1, False)
    if moves or (pages > 1 and options.stills == "sequence"):
        clip = replace(recording, is_image=False, stills_fps=None if moves else options.stills_fps)
        return _cut(clip, _ranges(clip, options), options)
    if pages == 1:
        return _cut(recording, [(0, 1, 0, 1)], options)
    numbered = ((page, replace(recording, sequence=f"{recording.sequence}/page_{page + 1}")) for page in range(pages))
    return [segment for page, still in numbered for segment in _cut(still, [(page, page + 1) * 2], options)]


def _cut(recording: Recording, ranges: Sequence[Sequence[int]], options: MediaConfig) -> list[Segment]:
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
            stills_fps=recording.stills_fps,
        )
        for frames in ranges
    ]


def _pages(recording: Recording, options: MediaConfig) -> tuple[int, bool]:
    """How many pages the stills of all views have, and whether they are animations; one if they cannot be read."""
    found = []
    for view in recording.views:
        try:
            with open_local(view.uri, options.limits.max_file_bytes) as path:
                found.append(open_pictures(path, options.limits))
        except DataError:
            return 1, False
    return min(pages for pages, _ in found), all(moves for _, moves in found)


def _ranges(recording: Recording, options: MediaConfig) -> list[tuple[int, int, int, int]]:
    """Ranges of a video's segments; one empty range if a view cannot be read or has none there, or they do not fit."""
    facts = []
    for view in recording.views:
        try:
            with open_footage(view.uri, options.limits, recording.stills_fps) as footage:
                facts.append(footage.facts)
        except DataError:
            return [(0, 0, 0, 0)]
    pairing = schedule(facts, [view.offset_s for view in recording.views], options.stride, options.fps)
    first, last = pairing.range_of(recording.start, recording.end)
    if last <= first or pairing.unpaired(first, last):
        return [(0, 0, 0, 0)]
    return split_range(first, last, options.max_frames, options.overlap)


def _printable(name: str) -> str:
    """A name for tables: control characters and bytes that are not UTF-8 become underscores."""
    return re.sub(r"[\x00-\x1f\x7f\ud800-\udfff]", "_", name)
