"""Calls in parallel processes: order of the results, progress, errors."""

import math
import operator

import pytest

from neuface_ray.pipeline.parallel_map import call_all


@pytest.mark.parametrize("workers", [1, 2])
def test_results_keep_the_order_of_the_jobs_and_progress_is_told(workers, capsys):
    assert call_all(operator.neg, [1, 2, 3], [1.0, 5.0, 2.0], workers, "numbers", "things") == [-1, -2, -3]
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("numbers: 100 %")
    assert "things/s" in told
    assert told.endswith("0 s left")


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_in_a_job_reaches_the_caller(workers):
    with pytest.raises(ValueError, match=r"domain|nonnegative"):
        call_all(math.sqrt, [4, -1], [1.0, 1.0], workers, "roots")


def test_nothing_to_do_is_done():
    assert call_all(operator.neg, [], [], 2, "nothing") == []
