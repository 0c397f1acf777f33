"""Settings under former names are read under the present ones."""

from __future__ import annotations

import pytest
import yaml

from neuface_ray.config import load
from neuface_ray.errors import UsageError
from neuface_ray.evaluation.run import EvaluateConfig
from neuface_ray.pipeline.config import AnnotateConfig
from neuface_ray.renamed import KEYS, METHODS, VALUES, present_name, translate
from neuface_ray.training.config import TrainConfig

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


def test_former_methods_work_and_say_the_present_ones(tmp_path, capsys):
    file = tmp_path / "old.yaml"
    file.write_text("input: a\noutput: b\nannotator:\n  name: flame_fitting\n  flame_fitting:\n    steps: 3\n")
    config = load(AnnotateConfig, file, ["annotator.flame_fitting.pose_steps=4"])
    assert config.annotator.name == "direct_fitting"
    assert (config.annotator.settings.steps, config.annotator.settings.pose_steps) == (3, 4)
    assert sorted(capsys.readouterr().err.splitlines()) == [
        f"{file}: annotator.flame_fitting.steps is now called annotator.direct_fitting.steps",
        f"{file}: annotator.name=flame_fitting is now called annotator.name=direct_fitting",
        "command line: annotator.flame_fitting.pose_steps is now called annotator.direct_fitting.pose_steps",
    ]


FORMER_FIT = {"moves_from": "stage4", "objective": {"fidelity": "released"}}


def test_former_settings_of_fits_work_and_say_the_present_ones(tmp_path, capsys):
    file = tmp_path / "old.yaml"
    file.write_text(yaml.safe_dump({"annotator": {"name": "neuface", "neuface": {"fit": FORMER_FIT}}}))
    config = load(AnnotateConfig, file, ["input=a", "output=b", "annotator.neuface.fit.passes=7"])
    fit = config.annotator.settings.fit
    assert (fit.trainable_from, fit.iterations, fit.objective.fidelity) == ("stage4", 7, "official_code")
    prefix = "annotator.neuface.fit"
    fidelity = f"{prefix}.objective.fidelity"
    assert sorted(capsys.readouterr().err.splitlines()) == [
        f"{file}: {prefix}.moves_from is now called {prefix}.trainable_from",
        f"{file}: {fidelity}=released is now called {fidelity}=official_code",
        f"command line: {prefix}.passes is now called {prefix}.iterations",
    ]


def test_former_settings_of_evaluations_and_trainings_work():
    former = ["curve_passes=[3]", "neuface.passes=4", "neuface.moves_from=stem", "direct.objective.fidelity=released"]
    config = load(
        EvaluateConfig, None, ["evaluation=neuface_claims", "output=o", *(f"neuface_claims.{each}" for each in former)]
    )
    settings = config.settings
    assert settings.curve_iterations == [3]
    assert (settings.neuface.iterations, settings.neuface.trainable_from) == (4, "stem")
    assert settings.direct.objective.fidelity == "official_code"
    config = load(EvaluateConfig, None, ["evaluation=geometry", "output=o", "geometry.settings.neuface.passes=5"])
    assert config.settings.settings["neuface"].fit.iterations == 5
    for recipe in ("lvd", "glvd"):
        config = load(TrainConfig, None, [f"recipe={recipe}", "output=o", f"{recipe}.trust=0.5"])
        assert config.recipe_settings.confidence == 0.5
