"""A planned segment to face clips: decode, detect, crop, track; one full frame in memory at a time.

What becomes of trouble:

* Input that cannot be decoded raises ``DataError`` and the whole segment goes to quarantine. A video that breaks on the way
  loses only the segments of which no frame can be read; in the others such frames are kept with ``valid`` False,
  ``source_frame`` -1 and an ``invalid_reason``.
* Frames on which no face was found stay in a clip with ``valid`` False: short ones at the ends of a track belong to its
  clip, all others form one more clip without any valid frame, so every planned frame has a row.
"""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Sequence
from contextlib import nullcontext

import numpy as np

from neuface_ray.errors import DataError
from neuface_ray.media.config import MediaConfig
from neuface_ray.media.crop import blur, crop_to_image, to_crop
from neuface_ray.media.detect import FaceDetector
from neuface_ray.media.identity import Likeness, changes, goes_on
from neuface_ray.media.observe import Observation, observe
from neuface_ray.media.orientation import quarter_turns
from neuface_ray.media.track import Track, by_presence, cuts, link, link_all, persons
from neuface_ray.types import FaceClip, Segment


def prepare(segment: Segment, options: MediaConfig, detector: FaceDetector | None = None) -> list[FaceClip]:
    """The clips of a segment: one for each face track, and one without valid frames for what no track covers.

    Args:
        detector: an open detector made from the same options, to spare its construction (about 50 ms); the result does not
            depend on what it was used for before.

    Raises:
        DataError: the input cannot be decoded (``not_found``, ``permission``, ``not_a_file``, ``empty``, ``too_large``,
            ``not_media``, ``truncated``, ``corrupt``, ``no_video_stream``, ``no_frames``, ``empty_range``,
            ``not_synchronised``, ``no_visible_face``, ``unreachable``).
        ModelFileError: the landmark model is missing.
    """
    seconds = dict.fromkeys(("decode", "detect", "crop", "track"), 0.0)
    with nullcontext(detector) if detector is not None else FaceDetector(options) as finder:
        views = observe(segment, options, finder, seconds)
        scheme = finder.scheme
    _check_visible(segment, views)
    started = time.perf_counter()
    alone = len(views) == 1 and not segment.is_image
    shot_starts = sorted({*cuts(views[0].thumbnails), *size_changes(views[0].image_sizes)}) if alone else []
    people, found = _people(views, shot_starts, options, segment.is_image)
    n_frames = segment.context_stop - segment.context_start
    core = np.arange(segment.context_start, segment.context_stop)
    core = (core >= segment.start) & (core < segment.stop)
    people = [person for person in people if any(core[frame] for track in person for frame in track)]
    spans, rest = frame_ranges(people, n_frames, shot_starts, options.max_gap)
    seconds["track"] = time.perf_counter() - started
    clips = [
        _clip(segment, number, person, frames, views, core, options, scheme)
        for number, (person, frames) in enumerate(zip(people, spans, strict=True))
    ]
    if core[rest].any():
        nobody: list[Track] = [{} for _ in views]
        clips.append(_clip(segment, len(people), nobody, rest[core[rest]], views, core, options, scheme))
    for clip in clips:
        clip.faces_found, clip.faces_left_out = found, max(0, found - len(people))
        clip.seconds = {name: value / len(clips) for name, value in seconds.items()}
    return clips


def size_changes(sizes: Sequence[tuple[int, int]]) -> list[int]:
    """Frames from which on the picture has another size (0, 0: not seen); positions before and after are not comparable."""
    seen = [number for number, size in enumerate(sizes) if any(size)]
    return [after for before, after in itertools.pairwise(seen) if sizes[before] != sizes[after]]


def _people(
    views: list[Observation], shot_starts: list[int], options: MediaConfig, is_image: bool
) -> tuple[list[list[Track]], int]:
    """The tracks of each person in all views, at most ``max_faces`` people, and how many were found in all."""
    least = 1 if is_image else options.min_track
    # A frame's surplus is not tracked; one that lasts as long as a track has to is no false alarm.
    crowds = [sorted(view.counts)[-least:][0] for view in views]
    crowd = max((count for count in crowds if count > options.max_faces), default=0)
    if len(views) > 1:
        tracks = [link(view.faces, shot_starts, options) for view in views]
        people = persons([view.faces for view in views], tracks, options.max_faces)
    else:
        found = _rejoined(views[0], link_all(views[0].faces, shot_starts, options), shot_starts, options)
        people = [[track] for track in found if is_image] or [[part] for part in _one_person_each(views[0], found, options)]
    return people[: options.max_faces], max(crowd, len(people))


