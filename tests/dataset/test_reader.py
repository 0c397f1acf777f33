import subprocess
import sys

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
import pyarrow.parquet as pq
import pytest
import torch

import neuface_ray
from neuface_ray.dataset import Output, clip_rows, finalise, publish
from neuface_ray.dataset.arrays import to_arrays
from neuface_ray.errors import DataError, UsageError
from neuface_ray.heads import load_head
from tests.dataset.made import comparable, expected, make_clip, make_segment, provenance, write


@pytest.fixture(scope="module", params=["staged", "published", "both"])
def dataset(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("dataset")
    segments = write(root, 4, quarantined=1, with_vertices=True)
    if request.param == "published":
        publish(str(root))
    if request.param == "both":
        publish(str(root))
        Output.open(str(root), provenance()).commit(extra := make_segment(4), [])
        segments.append(extra)
    opened = neuface_ray.open(root)
    opened.wanted = expected(segments, 4, with_vertices=True)
    return opened


def test_four_readers_agree(tmp_path):
    write(tmp_path, 4, with_vertices=True)
    publish(str(tmp_path))
    dataset = neuface_ray.open(tmp_path)
    for name in ("frames", "clips", "vertices", "segments"):
        ours = dataset.table(name)
        pattern = f"{tmp_path}/{name}/*.parquet"
        arrow = pads.dataset(str(tmp_path / name)).to_table()
        assert arrow.equals(ours)
        polars, duck = pl.read_parquet(pattern), duckdb.sql(f"SELECT * FROM '{pattern}'").fetchall()
        assert polars.shape == ours.shape
        assert len(duck) == ours.num_rows
        for column in ours.schema.names:
            values = ours[column].to_pylist()
            position = ours.schema.get_field_index(column)
            theirs = [row[position] for row in duck]
            assert polars[column].to_list() == values, (name, column)
            assert [list(value) if isinstance(value, tuple) else value for value in theirs] == values, (name, column)
    assert pl.read_parquet(f"{tmp_path}/frames/*.parquet").schema["landmarks"] == pl.Array(pl.Float16, 14)


def test_tables_are_exact(dataset):
    for name, wanted in dataset.wanted.items():
        assert comparable(name, dataset.table(name)).equals(wanted)
        assert comparable(name, dataset.dataset(name).to_table()).equals(wanted)
        assert dataset.to_polars(name).height == wanted.num_rows
    assert len(dataset) == dataset.wanted["frames"].num_rows
    assert dataset.quarantine()["error"].to_pylist() == ["ValueError"]
    assert dataset.totals()["frames"] == len(dataset)


def test_select_and_filter(dataset):
    frames = dataset.wanted["frames"]
    for condition in (pc.field("accepted") & (pc.field("nme") < 0.5), [("accepted", "==", True), ("nme", "<", 0.5)]):
        found = dataset.frames(["clip_id", "pose"], condition)
        assert found.schema.names == ["clip_id", "pose"]
        wanted = frames.filter(pc.field("accepted") & (pc.field("nme") < 0.5))
        assert 0 < found.num_rows == wanted.num_rows < frames.num_rows
    assert dataset.frames(["view"], pc.field("view") == "nowhere").schema.names == ["view"]
    assert dataset.clips(filter=pc.field("status") == "rejected").num_rows == 3
    with pytest.raises(UsageError, match=r"no such column.*clip_id"):
        dataset.frames(["colour"])
    with pytest.raises(UsageError, match="no table 'faces'; the tables are frames"):
        dataset.table("faces")


def test_clip_folds_its_frames(dataset):
    segment = make_segment(1, "seq1", person="person1")
    clip, mesh, _, _ = make_clip(segment, 1)
    found = dataset.clip(clip.clip_id)
    assert found.info["track"] == 1
    assert np.array_equal(found.array("pose"), mesh.pose[clip.core])
    assert np.array_equal(found.array("landmarks"), clip.landmarks[clip.core].astype(np.float16))
    assert np.array_equal(found.array("frame_index")[:, 0], clip.frame_index[clip.core])
    assert found.array("view")[0] == "view0"
    with pytest.raises(KeyError, match="no clip 'x'"):
        dataset.clip("x")


@pytest.mark.parametrize("seed", [None, 3])
def test_torch_batches_hold_every_row_once(dataset, seed):
    columns = ["clip_id", "view", "frame_index", "landmarks", "intrinsics", "nme", "valid"]
    batches = list(dataset.iter_torch(10, columns, seed=seed))
    assert [len(batch["nme"]) for batch in batches[:-1]] == [10] * (len(batches) - 1)
    assert batches[0]["landmarks"].shape == (10, 7, 2)
    assert batches[0]["landmarks"].dtype == torch.float16
    assert batches[0]["intrinsics"].shape == (10, 3, 3)
    assert batches[0]["valid"].dtype == torch.bool

    def keys_of(batches):
        return [key for b in batches for key in zip(b["clip_id"], b["view"], b["frame_index"].tolist(), strict=True)]

    keys = keys_of(batches)
    assert len(set(keys)) == len(keys) == len(dataset)
    assert keys == keys_of(dataset.iter_torch(10, columns, seed=seed))
    dropped = sum(len(batch["nme"]) for batch in dataset.iter_torch(10, columns, drop_last=True))
    assert dropped == len(dataset) // 10 * 10


def test_stored_vertices_by_row(dataset):
    clip, mesh, _, _ = make_clip(make_segment(0, "seq0", person="person0"), 0, with_vertices=True)
    rows = dataset.frames(filter=(pc.field("clip_id") == clip.clip_id) & (pc.field("view") == "view1"))
    rows = rows.take([3, 0])
    assert np.array_equal(dataset.vertices(rows), mesh.vertices[clip.core][[3, 0], 1])


def test_arrays_of_missing_values():
    field = pa.field("x", pa.list_(pa.float32(), 2), metadata={"shape": "[2, 1]"})
    column = pa.array([[1, 2], None, [3, 4]], field.type)
    table = pa.table([column, pa.array([1.0, None, 3.0])], schema=pa.schema([field, ("y", pa.float64())])).slice(1)
    arrays = to_arrays(table)
    assert arrays["x"].shape == (2, 2, 1)
    assert np.isnan(arrays["x"][0]).all()
    assert arrays["x"][1].ravel().tolist() == [3, 4]
    assert np.isnan(arrays["y"][0])
    with pytest.raises(ValueError, match="1 missing"):
        to_arrays(pa.table({"n": pa.array([1, None])}))


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """A dataset of the open head with the vertices that the fit saw."""
    head, root = load_head(), str(tmp_path_factory.mktemp("fitted"))
    segment = make_segment(0)
    clip, mesh, quality, decision = make_clip(segment)
    rng = np.random.default_rng(0)
    grid = mesh.pose.shape[:2]
    mesh.head_model = head.id
    mesh.shape = np.broadcast_to(rng.normal(size=10), (*grid, 10)).astype(np.float32)
    mesh.expression = rng.random((*grid, 52)).astype(np.float32)
    mesh.pose = (mesh.pose * 0.1).astype(np.float32)
    made_by = provenance(head_model=head.id)
    output = Output.open(root, made_by)
    output.commit(segment, [clip_rows(clip, mesh, quality, decision, made_by)])
    with torch.no_grad():
        seen = head(*(torch.tensor(x) for x in (mesh.shape, mesh.expression, mesh.pose))).numpy()
    finalise(output.store)
    return neuface_ray.open(root), head, np.swapaxes(seen[clip.core], 0, 1).reshape(-1, *seen.shape[2:])


def test_vertices_are_those_of_the_fit_and_the_same_bits_for_any_rows(fitted):
    dataset, head, seen = fitted
    rows = dataset.frames()
    vertices = dataset.vertices(rows)
    assert vertices.dtype == np.float32
    np.testing.assert_allclose(vertices, seen, atol=1e-6)
    assert np.array_equal(dataset.vertices(rows.take([7, 2]), head), vertices[[7, 2]])
    np.testing.assert_allclose(dataset.vertices(rows, batch_size=5), vertices, atol=1e-6)
    assert dataset.vertices(rows.slice(0, 0)).shape == (0, *vertices.shape[1:])
    with pytest.raises(UsageError, match="need the columns expression, shape"):
        dataset.vertices(dataset.frames(["pose"]))


def test_vertices_of_another_head_are_refused(fitted, dataset):
    opened, head, _ = fitted
    rows = opened.frames()
    wrong = rows.set_column(rows.schema.get_field_index("head_model"), "head_model", pa.array(["flame/2020/abc"] * len(rows)))
    for bad in (wrong, pa.concat_tables([rows, wrong])):
        with pytest.raises(DataError, match=r"flame/2020/abc.*not to open_head") as caught:
            opened.vertices(bad)
        assert caught.value.code == "head_mismatch"
    with pytest.raises(DataError, match="test_head"):
        dataset.vertices(dataset.frames(["shape", "expression", "pose", "clip_id"]), head)


def test_a_folder_that_is_no_dataset(tmp_path):
    with pytest.raises(UsageError, match=r"is not a dataset: it has no dataset.json"):
        neuface_ray.open(tmp_path)


def test_reading_needs_neither_torch_nor_ray(tmp_path):
    write(tmp_path, 2)
    publish(str(tmp_path))
    code = (
        "import sys, neuface_ray\n"
        "assert not {'pyarrow', 'torch', 'ray'} & set(sys.modules)\n"
        f"d = neuface_ray.open({str(tmp_path)!r}); assert len(d) == 36; d.clips(); d.totals()\n"
        "assert not {'torch', 'ray'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_card_and_the_descriptor(tmp_path):
    write(tmp_path, 3, quarantined=1)
    output = Output.open(str(tmp_path), provenance())
    descriptor = finalise(output.store)
    assert descriptor["totals"]["clips"] == 4
    assert descriptor["totals"]["rejected_for"] == {"nme_above_limit": 1}
    assert descriptor["totals"]["quarantined_for"] == {"ValueError": 1}
    assert descriptor["features"]["frames"]["landmarks"]["shape"] == [7, 2]
    assert descriptor["licences"] == ["CC0"]
    card = (tmp_path / "README.md").read_text()
    front = card.split("---")[1]
    for table in ("frames", "clips", "quarantine", "segments"):
        assert f"data_files: {table}/*.parquet" in front
        assert pq.read_table(tmp_path / table).num_rows > 0
    assert "personal data" in card
    assert "test_head/1/0123456789ab" in card
    before = (tmp_path / "dataset.json").read_bytes()
    finalise(output.store)
    assert (tmp_path / "dataset.json").read_bytes() == before
