"""A time limit that nothing can hold up, and the traceback that a worker that died has left behind."""

from __future__ import annotations

import contextlib
import faulthandler
import os
from collections.abc import Iterator
from contextlib import contextmanager

from neuface_ray.temporary import open_private, run_folder


@contextmanager
def time_limit(name: str, timeout_s: float) -> Iterator[None]:
    """Ends this process if the body takes longer than ``timeout_s``, leaving a traceback that ``read_crash_trace`` finds.

    The interpreter's watchdog thread does it without the interpreter lock, so no code in the body, native or not, can hold it
    up. Crashes in native code leave their traceback in the same place.

    Args:
        name: ``RUN/WHAT``; the traceback lies in the private folder of the run.

    Raises:
        NeufaceError: there is something in the place of that folder that is not this user's alone.
    """
    path = _trace_path(name)
    with open(open_private(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), "w") as trace:
        faulthandler.enable(trace)
        faulthandler.dump_traceback_later(timeout_s, exit=True, file=trace)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            faulthandler.disable()
            clear_trace(name)


def read_crash_trace(name: str) -> str | None:
    """The traceback left on this machine by a worker that died within ``time_limit``; empty if it was killed from outside, None
    if no worker died here."""
    try:
        with open(open_private(_trace_path(name), os.O_RDONLY), errors="replace") as trace:
            return trace.read()
    except FileNotFoundError:
        return None


def clear_trace(name: str) -> None:
    """Removes what ``read_crash_trace`` reads."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_trace_path(name))


def exceeded_time_limit(trace: str | None) -> bool:
    """Whether the traceback is of a worker that was ended by its time limit."""
    return trace is not None and trace.startswith("Timeout (")


def _trace_path(name: str) -> str:
    run_id, _, what = name.rpartition("/")
    return os.path.join(run_folder(run_id), f"{what}.txt")
