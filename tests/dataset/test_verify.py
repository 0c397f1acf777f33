import json
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import neuface_ray
from neuface_ray.dataset import Output, finalise, publish
from neuface_ray.dataset.__main__ import main
from neuface_ray.dataset.snapshot import read_snapshot
from neuface_ray.dataset.storage import OutputError, open_store
from neuface_ray.dataset.verify import REPAIRABLE, verify
from neuface_ray.errors import UsageError
from tests.dataset.made import make_rows, make_segment, provenance, write


@pytest.fixture
def root(tmp_path):
    """Two published parts and one staged segment."""
    path = tmp_path / "d"
    segments = write(path, 4, quarantined=1, with_vertices=True)
    publish(str(path), target_bytes=1)
    output = Output.open(str(path), provenance())
    extra = make_segment(5, "seq1", person="person1")
    output.commit(extra, make_rows(extra, with_vertices=True))
    assert len(read_snapshot(open_store(path)).parts) == 5
    assert verify(str(path)).sound
    path.joinpath("segments.json").write_text(json.dumps([s.segment_id for s in segments]))
    return path


def codes(path, **options):
    return sorted({problem.code for problem in verify(str(path), **options).problems})


def first(root, folder):
    return next(root / folder / name for name in sorted(os.listdir(root / folder)))


def staged(root):
    return next(os.path.join(folder, name) for folder, _, names in os.walk(root / "_staged") for name in names)


def flip(path, position=-100):
    data = bytearray(Path(path).read_bytes())
    data[position] ^= 1
    Path(path).write_bytes(bytes(data))


