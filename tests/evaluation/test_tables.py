import numpy as np

from neuface_ray.evaluation.tables import markdown, numbers, select

ROWS = [{"method": "a|b", "nme": 1.23456, "n": 3}, {"method": "c", "nme": float("nan"), "n": np.int64(12), "note": "x"}]


def test_markdown():
    lines = markdown(ROWS).splitlines()
    assert lines[0].split() == ["|", "method", "|", "nme", "|", "n", "|", "note", "|"]
    assert lines[1].count("|") == 5
    assert lines[1].split("|")[2].endswith(":")
    assert not lines[1].split("|")[1].endswith(":")
    assert "a\\|b" in lines[2]
    assert "1.23" in lines[2]
    assert "–" in lines[3]
    assert len({len(line) for line in lines if "\\" not in line}) == 1


def test_large_and_small_numbers():
    text = markdown([{"a": 123456.7, "b": 0.00012345, "c": 100.0}])
    assert "123457" in text
    assert "0.000123" in text
    assert "1e+02" not in text


def test_rows_are_chosen_by_their_values_and_missing_numbers_are_nan():
    assert select(ROWS, method="c") == [ROWS[1]]
    assert select(ROWS, method=None, n=3) == [ROWS[0]]
    assert select(ROWS, note="y") == []
    assert numbers(ROWS, "n").tolist() == [3, 12]
    assert np.isnan(numbers(ROWS, "note of nobody")).all()
