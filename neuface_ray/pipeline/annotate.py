"""The annotation run: plan, spread the segments over workers with Ray Data, count the results, publish.

    plan -> segments -> prepare (CPU: decode, find faces, crop) -> Annotate (GPU or CPU: annotate, decide, commit) -> results

One segment is one task from beginning to end. Rows never travel through Ray: the worker that made them commits them, and the
driver gets a small segment result. What is in the plan and not in the dataset after the last result is an error. Where workers
have no GPU both stages ask for the same resources, and Ray Data fuses them: every core carries a segment from end to end.
"""

from __future__ import annotations

import pickle
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from typing import Any

from neuface_ray.dataset.commit import Output
from neuface_ray.dataset.finalise import finalise
from neuface_ray.dataset.parquet import TARGET_BYTES
from neuface_ray.dataset.publish import publish
from neuface_ray.dataset.rows import Provenance
from neuface_ray.errors import NeufaceError, UsageError
from neuface_ray.media import check_detector, make_plan
from neuface_ray.pipeline.config import AnnotateConfig
from neuface_ray.pipeline.progress import AnnotationProgress
from neuface_ray.pipeline.segment import AnnotationSession
from neuface_ray.pipeline.summary import AnnotationSummary, new_run_id
from neuface_ray.pipeline.work import SegmentResult, WorkerContext, annotate_and_commit, prepare_segment
from neuface_ray.pipeline.workers import Workers
from neuface_ray.ray_session import ray_session
from neuface_ray.temporary import temporary_data_of_run
from neuface_ray.types import Segment
from neuface_ray.uri import redact_uri

SEGMENTS_PER_GRAPH = 5000
"""Ray Data keeps a little state for each task of a graph, so a large plan is worked off in several graphs."""


def run(config: AnnotateConfig) -> AnnotationSummary:
    """Annotates ``config.input`` into the dataset at ``config.output``; segments that are in it already are skipped.

    Returns:
        Counts of the run and how it ended. ``exit_code`` is the command's.

    Raises:
        UsageError: nothing was started, because the input, the output or the configuration is wrong.
    """
    session = AnnotationSession.load(replace(config, annotator=replace(config.annotator, device="cpu")))
    check_detector(config.media)
    found = make_plan(config.input, session.media)
    segments = found.segments
    made_with, former = provenance(config, session, new_run_id()), config.former_row_settings()
    output = Output.open(config.output, made_with, config.on_change, former)
    todo = output.pending(segments, retry_quarantined=config.retry == "quarantined")
    summary = AnnotationSummary(output.provenance.run_id, output.path, len(segments), len(todo))
    summary.left_out = {redact_uri(each.uri): each.reason for each in found.left_out}
    output.store.replace("run.json", summary.as_json())
    try:
        if todo:
            with temporary_data_of_run(summary.run_id):
                annotate_all(todo, WorkerContext(config, session.media, output), summary)
    except KeyboardInterrupt:
        summary.interrupted = True
    except NeufaceError as error:
        summary.failure = str(error)
    except Exception as error:
        summary.failure = f"{type(error).__name__}: {error}"
        raise
    finally:
        finalise_run(segments, output, summary)
    return summary


def annotate_all(todo: Sequence[Segment], context: WorkerContext, summary: AnnotationSummary) -> None:
    """Annotates the segments on the cluster, or on this machine, and shows how far it is. Raises as ``consume_results``."""
    progress = AnnotationProgress(summary)
    try:
        # Closed before Ray is: a graph that is still at work when Ray has ended would start another one.
        with ray_session(context.config.ray), interruptible(), closing(annotate_segments(todo, context)) as results:
            consume_results(results, context, summary, progress)
    finally:
        progress.close()


