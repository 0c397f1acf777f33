"""Counts of an annotation run, as a table for people and as ``run.json`` for programs."""

from __future__ import annotations

import json
import statistics
import time
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from neuface_ray.dataset.privacy import without_credentials
from neuface_ray.dataset.schema import DELETED, QUARANTINED
from neuface_ray.pipeline.work import FATAL, SegmentResult
from neuface_ray.screen import printable, printable_line
from neuface_ray.types import Segment
from neuface_ray.uri import redact_uri
from neuface_ray.version import code_version

LISTED_FAILURES = 20


def new_run_id() -> str:
    """Time and chance, so that runs sort and never collide."""
    return f"{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}-{uuid.uuid4().hex[:8]}"


def first_line(text: str) -> str:
    """The text up to its first line break."""
    return text.partition("\n")[0]


@dataclass
class AnnotationSummary:
    """Grows by one result for each segment.

    Args:
        run_id: of this run. output: where the dataset lies. planned: segments of the input. todo: those not done before.
        done: segments with a result. missing: sources of planned segments that the dataset lacks at the end.
        left_out: files of the input that are not taken, each with the reason. faces_left_out: people without a clip, beyond
            the largest of their segments.
    """

    run_id: str
    output: str
    planned: int
    todo: int
    done: int = 0
    clips: int = 0
    accepted: int = 0
    frames: int = 0
    face_frames: int = 0
    faces_left_out: int = 0
    rejected_for: Counter[str] = field(default_factory=Counter)
    seconds: Counter[str] = field(default_factory=Counter)
    nme: list[float] = field(default_factory=list)
    quarantined: dict[str, SegmentResult] = field(default_factory=dict)
    quarantined_before: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    fatal: SegmentResult | None = None
    failure: str | None = None
    interrupted: bool = False
    started: float = field(default_factory=time.time)
    finished: float | None = None

    def add(self, result: SegmentResult) -> None:
        """Counts what became of a segment."""
        if result.outcome == FATAL:
            self.fatal = result
            return
        self.done += 1
        if result.outcome == QUARANTINED:
            self.quarantined[result.segment_id] = result
        self.faces_left_out += result.faces_left_out
        for clip in result.clips:
            self.clips += 1
            self.accepted += clip.accepted
            self.rejected_for.update(clip.reasons)
            self.frames += clip.frames
            self.face_frames += clip.face_frames
            self.seconds.update(clip.seconds)
            if clip.nme is not None:
                self.nme.append(clip.nme)

    def reconcile(self, segments: Mapping[str, Segment], outcomes: Mapping[str, str]) -> None:
        """Compares the plan with what the dataset holds; forgets the failures of those who were deleted meanwhile."""
        self.quarantined = {key: each for key, each in self.quarantined.items() if outcomes.get(key) != DELETED}
        self.missing = [redact_uri(each.views[0].uri) for key, each in segments.items() if key not in outcomes]
        failed = [key for key in segments if outcomes.get(key) == QUARANTINED and key not in self.quarantined]
        self.quarantined_before = [redact_uri(segments[key].views[0].uri) for key in failed]

    @property
    def elapsed(self) -> float:
        return (self.finished or time.time()) - self.started

    @property
    def rate(self) -> float:
        """Annotated faces (frame by frame, view by view) per second."""
        return self.face_frames / max(self.elapsed, 1e-9)

    @property
    def exit_code(self) -> int:
        """0 every segment committed; 3 some quarantined; 2 wrong usage; 1 the run failed; 130 interrupted."""
        if self.interrupted:
            return 130
        if self.fatal and self.fatal.failure.usage:
            return 2
        if self.failure or self.fatal or self.missing:
            return 1
        return 3 if self.quarantined or self.quarantined_before else 0

    @property
    def conclusion(self) -> str:
        """The last line: the exit code and why."""
        failed = len(self.quarantined) + len(self.quarantined_before)
        again = "the same command continues"
        lost = f"{len(self.missing)} of {self.planned} segments are neither committed nor quarantined; {again}"
        text = {
            0: f"all {self.planned} segments are in the dataset",
            1: self.failure or lost,
            2: self.failure,
            3: f"{failed} of {self.planned} segments are in quarantine; retry=quarantined tries them again",
            130: f"interrupted; what was committed is kept, {again}",
        }[self.exit_code]
        return printable(f"exit {self.exit_code}: {text}")

    def _fitting_speed(self) -> str:
        fit = self.seconds["annotate"]
        return f"{self.face_frames / fit:.1f} face-frames/s in each worker" if fit > 0 else "none"

    def commonest_failure(self) -> str:
        """The failure that most quarantined segments share, with one message."""
        failures = [result.failure for result in self.quarantined.values()]
        counts = Counter(f"{failure.error} ({first_line(failure.message)})" for failure in failures)
        return counts.most_common(1)[0][0] if counts else "none"

    def table(self) -> str:
        """The numbers of the run, for people."""
        rejected = ", ".join(f"{name} {count}" for name, count in self.rejected_for.most_common()) or "none"
        lines = [
            ("segments", f"{self.done} of {self.todo} done, {self.planned - self.todo} done before"),
            ("clips", f"{self.accepted} accepted, {self.clips - self.accepted} rejected ({rejected})"),
            ("frames", f"{self.frames} annotated, {self.face_frames} faces, {self.rate:.1f} faces/s"),
            ("median NME", f"{statistics.median(self.nme):.2f} %" if self.nme else "none"),
            ("fitting", self._fitting_speed()),
            ("stages", ", ".join(f"{name} {value:.1f} s" for name, value in self.seconds.items()) or "none"),
            ("quarantined", str(len(self.quarantined) + len(self.quarantined_before))),
        ]
        if self.faces_left_out:
            lines.append(
                ("left out", f"{self.faces_left_out} faces beyond the largest of their segments; media.max_faces=N keeps N")
            )
        text = [f"{name:<12} {value}" for name, value in lines]
        for result in list(self.quarantined.values())[:LISTED_FAILURES]:
            failure = result.failure
            message = first_line(failure.message.removeprefix(f"{result.source}: "))
            reason = f"{failure.error} in {failure.stage}: {message}"
            text.append(f"  {printable_line(result.source)}: {printable_line(reason)}")
        for source in self.quarantined_before[:LISTED_FAILURES]:
            text.append(f"  {printable_line(source)}: in quarantine since an earlier run")
        hidden = len(self.quarantined) + len(self.quarantined_before) - sum(line.startswith("  ") for line in text)
        if hidden > 0:
            text.append(f"  and {hidden} more; see the table quarantine")
        text += self._left_out()
        return "\n".join([*text, f"{'dataset':<12} {printable_line(self.output)}"])

    def _left_out(self) -> list[str]:
        """Lines about the files of the input that are not in the plan."""
        if not self.left_out:
            return []
        shown = [
            f"  {printable_line(source)}: {printable_line(reason)}"
            for source, reason in list(self.left_out.items())[:LISTED_FAILURES]
        ]
        hidden = len(self.left_out) - len(shown)
        more = [f"  and {hidden} more; see run.json"] if hidden else []
        return [f"{'left out':<12} {len(self.left_out)} of the input's files", *shown, *more]

    def as_json(self) -> bytes:
        """The same for programs; ``exit_code`` is null while the run is under way."""
        content: dict[str, Any] = {
            "run_id": self.run_id,
            "code_version": code_version(),
            "output": self.output,
            "planned": self.planned,
            "todo": self.todo,
            "settled": self.done,
            "clips": self.clips,
            "accepted": self.accepted,
            "frames": self.frames,
            "face_frames": self.face_frames,
            "faces_left_out": self.faces_left_out,
            "quarantined_before": self.quarantined_before,
            "unaccounted": self.missing,
            "left_out": [{"source": source, "reason": reason} for source, reason in self.left_out.items()],
            "failure": self.failure,
            "interrupted": self.interrupted,
            "started": self.started,
            "finished": self.finished,
            "rejected_for": dict(self.rejected_for),
            "seconds": dict(self.seconds),
            "elapsed_s": self.elapsed,
            "median_nme": statistics.median(self.nme) if self.nme else None,
            "quarantined": [_quarantined_entry(result) for result in self.quarantined.values()],
            "exit_code": self.exit_code if self.finished else None,
            "outcome": self.conclusion if self.finished else "under way",
        }
        return json.dumps(without_credentials(content), indent=2).encode()


def _quarantined_entry(result: SegmentResult) -> dict[str, Any]:
    failure = result.failure
    return {
        "segment_id": result.segment_id,
        "status": result.outcome,
        "source": result.source,
        "clips": [],
        "stage": failure.stage,
        "error": failure.error,
        "message": failure.message,
    }
