"""Annotators under evaluation, by name."""

import pytest

from neuface_ray.errors import UsageError
from neuface_ray.evaluation.baselines import build_baselines, open_baselines
from neuface_ray.evaluation.settings import BaselineSettings
from neuface_ray.heads import load_head
from neuface_ray.methods.registry import annotators


def test_every_registered_annotator_can_be_evaluated():
    built = build_baselines(BaselineSettings(methods=list(annotators()), device="cpu"), load_head())
    assert {name: annotator.name for name, annotator in built.items()} == {name: name for name in annotators()}


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(UsageError, match=r"'magic' does not exist; choose from .*encoder"):
        BaselineSettings(methods=["encoder", "magic"])


def test_crops_have_the_size_of_the_annotator_asked_for():
    settings = BaselineSettings(methods=["direct_fitting", "encoder"], device="cpu")
    with open_baselines(settings, "open_head", sized_by="encoder") as baselines:
        assert baselines.media.crop_size == baselines.annotators["encoder"].crop_size != 224
        assert set(baselines.annotators) == {"direct_fitting", "encoder"}
