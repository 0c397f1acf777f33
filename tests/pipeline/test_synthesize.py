import io
import json
import pickle
from dataclasses import replace

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

import neuface_ray
from neuface_ray.config import load
from neuface_ray.dataset.arrays import to_arrays
from neuface_ray.dataset.commit import Output
from neuface_ray.dataset.finalise import finalise
from neuface_ray.dataset.rows import Provenance
from neuface_ray.errors import UsageError
from neuface_ray.heads import load_head
from neuface_ray.pipeline.synthesize import SynthesizeConfig, _make_shard, _make_video, _open_output, with_detections
from neuface_ray.synthesis.renderer import Renderer
from neuface_ray.synthesis.sequences import make_sequence
from neuface_ray.synthesis.shards import SHARD_SIZE
from neuface_ray.training.pictures import crops_of


@pytest.mark.parametrize("bad", ["kind=film", "views=8", "frames=0", "untextured=2", "unshaded=-1", "fps=0", "canonical=-1"])
def test_wrong_settings_are_refused(bad):
    with pytest.raises(UsageError, match=bad.split("=")[0]):
        load(SynthesizeConfig, None, ["output=x", bad])


@pytest.mark.parametrize("name", ["faces", "videos"])
def test_packaged_configurations_are_valid(name):
    assert load(SynthesizeConfig, f"configs/synthesize/{name}.yaml").kind == name


def test_former_keys_work_and_their_present_names_are_said(capsys):
    config = load(SynthesizeConfig, None, ["output=x", "sculpted=0.5", "plain=0.25"])
    assert (config.untextured, config.unshaded) == (0.5, 0.25)
    assert config.face_options().untextured == 0.5
    assert config.face_options().unshaded == 0.25
    assert capsys.readouterr().err.splitlines() == [
        "command line: sculpted is now called untextured",
        "command line: plain is now called unshaded",
    ]


def test_a_dataset_whose_settings_have_former_names_goes_on(tmp_path):
    config = SynthesizeConfig(output=str(tmp_path), kind="videos", untextured=0.5, unshaded=0.25)
    _open_output(config)
    descriptor = json.loads((tmp_path / "dataset.json").read_text())
    stored = descriptor["config"]
    stored |= {"sculpted": stored.pop("untextured"), "plain": stored.pop("unshaded"), "skins": stored.pop("textures")}
    (tmp_path / "dataset.json").write_text(json.dumps(descriptor))
    _open_output(config)
    with pytest.raises(UsageError, match=r"config\.unshaded: 0\.25 there, 0\.5 now"):
        _open_output(replace(config, unshaded=0.5))


def decode_images(data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Crops uint8 [F, V, 3, S, S] and visibility bool [F, V, L] of a video's file in ``images/``."""
    table = pq.read_table(io.BytesIO(data))
    views = len(set(table["view"].to_pylist()))
    pictures = [cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)[..., ::-1] for png in table["png"].to_pylist()]
    crops = np.stack(pictures).transpose(0, 3, 1, 2)
    visible = np.array(table["visible"].to_pylist())
    frames = len(crops) // views
    return tuple(value.reshape(views, frames, *value.shape[1:]).swapaxes(0, 1) for value in (crops, visible))


def test_a_video_lands_in_a_dataset_whose_numbers_are_the_truth(tmp_path):
    config = SynthesizeConfig(output=str(tmp_path / "out"), kind="videos", count=1, frames=3, views=2, size=32)
    output = Output.open(config.output, Provenance("run", "truth", load_head().id, {}))
    assert _make_video(0, config, pickle.dumps(output)) == 6
    finalise(output.store)
    sequence = make_sequence(Renderer(load_head()), config.sequence_options(), 0, 0)
    dataset = neuface_ray.open(config.output)
    assert len(dataset) == 6
    rows = to_arrays(dataset.frames(["clip_id", "view", "frame_index"]))
    views = [view.name for view in sequence.clip.segment.views]
    crops = dict(crops_of(rows, 32, dataset.store))
    assert len(crops) == 6
    for index, image in crops.items():
        expected = sequence.clip.crops[rows["frame_index"][index], views.index(rows["view"][index])]
        np.testing.assert_array_equal(image.transpose(2, 0, 1), expected)
    pictures = pq.read_table(tmp_path / "out" / "images" / f"{sequence.clip.clip_id}.images").to_pylist()
    for picture in pictures:
        assert picture["visible"] == sequence.visible[picture["frame"], views.index(picture["view"])].tolist()
    np.testing.assert_array_equal(dataset.clip(sequence.clip.clip_id).array("pose"), sequence.truth.pose)


def test_a_shard_is_made_where_the_configuration_says(tmp_path, monkeypatch):
    monkeypatch.setattr("neuface_ray.pipeline.synthesize.SHARD_SIZE", 4)
    config = SynthesizeConfig(output=str(tmp_path), size=32)
    assert _make_shard(1, config) == 4
    assert len(np.load(tmp_path / "shard-00001" / "pose.npy")) == 4
    assert SHARD_SIZE == 512


def test_videos_hold_what_a_detector_finds_where_that_is_wanted(tmp_path):
    config = SynthesizeConfig(
        output=str(tmp_path / "out"), kind="videos", count=1, frames=2, views=2, size=160, yaw_deg=10, detect=True
    )
    output = Output.open(config.output, Provenance("run", "truth", load_head().id, {}))
    _make_video(0, config, pickle.dumps(output))
    finalise(output.store)
    sequence = make_sequence(Renderer(load_head()), config.sequence_options(), 0, 0)
    clip = neuface_ray.open(config.output).clip(sequence.clip.clip_id)
    found, landmarks = clip.array("valid"), clip.array("landmarks")
    assert found.any()
    distance = np.linalg.norm(landmarks - sequence.clip.landmarks, axis=-1).mean(-1)
    assert (distance[found] < 0.1).all()
    assert (distance[found] > 1e-3).all()
    np.testing.assert_array_equal(clip.array("pose"), sequence.truth.pose)
    black = replace(sequence.clip, crops=np.zeros_like(sequence.clip.crops))
    clip, truth = with_detections(replace(sequence, clip=black))
    assert not clip.valid.any()
    assert not truth.valid.any()
    assert np.isnan(clip.landmarks).all()
