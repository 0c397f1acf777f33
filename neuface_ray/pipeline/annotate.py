"""The annotation run: plan, spread the segments over workers with Ray Data, keep the books, publish.

    plan -> segments -> prepare (CPU: decode, find faces, crop) -> Annotate (GPU or CPU: annotate, judge, commit) -> ledger

One segment is one task from beginning to end. Rows never travel through Ray: the worker that made them commits them, and the
driver hears of it in a ledger row. What the plan holds and the dataset does not after the last row is an error. Where workers
have no GPU both stages ask for the same resources, and Ray Data fuses them: every core carries whole segments.
"""

from __future__ import annotations

import json
import pickle
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import Any

from neuface_ray.dataset.commit import Output
from neuface_ray.dataset.finalise import finalise
from neuface_ray.dataset.parquet import TARGET_BYTES
from neuface_ray.dataset.publish import publish
from neuface_ray.dataset.rows import Provenance
from neuface_ray.errors import NeufaceError, UsageError
from neuface_ray.media import plan
from neuface_ray.media.fan import Fan
from neuface_ray.pipeline.config import AnnotateConfig
from neuface_ray.pipeline.progress import Progress
from neuface_ray.pipeline.segment import Workbench
from neuface_ray.pipeline.summary import Summary, new_run_id
from neuface_ray.pipeline.work import Job, Ledger, annotate_and_commit, prepare_segment
from neuface_ray.ray_session import RayConfig, ray_session
from neuface_ray.types import Segment

SEGMENTS_PER_GRAPH = 5000
"""Ray Data keeps a little state for each task of a graph, so a large plan is worked off in several graphs."""


def run(config: AnnotateConfig) -> Summary:
    """Annotates ``config.input`` into the dataset at ``config.output``; what is there already is not made again.

    Returns:
        What was done and what it ended with. ``exit_code`` is the command's.

    Raises:
        UsageError: nothing was started, because the input, the output or the configuration is wrong.
    """
    bench = Workbench.of(replace(config, annotator=replace(config.annotator, device="cpu")))
    if config.media.detector == "fan":
        Fan(config.media.fan_weights)  # what is wrong with its file is said before anything is started
    segments = plan(config.input, bench.media)
    made_with, former = provenance(config, bench, new_run_id()), config.former_row_settings()
    output = Output.open(config.output, made_with, config.on_change, former)
    todo = output.pending(segments, retry_quarantined=config.retry == "quarantined")
    summary = Summary(output.provenance.run_id, output.path, len(segments), len(todo))
    output.store.replace("run.json", summary.as_json())
    progress, job = Progress(summary), Job(config, bench.media, output)
    try:
        if todo:
            # Closed before Ray is: a graph that is still at work when Ray has ended would start another one.
            with ray_session(config.ray), interruptible(), closing(ledger(todo, job)) as rows:
                keep_books(rows, job, summary, progress)
    except KeyboardInterrupt:
        summary.interrupted = True
    except NeufaceError as error:
        summary.failure = str(error)
    progress.close()
    return close_books(segments, output, summary)


def ledger(todo: Sequence[Segment], job: Job) -> Iterator[Ledger]:
    """The graph: yields one ledger row for each segment, in the order of completion. Needs a Ray session."""
    import ray.data
    from ray.data import ActorPoolStrategy, DataContext

    workers = Workers.of(job.config.ray, len(todo))
    context = DataContext.get_current().copy()
    context.max_errored_blocks = -1
    context.execution_no_progress_timeout_s = -1
    for start in range(0, len(todo), SEGMENTS_PER_GRAPH):
        chunk = todo[start : start + SEGMENTS_PER_GRAPH]
        with DataContext.current(context):
            rows = (
                ray.data.from_items([{"segment": pickle.dumps(each)} for each in chunk], override_num_blocks=len(chunk))
                .map_batches(prepare_stage, fn_args=(job,), batch_size=1, num_cpus=1)
                .map_batches(
                    Annotate,
                    fn_constructor_args=(job,),
                    batch_size=1,
                    num_cpus=workers.cpus,
                    num_gpus=workers.gpus,
                    compute=ActorPoolStrategy(size=workers.actors, max_tasks_in_flight_per_actor=1),
                )
            )
            for batch in rows.iter_batches(batch_size=None, prefetch_batches=0):
                yield from map(json.loads, batch["ledger"])


