"""Configuration files are found by path and by name."""

import pytest

from neuface_ray.config import load
from neuface_ray.config_files import config_folder, find_config
from neuface_ray.errors import UsageError
from neuface_ray.pipeline.config import AnnotateConfig
from neuface_ray.training.config import TrainConfig


def test_a_name_means_the_packaged_file_of_the_command():
    config = load(AnnotateConfig, "neuface", ["input=a", "output=b"])
    assert (config.annotator.name, config.media.max_frames) == ("neuface", 600)
    assert load(TrainConfig, "glvd").recipe == "glvd"
    assert find_config("glvd", "annotate") != find_config("glvd.yaml", "train")
    assert find_config("glvd", "train") == config_folder("train") / "glvd.yaml"


def test_a_file_at_that_path_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "neuface").write_text("input: a\noutput: b\nannotator: {name: encoder}\n")
    assert load(AnnotateConfig, "neuface").annotator.name == "encoder"


def test_what_is_not_there_is_named_beside_what_is(tmp_path):
    (tmp_path / "mine.yaml").write_text("input: a\n")
    with pytest.raises(UsageError, match=r"nowhere: no such configuration file; available: .*direct_fitting.*neuface"):
        load(AnnotateConfig, "nowhere")
    with pytest.raises(UsageError, match=r"mime\.yaml: no such configuration file; available: .*mine\.yaml"):
        load(AnnotateConfig, tmp_path / "mime.yaml")


def test_the_former_name_of_direct_fitting_means_the_same():
    settings = ["input=a", "output=b"]
    former = config_folder("annotate").parent / "annotate/flame_fitting.yaml"
    assert load(AnnotateConfig, former, settings) == load(AnnotateConfig, "direct_fitting", settings)
