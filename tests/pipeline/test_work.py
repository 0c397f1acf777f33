"""One segment in a worker: every kind of failure ends in the right segment result and the right state on disk."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import neuface_ray
from neuface_ray.config import load
from neuface_ray.dataset import Output, OutputError, Provenance
from neuface_ray.errors import DataError, UsageError
from neuface_ray.pipeline import time_limit
from neuface_ray.pipeline.config import AnnotateConfig
from neuface_ray.pipeline.time_limit import clear_trace, read_crash_trace
from neuface_ray.pipeline.work import SegmentEnded, SegmentResult, WorkerContext, attempt
from neuface_ray.types import Segment, View

SEGMENT = Segment("0123456789abcdef", "somebody", (View("front", "s3://user:password@bucket/a.mp4?key=1"),), 0, 9, 0, 9)


@pytest.fixture
def context(tmp_path) -> WorkerContext:
    config = load(AnnotateConfig, None, ["input=a", f"output={tmp_path}/out", "max_attempts=3"])
    return WorkerContext(
        config, config.media, Output.open(config.output, Provenance(tmp_path.name, "direct_fitting", "head/1/abc"))
    )


def ended(context: WorkerContext, stage: str, work) -> SegmentResult:
    """The result of a segment that ends in this stage."""
    with pytest.raises(SegmentEnded) as caught:
        attempt(context, SEGMENT, stage, work)
    return caught.value.result


def raising(error: Exception, calls: list):
    def work():
        calls.append(1)
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "tries"),
    [
        (DataError("torn", code="truncated"), "truncated", 1),
        (ValueError("odd"), "ValueError", 3),
        (MemoryError(), "MemoryError", 3),
    ],
)
def test_failures_of_a_segment_go_to_quarantine(context, error, code, tries):
    calls: list = []
    result = ended(context, "prepare", raising(error, calls))
    assert (result.outcome, result.failure.error, result.failure.stage) == ("quarantined", code, "prepare")
    assert len(calls) == tries
    assert result.source == "s3://bucket/a.mp4"
    (entry,) = neuface_ray.open(context.output.path).table("quarantine").to_pylist()
    assert (entry["error"], entry["attempts"], entry["stage"]) == (code, tries, "prepare")
    assert type(error).__name__ in entry["traceback"]
    assert "password" not in str(entry)


@pytest.mark.parametrize(("error", "usage"), [(UsageError("no such file"), True), (OutputError("disk full"), False)])
def test_failures_of_the_run_are_fatal_and_blame_no_segment(context, error, usage):
    result = ended(context, "annotate", raising(error, []))
    assert (result.outcome, result.failure.usage) == ("fatal", usage)
    assert context.output.outcomes() == {}


def test_a_transient_failure_is_tried_again(context):
    outcomes = iter([ValueError("once"), "done"])

    def work():
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    assert attempt(context, SEGMENT, "annotate", work) == "done"
    assert context.output.attempts(SEGMENT.segment_id, "annotate") == 2


def test_a_segment_whose_workers_die_is_given_up(context):
    for _ in range(3):
        context.output.begin_attempt(SEGMENT.segment_id, "annotate")
    assert attempt(context, SEGMENT, "prepare", lambda: "prepared") == "prepared"  # attempts are counted for each stage
    result = ended(context, "annotate", lambda: "never reached")
    assert (result.outcome, result.failure.error, result.failure.stage) == ("quarantined", "worker_died", "annotate")
    assert context.output.outcomes() == {SEGMENT.segment_id: "quarantined"}


def test_deaths_in_the_second_stage_are_not_blamed_on_the_first(context):
    for _ in range(3):  # one worker carries the segment through both stages and dies in the second
        context.output.begin_attempt(SEGMENT.segment_id, "prepare")
        context.output.begin_attempt(SEGMENT.segment_id, "annotate")
    result = ended(context, "prepare", lambda: "never reached")
    assert (result.outcome, result.failure.error, result.failure.stage) == ("quarantined", "worker_died", "annotate")


def test_a_worker_whose_gpu_is_lost_ends_itself(context):
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        attempt(context, SEGMENT, "annotate", raising(RuntimeError("CUDA error: an illegal memory access was encountered"), []))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert context.output.attempts(SEGMENT.segment_id, "annotate") == 1
    assert context.output.outcomes() == {}


def test_attempts_of_another_run_do_not_count(context):
    earlier = Output(context.output.store, Provenance("earlier", "direct_fitting", "head/1/abc"))
    for _ in range(3):
        earlier.begin_attempt(SEGMENT.segment_id, "annotate")
    assert attempt(context, SEGMENT, "annotate", lambda: "done") == "done"


def test_a_segment_that_exceeded_the_time_limit_is_given_up_at_once(context):
    name = f"{context.output.provenance.run_id}/{SEGMENT.segment_id}-annotate"
    Path(time_limit._trace_path(name)).write_text("Timeout (0:00:05)!\nThread ...\n")
    try:
        result = ended(context, "annotate", lambda: "never reached")
        assert (result.outcome, result.failure.error) == ("quarantined", "time_limit")
        assert read_crash_trace(name) is None
    finally:
        clear_trace(name)
