"""What one view of a segment shows: frames decoded one at a time, searched for faces and cropped at once."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from neuface_ray.errors import DataError
from neuface_ray.media.config import MediaConfig
from neuface_ray.media.crop import crop_to_image, cut
from neuface_ray.media.detect import ALL_LEVELS, Face, FaceDetector, overlap
from neuface_ray.media.footage import STILL_FPS, Footage, open_footage
from neuface_ray.media.synchrony import Schedule, rates_and_offsets, schedule
from neuface_ray.media.track import thumbnail
from neuface_ray.types import Segment

SEARCH_PAUSE = 4  # frames between searches while no face is in sight
MOVING_LEVELS = 2


@dataclass
class Observation:
    """What one view of a segment showed, frame by frame; crops of its faces instead of the frames themselves.

    Args:
        source_frame: number of each frame in the source, -1 where there is none. source_times_s: their stamps as written.
        times_s: of the segment's instants, the same for all views, which begin at ``start_offset_s``.
        reasons: why a frame was not seen, else an empty text. image_sizes: width and height of each, 0 where it was not seen.
        notes: what is unusual, and what was done to the pictures. counts: faces in each frame, also those beyond ``max_faces``.
    """

    source_frame: np.ndarray
    source_times_s: np.ndarray
    times_s: np.ndarray
    fps: float
    source_hash: str
    start_offset_s: float
    reasons: list[str]
    notes: set[str] = field(default_factory=set)
    image_size: tuple[int, int] = (0, 0)
    image_sizes: list[tuple[int, int]] = field(default_factory=list)
    faces: list[list[Face]] = field(default_factory=list)
    crops: list[list[np.ndarray]] = field(default_factory=list)
    thumbnails: list[np.ndarray | None] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def add(self, image: np.ndarray | None, faces: list[Face], crops: list[np.ndarray]) -> None:
        """The next frame; ``image`` is None where it cannot be read."""
        number = len(self.faces)
        if image is None:
            self.source_frame[number] = -1
            self.reasons[number] = self.reasons[number] or "unreadable"
        else:
            self.reasons[number] = ""
            if not any(map(any, self.image_sizes)):
                self.image_size = image.shape[1], image.shape[0]
        self.image_sizes.append((0, 0) if image is None else (image.shape[1], image.shape[0]))
        self.faces.append(faces)
        self.crops.append(crops)
        self.thumbnails.append(None if image is None else thumbnail(image))


def observe(segment: Segment, options: MediaConfig, detector: FaceDetector, seconds: dict[str, float]) -> list[Observation]:
    """Faces and crops of each view over the segment's computed range; adds to the ``seconds`` of decode, detect and crop.

    Raises:
        DataError: a file cannot be opened, none of its frames be decoded, the range is empty, or the views do not fit.
    """
    with ExitStack() as opened:
        fps = STILL_FPS if segment.is_image else segment.stills_fps
        views = [opened.enter_context(open_footage(view.uri, options.limits, fps, options.decoder)) for view in segment.views]
        plan = schedule_of(segment, views)
        observations = [_expect(segment, plan, number, view) for number, view in enumerate(views)]
        for view, seen, footage in zip(segment.views, observations, views, strict=True):
            _watch(seen, footage, options, detector, seconds, segment.is_image)
            _check_readable(seen, view.uri)
    return observations


class _Search:
    """Finds faces frame by frame, remembering where they were and when tiles were last searched."""

    def __init__(self, options: MediaConfig, detector: FaceDetector, is_image: bool):
        self.options, self.detector, self.is_image = options, detector, is_image
        self.recent: list[tuple[Face, int]] = []
        self.searched = self.count = 0
        self.turned = -SEARCH_PAUSE

    def next(self, image: np.ndarray, index: int) -> list[Face]:
        """Faces of the frame ``index`` of the segment."""
        every, levels = self.options.search_every, 0
        if every and index % every == 0:
            levels = ALL_LEVELS if index == 0 else MOVING_LEVELS
        found = self.detector.find_all(image, [face for face, _ in self.recent], levels, self.is_image, bool(levels))
        if every and not found and not levels and index - self.searched >= SEARCH_PAUSE:
            levels = MOVING_LEVELS
            found = self.detector.find_all(image, (), levels)
        if not found and index - self.turned >= SEARCH_PAUSE:
            self.turned = index
            found = self.detector.find_all(image, (), levels, search_turned=True)
        self.count = self.detector.count(image, found)
        if levels:
            self.searched = index
        lost = [(seen, at) for seen, at in self.recent if all(overlap(seen.box, face.box) < 0.1 for face in found)]
        self.recent = [(face, index) for face in found]
        self.recent += [(seen, at) for seen, at in lost if index - at < self.options.max_gap]
        return self.detector.largest(image, found)


def schedule_of(segment: Segment, views: Sequence[Footage]) -> Schedule:
    """Which frame of each view belongs to which instant; a still's pages are its frames, each an instant.

    Raises:
        DataError: ``empty_range``, ``not_synchronised``.
    """
    facts, offsets = [view.facts for view in views], [view.offset_s for view in segment.views]
    if segment.is_image:
        last = min(each.n_frames for each in facts)
        pages = np.arange(last)
        pairing = Schedule(np.tile(pages[:, None], (1, len(facts))), pages * 0.0, 0, 0.0, STILL_FPS)
    else:
        pairing = schedule(facts, offsets, segment.stride, segment.fps)
    source, last = segment.views[0].uri, len(pairing.frames)
    if len(views) > 1 and (segment.stop <= segment.start or pairing.unpaired(0, last)):
        description = rates_and_offsets([view.name for view in segment.views], facts, offsets)
        if pairing.unpaired(0, last):
            raise DataError(
                f"{source}: fewer than half of the instants have a frame in each view ({description})", code="not_synchronised"
            )
        raise DataError(f"{source}: nothing to pair in the planned range ({description})", code="empty_range")
    if segment.stop <= segment.start:
        raise DataError(f"{source}: nothing to read in the planned range; the video has {last} frames", code="empty_range")
    if segment.context_start >= last:
        raise DataError(f"{source}: ends before frame {segment.context_start}, at {last}", code="empty_range")
    return pairing


def _expect(segment: Segment, plan: Schedule, number: int, view: Footage) -> Observation:
    """An observation of the segment's frames in one view, none of them seen yet."""
    part = slice(segment.context_start, segment.context_stop)
    missing = segment.context_stop - segment.context_start - len(plan.times_s[part])  # the file has become shorter
    frames = np.pad(plan.frames[part, number], (0, missing), constant_values=-1)
    facts, there = view.facts, frames >= 0
    reasons = np.where(there, np.where(frames >= facts.n_frames - facts.lost, "truncated", ""), "no_partner")
    return Observation(
        source_frame=frames,
        source_times_s=np.where(there, facts.source_times_s[frames], np.nan),
        times_s=np.pad(plan.times_s[part], (0, missing), constant_values=np.nan),
        fps=plan.fps,
        source_hash=view.content_hash(),
        start_offset_s=plan.start_s,
        reasons=reasons.tolist(),
        notes=set(facts.notes),
        image_size=(facts.width, facts.height),
    )