@pytest.mark.parametrize("table", ["frames", "clips", "vertices", "segments"])
@pytest.mark.parametrize("damage", ["flip", "truncate", "drop"])
def test_damaged_public_files_are_found_and_can_be_discarded(root, table, damage):
    path = first(root, table)
    if damage == "flip":
        flip(path)
    elif damage == "truncate":
        os.truncate(path, os.path.getsize(path) // 2)
    else:
        os.unlink(path)
    code = "missing_file" if damage == "drop" else "damaged_file"
    assert code in codes(root)
    assert code in codes(root, repair=True)
    report = verify(str(root), discard_damaged=True)
    assert report.sound, report.problems
    assert {problem.code for problem in report.repaired} == {code}
    assert len(Output.open(str(root), provenance()).outcomes()) == 5
    assert len(neuface_ray.open(root)) == 72


def test_discarded_segments_are_made_again(root):
    segments = [make_segment(i, f"seq{i % 2}", 2, f"person{i % 2}") for i in range(5)]
    flip(first(root, "frames"))
    verify(str(root), discard_damaged=True)
    output = Output.open(str(root), provenance())
    pending = output.pending(segments)
    assert len(pending) == 1
    i = segments.index(pending[0])
    output.commit(pending[0], make_rows(pending[0], 1 + i % 2, accepted=i % 3 > 0, with_vertices=True))
    publish(str(root))
    assert verify(str(root)).sound
    assert output.pending(segments) == []


def test_unlisted_files(root):
    copy, foreign = root / "frames" / "copy.parquet", root / "clips" / "mine.parquet"
    shutil.copy(first(root, "frames"), copy)
    pq.write_table(pa.table({"a": [1]}), foreign)
    assert codes(root) == ["copied_file", "foreign_file"]
    assert codes(root, repair=True) == ["foreign_file"]
    assert not copy.exists()
    foreign.unlink()
    assert verify(str(root)).sound


def test_dead_files_and_interrupted_publishes(root):
    number = read_snapshot(open_store(root)).number
    dead = root / "frames" / f"frames-{number:08d}-0009-{'0' * 16}.parquet"
    begun = root / "frames" / f"frames-{number + 1:08d}-0000-{'0' * 16}.parquet"
    shutil.copy(first(root, "frames"), dead)
    shutil.copy(first(root, "frames"), begun)
    assert codes(root) == ["dead_file", "interrupted_publish"]
    assert codes(root, repair=True) == []
    assert not dead.exists()
    assert not begun.exists()


def test_damaged_commit(root):
    rows = len(neuface_ray.open(root))
    flip(staged(root))
    assert codes(root) == ["damaged_commit"]
    with pytest.raises(OutputError, match="is damaged"):
        len(neuface_ray.open(root))
    with pytest.raises(OutputError, match="is damaged"):
        publish(str(root))
    assert codes(root, repair=True) == []
    assert len(neuface_ray.open(root)) == rows - 12


def test_renamed_commit(root):
    path = staged(root)
    shutil.move(path, path.replace(os.path.basename(path).split(".")[0], "other"))
    assert codes(root) == ["damaged_commit"]


def test_stray_files_in_the_staging_folder(root):
    (root / "_staged" / "notes.txt").write_text("")
    assert codes(root) == ["foreign_file"]


def test_leftovers(root):
    (root / "_tmp" / "dead").write_bytes(b"x")
    assert codes(root) == []
    os.utime(root / "_tmp" / "dead", (0, 0))
    assert codes(root) == ["leftover"]
    assert codes(root, repair=True) == []


@pytest.mark.parametrize("how", ["flip", "newest", "all"])
def test_a_lost_snapshot_is_rebuilt_from_the_files(root, how):
    publish(str(root), target_bytes=1)
    finalise(Output.open(str(root), provenance()).store)
    dataset = neuface_ray.open(root)
    wanted = {name: dataset.table(name) for name in ("frames", "clips", "vertices", "quarantine")}
    names = sorted(os.listdir(root / "_snapshots"))
    if how == "flip":
        flip(root / "_snapshots" / names[-1], 200)
    for name in names[-1:] if how == "newest" else names if how == "all" else []:
        os.unlink(root / "_snapshots" / name)
    with pytest.raises(OutputError):
        neuface_ray.open(root)
    assert codes(root) == ["snapshot_lost"] if how == "flip" else "snapshot_lost" in codes(root)
    report = verify(str(root), repair=True)
    assert report.sound, report.problems
    for name, table in wanted.items():
        found = neuface_ray.open(root).table(name)
        keys = [(key, "ascending") for key in ("segment_id", *(() if name == "quarantine" else ("clip_id",)))]
        order = keys + ([("view", "ascending"), ("frame_index", "ascending")] if name in ("frames", "vertices") else [])
        assert found.sort_by(order).equals(table.sort_by(order))


def _changed(table, column, values):
    position = table.schema.get_field_index(column)
    return table.set_column(position, table.schema.field(position), pa.array(values, table.schema.field(position).type))


def _rewrite(root, table, change):
    """Replace a public file by a changed one and make the snapshot agree, as only a faulty program could."""
    import hashlib

    from neuface_ray.dataset.snapshot import Part, PublicFile, Snapshot, snapshot_name

    store = open_store(root)
    old = read_snapshot(store)
    part = next(p for p in old.parts if table in p.files and p.files[table].rows > 1)
    sink = pa.BufferOutputStream()
    changed = change(pq.read_table(root / part.files[table].path))
    pq.write_table(changed, sink)
    data = sink.getvalue().to_pybytes()
    digest = hashlib.sha256(data).hexdigest()
    path = f"{table}/{table}-{part.name}-{digest[:16]}.parquet"
    store.create(path, data)
    os.unlink(root / part.files[table].path)
    files = part.files | {table: PublicFile(path, changed.num_rows, len(data), digest)}
    parts = tuple(Part(p.name, files) if p is part else p for p in old.parts)
    store.create(snapshot_name(old.number + 1), Snapshot(old.number + 1, parts).encode())


@pytest.mark.parametrize(
    ("table", "change", "code"),
    [
        ("frames", lambda t: t.slice(1), "row_count"),
        ("frames", lambda t: pa.concat_tables([t.slice(1), t.slice(t.num_rows - 1)]), "duplicate_key"),
        ("frames", lambda t: pa.concat_tables([t.slice(0, 1), t]), "duplicate_key"),
        ("frames", lambda t: t.drop_columns(["pose"]), "schema"),
        ("frames", lambda t: t.append_column("extra", t["nme"]), "schema"),
        ("frames", lambda t: _changed(t, "frame_index", range(t.num_rows)), "frame_count"),
        ("frames", lambda t: _changed(t, "head_model", ["x/1/2"] * t.num_rows), "head_model"),
        ("clips", lambda t: _changed(t, "seed", [7] * t.num_rows), "seed"),
        ("frames", lambda t: _changed(t, "clip_id", ["x"] * t.num_rows), "frame_count"),
        ("frames", lambda t: _changed(t, "clip_id", [None] * t.num_rows), "null_key"),
        ("clips", lambda t: t.slice(1), "row_count"),
        ("vertices", lambda t: _changed(t, "frame_index", range(100, 100 + t.num_rows)), "frame_count"),
    ],
)
def test_rows_that_do_not_add_up(root, table, change, code):
    _rewrite(root, table, change)
    assert code in codes(root)


def test_a_segment_in_two_parts(root):
    from neuface_ray.dataset.snapshot import Part, Snapshot, snapshot_name

    store = open_store(root)
    old = read_snapshot(store)
    twice = Part("copy", old.parts[0].files)
    store.create(snapshot_name(old.number + 1), Snapshot(old.number + 1, (*old.parts, twice)).encode())
    assert codes(root) == ["duplicate_key"]


def test_descriptor(root):
    first = json.loads((root / "dataset.json").read_text())
    for damage in (lambda path: path.write_text("{"), Path.unlink):
        damage(root / "dataset.json")
        assert codes(root) == ["descriptor_lost"]
        assert codes(root, repair=True) == []
        assert json.loads((root / "dataset.json").read_text()) == first
    (root / "_descriptor.json").unlink()
    (root / "dataset.json").unlink()
    assert codes(root, repair=True) == ["descriptor"]
    with pytest.raises(UsageError, match="not a dataset"):
        verify(str(root / "nowhere"))


def test_every_repairable_code_says_what_is_done():
    assert all(text for text in REPAIRABLE.values())


def test_command_line(root, capsys):
    assert main(["verify", str(root)]) == 0
    assert "sound: snapshot 1" in capsys.readouterr().out
    assert main(["publish", str(root)]) == 0
    assert main(["info", str(root)]) == 0
    assert "72 rows in" not in capsys.readouterr().out
    assert main(["delete", str(root), "person=person0"]) == 0
    assert "pictures elsewhere" in capsys.readouterr().out
    assert main(["delete", str(root), "person=person0"]) == 0
    assert "deleted 0 frames" in capsys.readouterr().out
    assert main(["delete", str(root), "person1"]) == 2
    assert set(neuface_ray.open(root).frames()["person"].to_pylist()) == {"person1"}
    flip(first(root, "frames"))
    assert main(["verify", str(root)]) == 1
    assert "damaged_file: frames/" in capsys.readouterr().out
    assert main(["verify", "--repair", "--discard-damaged", str(root)]) == 0
    assert "repaired" in capsys.readouterr().out
    assert main(["info", str(root / "nowhere")]) == 2
    assert main(["publish", str(root / "nowhere")]) == 2
    assert not (root / "nowhere").exists()
