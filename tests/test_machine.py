"""CPUs: what affinity and control groups leave of them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from neuface_ray import machine
from neuface_ray.machine import usable_cpus


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux")
def test_affinity_counts():
    one = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, {{{one}}}); from neuface_ray.machine import usable_cpus; print(usable_cpus())"
    assert subprocess.check_output([sys.executable, "-c", code]) == b"1\n"


@pytest.mark.parametrize(
    ("memberships", "limits", "cpus"),
    [
        ("0::/", {}, 8),
        ("0::/", {"cpu.max": "250000 100000"}, 2),
        ("0::/", {"cpu.max": "50000 100000"}, 1),
        ("0::/", {"cpu.max": "900000 100000"}, 8),
        ("0::/a/b", {"cpu.max": "max 100000", "a/cpu.max": "300000 100000", "a/b/cpu.max": "max 100000"}, 3),
        ("0::/elsewhere", {"cpu.max": "400000 100000"}, 4),
        ("0::/a", {"b/cpu.max": "100000 100000"}, 8),
        ("3:cpuset:/\n2:cpu,cpuacct:/a\n0::/", {"cpu,cpuacct/a/cpu.cfs_quota_us": "300000"}, 3),
        ("2:cpu,cpuacct:/docker/x", {"cpu,cpuacct/cpu.cfs_quota_us": "200000"}, 2),
        ("2:cpu:/", {"cpu/cpu.cfs_quota_us": "-1"}, 8),
    ],
)
def test_control_groups_count(memberships, limits, cpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Version 2, version 1, and containers, which see the host's name of a group that lies at their root."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(machine, "CONTROL_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(machine, "MEMBERSHIPS", tmp_path / "memberships")
    (tmp_path / "memberships").write_text(memberships + "\n")
    for name, text in limits.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.with_name("cpu.cfs_period_us").write_text("100000")
    assert usable_cpus() == cpus