def annotate_segments(todo: Sequence[Segment], context: WorkerContext) -> Iterator[SegmentResult]:
    """The graph: yields one result for each segment, in the order of completion. Needs a Ray session."""
    import ray.data  # not earlier: its environment is set by the session
    from ray.data import ActorPoolStrategy, DataContext

    workers = Workers.of(context.config.ray, len(todo))
    data_context = DataContext.get_current().copy()
    data_context.max_errored_blocks = -1
    data_context.execution_no_progress_timeout_s = -1
    for start in range(0, len(todo), SEGMENTS_PER_GRAPH):
        chunk = todo[start : start + SEGMENTS_PER_GRAPH]
        with DataContext.current(data_context):
            rows = (
                ray.data.from_items([{"segment": pickle.dumps(each)} for each in chunk], override_num_blocks=len(chunk))
                .map_batches(prepare_stage, fn_args=(context,), batch_size=1, num_cpus=1)
                .map_batches(
                    Annotate,
                    fn_constructor_args=(context,),
                    batch_size=1,
                    num_cpus=workers.cpus,
                    num_gpus=workers.gpus,
                    compute=ActorPoolStrategy(size=workers.actors, max_tasks_in_flight_per_actor=1),
                )
            )
            for batch in rows.iter_batches(batch_size=None, prefetch_batches=0):
                yield from map(pickle.loads, batch["result"])


def prepare_stage(batch: dict[str, Any], context: WorkerContext) -> dict[str, Any]:
    """A batch of one segment to a batch of one prepared segment."""
    prepared = prepare_segment(context, pickle.loads(batch["segment"][0]))
    return {"prepared": [pickle.dumps(prepared, protocol=5)]}


class Annotate:
    """The actor that turns a batch of one prepared segment into a batch of one segment result; it keeps the models loaded."""

    def __init__(self, context: WorkerContext):
        import torch

        torch.set_num_threads(context.config.ray.cpus_per_actor)
        self.context, self._session = context, None

    def session(self) -> AnnotationSession:
        self._session = self._session or AnnotationSession.load(self.context.config)
        return self._session

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        result = annotate_and_commit(self.context, pickle.loads(batch["prepared"][0]), self.session)
        return {"result": [pickle.dumps(result)]}


def consume_results(
    results: Iterator[SegmentResult], context: WorkerContext, summary: AnnotationSummary, progress: AnnotationProgress
) -> None:
    """Counts every result and publishes now and then.

    Raises NeufaceError when the run cannot go on or its error budget is spent, UsageError if the configuration is the cause.
    """
    published = time.monotonic()
    for result in results:
        summary.add(result)
        progress.show()
        if summary.fatal:
            failure = summary.fatal.failure
            raise (UsageError if failure.usage else NeufaceError)(f"{summary.fatal.source}: {failure.message}")
        if len(summary.quarantined) > context.config.error_budget(summary.planned):
            raise NeufaceError(
                f"{len(summary.quarantined)} of {summary.planned} segments failed, more than max_failed_fraction allows; "
                f"most often: {summary.commonest_failure()}",
                code="error_budget",
            )
        if time.monotonic() - published > context.config.publish_every_s:
            publish(context.output.store, minimum_bytes=TARGET_BYTES)
            published = time.monotonic()


def finalise_run(segments: Sequence[Segment], output: Output, summary: AnnotationSummary) -> None:
    """Publishes, compares the plan with the dataset, and writes ``run.json``, whatever else fails."""
    try:
        finalise(output.store)
        summary.reconcile({segment.segment_id: segment for segment in segments}, output.outcomes(segments))
    except NeufaceError as error:
        summary.failure = summary.failure or str(error)
    except KeyboardInterrupt:
        summary.interrupted = True
    except Exception as error:
        summary.failure = summary.failure or f"{type(error).__name__}: {error}"
        raise
    finally:
        summary.finished = time.time()
        output.store.replace("run.json", summary.as_json())


def provenance(config: AnnotateConfig, session: AnnotationSession, run_id: str) -> Provenance:
    """What the rows of this run are made from and with."""
    hashes = {"head": session.head.hash, session.annotator.name: session.annotator.weights_hash}
    return Provenance(
        run_id=run_id,
        annotator=session.annotator.name,
        head_model=session.head.id,
        config=config.row_settings(),
        model_hashes={name: value for name, value in hashes.items() if value is not None},
        seed=config.seed,
        method_version=session.annotator.rows_version,
    )


@contextmanager
def interruptible() -> Iterator[None]:
    """Termination (as by ``ray job stop``) ends the body as Ctrl-C does, and once: a second signal must not disturb the end.

    Handlers can be set in the main thread only.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        for number in before:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
