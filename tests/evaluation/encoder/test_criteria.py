"""The rules of the encoder's acceptance criteria."""

import numpy as np
import pytest

from neuface_ray.evaluation.encoder.criteria import neutral_criterion, photograph_criterion


@pytest.mark.parametrize(
    ("errors", "passed"),
    [
        ([3.0, 3.9, 4.0, 5.0, np.nan], True),
        ([3.0, 4.1, 4.2], False),
        ([3.0, 3.0, 3.0, 20.0], False),
        ([np.nan], False),
        ([], False),
    ],
)
def test_e1(errors, passed):
    assert photograph_criterion(np.array(errors)).passed is passed


def test_e2_needs_the_gain_and_its_certainty():
    def rows(gains):
        return [{"mean_head_similarity_mm": 2.0, "neutral_similarity_mm": 2.0 - gain} for gain in gains]

    assert neutral_criterion(rows([0.5, 0.4, 0.6])).passed
    assert not neutral_criterion(rows([0.3, 0.4, 0.35])).passed
    assert not neutral_criterion(rows([3.0, -1.0, -0.7])).passed
    assert neutral_criterion([*rows([0.5, 0.4]), {"found": False}]).passed