def _one_person_each(view: Observation, tracks: list[Track], options: MediaConfig) -> list[Track]:
    """The tracks, split where one person's face becomes another's; faces of the transition belong to no track."""
    parts: list[Track] = []
    for track in tracks:
        frames = np.array(sorted(track))
        edges = changes(_likeness(view, [(frame, track[frame]) for frame in frames], options), frames, view.fps)
        starts, stops = [0, *(edge.first for edge in edges)], [*(edge.last + 1 for edge in edges), len(frames)]
        pieces = [frames[start:stop].tolist() for start, stop in zip(starts, stops, strict=True)]
        parts += [{frame: track[frame] for frame in piece} for piece in pieces if not edges or len(piece) >= options.min_track]
    return by_presence(view.faces, parts)


def _rejoined(view: Observation, tracks: list[Track], shot_starts: list[int], options: MediaConfig) -> list[Track]:
    """The tracks, joined over cuts that the face has no part in: a lamp goes on, or the picture beside or behind it changes."""
    tracks = [dict(track) for track in tracks]
    for start in shot_starts:
        for track in [track for track in tracks if max(track) < start <= max(track) + options.max_gap]:
            last = max(track)
            for other in sorted((other for other in tracks if start <= min(other) <= last + options.max_gap), key=min):
                ends = [(last, track[last]), (min(other), other[min(other)])]
                distance = float(_likeness(view, ends, options).distances()[0, 1])
                before, after = (view.faces[frame][index] for frame, index in ends)
                same_size = view.image_sizes[last] == view.image_sizes[min(other)]
                if same_size and goes_on(before, after, min(other) - last, distance):
                    track |= other
                    tracks.remove(other)
                    break
    return by_presence(view.faces, tracks)


def _likeness(view: Observation, places: list[tuple[int, int]], options: MediaConfig) -> Likeness:
    """Of the faces at places (frame, index) in a view."""
    faces = [view.faces[frame][index] for frame, index in places]
    points = [to_crop(face.mesh, crop_to_image(face.box, options.crop_scale)) for face in faces]
    return Likeness.of([view.crops[frame][index] for frame, index in places], points)


def frame_ranges(
    people: list[list[Track]], n_frames: int, shot_starts: list[int], max_gap: int
) -> tuple[list[np.ndarray], np.ndarray]:
    """Frames of each person's clip, and the frames that belong to no clip.

    A clip reaches from the first to the last frame of its tracks, and over up to ``max_gap`` faceless frames of the same
    shot beside it.
    """
    first = [min(frame for track in person for frame in track) for person in people]
    last = [max(frame for track in person for frame in track) for person in people]
    free = np.ones(n_frames, bool)
    for a, b in zip(first, last, strict=True):
        free[a : b + 1] = False
    for start, stop in _runs(free):
        crosses = any(start < cut_frame < stop for cut_frame in shot_starts)
        if stop - start > max_gap or crosses:
            continue
        if start - 1 in last and start not in shot_starts:
            last[last.index(start - 1)] = stop - 1
        elif stop in first and stop not in shot_starts:
            first[first.index(stop)] = start
        else:
            continue
        free[start:stop] = False
    return [np.arange(a, b + 1) for a, b in zip(first, last, strict=True)], np.flatnonzero(free)


def clip_identity(segment_id: str, track: int) -> str:
    """Twenty hex digits over (segment, track)."""
    return hashlib.sha256(f"{segment_id}/{track}".encode()).hexdigest()[:20]