def prepare_stage(batch: dict[str, Any], job: Job) -> dict[str, Any]:
    """One segment in; its clips, or the ledger row that says why there are none, out."""
    segment = pickle.loads(batch["segment"][0])
    return {"segment": batch["segment"], "prepared": [pickle.dumps(prepare_segment(job, segment), protocol=5)]}


class Annotate:
    """The actor that annotates, judges and commits one segment in each call, and returns its ledger row."""

    def __init__(self, job: Job):
        import torch

        torch.set_num_threads(job.config.ray.cpus_per_actor)
        self.job, self._bench = job, None

    def bench(self) -> Workbench:
        self._bench = self._bench or Workbench.of(self.job.config)
        return self._bench

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        segment, prepared = pickle.loads(batch["segment"][0]), pickle.loads(batch["prepared"][0])
        failed = isinstance(prepared, dict)
        row = prepared if failed else annotate_and_commit(self.job, segment, prepared, self.bench)
        return {"ledger": [json.dumps(row)]}


@dataclass(frozen=True)
class Workers:
    """How the annotating actors are cut out of the cluster."""

    actors: int
    gpus: float
    cpus: int

    @classmethod
    def of(cls, config: RayConfig, tasks: int) -> Workers:
        """As many actors as there are GPU shares, or CPUs where there is no GPU, but no more than tasks."""
        import ray

        have = ray.cluster_resources()
        cpus, gpus = int(have.get("CPU", 1)), have.get("GPU", 0.0)
        share = config.num_gpus if gpus else 0.0
        room = int(gpus / share) if share else cpus // config.cpus_per_actor
        actors = max(1, min(config.actors or room, tasks))
        return cls(actors, share, config.cpus_per_actor)


def keep_books(rows: Iterator[Ledger], job: Job, summary: Summary, progress: Progress) -> None:
    """Enters every ledger row, publishes now and then, and stops the run when it cannot go on or its error budget is spent."""
    published = time.monotonic()
    for row in rows:
        summary.add(row)
        progress.show()
        if summary.fatal:
            kind = UsageError if summary.fatal.get("usage") else NeufaceError
            raise kind(f"{summary.fatal['source']}: {summary.fatal['message']}")
        if len(summary.quarantined) > job.config.error_budget(summary.planned):
            raise NeufaceError(
                f"{len(summary.quarantined)} of {summary.planned} segments failed, more than max_failed_fraction allows; "
                f"most often: {summary.commonest_failure()}",
                code="error_budget",
            )
        if time.monotonic() - published > job.config.publish_every_s:
            publish(job.output.store, minimum_bytes=TARGET_BYTES)
            published = time.monotonic()


def close_books(segments: Sequence[Segment], output: Output, summary: Summary) -> Summary:
    """Publishes, compares the plan with the dataset, and writes ``run.json``."""
    try:
        finalise(output.store)
        summary.settle({segment.segment_id: segment for segment in segments}, output.outcomes())
    except NeufaceError as error:
        summary.failure = summary.failure or str(error)
    summary.finished = time.time()
    output.store.replace("run.json", summary.as_json())
    return summary


def provenance(config: AnnotateConfig, bench: Workbench, run_id: str) -> Provenance:
    """What the rows of this run are made from and with."""
    hashes = {"head": bench.head.hash, bench.annotator.name: bench.annotator.weights_hash}
    return Provenance(
        run_id=run_id,
        annotator=bench.annotator.name,
        head_model=bench.head.id,
        config=config.row_settings(),
        model_hashes={name: value for name, value in hashes.items() if value is not None},
        seed=config.seed,
        method_version=bench.annotator.rows_version,
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
