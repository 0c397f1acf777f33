"""Synchronised views of different rates and beginnings: which frame of each is shown at the instants of the slowest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neuface_ray.media.decode import VideoFacts, sampled_frames
from neuface_ray.media.timeline import nearest

SAME_RATE = 1e-4
RESOLUTION_S = 1e-3  # of the times of Matroska
LEAST_PAIRED = 0.5


@dataclass(frozen=True)
class Schedule:
    """K sampled instants of V views.

    Args:
        frames: (K, V) source frame of each view, -1 where it has none within half of its period.
        times_s: (K,) after the first picture of the view ``reference``, which gives the instants; fps: of the instants.
        start_s: that picture's time on the clock that the views share, which counts from the start of the containers.
    """

    frames: np.ndarray
    times_s: np.ndarray
    reference: int
    start_s: float
    fps: float

    def range_of(self, start_s: float | None, end_s: float | None) -> tuple[int, int]:
        """The instants from ``start_s`` to before ``end_s`` on the shared clock, as a half-open range."""
        shared_s = self.times_s + self.start_s
        last = len(shared_s) if end_s is None else int(np.searchsorted(shared_s, end_s - 1e-6))
        return int(np.searchsorted(shared_s, (start_s or 0.0) - 1e-6)), last

    def unpaired(self, first: int, last: int) -> bool:
        """True if a view has no frame for more than half of the instants."""
        part = self.frames[first:last]
        return len(part) > 0 and bool(((part >= 0).mean(0) < LEAST_PAIRED).any())


def schedule(views: Sequence[VideoFacts], offsets_s: Sequence[float], stride: int = 1, fps: float | None = None) -> Schedule:
    """Pairs the views' frames by time.

    The slowest view gives the instants, sampled by ``stride`` or ``fps``; among equals the one with the most frames.

    Args:
        offsets_s: seconds to add to each view's clock.
    """
    periods = [view.times_s[-1] / (view.n_frames - 1) if view.n_frames > 1 else 1 / view.fps for view in views]
    slow = [k for k, period in enumerate(periods) if period >= max(periods) * (1 - SAME_RATE)]
    reference = max(slow, key=lambda k: (views[k].n_frames, -k))
    slowest = views[reference]
    sampled = sampled_frames(slowest, stride, fps)
    times_s, start_s = slowest.times_s[sampled], slowest.start_offset_s + offsets_s[reference]
    columns = [
        sampled
        if k == reference
        else nearest(times_s + (start_s - view.start_offset_s - offset_s), view.times_s, 0.5 / view.fps + RESOLUTION_S)
        for k, (view, offset_s) in enumerate(zip(views, offsets_s, strict=True))
    ]
    steps = np.diff(times_s)
    rate = round(1 / float(np.median(steps)), 6) if len(steps) else slowest.fps
    return Schedule(np.stack(columns, 1).astype(np.int64), times_s, reference, start_s, rate)


def rates_and_offsets(names: Sequence[str], views: Sequence[VideoFacts], offsets_s: Sequence[float]) -> str:
    """What tells why views do not fit, for messages."""
    return ", ".join(
        f"{name}: {view.n_frames} frames, {view.fps:.6g} fps, begins at {view.start_offset_s + offset_s:.6g} s"
        for name, view, offset_s in zip(names, views, offsets_s, strict=True)
    )
