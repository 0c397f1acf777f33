"""The clock of a video: times of its pictures, mended where single stamps are wrong and joined where the clock jumps.

All functions take stamps in presentation order, in any unit, NaN where a picture has none.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LOOKAHEAD = 3
"""So many pictures after a wrong stamp may decide that it alone is wrong and not the clock that has jumped."""


@dataclass(frozen=True)
class Timeline:
    """Times of N pictures after the first one's, in the unit of the stamps.

    Args:
        times: (N,) ascending.
        as_written: (N,) bool, the picture's own stamp was taken; else its time lies between its neighbours'.
        period: time from one picture to the next, the median.
        joins: how often the stamps jumped; the clock goes on by one period there.
    """

    times: np.ndarray
    as_written: np.ndarray
    period: float
    joins: int


def mend(stamps: np.ndarray, period: float, longest_step: float) -> Timeline:
    """A clock that only ascends, from stamps (N,) as they were written.

    Stamps that do not fit between their neighbours, or repeat the one before, are replaced by interpolation; all others keep
    their distances. Where the stamps go back for good, or forward by more than ``longest_step``, one period passes.

    Args:
        period: distance of two pictures if the stamps do not tell.
    """
    stamps = np.asarray(stamps, np.float64)
    steps = np.diff(stamps)
    usual = steps[(steps > 0) & (steps <= longest_step)]
    period = float(np.median(usual)) if len(usual) else period
    if len(usual) == len(stamps) - 1:
        return Timeline(stamps - stamps[0], np.ones(len(stamps), bool), period, 0)
    good, begins = trusted(stamps, period, longest_step)
    places = np.flatnonzero(good)
    if len(places) == 0:
        return Timeline(np.arange(len(stamps)) * period, good, period, 0)
    times = np.concatenate([[0.0], np.diff(stamps[places])])
    joined = begins[places]
    times[joined] = period * np.diff(places, prepend=0)[joined]
    times = spread(np.cumsum(times), places, len(stamps), period)
    return Timeline(times - times[0], good, period, int(begins.sum()))


def trusted(stamps: np.ndarray, period: float, longest_step: float) -> tuple[np.ndarray, np.ndarray]:
    """Which stamps (N,) are right, and with which of these the clock begins anew after a jump."""
    good, begins = np.zeros((2, len(stamps)), bool)
    known = np.flatnonzero(np.isfinite(stamps)).tolist()
    follows = lambda before, after: 0 < stamps[after] - stamps[before] <= longest_step  # noqa: E731
    last = None
    for position, here in enumerate(known):
        ahead = known[position + 1 : position + 1 + LOOKAHEAD]
        if last is None:
            apart = len(ahead) > 1 and stamps[here] != stamps[ahead[0]] and not follows(here, ahead[0])
            if apart and follows(ahead[0], ahead[1]):
                continue
        elif stamps[here] == stamps[last]:
            continue
        elif not follows(last, here):
            if any(follows(last, later) for later in ahead):
                continue
            begins[here] = True
        elif ahead and stamps[last] < stamps[ahead[0]] < stamps[here]:  # this stamp is wrong, or the next one
            error, of_next = (abs(stamps[k] - stamps[last] - period * (k - last)) for k in (here, ahead[0]))
            if error > of_next:
                continue
        good[here], last = True, here
    return good, begins


def spread(times: np.ndarray, places: np.ndarray, count: int, period: float) -> np.ndarray:
    """Times (count,) of all pictures from those at some ``places``: between them linear, one period a picture beyond."""
    every = np.arange(count)
    result = np.interp(every, places, times)
    before, after = every < places[0], every > places[-1]
    result[before] += (every[before] - places[0]) * period
    result[after] += (every[after] - places[-1]) * period
    return result


def nearest(instants: np.ndarray, times: np.ndarray, reach: float) -> np.ndarray:
    """For each instant (K,) the number of the nearest of ``times`` (N,), ascending, or -1 if none lies within ``reach``."""
    after = np.searchsorted(times, instants).clip(1, max(len(times) - 1, 1))
    before = after - 1
    after = after.clip(max=len(times) - 1)
    found = np.where(instants - times[before] <= times[after] - instants, before, after)
    return np.where(np.abs(times[found] - instants) <= reach, found, -1)
