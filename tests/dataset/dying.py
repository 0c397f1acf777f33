"""Processes that are killed at the n-th change they make to the file system: the crash points of the protocol, all of them."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Callable

CHANGES = ("link", "replace", "unlink", "mkdir")
"""Death between two of these leaves the same files as death just before the second."""


def run_until(step: int | None, action: Callable[[], object]) -> bool:
    """Run ``action`` in a forked process that gets SIGKILL just before its ``step``-th change; True if it got through.

    With ``step`` None it runs undisturbed. Raises AssertionError if it ended with an error.
    """
    child = os.fork()
    if child == 0:
        _patch(step)
        try:
            action()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, -signal.SIGKILL), f"the process ended with {code}"
    return code == 0


def every_crash(action: Callable[[int], Callable[[], object]], recover: Callable[[int], None]) -> int:
    """Kill ``action(step)`` at step 0, 1, 2 ... until it gets through, calling ``recover(step)`` each time; the steps."""
    step = 0
    while not run_until(step, action(step)):
        recover(step)
        step += 1
    recover(step)
    return step


def _patch(step: int | None) -> None:
    count = 0

    def dying(function):
        def wrapped(*args, **kwargs):
            nonlocal count
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
            return function(*args, **kwargs)

        return wrapped

    for name in CHANGES:
        setattr(os, name, dying(getattr(os, name)))
