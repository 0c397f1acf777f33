import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import neuface_ray
from neuface_ray.errors import UsageError
from neuface_ray.media import MediaConfig, plan, prepare
from neuface_ray.methods.recipe import SampleSpec
from neuface_ray.training.samples import Shard, read_shard
from neuface_ray.training.stream import Stream, held_out, read_some, split, stack
from tests.training.made import SIDE, YAWS, make_dataset

SPEC = SampleSpec(("shape", "expression", "pose", "camera", "landmarks"), 64, 1)


def test_held_out_people_are_always_the_same_and_never_all():
    names = [f"p{i}" for i in range(20)]
    assert len(held_out(names, 0.25)) == 5
    assert held_out(names, 0.25) == held_out(names[::-1], 0.25) < held_out(names, 0.5)
    assert held_out(names, 0.0) == set()
    assert held_out(["alone"], 0.9) == set()


def test_training_and_validation_share_no_person(head, single_views):
    parts = split([str(single_views)], [], 0.3, SPEC, head.id)
    assert parts.count("train") == 6
    assert parts.count("validation") == 4
    trained = {s for shard in parts.train for s in shard.sequences}
    tested = {s for shard in parts.validation for s in shard.sequences}
    assert not trained & tested
    assert len(trained | tested) == 5


def test_samples_are_what_the_rows_and_pictures_say(head, single_views):
    parts = split([str(single_views)], [], 0.0, SPEC, head.id)
    samples = read_some(parts.train, SPEC, 100, 0)
    assert len(samples) == 10
    batch = stack(samples)
    assert batch["image"].shape == (10, 1, 64, 64, 3)
    assert batch["image"].dtype == np.uint8
    assert batch["landmarks"].shape == (10, 1, 478, 2)
    assert batch["view_valid"].all()
    assert batch["camera"][..., 0].min() > 5
    assert Counter(batch["image"][:, 0].reshape(10, -1).std(1) > 5) == {True: 10}
    again = read_some(parts.train, SPEC, 100, 0)
    assert all(np.array_equal(a["image"], b["image"]) for a, b in zip(samples, again, strict=True))


def test_views_of_one_instant_come_together_the_most_frontal_first(head, three_views):
    spec = SampleSpec(SPEC.columns, 64, 4)
    parts = split([str(three_views)], [], 0.0, spec, head.id)
    batch = stack(read_some(parts.train, spec, 100, 0))
    assert batch["pose"].shape == (4, 4, 15)
    assert (batch["view_valid"] == [True, True, True, False]).all()
    yaws = np.abs(batch["pose"][:, :3, 1])
    assert (np.diff(yaws, axis=1) >= 0).all()
    assert np.allclose(np.ptp(batch["pose"][:, :3, 1], axis=1), max(YAWS) - min(YAWS), atol=1e-5)
    assert np.array_equal(batch["image"][:, 3], batch["image"][:, 0])
    assert np.allclose(batch["shape"][:, 0], batch["shape"][:, 2])
    assert not np.array_equal(batch["image"][:, 1], batch["image"][:, 0])
    two = stack(read_some(parts.train, SampleSpec(SPEC.columns, 64, 2), 100, 0))
    assert two["view_valid"].all()


def test_the_stream_shows_every_shard_once_in_each_round_and_can_be_entered_anywhere():
    shards = tuple(Shard("d", (f"c{i}",), ("s",), 2) for i in range(7))
    stream = Stream(shards, SPEC, seed=3, total=1000)
    visits = [stream.shard(visit).clips[0] for visit in range(21)]
    for start in (0, 7, 14):
        assert len(set(visits[start : start + 7])) == 7
    assert visits[:7] != visits[7:14]
    assert [Stream(shards, SPEC, 3, 1000, 500).shard(v).clips[0] for v in range(21)] == visits
    assert [Stream(shards, SPEC, 4, 1000).shard(v).clips[0] for v in range(21)] != visits
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
    parts = split([str(tmp_path)], [], 0.1, SPEC, head.id)
    assert (parts.count("train"), parts.count("validation")) == (6, 6)
    whole = split([str(tmp_path)], [], 0.0, SPEC, head.id)
    assert len(whole.train) == 1  # small shards are read together
    assert len({sample["pose"].tobytes() for sample in read_some(whole.train, SPEC, 99, 0)}) == whole.count("train") == 12
    spec = SampleSpec(SPEC.columns, 64, 2)
    batch = stack(list(read_shard(parts.train[0], spec, np.random.default_rng(0))))
    assert batch["image"].shape == (6, 2, 64, 64, 3)
    assert (batch["view_valid"] == [True, False]).all()
    with pytest.raises(UsageError, match="head model"):
        split([str(tmp_path)], [], 0.1, SPEC, "other/1/0")


