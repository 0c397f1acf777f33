"""A worker that exceeds its time limit or crashes leaves its last words; one that succeeds or raises leaves none."""

from __future__ import annotations

import signal
import subprocess
import sys
import uuid

import pytest

from neuface_ray.pipeline.time_limit import exceeded_time_limit, forget, last_words, watched


def run_watched(name: str, body: str, timeout_s: float = 60) -> int:
    code = f"from neuface_ray.pipeline.time_limit import watched\nwith watched({name!r}, {timeout_s}):\n    {body}"
    return subprocess.run([sys.executable, "-c", code], timeout=60, check=False, capture_output=True).returncode


@pytest.fixture
def name():
    name = uuid.uuid4().hex
    yield name
    forget(name)


def test_the_time_limit_ends_code_that_holds_the_interpreter_lock(name):
    # A regular expression with catastrophic backtracking runs in C and never lets another Python thread run.
    assert run_watched(name, "import re; re.match('(a+)+b', 'a' * 60)", timeout_s=0.5) == 1
    assert exceeded_time_limit(last_words(name))
    assert "re/__init__.py" in last_words(name)


def test_a_crash_in_native_code_leaves_a_traceback(name):
    assert run_watched(name, "import ctypes; ctypes.string_at(0)") == -signal.SIGSEGV
    assert "Segmentation fault" in last_words(name)
    assert not exceeded_time_limit(last_words(name))


def test_a_kill_from_outside_leaves_empty_words(name):
    assert run_watched(name, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)") == -signal.SIGKILL
    assert last_words(name) == ""


def test_success_leaves_nothing(name):
    with watched(name, 60):
        pass
    assert last_words(name) is None
    assert not exceeded_time_limit(None)


def test_an_exception_passes_and_leaves_nothing(name):
    with pytest.raises(ZeroDivisionError), watched(name, 60):
        _ = 1 / 0
    assert last_words(name) is None
