"""What a worker does with one segment: try, count, give up in time, commit. Every failure becomes a segment result.

A segment result is what the driver learns of a segment: plain values, small.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from neuface_ray.dataset.commit import Output
from neuface_ray.dataset.rows import clip_rows
from neuface_ray.dataset.schema import COMMITTED, QUARANTINED
from neuface_ray.dataset.storage import OutputError
from neuface_ray.errors import DataError, NeufaceError, UsageError
from neuface_ray.media import MediaConfig, prepare
from neuface_ray.pipeline.config import AnnotateConfig
from neuface_ray.pipeline.segment import AnnotatedClip, AnnotationSession
from neuface_ray.pipeline.time_limit import clear_trace, exceeded_time_limit, read_crash_trace, time_limit
from neuface_ray.screen import show_error
from neuface_ray.types import FaceClip, Segment
from neuface_ray.uri import redact_text, redact_uri

ALREADY_DONE, FATAL = "already_done", "fatal"
PREPARE, ANNOTATE = "prepare", "annotate"
Result = TypeVar("Result")


@dataclass(frozen=True)
class WorkerContext:
    """What every worker of a run needs: the configuration, the media options with the annotator's crop size, the dataset."""

    config: AnnotateConfig
    media: MediaConfig
    output: Output


@dataclass(frozen=True)
class ClipResult:
    """Counts of one committed clip.

    Args:
        frames: of the segment itself, without overlap. face_frames: frames and views with a face.
        nme: percent, None if it could not be measured. seconds: durations by stage.
    """

    clip_id: str
    accepted: bool
    reasons: tuple[str, ...]
    frames: int
    face_frames: int
    nme: float | None
    seconds: dict[str, float]


@dataclass(frozen=True)
class Failure:
    """Why a segment is in quarantine, or why the run cannot go on.

    Args:
        error: reason code or class of the exception. stage: of the segment, None if the segment is not to blame.
        usage: the configuration or the input is wrong.
    """

    error: str
    message: str
    stage: str | None = None
    usage: bool = False


@dataclass(frozen=True)
class SegmentResult:
    """What became of a segment in this run.

    Args:
        outcome: ``committed``, ``quarantined``, ``already_done`` (by another worker or run, or deleted for good) or ``fatal``
            (the run must stop).
        source: URI of the first view, without credentials. failure: for quarantined and fatal ones.
        faces_left_out: faces beyond the largest, which have no clip.
    """

    segment_id: str
    outcome: str
    source: str
    clips: tuple[ClipResult, ...] = ()
    failure: Failure | None = None
    faces_left_out: int = 0


@dataclass(frozen=True)
class PreparedSegment:
    """A segment with its clips, or with the ``result`` if it ended while it was prepared."""

    segment: Segment
    clips: Sequence[FaceClip] = ()
    result: SegmentResult | None = None


class SegmentEnded(Exception):
    """The work on a segment ends here, with this result."""

    def __init__(self, result: SegmentResult):
        super().__init__(result)
        self.result = result


def prepare_segment(context: WorkerContext, segment: Segment) -> PreparedSegment:
    """Decodes a segment and finds its faces; failures are in the ``result``."""
    try:
        clips = attempt(context, segment, PREPARE, lambda: prepare(segment, context.media))
    except SegmentEnded as ended:
        return PreparedSegment(segment, result=ended.result)
    return PreparedSegment(segment, clips)


def annotate_and_commit(
    context: WorkerContext, prepared: PreparedSegment, session: Callable[[], AnnotationSession]
) -> SegmentResult:
    """Annotates the clips of a segment, lets the gate decide on each, and commits them.

    Args:
        session: gives the loaded models; called within the attempt, so that failing to load them is a result too.
    """
    if prepared.result is not None:
        return prepared.result
    segment = prepared.segment

    def work() -> SegmentResult:
        if context.output.is_done(segment.segment_id) or context.output.is_deleted(segment):
            return _result(segment, ALREADY_DONE)
        annotated = [session().annotate(clip) for clip in prepared.clips]
        if not commit(context.output, segment, annotated):
            return _result(segment, ALREADY_DONE)
        left_out = (prepared.clips[0].faces_left_out if prepared.clips else None) or 0
        committed = _result(segment, COMMITTED, clips=tuple(_clip_result(each) for each in annotated))
        return replace(committed, faces_left_out=left_out)

    try:
        return attempt(context, segment, ANNOTATE, work)
    except SegmentEnded as ended:
        return ended.result


