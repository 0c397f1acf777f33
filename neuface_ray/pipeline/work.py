"""What the workers do with one segment: try, count, give up in time, commit. No failure leaves it but as a ledger row.

A ledger row is what the driver learns of a segment: plain values, small.
"""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from neuface_ray.dataset.commit import Output
from neuface_ray.dataset.rows import clip_rows
from neuface_ray.dataset.storage import OutputError
from neuface_ray.errors import DataError, NeufaceError, UsageError
from neuface_ray.media import MediaConfig, prepare
from neuface_ray.pipeline import time_limit as watchdog
from neuface_ray.pipeline.config import AnnotateConfig
from neuface_ray.pipeline.segment import AnnotatedClip, Workbench
from neuface_ray.types import FaceClip, Segment
from neuface_ray.uri import redact_text, redact_uri

COMMITTED, QUARANTINED, ALREADY_DONE, FATAL = "committed", "quarantined", "already_done", "fatal"
Ledger = dict[str, Any]
Result = TypeVar("Result")


@dataclass(frozen=True)
class Job:
    """What every worker of a run is told."""

    config: AnnotateConfig
    media: MediaConfig
    output: Output


def prepare_segment(job: Job, segment: Segment) -> list[FaceClip] | Ledger:
    """The clips of a segment, or the ledger row that says why there are none."""
    return attempt(job, segment, "prepare", lambda: prepare(segment, job.media))


def annotate_and_commit(job: Job, segment: Segment, clips: list[FaceClip], bench: Callable[[], Workbench]) -> Ledger:
    """Annotates, judges and commits the clips of a segment; returns its ledger row."""

    def work() -> Ledger:
        if job.output.is_done(segment.segment_id):
            return _row(segment, ALREADY_DONE)
        annotated = [bench().annotate(clip) for clip in clips]
        commit(job.output, segment, annotated)
        return _row(segment, COMMITTED, clips=[_clip_entry(each) for each in annotated])

    return attempt(job, segment, "annotate", work)


def commit(output: Output, segment: Segment, annotated: list[AnnotatedClip]) -> bool:
    """Commits the annotated clips of a segment as a whole; False if it was committed before."""
    rows = [clip_rows(each.clip, each.sequence, each.quality, each.decision, output.provenance) for each in annotated]
    return output.commit(segment, rows)


def attempt(job: Job, segment: Segment, stage: str, work: Callable[[], Result]) -> Result | Ledger:
    """``work()``, or a ledger row that says why not.

    Bad data goes to quarantine at once, and so does a segment that exceeded the time limit; a worker's death (found when the
    segment comes back to a new worker) and any other exception are tried ``max_attempts`` times. A wrong configuration and an
    output that cannot be written are fatal for the run.
    """
    name = _trace_name(job, segment, stage)
    try:
        while True:
            tried = job.output.attempts(segment.segment_id, stage)
            words = watchdog.last_words(name)
            if watchdog.exceeded_time_limit(words):
                message = f"{stage} took longer than clip_timeout_s={job.config.clip_timeout_s:g} s\n{words}"
                return _quarantine(job, segment, stage, name, error="time_limit", message=message)
            if tried >= job.config.max_attempts:
                return _give_up(job, segment, stage, tried)
            with watchdog.watched(name, job.config.clip_timeout_s):
                job.output.begin_attempt(segment.segment_id, stage)
                try:
                    return work()
                except (UsageError, OutputError):
                    raise
                except DataError as error:
                    return _quarantine(job, segment, stage, name, exception=error)
                except Exception as error:
                    if _gpu_is_lost(error):
                        traceback.print_exc()
                        os._exit(1)  # a new worker counts this try and begins the next
                    if tried + 1 >= job.config.max_attempts:
                        return _quarantine(job, segment, stage, name, exception=error)
    except Exception as error:
        return _row(segment, FATAL, **_failure(error), usage=isinstance(error, UsageError), traceback=traceback.format_exc())


def _gpu_is_lost(error: Exception) -> bool:
    """A failed kernel leaves the process's GPU context unusable for every segment to come; running out of memory does not."""
    return isinstance(error, RuntimeError) and "CUDA error" in str(error)


def _give_up(job: Job, segment: Segment, stage: str, tried: int) -> Ledger:
    """After too many deaths. Where one worker carries a segment through both stages, each death in the second begins the first
    again; then the second is to blame."""
    guilty = "annotate" if job.output.attempts(segment.segment_id, "annotate") >= tried else stage
    name = _trace_name(job, segment, guilty)
    words = watchdog.last_words(name) or ""
    message = f"{tried} workers died in {guilty} (killed by the system, out of memory, or a crash)\n{words}"
    return _quarantine(job, segment, guilty, name, error="worker_died", message=message)


def _trace_name(job: Job, segment: Segment, stage: str) -> str:
    return f"{job.output.provenance.run_id}-{segment.segment_id}-{stage}"


def _quarantine(job: Job, segment: Segment, stage: str, name: str, **reason: Any) -> Ledger:
    job.output.quarantine(segment, stage, **reason)
    watchdog.forget(name)
    failure = _failure(reason["exception"]) if "exception" in reason else {k: reason[k] for k in ("error", "message")}
    return _row(segment, QUARANTINED, stage=stage, **failure)


def _failure(error: Exception) -> Ledger:
    return {
        "error": error.code if isinstance(error, NeufaceError) else type(error).__name__,
        "message": redact_text(str(error)),
    }


def _row(segment: Segment, status: str, **more: Any) -> Ledger:
    source = redact_uri(segment.views[0].uri)
    return {"segment_id": segment.segment_id, "status": status, "source": source, "clips": [], **more}


def _clip_entry(annotated: AnnotatedClip) -> Ledger:
    clip, core = annotated.clip, annotated.clip.core
    valid = (clip.valid & annotated.sequence.valid)[core]
    return {
        "clip_id": clip.clip_id,
        "accepted": annotated.decision.accepted,
        "reasons": list(annotated.decision.reasons),
        "frames": int(core.sum()),
        "face_frames": int(valid.sum()),
        "nme": float(annotated.quality.clip_nme) if np.isfinite(annotated.quality.clip_nme) else None,
        "seconds": {**clip.seconds, **annotated.sequence.seconds},
    }
