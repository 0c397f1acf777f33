import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import neuface_ray
from neuface_ray.errors import UsageError
from neuface_ray.media import MediaConfig, plan, prepare
from neuface_ray.training.data import Stream, held_out, read_some, split, stack
from neuface_ray.training.sources import Reading, Unit, read_unit
from tests.training.made import SIDE, YAWS, make_dataset

READING = Reading(("shape", "expression", "pose", "camera", "landmarks"), 64, 1)


def test_held_out_people_are_always_the_same_and_never_all():
    names = [f"p{i}" for i in range(20)]
    assert len(held_out(names, 0.25)) == 5
    assert held_out(names, 0.25) == held_out(names[::-1], 0.25) < held_out(names, 0.5)
    assert held_out(names, 0.0) == set()
    assert held_out(["alone"], 0.9) == set()


def test_training_and_validation_share_no_person(head, single_views):
    parts = split([str(single_views)], [], 0.3, READING, head.id)
    assert parts.count("train") == 6
    assert parts.count("validation") == 4
    trained = {s for unit in parts.train for s in unit.sequences}
    tested = {s for unit in parts.validation for s in unit.sequences}
    assert not trained & tested
    assert len(trained | tested) == 5


def test_samples_are_what_the_rows_and_pictures_say(head, single_views):
    parts = split([str(single_views)], [], 0.0, READING, head.id)
    samples = read_some(parts.train, READING, 100, 0)
    assert len(samples) == 10
    batch = stack(samples)
    assert batch["image"].shape == (10, 1, 64, 64, 3)
    assert batch["image"].dtype == np.uint8
    assert batch["landmarks"].shape == (10, 1, 478, 2)
    assert batch["view_valid"].all()
    assert batch["camera"][..., 0].min() > 5
    assert Counter(batch["image"][:, 0].reshape(10, -1).std(1) > 5) == {True: 10}
    again = read_some(parts.train, READING, 100, 0)
    assert all(np.array_equal(a["image"], b["image"]) for a, b in zip(samples, again, strict=True))


def test_views_of_one_instant_come_together_the_most_frontal_first(head, three_views):
    reading = Reading(READING.columns, 64, 4)
    parts = split([str(three_views)], [], 0.0, reading, head.id)
    batch = stack(read_some(parts.train, reading, 100, 0))
    assert batch["pose"].shape == (4, 4, 15)
    assert (batch["view_valid"] == [True, True, True, False]).all()
    yaws = np.abs(batch["pose"][:, :3, 1])
    assert (np.diff(yaws, axis=1) >= 0).all()
    assert np.allclose(np.ptp(batch["pose"][:, :3, 1], axis=1), max(YAWS) - min(YAWS), atol=1e-5)
    assert np.array_equal(batch["image"][:, 3], batch["image"][:, 0])
    assert np.allclose(batch["shape"][:, 0], batch["shape"][:, 2])
    assert not np.array_equal(batch["image"][:, 1], batch["image"][:, 0])
    two = stack(read_some(parts.train, Reading(READING.columns, 64, 2), 100, 0))
    assert two["view_valid"].all()


def test_the_stream_shows_every_unit_once_in_each_round_and_can_be_entered_anywhere():
    units = tuple(Unit("d", (f"c{i}",), ("s",), 2) for i in range(7))
    stream = Stream(units, READING, seed=3, total=1000)
    visits = [stream.unit(visit).clips[0] for visit in range(21)]
    for start in (0, 7, 14):
        assert len(set(visits[start : start + 7])) == 7
    assert visits[:7] != visits[7:14]
    assert [Stream(units, READING, 3, 1000, 500).unit(v).clips[0] for v in range(21)] == visits
    assert [Stream(units, READING, 4, 1000).unit(v).clips[0] for v in range(21)] != visits
    assert stream.visits_per_block == 128


