"""What a process keeps from job to job, such as a head model and a face detector: opened by the first, closed at the end."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from multiprocessing.util import Finalize
from typing import Any, TypeVar

Config = TypeVar("Config")
Workplace = TypeVar("Workplace")

_kept = ExitStack()
_present: tuple[tuple[str, str], Any] | None = None


def kept(open_workplace: Callable[[Config], AbstractContextManager[Workplace]], config: Config) -> Workplace:
    """The workplace of a configuration: the one of the call before if that had the same, else newly opened.

    A pool's process closes it when it ends; in the main process, call `close` after the last job.

    Args:
        open_workplace: makes the context that is entered. config: a dataclass; equal ones have equal ``repr``.
    """
    global _present
    key = (f"{open_workplace.__module__}.{open_workplace.__qualname__}", repr(config))
    if _present is None or _present[0] != key:
        close()
        _present = key, _kept.enter_context(open_workplace(config))
        Finalize(None, close, exitpriority=10)
    return _present[1]


def close() -> None:
    """Closes this process's workplace, if there is one."""
    global _present
    _present = None
    _kept.close()
