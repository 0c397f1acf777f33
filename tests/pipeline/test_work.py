"""One segment in a worker: every kind of failure ends in the right ledger row and the right state on disk."""

from __future__ import annotations

import os

import pytest

import neuface_ray
from neuface_ray.config import load
from neuface_ray.dataset import Output, OutputError, Provenance
from neuface_ray.errors import DataError, UsageError
from neuface_ray.pipeline.config import AnnotateConfig
from neuface_ray.pipeline.time_limit import forget
from neuface_ray.pipeline.work import Job, attempt
from neuface_ray.types import Segment, View

SEGMENT = Segment("0123456789abcdef", "somebody", (View("front", "s3://user:password@bucket/a.mp4?key=1"),), 0, 9, 0, 9)


@pytest.fixture
def job(tmp_path) -> Job:
    config = load(AnnotateConfig, None, ["input=a", f"output={tmp_path}/out", "max_attempts=3"])
    return Job(config, config.media, Output.open(config.output, Provenance(tmp_path.name, "flame_fitting", "head/1/abc")))


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
def test_failures_of_a_segment_go_to_quarantine(job, error, code, tries):
    calls: list = []
    row = attempt(job, SEGMENT, "prepare", raising(error, calls))
    assert (row["status"], row["error"], row["stage"]) == ("quarantined", code, "prepare")
    assert len(calls) == tries
    assert row["source"] == "s3://bucket/a.mp4"
    (entry,) = neuface_ray.open(job.output.path).table("quarantine").to_pylist()
    assert (entry["error"], entry["attempts"], entry["stage"]) == (code, tries, "prepare")
    assert type(error).__name__ in entry["traceback"]
    assert "password" not in str(entry)


@pytest.mark.parametrize(("error", "usage"), [(UsageError("no such file"), True), (OutputError("disk full"), False)])
def test_failures_of_the_run_are_fatal_and_blame_no_segment(job, error, usage):
    row = attempt(job, SEGMENT, "annotate", raising(error, []))
    assert (row["status"], row["usage"]) == ("fatal", usage)
    assert job.output.outcomes() == {}


def test_a_transient_failure_is_tried_again(job):
    outcomes = iter([ValueError("once"), "done"])

    def work():
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    assert attempt(job, SEGMENT, "annotate", work) == "done"
    assert job.output.attempts(SEGMENT.segment_id, "annotate") == 2


def test_a_segment_whose_workers_die_is_given_up(job):
    for _ in range(3):
        job.output.begin_attempt(SEGMENT.segment_id, "annotate")
    assert attempt(job, SEGMENT, "prepare", lambda: "prepared") == "prepared"  # attempts are counted for each stage
    row = attempt(job, SEGMENT, "annotate", lambda: "never reached")
    assert (row["status"], row["error"], row["stage"]) == ("quarantined", "worker_died", "annotate")
    assert job.output.outcomes() == {SEGMENT.segment_id: "quarantined"}


def test_deaths_in_the_second_stage_are_not_blamed_on_the_first(job):
    for _ in range(3):  # one worker carries the segment through both stages and dies in the second
        job.output.begin_attempt(SEGMENT.segment_id, "prepare")
        job.output.begin_attempt(SEGMENT.segment_id, "annotate")
    row = attempt(job, SEGMENT, "prepare", lambda: "never reached")
    assert (row["status"], row["error"], row["stage"]) == ("quarantined", "worker_died", "annotate")


def test_a_worker_whose_gpu_is_lost_ends_itself(job):
    child = os.fork()
    if child == 0:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        attempt(job, SEGMENT, "annotate", raising(RuntimeError("CUDA error: an illegal memory access was encountered"), []))
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert job.output.attempts(SEGMENT.segment_id, "annotate") == 1
    assert job.output.outcomes() == {}


def test_attempts_of_another_run_do_not_count(job):
    earlier = Output(job.output.store, Provenance("earlier", "flame_fitting", "head/1/abc"))
    for _ in range(3):
        earlier.begin_attempt(SEGMENT.segment_id, "annotate")
    assert attempt(job, SEGMENT, "annotate", lambda: "done") == "done"


def test_a_segment_that_exceeded_the_time_limit_is_given_up_at_once(job):
    from neuface_ray.pipeline import time_limit as watchdog

    name = f"{job.output.provenance.run_id}-{SEGMENT.segment_id}-annotate"
    watchdog._trace_file(name).write_text("Timeout (0:00:05)!\nThread ...\n")
    try:
        row = attempt(job, SEGMENT, "annotate", lambda: "never reached")
        assert (row["status"], row["error"]) == ("quarantined", "time_limit")
        assert watchdog.last_words(name) is None
    finally:
        forget(name)
