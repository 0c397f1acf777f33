"""The quality gate gives every reason that applies, and never lets a number that is not finite through."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neuface_ray.metrics.quality_gate import GateConfig, apply_gate
from neuface_ray.types import Quality


def measured(**changes) -> Quality:
    blank = np.zeros((2, 1), np.float32)
    good = Quality(blank, blank, blank, 2.0, 1.0, 1.0, None, 0.9, 1.0)
    return dataclasses.replace(good, **changes)


@pytest.mark.parametrize(
    ("changes", "annotator_reasons", "reasons"),
    [
        ({}, (), ()),
        ({"valid_fraction": 0.0, "clip_nme": math.nan, "shape_norm": math.nan}, (), ("no_face",)),
        ({"valid_fraction": 0.4}, (), ("few_valid_frames",)),
        ({"shape_norm": 1.6}, (), ("identity_out_of_distribution",)),
        ({"clip_nme": 8.1}, (), ("high_nme",)),
        ({"clip_nme": math.nan}, (), ("diverged",)),
        ({"shape_norm": math.nan}, (), ()),
        ({"shape_norm": math.inf}, ("diverged",), ("diverged", "identity_out_of_distribution")),
        (
            {"valid_fraction": 0.1, "shape_norm": 9.0, "clip_nme": 90.0},
            ("odd",),
            ("odd", "few_valid_frames", "identity_out_of_distribution", "high_nme"),
        ),
    ],
)
def test_reasons(changes, annotator_reasons, reasons):
    decision = apply_gate(measured(**changes), GateConfig(), annotator_reasons)
    assert decision.reasons == reasons
    assert decision.accepted == (not reasons)
    assert set(decision.numbers) == {"valid_fraction", "nme", "shape_norm"}


numbers = st.floats(0, 100) | st.just(math.nan) | st.just(math.inf)


@given(st.floats(0, 1), numbers, numbers)
def test_accepted_means_within_every_limit(valid_fraction, nme, shape_norm):
    gate = GateConfig(min_valid_fraction=0.3, max_nme=5.0, max_shape_norm=1.2)
    decision = apply_gate(measured(valid_fraction=valid_fraction, clip_nme=nme, shape_norm=shape_norm), gate)
    assert decision.accepted == (valid_fraction >= 0.3 and nme <= 5.0 and not shape_norm > 1.2)