def commit(output: Output, segment: Segment, annotated: Sequence[AnnotatedClip]) -> bool:
    """Commits the annotated clips of a segment as one; False if it was committed before or deleted for good."""
    rows = [clip_rows(each.clip, each.sequence, each.quality, each.decision, output.provenance) for each in annotated]
    return output.commit(segment, rows)


def attempt(context: WorkerContext, segment: Segment, stage: str, work: Callable[[], Result]) -> Result:
    """``work()``, tried as often as is allowed.

    Bad data goes to quarantine at once, and so does a segment that exceeded the time limit; a worker's death (found when the
    segment comes back to a new worker) and any other exception are tried ``max_attempts`` times. A wrong configuration and an
    output that cannot be written are fatal for the run.

    Raises:
        SegmentEnded: with the result of a segment that went to quarantine, or of one at which the run must stop.
    """
    name = _trace_name(context, segment, stage)
    try:
        while True:
            tried = context.output.attempts(segment.segment_id, stage)
            trace = read_crash_trace(name)
            if exceeded_time_limit(trace):
                message = f"{stage} took longer than clip_timeout_s={context.config.clip_timeout_s:g} s\n{trace}"
                raise _quarantine(context, segment, Failure("time_limit", message, stage))
            if tried >= context.config.max_attempts:
                raise _give_up(context, segment, stage, tried)
            with time_limit(name, context.config.clip_timeout_s):
                context.output.begin_attempt(segment.segment_id, stage)
                try:
                    return work()
                except (UsageError, OutputError):
                    raise
                except DataError as error:
                    raise _quarantine(context, segment, _failure(error, stage), error) from error
                except Exception as error:
                    if _gpu_is_lost(error):
                        show_error(traceback.format_exc())
                        os._exit(1)  # a new worker counts this try and begins the next
                    if tried + 1 >= context.config.max_attempts:
                        raise _quarantine(context, segment, _failure(error, stage), error) from error
    except SegmentEnded:
        raise
    except Exception as error:
        raise SegmentEnded(_result(segment, FATAL, failure=_failure(error))) from error


def _gpu_is_lost(error: Exception) -> bool:
    """A failed kernel leaves the process's GPU context unusable for every segment to come; running out of memory does not."""
    return isinstance(error, RuntimeError) and "CUDA error" in str(error)


def _give_up(context: WorkerContext, segment: Segment, stage: str, tried: int) -> SegmentEnded:
    """After too many deaths. Where one worker carries a segment through both stages, each death in the second begins the first
    again; then the second is to blame."""
    guilty = ANNOTATE if context.output.attempts(segment.segment_id, ANNOTATE) >= tried else stage
    trace = read_crash_trace(_trace_name(context, segment, guilty)) or ""
    message = f"{tried} workers died in {guilty} (killed by the system, out of memory, or a crash)\n{trace}"
    return _quarantine(context, segment, Failure("worker_died", message, guilty))


def _trace_name(context: WorkerContext, segment: Segment, stage: str) -> str:
    return f"{context.output.provenance.run_id}/{segment.segment_id}-{stage}"


def _quarantine(context: WorkerContext, segment: Segment, failure: Failure, exception: Exception | None = None) -> SegmentEnded:
    if exception is not None:
        context.output.quarantine(segment, failure.stage, exception=exception)
    else:
        context.output.quarantine(segment, failure.stage, error=failure.error, message=failure.message)
    clear_trace(_trace_name(context, segment, failure.stage))
    return SegmentEnded(_result(segment, QUARANTINED, failure=failure))


def _failure(error: Exception, stage: str | None = None) -> Failure:
    code = error.code if isinstance(error, NeufaceError) else type(error).__name__
    return Failure(code, redact_text(str(error)), stage, isinstance(error, UsageError))


def _result(
    segment: Segment, outcome: str, clips: tuple[ClipResult, ...] = (), failure: Failure | None = None
) -> SegmentResult:
    return SegmentResult(segment.segment_id, outcome, redact_uri(segment.views[0].uri), clips, failure)


def _clip_result(annotated: AnnotatedClip) -> ClipResult:
    clip, core, nme = annotated.clip, annotated.clip.core, annotated.quality.clip_nme
    return ClipResult(
        clip_id=clip.clip_id,
        accepted=annotated.decision.accepted,
        reasons=tuple(annotated.decision.reasons),
        frames=int(core.sum()),
        face_frames=int((clip.valid & annotated.sequence.valid)[core].sum()),
        nme=float(nme) if np.isfinite(nme) else None,
        seconds={**clip.seconds, **annotated.sequence.seconds},
    )
