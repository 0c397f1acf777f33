"""A worker that exceeds its time limit or crashes leaves a trace; one that succeeds or raises leaves none."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid

import pytest

from neuface_ray.pipeline.time_limit import clear_trace, exceeded_time_limit, read_crash_trace, time_limit


def run_limited(name: str, body: str, timeout_s: float = 60) -> int:
    code = f"from neuface_ray.pipeline.time_limit import time_limit\nwith time_limit({name!r}, {timeout_s}):\n    {body}"
    return subprocess.run([sys.executable, "-c", code], timeout=60, check=False, capture_output=True).returncode


@pytest.fixture
def name():
    name = uuid.uuid4().hex
    yield name
    clear_trace(name)


def test_the_time_limit_ends_code_that_holds_the_interpreter_lock(name):
    # A regular expression with catastrophic backtracking runs in C and never lets another Python thread run.
    assert run_limited(name, "import re; re.match('(a+)+b', 'a' * 60)", timeout_s=0.5) == 1
    assert exceeded_time_limit(read_crash_trace(name))
    assert "re/__init__.py" in read_crash_trace(name)


def test_a_crash_in_native_code_leaves_a_traceback(name):
    assert run_limited(name, "import ctypes; ctypes.string_at(0)") == -signal.SIGSEGV
    assert "Segmentation fault" in read_crash_trace(name)
    assert not exceeded_time_limit(read_crash_trace(name))


def test_a_kill_from_outside_leaves_an_empty_trace(name):
    assert run_limited(name, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)") == -signal.SIGKILL
    assert read_crash_trace(name) == ""


def test_success_leaves_nothing(name):
    with time_limit(name, 60):
        pass
    assert read_crash_trace(name) is None
    assert not exceeded_time_limit(None)


def test_an_exception_passes_and_leaves_nothing(name):
    with pytest.raises(ZeroDivisionError), time_limit(name, 60):
        _ = 1 / 0
    assert read_crash_trace(name) is None