def test_shards_of_synthetic_faces_are_a_source_too(head, tmp_path):
    rng = np.random.default_rng(0)
    for number in range(2):
        shard = tmp_path / f"shard-{number:05d}"
        shard.mkdir()
        columns = {"shape": (100,), "expression": (52,), "pose": (15,), "camera": (3,), "landmarks": (478, 2)}
        for name, shape in columns.items():
            np.save(shard / f"{name}.npy", rng.normal(size=(6, *shape)).astype(np.float32))
        np.save(shard / "image.npy", rng.integers(0, 255, (6, 80, 80, 3), np.uint8))
        (shard / "about.json").write_text(json.dumps({"head": head.id}))
    parts = split([str(tmp_path)], [], 0.1, READING, head.id)
    assert (parts.count("train"), parts.count("validation")) == (6, 6)
    reading = Reading(READING.columns, 64, 2)
    batch = stack(list(read_unit(parts.train[0], reading, np.random.default_rng(0))))
    assert batch["image"].shape == (6, 2, 64, 64, 3)
    assert (batch["view_valid"] == [True, False]).all()
    with pytest.raises(UsageError, match="head model"):
        split([str(tmp_path)], [], 0.1, READING, "other/1/0")


def test_every_mistake_with_data_is_named(head, single_views, tmp_path):
    def expect(words, data, reading=READING, head_model=head.id):
        with pytest.raises(UsageError, match=words):
            split(data, [], 0.1, reading, head_model)

    expect("data=", [])
    expect("nowhere", [str(tmp_path / "nowhere")])
    expect("lacks depth", [str(single_views)], Reading(("depth",), 64, 1))
    expect(f"holds numbers of head model {head.id}", [str(single_views)], head_model="flame/2020/abc")
    rejected = make_dataset(tmp_path / "rejected", head, people=1, accepted=False)
    expect("no frame is valid, accepted", [str(rejected)])


def test_crops_that_lie_beside_the_rows_are_taken_from_there(head, three_views, tmp_path):
    reading = Reading(READING.columns, SIDE, 3)
    parts = split([str(three_views)], [], 0.0, reading, head.id)
    expected = stack(read_some(parts.train, reading, 100, 0))
    copy = tmp_path / "copy"
    shutil.copytree(three_views, copy)
    (copy / "images").mkdir()
    for clip in neuface_ray.open(str(copy)).clips(["clip_id", "views", "source_uris"]).to_pylist():
        rows = []
        for view, uri in zip(clip["views"], clip["source_uris"], strict=True):
            png = Path(uri.removeprefix("file://")).read_bytes()
            rows += [{"frame": frame, "view": view, "png": png} for frame in range(2)]
        pq.write_table(pa.Table.from_pylist(rows), copy / "images" / f"{clip['clip_id']}.images")
    parts = split([str(copy)], [], 0.0, reading, head.id)
    found = stack(read_some(parts.train, reading, 100, 0))
    assert np.abs(found["image"].astype(int) - expected["image"]).mean() < 2  # cut() samples the source
    assert np.array_equal(found["pose"], expected["pose"])


def test_crops_of_annotated_videos_are_cut_out_of_their_frames_again(tiny_dataset, tiny_video):
    dataset = neuface_ray.open(str(tiny_dataset))
    parts = split([str(tiny_dataset)], [], 0.0, READING, dataset.head_model)
    samples = read_some(parts.train, READING, 100, 0)
    options = MediaConfig(crop_size=READING.image_size)
    clip = prepare(plan(str(tiny_video), options)[0], options)[0]
    originals = clip.crops[clip.valid[:, 0], 0].transpose(0, 2, 3, 1)
    assert len(samples) == len(originals) >= 8
    for sample in samples:
        assert np.abs(originals.astype(int) - sample["image"]).mean((1, 2, 3)).min() < 1
    assert len({sample["image"].tobytes() for sample in samples}) == len(samples)


def test_a_missing_picture_is_an_error(head, tmp_path):
    path = make_dataset(tmp_path, head, people=1)
    parts = split([str(path)], [], 0.0, READING, head.id)
    next((tmp_path / "pictures").iterdir()).unlink()
    with pytest.raises(Exception, match=r"0-0\.png"):
        read_some(parts.train, READING, 4, 0)
