"""From faces in single frames to tracks: who is who over time, where shots end, and across synchronised views."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import cv2
import numpy as np
from scipy.optimize import linear_sum_assignment

from neuface_ray.media.config import MediaConfig
from neuface_ray.media.detect import Face, overlap

Track = dict[int, int]  # frame -> index of its face in that frame
THUMB = (64, 32)
BLOCK, REACH_PX = 8, 4
CUT_FLOOR = 0.05  # least change of picture that can be a cut; strong motion reaches 0.046, cuts between scenes 0.1 to 0.4
CUT_RATIO = 3.5  # ... and how many times the usual change around it
REACH = 0.6  # how far a face may move between frames of the source, in sides of its box; grows with the frames missed
MOST_MISSED = 12  # ... up to this number


def thumbnail(image: np.ndarray) -> np.ndarray:
    """Small uint8 (32, 64, 3) picture for the cut detector."""
    return cv2.resize(image, THUMB, interpolation=cv2.INTER_AREA)


def cuts(thumbnails: Sequence[np.ndarray | None]) -> list[int]:
    """Frames with which a new shot begins.

    The change between two frames is what remains of their difference after each block of the one is looked for in the
    neighbourhood of the other, so motion of the head or the camera counts little. A cut is a change that is large, stands
    out against the changes of the frames around it, and lasts, as fast motion, flicker and flashes do not.
    """
    seen = [index for index, thumb in enumerate(thumbnails) if thumb is not None]
    pictures = [thumbnails[index] for index in seen]
    change = np.array([picture_change(a, b) for a, b in itertools.pairwise(pictures)])
    found = []
    for k in np.flatnonzero(change > CUT_FLOOR).tolist():
        around = np.concatenate([change[max(0, k - 3) : k], change[k + 1 : k + 4]])
        stands_out = change[k] > CUT_RATIO * (float(np.median(around)) if len(around) else 0.0)
        past_it = [(i, i + 2) for i in (k - 1, k) if i >= 0 and i + 2 < len(pictures)]
        flash = any(picture_change(pictures[i], pictures[j]) < 0.4 * change[k] for i, j in past_it)
        if stands_out and not flash:
            found.append(seen[k + 1])
    return found


def picture_change(before: np.ndarray, after: np.ndarray) -> float:
    """Mean absolute difference of two thumbnails in [0, 1] after block-wise motion compensation."""
    height, width = after.shape[:2]
    padded = cv2.copyMakeBorder(before, REACH_PX, REACH_PX, REACH_PX, REACH_PX, cv2.BORDER_REPLICATE)
    best = np.full((height // BLOCK, width // BLOCK), 255.0, np.float32)
    for dy in range(0, 2 * REACH_PX + 1, 2):
        for dx in range(0, 2 * REACH_PX + 1, 2):
            difference = cv2.absdiff(padded[dy : dy + height, dx : dx + width], after)
            blocks = cv2.resize(difference, best.shape[::-1], interpolation=cv2.INTER_AREA)
            np.minimum(best, blocks.mean(2), out=best)
    return float(best.mean()) / 255


def link(faces: Sequence[Sequence[Face]], shot_starts: Sequence[int], config: MediaConfig) -> list[Track]:
    """Joins the faces of one view's frames into tracks, the most seen and largest first.

    A face continues the track whose last position lies nearest, within reach of its size; after ``max_gap`` frames out of
    sight, or across a cut, a new track begins. Tracks below ``min_track`` frames are dropped unless nothing longer could be.
    """
    return link_all(faces, shot_starts, config)[: config.max_faces]


def link_all(faces: Sequence[Sequence[Face]], shot_starts: Sequence[int], config: MediaConfig) -> list[Track]:
    """As `link`, but for tracks beyond ``max_faces`` too."""
    tracks: list[Track] = []
    active: list[Track] = []
    for frame, present in enumerate(faces):
        if frame in shot_starts:
            active = []
        active = [track for track in active if frame - max(track) <= config.max_gap]
        for track, index in _match(faces, active, frame, config.stride):
            track[frame] = index
        taken = {track[frame] for track in active if frame in track}
        for index in range(len(present)):
            if index not in taken:
                track = {frame: index}
                tracks.append(track)
                active.append(track)
    least = min(config.min_track, len(faces))
    return by_presence(faces, [track for track in tracks if len(track) >= least])


def by_presence(faces: Sequence[Sequence[Face]], tracks: Sequence[Track]) -> list[Track]:
    """The tracks, the most seen and largest first."""
    return sorted(tracks, key=lambda track: -_presence(faces, track))


def persons(views: Sequence[Sequence[Sequence[Face]]], tracks: Sequence[list[Track]], max_faces: int) -> list[list[Track]]:
    """Tracks of V synchronised views, joined to one list of V tracks per person (empty where a view does not show them).

    In one view every track is a person's. Synchronised cameras have no cuts, so there tracks of one view that do not
    overlap in time are the same person; persons of different views are matched by their order in presence and size.
    """
    if len(tracks) == 1:
        return [[track] for track in tracks[0]]
    merged = [_merge(tracks_of_view) for tracks_of_view in tracks]
    for faces, slots in zip(views, merged, strict=True):
        slots.sort(key=lambda track: -_presence(faces, track))
    count = min(max(map(len, merged)), max_faces)
    return [[slots[k] if k < len(slots) else {} for slots in merged] for k in range(count)]


def _merge(tracks: Sequence[Track]) -> list[Track]:
    slots: list[Track] = []
    for track in tracks:
        slot = next((slot for slot in slots if not slot.keys() & track.keys()), None)
        if slot is None:
            slots.append(dict(track))
        else:
            slot.update(track)
    return slots


def _match(faces: Sequence[Sequence[Face]], active: Sequence[Track], frame: int, stride: int) -> list[tuple[Track, int]]:
    """Pairs of an active track and a face of ``frame``, at the least total distance."""
    present = faces[frame]
    if not active or not present:
        return []
    cost = np.full((len(active), len(present)), 1e6)
    for row, track in enumerate(active):
        last = max(track)
        before = faces[last][track[last]]
        reach = REACH * min(stride * (frame - last), MOST_MISSED) ** 0.5
        for column, face in enumerate(present):
            size = max(before.side, face.side)
            distance = float(np.linalg.norm(before.box.reshape(2, 2).mean(0) - face.box.reshape(2, 2).mean(0))) / size
            alike = 0.5 < face.side / before.side < 2
            if alike and (distance < reach or overlap(before.box, face.box) > 0.2):
                cost[row, column] = distance
    rows, columns = linear_sum_assignment(cost)
    return [(active[r], int(c)) for r, c in zip(rows, columns, strict=True) if cost[r, c] < 1e6]


def _presence(faces: Sequence[Sequence[Face]], track: Track) -> float:
    """Sum over the frames of a track of its face's size."""
    return sum(faces[frame][index].side for frame, index in track.items())