def test_every_mistake_with_data_is_named(head, single_views, tmp_path):
    def expect(words, data, spec=SPEC, head_model=head.id):
        with pytest.raises(UsageError, match=words):
            split(data, [], 0.1, spec, head_model)

    expect("data=", [])
    expect("nowhere", [str(tmp_path / "nowhere")])
    expect("lacks depth", [str(single_views)], SampleSpec(("depth",), 64, 1))
    expect(f"holds numbers of head model {head.id}", [str(single_views)], head_model="flame/2020/abc")
    rejected = make_dataset(tmp_path / "rejected", head, people=1, accepted=False)
    expect("no frame is valid, accepted", [str(rejected)])


def test_crops_that_lie_beside_the_rows_are_taken_from_there(head, three_views, tmp_path):
    spec = SampleSpec(SPEC.columns, SIDE, 3)
    parts = split([str(three_views)], [], 0.0, spec, head.id)
    expected = stack(read_some(parts.train, spec, 100, 0))
    copy = tmp_path / "copy"
    shutil.copytree(three_views, copy)
    (copy / "images").mkdir()
    for clip in neuface_ray.open(str(copy)).clips(["clip_id", "views", "source_uris"]).to_pylist():
        rows = []
        for view, uri in zip(clip["views"], clip["source_uris"], strict=True):
            png = Path(uri.removeprefix("file://")).read_bytes()
            rows += [{"frame": frame, "view": view, "png": png} for frame in range(2)]
        pq.write_table(pa.Table.from_pylist(rows), copy / "images" / f"{clip['clip_id']}.images")
    parts = split([str(copy)], [], 0.0, spec, head.id)
    found = stack(read_some(parts.train, spec, 100, 0))
    assert np.abs(found["image"].astype(int) - expected["image"]).mean() < 2  # cut() samples the source
    assert np.array_equal(found["pose"], expected["pose"])


def test_crops_of_annotated_videos_are_cut_out_of_their_frames_again(tiny_dataset, tiny_video):
    dataset = neuface_ray.open(str(tiny_dataset))
    parts = split([str(tiny_dataset)], [], 0.0, SPEC, dataset.head_model)
    samples = read_some(parts.train, SPEC, 100, 0)
    options = MediaConfig(crop_size=SPEC.image_size)
    clip = prepare(plan(str(tiny_video), options)[0], options)[0]
    originals = clip.crops[clip.valid[:, 0], 0].transpose(0, 2, 3, 1)
    assert len(samples) == len(originals) >= 8
    for sample in samples:
        assert np.abs(originals.astype(int) - sample["image"]).mean((1, 2, 3)).min() < 1
    assert len({sample["image"].tobytes() for sample in samples}) == len(samples)


def test_a_missing_picture_is_an_error(head, tmp_path):
    path = make_dataset(tmp_path, head, people=1)
    parts = split([str(path)], [], 0.0, SPEC, head.id)
    next((tmp_path / "pictures").iterdir()).unlink()
    with pytest.raises(Exception, match=r"0-0\.png"):
        read_some(parts.train, SPEC, 4, 0)


def shard_of_faces(folder, head, number=0, count=12, images_per_person=4, detected=None):
    """A shard of random numbers in which ``shape`` tells the person and ``camera`` the face."""
    shard = folder / f"shard-{number:05d}"
    shard.mkdir(parents=True)
    persons = np.arange(count) // images_per_person
    np.save(shard / "shape.npy", np.repeat(persons[:, None] + 100.0 * number, 100, 1).astype(np.float32))
    np.save(shard / "camera.npy", np.repeat(np.arange(count)[:, None], 3, 1).astype(np.float32))
    np.save(shard / "image.npy", np.zeros((count, 8, 8, 3), np.uint8))
    if detected is not None:
        points = np.zeros((count, 478, 2), np.float16)
        points[~detected] = np.nan
        np.save(shard / "detected.npy", points)
    about = {"head": head.id, "options": {"images_per_person": images_per_person}}
    (shard / "about.json").write_text(json.dumps(about))
    return shard


def test_pictures_of_one_person_stay_together(head, tmp_path):
    shard_of_faces(tmp_path, head)
    spec = SampleSpec(("shape", "camera"), 8, group=2)
    parts = split([str(tmp_path)], [], 0.0, spec, head.id)
    assert parts.train[0].samples == 6
    assert parts.count("train") == 12
    samples = list(read_shard(parts.train[0], spec, np.random.default_rng(0)))
    batch = stack(samples, spec.group)
    assert batch["image"].shape == (12, 1, 8, 8, 3)
    persons, faces = (batch[name][:, 0, 0].reshape(6, 2) for name in ("shape", "camera"))
    assert (persons[:, 0] == persons[:, 1]).all()
    assert (faces[:, 1] == faces[:, 0] + 1).all()
    assert sorted(faces.ravel()) == list(range(12))
    assert faces.ravel().tolist() != list(range(12))
    with pytest.raises(UsageError, match="shows each person 4 times, but training needs 5 pictures"):
        split([str(tmp_path)], [], 0.0, SampleSpec(("shape",), group=5), head.id)


