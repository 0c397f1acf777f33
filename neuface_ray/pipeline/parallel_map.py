"""``parallel_map``: a function of every item, in processes of one thread each, with progress and the time that is left."""

from __future__ import annotations

import multiprocessing
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import cache
from multiprocessing.util import Finalize
from typing import Any, TypeVar

from neuface_ray.duration import format_duration

Item = TypeVar("Item")
Result = TypeVar("Result")
OpenState = Callable[[], AbstractContextManager[Any]]
_LINE_INTERVAL_S = 10.0


def parallel_map(
    function: Callable[..., Result],
    items: Sequence[Item],
    workers: int,
    title: str,
    unit: str = "items",
    costs: Sequence[float] | None = None,
    open_state: OpenState | None = None,
) -> list[Result]:
    """Call ``function`` with every item, the costliest first; return the results in the order of the items.

    Args:
        function: of a module, so that a new process can import it. workers: processes; 1 calls in this process, with its
            threads. title, unit: words of the progress line. costs: ``unit`` in each item, 1 if None.
        open_state: opens what a process needs for all its items, such as models and a face detector; ``function`` gets it
            before the item. Opened for a process's first item and closed when the process ends.

    Raises:
        Whatever ``function`` or ``open_state`` raises; the remaining items are not started.
    """
    if not items:
        return []
    costs = [1.0] * len(items) if costs is None else costs
    progress = _ProgressLog(title, sum(costs), unit)
    order = sorted(range(len(items)), key=lambda index: -costs[index])
    results: dict[int, Result] = {}
    if workers <= 1:
        with nullcontext() if open_state is None else open_state() as state:
            for index in order:
                results[index] = function(items[index]) if open_state is None else function(state, items[index])
                progress.add(costs[index])
        return [results[index] for index in range(len(items))]
    executor = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _start_process, (open_state,))
    call = function if open_state is None else _Stateful(function)
    try:
        futures = {executor.submit(call, items[index]): index for index in order}
        for future in as_completed(futures):
            results[futures[future]] = future.result()
            progress.add(costs[futures[future]])
    finally:
        executor.shutdown(cancel_futures=True)
    return [results[index] for index in range(len(items))]


class _ProgressLog:
    """Lines on standard error, at most one in ten seconds: share done, rate, time passed and time left."""

    def __init__(self, title: str, total: float, unit: str):
        self.title, self.total, self.unit = title, total, unit
        self.done, self.started, self.printed = 0.0, time.monotonic(), float("-inf")

    def add(self, amount: float) -> None:
        self.done += amount
        now = time.monotonic()
        if now - self.printed < _LINE_INTERVAL_S and self.done < self.total - 1e-6:
            return
        self.printed, elapsed = now, max(now - self.started, 1e-3)
        rate = self.done / elapsed
        left = max(self.total - self.done, 0) / max(rate, 1e-9)
        share = f"{100 * self.done / self.total:3.0f} %, {rate:.3g} {self.unit}/s"
        print(
            f"{self.title}: {share}, {format_duration(elapsed)} passed, {format_duration(left)} left",
            file=sys.stderr,
            flush=True,
        )


class _Stateful:
    """A function called with the process's state before the item."""

    def __init__(self, function: Callable[..., Any]):
        self.function = function

    def __call__(self, item: Any) -> Any:
        return self.function(_state(), item)


_open_state: OpenState | None = None


def _start_process(open_state: OpenState | None) -> None:
    import cv2
    import torch

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    global _open_state
    _open_state = open_state


@cache
def _state() -> Any:
    """The state of this process; an error in opening it is the error of the item that needed it first."""
    stack = ExitStack()
    # A face detector holds threads of its own: it is closed while the interpreter still works.
    Finalize(None, stack.close, exitpriority=10)
    return stack.enter_context(_open_state())
