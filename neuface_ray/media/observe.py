"""What one view of a segment shows: frames decoded one at a time, searched for faces and cropped at once."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from neuface_ray.errors import DataError
from neuface_ray.media import decord
from neuface_ray.media.config import MediaConfig
from neuface_ray.media.crop import crop_to_image, cut
from neuface_ray.media.decode import probe_video, read_image, read_video, sampled_frames
from neuface_ray.media.detect import ALL_LEVELS, Face, FaceDetector, overlap
from neuface_ray.media.source import open_local
from neuface_ray.media.track import thumbnail
from neuface_ray.types import Segment
from neuface_ray.uri import content_hash

MAX_UNREADABLE = 0.1
SEARCH_PAUSE = 4  # frames between searches while no face is in sight
MOVING_LEVELS = 2
STILL_FPS = 1.0


@dataclass
class Observation:
    """What one view of a segment showed, frame by frame; crops of all its faces instead of the frames themselves."""

    source_frame: np.ndarray
    times_s: np.ndarray
    fps: float
    source_hash: str
    image_size: tuple[int, int] = (0, 0)
    faces: list[list[Face]] = field(default_factory=list)
    crops: list[list[np.ndarray]] = field(default_factory=list)
    thumbnails: list[np.ndarray | None] = field(default_factory=list)

    def add(self, image: np.ndarray | None, faces: list[Face], crops: list[np.ndarray]) -> None:
        """The next frame; ``image`` is None where it cannot be read."""
        if image is None:
            self.source_frame[len(self.faces)] = -1
        else:
            self.image_size = image.shape[1], image.shape[0]
        self.faces.append(faces)
        self.crops.append(crops)
        self.thumbnails.append(None if image is None else thumbnail(image))


def observe(segment: Segment, uri: str, options: MediaConfig, detector: FaceDetector, seconds: dict[str, float]) -> Observation:
    """Faces and crops of one view over the segment's computed range; adds to the ``seconds`` of decode, detect and crop.

    Raises:
        DataError: the file cannot be opened or decoded, or more than a tenth of its frames is unreadable.
    """
    with open_local(uri, options.limits.max_file_bytes) as path:
        try:
            frames, seen = _open_frames(segment, uri, path, options)
            search = _Search(options, detector)
            for image in _timed(frames, seconds):
                started = time.perf_counter()
                faces = [] if image is None else search.next(image, len(seen.faces))
                seconds["detect"] += time.perf_counter() - started
                started = time.perf_counter()
                matrices = [crop_to_image(face.box, options.crop_scale) for face in faces]
                seen.add(image, faces, [cut(image, matrix, options.crop_size) for matrix in matrices])
                seconds["crop"] += time.perf_counter() - started
        except DataError as error:
            raise DataError(str(error).replace(path, uri), code=error.code) from error
    _check_readable(seen, segment, uri)
    return seen


class _Search:
    """Finds faces frame by frame, remembering where they were and when tiles were last searched."""

    def __init__(self, options: MediaConfig, detector: FaceDetector):
        self.options, self.detector = options, detector
        self.recent: list[tuple[np.ndarray, int]] = []
        self.searched = 0

    def next(self, image: np.ndarray, index: int) -> list[Face]:
        """Faces of the frame ``index`` of the segment."""
        every, levels = self.options.search_every, 0
        if every and index % every == 0:
            levels = ALL_LEVELS if index == 0 else MOVING_LEVELS
        faces = self.detector.find(image, [box for box, _ in self.recent], levels)
        if every and not faces and not levels and index - self.searched >= SEARCH_PAUSE:
            levels = MOVING_LEVELS
            faces = self.detector.find(image, (), levels)
        if levels:
            self.searched = index
        lost = [(b, at) for b, at in self.recent if all(overlap(b, f.box) < 0.1 for f in faces)]
        self.recent = [(face.box, index) for face in faces]
        self.recent += [(box, at) for box, at in lost if index - at < self.options.max_gap]
        return faces


def _open_frames(
    segment: Segment, uri: str, path: str, options: MediaConfig
) -> tuple[Iterator[np.ndarray | None], Observation]:
    """The frames of a segment's computed range in one view, and the observation to fill."""
    if segment.is_image:
        image = read_image(path, options.limits)
        still = Observation(np.zeros(1, np.int64), np.zeros(1), STILL_FPS, content_hash(path))
        return iter([image]), still
    facts = probe_video(path, options.limits)
    sampled = sampled_frames(facts, segment.stride, segment.fps)
    if segment.stop <= segment.start:
        raise DataError(f"{uri}: nothing to read in the planned range; the video has {len(sampled)} frames", code="empty_range")
    wanted = sampled[segment.context_start : segment.context_stop]
    if len(wanted) == 0 and len(segment.views) == 1:
        raise DataError(f"{uri}: ends before frame {segment.context_start}, at {len(sampled)}", code="empty_range")
    missing = segment.context_stop - segment.context_start - len(wanted)  # a view that ends before the others
    steps = np.diff(facts.times_s[sampled])
    seen = Observation(
        source_frame=np.pad(wanted, (0, missing), constant_values=-1).astype(np.int64),
        times_s=np.pad(facts.times_s[wanted], (0, missing), constant_values=np.nan),
        fps=round(1 / float(np.median(steps)), 6) if len(steps) else facts.fps,
        source_hash=content_hash(path),
        image_size=(facts.width, facts.height),
    )
    read = decord.read_video if options.decoder == "decord" else read_video
    images = (image for _, image in read(path, facts, wanted, options.limits)) if len(wanted) else iter(())
    return itertools.chain(images, itertools.repeat(None, missing)), seen


def _check_readable(seen: Observation, segment: Segment, uri: str) -> None:
    readable = np.array([thumb is not None for thumb in seen.thumbnails])
    planned = seen.times_s == seen.times_s
    unreadable = int((planned & ~readable).sum())
    if unreadable > MAX_UNREADABLE * planned.sum():
        tail = readable.argmin() if not readable.all() else len(readable)
        code = "truncated" if not readable[tail:].any() else "corrupt"
        where = f"frames {segment.context_start} to {segment.context_stop - 1}"
        raise DataError(f"{uri}: {unreadable} of {planned.sum()} frames cannot be decoded ({where})", code=code)


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