def test_faces_that_the_detector_missed_are_left_out(head, tmp_path):
    found = np.ones(12, bool)
    found[[1, 4, 5, 6]] = False
    shard_of_faces(tmp_path, head, detected=found)
    spec = SampleSpec(("camera", "detected"), 8)
    parts = split([str(tmp_path)], [], 0.0, spec, head.id)
    assert parts.count("train") == 8
    batch = stack(read_some(parts.train, spec, 99, 0))
    assert sorted(batch["camera"][:, 0, 0]) == np.flatnonzero(found).tolist()
    assert np.isfinite(batch["detected"]).all()
    pairs = replace(spec, group=2)
    parts = split([str(tmp_path)], [], 0.0, pairs, head.id)
    batch = stack(read_some(parts.train, pairs, 99, 0), 2)
    assert sorted(batch["camera"][:, 0, 0].reshape(-1, 2).tolist()) == [[0, 2], [8, 9], [10, 11]]
    assert parts.count("train") == 6
    (tmp_path / "shard-00000" / "detected.npy").unlink()
    with pytest.raises(UsageError, match=r"lacks detected; make the faces again with detect=true"):
        split([str(tmp_path)], [], 0.0, spec, head.id)


def test_a_datasets_detections_are_its_landmarks(head, single_views):
    both = SampleSpec(("landmarks", "detected"), 0)
    sample = read_some(split([str(single_views)], [], 0.0, both, head.id).train, both, 1, 0)[0]
    assert np.array_equal(sample["landmarks"], sample["detected"])
    assert "image" not in sample


def test_people_of_a_dataset_come_in_groups(head, tmp_path):
    path = make_dataset(tmp_path, head, people=3, frames=5)
    spec = SampleSpec(("shape", "expression"), 0, group=2)
    parts = split([str(path)], [], 0.0, spec, head.id)
    assert parts.count("train") == 12
    batch = stack(read_some(parts.train, spec, 99, 0), 2)
    shapes, expressions = (batch[name][:, 0].reshape(6, 2, -1) for name in ("shape", "expression"))
    assert (shapes[:, 0] == shapes[:, 1]).all()
    assert len({shape[0, 0] for shape in shapes}) == 3
    assert not (expressions[:, 0] == expressions[:, 1]).all(-1).any()


def test_windows_are_consecutive_frames_of_one_clip_and_view(head, tmp_path):
    """No window crosses a gap, an invalid row, a rejected one, a view or a clip."""
    path = make_dataset(tmp_path, head, people=2, frames=11, views=2, invalid=((0, 3), (1, 9)))
    spec = SampleSpec(("pose", "expression", "shape"), 0, frames=3)
    parts = split([str(path)], [], 0.0, spec, head.id)
    assert parts.count("train") == 2 * (1 + 2) + 2 * 3
    dataset = neuface_ray.open(str(path))
    rows = dataset.frames(["clip_id", "view", "frame_index", "valid"], filter=None).to_pylist()
    poses = dataset.frames(["pose"]).column("pose").to_pylist()
    place = {tuple(np.float32(pose)): row for pose, row in zip(poses, rows, strict=True)}
    starts = set()
    for seed in range(6):
        windows = list(read_shard(parts.train[0], spec, np.random.default_rng(seed)))
        assert len(windows) == parts.count("train")
        for window in windows:
            assert window["pose"].shape == (3, 15)
            assert window["view_valid"].shape == (3,)
            found = [place[tuple(pose)] for pose in window["pose"]]
            assert all(row["valid"] for row in found)
            assert len({(row["clip_id"], row["view"]) for row in found}) == 1
            assert np.diff([row["frame_index"] for row in found]).tolist() == [1, 1]
            starts.add(found[0]["frame_index"])
    assert len(starts) > 3
    shard_of_faces(tmp_path / "faces", head)
    with pytest.raises(UsageError, match="3 consecutive frames"):
        split([str(tmp_path / "faces")], [], 0.0, SampleSpec(("shape",), frames=3), head.id)
    with pytest.raises(UsageError, match=r"nothing can be trained on: .* in 12 consecutive frames"):
        split([str(path)], [], 0.0, replace(spec, frames=12), head.id)
    with pytest.raises(UsageError, match="one view"):
        SampleSpec(("pose",), 0, views=2, frames=3)
