"""Datasets of the first released version are continued: its descriptors, written by its code, over rows of the present code."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from neuface_ray.config import load
from neuface_ray.dataset import Output, Provenance, clip_rows, finalise
from neuface_ray.dataset.descriptor import read_descriptor
from neuface_ray.dataset.verify import verify
from neuface_ray.errors import UsageError
from neuface_ray.pipeline.annotate import provenance
from neuface_ray.pipeline.config import AnnotateConfig
from neuface_ray.pipeline.segment import AnnotationSession
from neuface_ray.renamed import translate
from tests.dataset.made import make_clip, make_segment

ROOT = Path(__file__).parents[2]
OLD = ROOT / "tests" / "dataset" / "descriptors"


def configuration(name: str | None, *overrides: str) -> AnnotateConfig:
    file = ROOT / "configs" / "annotate" / f"{name}.yaml" if name else None
    return load(AnnotateConfig, file, ["input=a", "output=b", *overrides])


@cache
def made_with(name: str | None) -> Provenance:
    config = configuration(name)
    return provenance(config, AnnotationSession.load(config), "run")


def reopen(folder: Path, name: str | None, *overrides: str) -> Output:
    """Opens as a run with the configuration file ``name`` does."""
    config = configuration(name, *overrides)
    present = replace(made_with(name), run_id="again", config=config.row_settings(), seed=config.seed)
    return Output.open(str(folder), present, former=config.former_row_settings())


def old_dataset(folder: Path, descriptor: str, name: str):
    """A dataset with one segment of the present code, and the descriptor of the old one."""
    output, segment = Output.open(str(folder), made_with(name)), make_segment(0)
    clip, mesh, quality, verdict = make_clip(segment)
    mesh = replace(mesh, head_model=output.provenance.head_model)
    assert output.commit(segment, [clip_rows(clip, mesh, quality, verdict, output.provenance)])
    shutil.copyfile(OLD / f"{descriptor}.json", folder / "dataset.json")
    return segment


@pytest.mark.parametrize(
    ("descriptor", "name"), [("neuface", "neuface"), ("flame_fitting", "flame_fitting"), ("no_config", "flame_fitting")]
)
def test_nothing_is_made_again(tmp_path, descriptor, name):
    segment = old_dataset(tmp_path, descriptor, name)
    output = reopen(tmp_path, name)
    assert output.path == str(tmp_path)
    new = make_segment(1)
    assert [each.segment_id for each in output.pending([segment, new])] == [new.segment_id]
    finalise(output.store)
    assert verify(str(tmp_path)).sound
    assert "rows_version" not in read_descriptor(output.store)
    assert reopen(tmp_path, name).pending([segment]) == []


def test_settings_count_only_if_rows_depend_on_them(tmp_path):
    old_dataset(tmp_path, "neuface", "neuface")
    reopen(tmp_path, "neuface", "ray.actors=2")
    stored = json.loads((tmp_path / "dataset.json").read_text())
    for method, key, value in (("glvd", "steps", 3), ("flame_fitting", "steps", 3), ("encoder", "kind", "deca")):
        stored["config"]["annotator"][method][key] = value
    (tmp_path / "dataset.json").write_text(json.dumps(stored))
    reopen(tmp_path, "neuface")
    with pytest.raises(UsageError) as caught:
        reopen(tmp_path, "neuface", "annotator.neuface.fit.passes=3", "gate.max_nme=3", "media.stride=2")
    lines = [line.strip() for line in str(caught.value).splitlines()[1:-1]]
    assert lines == [
        "config.annotator.neuface.fit.iterations: 200 there, 3 now",
        "config.gate.max_nme: 8.0 there, 3.0 now",
        "config.media.stride: 1 there, 2 now",
    ]


def test_a_dataset_of_another_method_says_how_to_continue_it(tmp_path):
    old_dataset(tmp_path, "no_config", "flame_fitting")
    with pytest.raises(UsageError) as caught:
        reopen(tmp_path, "neuface")
    lines = [line.strip() for line in str(caught.value).splitlines()[1:-1]]
    way = "to continue it set annotator.name=flame_fitting (or --config flame_fitting)"
    assert lines == [
        f"made with annotator.name=flame_fitting, not neuface; {way}",
        "config.media.max_frames: 120 there, 600 now",
    ]


def test_new_descriptors_hold_the_chosen_method_alone(tmp_path):
    old_dataset(tmp_path / "old", "neuface", "neuface")
    fresh = read_descriptor(reopen(tmp_path / "fresh", "neuface").store)
    old = json.loads((OLD / "neuface.json").read_text())
    old["config"] = translate(old["config"])
    assert fresh["config"]["annotator"] == {key: old["config"]["annotator"][key] for key in ("name", "neuface")}
    added = {"decoder": "pyav", "stills": "separate", "stills_fps": 25.0}
    assert fresh["config"] | {"annotator": None} == old["config"] | {"annotator": None, "media": old["config"]["media"] | added}
