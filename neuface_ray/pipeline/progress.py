"""One line on how far a run has come: rewritten in place on a terminal, now and then a new one in a log."""

from __future__ import annotations

import sys
import time
from typing import TextIO

from neuface_ray.duration import format_duration
from neuface_ray.pipeline.summary import AnnotationSummary

LOG_INTERVAL_S = 5.0
TERMINAL_INTERVAL_S = 0.2


class AnnotationProgress:
    """Shows the summary of a run while it grows."""

    def __init__(self, summary: AnnotationSummary, stream: TextIO | None = None):
        self._summary, self._stream = summary, stream or sys.stderr
        self._terminal = self._stream.isatty()
        self._interval = TERMINAL_INTERVAL_S if self._terminal else LOG_INTERVAL_S
        self._shown, self._text = 0.0, ""
        self._write(self.line())

    def show(self) -> None:
        """Writes the line unless it was written a moment ago."""
        if time.monotonic() - self._shown >= self._interval:
            self._write(self.line())

    def close(self) -> None:
        """Writes the last state, if it is news, and leaves the line."""
        if self._text != self.line():
            self._write(self.line())
        if self._terminal:
            self._stream.write("\n")

    def line(self) -> str:
        """Segments, clips, frames, rate and time left."""
        summary = self._summary
        done, todo = summary.done, summary.todo
        parts = [f"{done}/{todo} segments"]
        if summary.planned > todo:
            parts[0] += f" ({summary.planned - todo} done before)"
        parts += [f"{summary.clips} clips", f"{summary.face_frames} face-frames", f"{summary.rate:.1f}/s"]
        if summary.quarantined:
            parts.append(f"{len(summary.quarantined)} quarantined")
        if 0 < done < todo:
            parts.append(f"{format_duration((todo - done) * summary.elapsed / done)} left")
        return ", ".join(parts)

    def _write(self, text: str) -> None:
        self._stream.write(f"\r\033[K{text}" if self._terminal else f"{text}\n")
        self._stream.flush()
        self._shown, self._text = time.monotonic(), text