def _clip(
    segment: Segment,
    number: int,
    person: list[Track],
    frames: np.ndarray,
    views: list[Observation],
    core: np.ndarray,
    options: MediaConfig,
    scheme: str,
) -> FaceClip:
    """Stacks one person's faces over ``frames`` and views; zeros (identity for ``crop_to_image``) where there is none."""
    shape, size, points = (len(frames), len(views)), options.crop_size, 68 if scheme == "ibug68" else 478
    clip = FaceClip(
        clip_id=clip_identity(segment.segment_id, number),
        segment=segment,
        track=number,
        crops=np.zeros((*shape, 3, size, size), np.uint8),
        landmarks=np.zeros((*shape, points, 2), np.float32),
        landmark_confidence=np.zeros((*shape, points), np.float32),
        landmark_scheme=scheme,
        crop_to_image=np.tile(np.eye(3), (*shape, 1, 1)),
        valid=np.zeros(shape, bool),
        core=core[frames],
        frame_index=(frames + segment.context_start).astype(np.int64),
        source_frame=np.stack([view.source_frame[frames] for view in views], 1),
        timestamps_s=views[0].times_s[frames],
        fps=views[0].fps,
        image_size=np.array([_size(view, frames) for view in views], np.int64),
        face_px=np.zeros(shape, np.float32),
        blur=np.zeros(shape, np.float32),
        blendshapes=np.zeros((*shape, 52), np.float32),
        source_hash=tuple(view.source_hash for view in views),
        source_timestamps_s=np.stack([view.source_times_s[frames] for view in views], 1),
        image_sizes=np.stack([np.array(view.image_sizes, np.int64)[frames] for view in views], 1),
        invalid_reason=np.stack([[view.reasons[frame] or "no_face" for frame in frames] for view in views], 1).astype(object),
        notes=_notes(segment, views),
        start_offset_s=views[0].start_offset_s,
    )
    for v, (view, track) in enumerate(zip(views, person, strict=True)):
        for f, frame in enumerate(frames.tolist()):
            if frame not in track:
                continue
            face = view.faces[frame][track[frame]]
            matrix = crop_to_image(face.box, options.crop_scale)
            clip.crops[f, v] = view.crops[frame][track[frame]]
            clip.landmarks[f, v] = to_crop(face.landmarks, matrix)
            clip.landmark_confidence[f, v] = face.confidence
            clip.crop_to_image[f, v] = matrix
            clip.valid[f, v] = True
            clip.invalid_reason[f, v] = ""
            clip.face_px[f, v] = face.side
            clip.blur[f, v] = blur(clip.crops[f, v])
            clip.blendshapes[f, v] = face.blendshapes
        _enter_turns(clip, v, [view.faces[frame][track[frame]].roll_deg for frame in sorted(track)])
    return clip


def _enter_turns(clip: FaceClip, view: int, rolls_deg: list[float]) -> None:
    """Enters by how many quarters a face is turned in a view, given its roll in the valid frames, if it is in any."""
    turns = quarter_turns(rolls_deg)
    if turns.any():
        if clip.quarter_turns is None:
            clip.quarter_turns = np.zeros(clip.valid.shape, np.int8)
        nearest = np.searchsorted(np.flatnonzero(clip.valid[:, view]), np.arange(clip.n_frames))
        clip.quarter_turns[:, view] = turns[np.minimum(nearest, len(turns) - 1)]


def _size(view: Observation, frames: np.ndarray) -> tuple[int, int]:
    """Width and height of the first of the frames that was seen."""
    return next((view.image_sizes[frame] for frame in frames if any(view.image_sizes[frame])), view.image_size)


def _notes(segment: Segment, views: list[Observation]) -> tuple[str, ...]:
    """What is unusual about the sources, with the view's name where there are several."""
    several = len(views) > 1
    named = zip(segment.views, views, strict=True)
    return tuple(f"{view.name}: {note}" if several else note for view, seen in named for note in sorted(seen.notes))


def _check_visible(segment: Segment, views: list[Observation]) -> None:
    hidden = any("alpha_composited" in view.notes for view in views)
    if hidden and not any(faces for view in views for faces in view.faces):
        raise DataError(
            f"{segment.views[0].uri}: no face in what is visible; transparency hides a part of it", code="no_visible_face"
        )


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Half-open ranges of consecutive True values."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]
