"""Many calls in parallel processes, each with one thread, with progress and the time that is left."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")
_EVERY_S = 10.0


class Progress:
    """Lines on standard error, at most one in ten seconds: share done, work units a second, time left."""

    def __init__(self, title: str, total: float, unit: str):
        self.title, self.total, self.unit = title, total, unit
        self.done, self.started, self.told = 0.0, time.monotonic(), float("-inf")

    def add(self, amount: float) -> None:
        self.done += amount
        now = time.monotonic()
        if now - self.told < _EVERY_S and self.done < self.total - 1e-6:
            return
        self.told, passed = now, max(now - self.started, 1e-3)
        rate = self.done / passed
        left = (self.total - self.done) / max(rate, 1e-9)
        print(
            f"{self.title}: {100 * self.done / self.total:3.0f} %, {rate:.3g} {self.unit}/s, "
            f"{passed:.0f} s passed, {max(left, 0):.0f} s left",
            file=sys.stderr,
            flush=True,
        )


def call_all(
    function: Callable[[Job], Result], jobs: Sequence[Job], costs: Sequence[float], workers: int, title: str, unit: str = "jobs"
) -> list[Result]:
    """``function`` of every job, in the order of the jobs; the costliest start first.

    Args:
        function: of a module, so that a new process can import it. costs: work units in each job, for order and progress.
        workers: processes; 1 calls in this process, with its threads.
    """
    if not jobs:
        return []
    progress = Progress(title, sum(costs), unit)
    order = sorted(range(len(jobs)), key=lambda index: -costs[index])
    results: dict[int, Result] = {}
    if workers <= 1:
        for index in order:
            results[index] = function(jobs[index])
            progress.add(costs[index])
        return [results[index] for index in range(len(jobs))]
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _one_thread)
    try:
        futures = {pool.submit(function, jobs[index]): index for index in order}
        for future in as_completed(futures):
            results[futures[future]] = future.result()
            progress.add(costs[futures[future]])
    finally:
        pool.shutdown(cancel_futures=True)
    return [results[index] for index in range(len(jobs))]


def _one_thread() -> None:
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
