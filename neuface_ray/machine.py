"""What this process may use of the machine, which may be less than what the machine has."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

CONTROL_GROUPS, MEMBERSHIPS = Path("/sys/fs/cgroup"), Path("/proc/self/cgroup")


def usable_cpus() -> int:
    """CPUs that this process may run on: its affinity (``taskset``, Slurm), or less if a control group (a container, a systemd
    slice) limits their time; at least one."""
    with contextlib.suppress(AttributeError):  # not on macOS
        return max(1, int(min(len(os.sched_getaffinity(0)), *_quotas(), float("inf"))))
    return os.cpu_count() or 1


def _quotas() -> Iterator[float]:
    """CPUs' worth of time of this process's control groups and of all that they lie in."""
    with contextlib.suppress(OSError):
        for line in MEMBERSHIPS.read_text().splitlines():
            _, controllers, name = line.split(":", 2)
            if controllers and "cpu" not in controllers.split(","):
                continue
            for root in (CONTROL_GROUPS, CONTROL_GROUPS / (controllers or "unified")):
                group = root / name.strip("/")
                for folder in (group, *group.parents):
                    yield from _quota(folder)
                    if folder == root:
                        break


def _quota(folder: Path) -> Iterator[float]:
    with contextlib.suppress(OSError, ValueError):  # version 2; "max" is no limit
        quota, period = (folder / "cpu.max").read_text().split()
        yield int(quota) / int(period)
    with contextlib.suppress(OSError, ValueError):  # version 1; -1 is no limit
        quota = int((folder / "cpu.cfs_quota_us").read_text())
        if quota > 0:
            yield quota / int((folder / "cpu.cfs_period_us").read_text())
