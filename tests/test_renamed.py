"""Settings under former names are read under the present ones."""

from __future__ import annotations

import pytest

from neuface_ray.errors import UsageError
from neuface_ray.renamed import KEYS, METHODS, VALUES, present_name, translate

TABLE = {
    "annotator.fitting": "annotator.direct",
    "annotator.fitting.rate": "annotator.direct.optimiser.lr",
    "annotator.net.fit.from": "annotator.net.fit.trainable_from",
    "annotator.direct.optimiser": "annotator.direct.adam",
    "flag": None,
    "old_section": "new",
    "old": "old.inner",
}
NAMES = {"fitting": "direct"}


def test_keys_and_whole_sections_the_longest_name_first_and_renamed_again():
    stored = {
        "annotator": {
            "name": "fitting",
            "fitting": {"rate": 0.1, "steps": 3, "objective": {"landmark": 10.0}},
            "net": {"fit": {"from": "top", "from_scratch": False}, "free": {}},
        },
        "flag": {"a": 1},
        "old_section": {"list": ["fitting"]},
        "old": 5,
        "fitting": "fitting",
    }
    assert translate(stored, TABLE, {"annotator.name": NAMES}) == {
        "annotator": {
            "name": "direct",
            "direct": {"adam": {"lr": 0.1}, "steps": 3, "objective": {"landmark": 10.0}},
            "net": {"fit": {"trainable_from": "top", "from_scratch": False}, "free": {}},
        },
        "new": {"list": ["fitting"]},
        "old": {"inner": 5},
        "fitting": "fitting",
    }
    assert translate(translate(stored, TABLE, {})["new"], TABLE, {}) == {"list": ["fitting"]}


def test_single_names():
    assert present_name("annotator.fitting.rate", TABLE) == "annotator.direct.adam.lr"
    assert present_name("annotator.fitting", TABLE) == "annotator.direct"
    assert present_name("annotator.fitting_rate", TABLE) == "annotator.fitting_rate"
    assert present_name("flag.a", TABLE) is None
    assert present_name("a", {"a": "b", "b": "a"}) == "a"


def test_both_names_at_once_are_refused():
    with pytest.raises(UsageError, match=r"annotator\.direct\.steps is set twice, also under a former name"):
        translate({"annotator": {"direct": {"steps": 1}, "fitting": {"steps": 2}}}, TABLE)


def test_the_table_leads_to_names_that_stay():
    assert all(present_name(name) not in KEYS for name in KEYS)
    for table in (METHODS, *VALUES.values()):
        assert not table.keys() & set(table.values())
