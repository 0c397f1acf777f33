"""Calls in parallel processes: order of the results, progress, errors, and what a process keeps from item to item."""

import math
import operator
import os
from contextlib import contextmanager
from functools import partial

import pytest

from neuface_ray.pipeline.parallel_map import parallel_map


@contextmanager
def opened(folder):
    """A state whose opening and closing can be seen in a folder, by process."""
    path = folder / f"{os.getpid()}.txt"
    with path.open("a") as file:
        file.write("open ")
        try:
            yield 10
        finally:
            file.write("closed ")


@contextmanager
def broken():
    raise FileNotFoundError("no weights")
    yield


def double(state, number):
    return state + 2 * number


def fail(state, number):
    raise ValueError(f"item {number}")


@pytest.mark.parametrize("workers", [1, 2])
def test_results_keep_the_order_of_the_items_and_progress_is_printed(workers, capsys):
    assert parallel_map(operator.neg, [1, 2, 3], workers, "numbers", "things", [1.0, 5.0, 2.0]) == [-1, -2, -3]
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("numbers: 100 %")
    assert "things/s" in line
    assert line.endswith("0 s left")


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_reaches_the_caller(workers):
    with pytest.raises(ValueError, match=r"domain|nonnegative"):
        parallel_map(math.sqrt, [4, -1], workers, "roots")


def test_nothing_to_do_is_done():
    assert parallel_map(operator.neg, [], 2, "nothing") == []


@pytest.mark.parametrize("workers", [1, 2])
def test_a_process_opens_its_state_once_and_closes_it_at_its_end(workers, tmp_path):
    results = parallel_map(double, list(range(6)), workers, "numbers", open_state=partial(opened, tmp_path))
    assert results == [10, 12, 14, 16, 18, 20]
    processes = list(tmp_path.glob("*.txt"))
    assert 1 <= len(processes) <= workers
    assert {path.read_text() for path in processes} == {"open closed "}


@pytest.mark.parametrize("workers", [1, 2])
def test_the_state_is_closed_after_an_error_and_an_error_in_opening_it_has_its_name(workers, tmp_path):
    with pytest.raises(ValueError, match="item 7"):
        parallel_map(fail, [7], workers, "numbers", open_state=partial(opened, tmp_path))
    assert [path.read_text() for path in tmp_path.glob("*.txt")] == ["open closed "]
    with pytest.raises(FileNotFoundError, match="no weights"):
        parallel_map(double, [1], workers, "numbers", open_state=broken)