def _watch(
    seen: Observation,
    view: Footage,
    options: MediaConfig,
    detector: FaceDetector,
    seconds: dict[str, float],
    is_image: bool,
) -> None:
    """Fills ``seen`` with what the view shows."""
    search, expected = _Search(options, detector, is_image), seen.source_frame.copy()
    for image in _timed(_in_place(expected, view, seen.notes), seconds):
        started = time.perf_counter()
        faces = [] if image is None else search.next(image, len(seen.faces))
        seconds["detect"] += time.perf_counter() - started
        started = time.perf_counter()
        matrices = [crop_to_image(face.box, options.crop_scale) for face in faces]
        seen.add(image, faces, [cut(image, matrix, options.crop_size) for matrix in matrices])
        seen.counts.append(0 if image is None else search.count)
        seconds["crop"] += time.perf_counter() - started


def _in_place(frames: np.ndarray, view: Footage, notes: set[str]) -> Iterator[np.ndarray | None]:
    """The images of ``frames``, ascending, with None where they are -1; one that is wanted twice is read once."""
    wanted = np.unique(frames[frames >= 0]).tolist()
    images, last, image = view.read(wanted, notes) if wanted else iter(()), -1, None
    for frame in frames.tolist():
        if frame >= 0 and frame != last:
            last, image = frame, next(images)
        yield image if frame >= 0 else None


def _check_readable(seen: Observation, uri: str) -> None:
    """Raises DataError if a view has frames and none of them can be read."""
    reasons = set(seen.reasons) - {"no_partner"}
    if reasons and "" not in reasons:
        unreadable = sum(reason != "no_partner" for reason in seen.reasons)
        code = "truncated" if "truncated" in reasons else "corrupt"
        raise DataError(f"{uri}: none of {unreadable} frames of the segment can be decoded", code=code)


def _timed(frames: Iterator[np.ndarray | None], seconds: dict[str, float]) -> Iterator[np.ndarray | None]:
    while True:
        started = time.perf_counter()
        try:
            image = next(frames)
        except StopIteration:
            return
        finally:
            seconds["decode"] += time.perf_counter() - started
        yield image
