"""A time limit that nothing can hold up, and the traceback that a worker that died has left behind."""

from __future__ import annotations

import faulthandler
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def time_limit(name: str, timeout_s: float) -> Iterator[None]:
    """Ends this process if the body takes longer than ``timeout_s``, leaving a traceback that ``read_crash_trace`` finds.

    The interpreter's watchdog thread does it without the interpreter lock, so no code in the body, native or not, can hold it
    up. Crashes in native code leave their traceback in the same place.
    """
    trace_file = _trace_file(name)
    with trace_file.open("w") as trace:
        faulthandler.enable(trace)
        faulthandler.dump_traceback_later(timeout_s, exit=True, file=trace)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
            faulthandler.disable()
            trace_file.unlink(missing_ok=True)


def read_crash_trace(name: str) -> str | None:
    """The traceback left on this machine by a worker that died within ``time_limit``; empty if it was killed from outside, None
    if no worker died here."""
    trace_file = _trace_file(name)
    return trace_file.read_text(errors="replace") if trace_file.is_file() else None


def clear_trace(name: str) -> None:
    """Removes what ``read_crash_trace`` reads."""
    _trace_file(name).unlink(missing_ok=True)


def exceeded_time_limit(trace: str | None) -> bool:
    """Whether the traceback is of a worker that was ended by its time limit."""
    return trace is not None and trace.startswith("Timeout (")


def _trace_file(name: str) -> Path:
    folder = Path(tempfile.gettempdir()) / f"neuface_ray_traces_{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / f"{name}.txt"
