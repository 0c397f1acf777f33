import multiprocessing
import os
import shutil
import time
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest

import neuface_ray
from neuface_ray.dataset import Output, publish
from neuface_ray.dataset import snapshot as snapshot_module
from neuface_ray.dataset.delete import delete
from neuface_ray.dataset.publish import collect, delete_segments
from neuface_ray.dataset.snapshot import public_number, read_snapshot, read_view
from neuface_ray.dataset.storage import OutputError, open_store
from neuface_ray.dataset.verify import verify
from neuface_ray.errors import UsageError
from tests.dataset.dying import every_crash
from tests.dataset.made import assert_holds, comparable, expected, make_rows, make_segment, provenance, write

SMALL = 20_000


def globbed(root, table: str) -> int:
    if not any(name.endswith(".parquet") for name in os.listdir(f"{root}/{table}")):
        return 0
    return duckdb.sql(f"SELECT count(*) FROM '{root}/{table}/*.parquet'").fetchall()[0][0]


def test_published_equals_committed(tmp_path):
    segments = write(tmp_path, 6, quarantined=2, with_vertices=True)
    wanted = expected(segments, 6, with_vertices=True)
    dataset = neuface_ray.open(tmp_path)
    quarantined = comparable("quarantine", dataset.quarantine())
    snapshot = publish(str(tmp_path))
    assert snapshot.rows() == {"frames": 108, "clips": 9, "vertices": 108, "quarantine": 2, "segments": 8}
    for reader in (dataset, neuface_ray.open(tmp_path)):
        assert_holds(reader, wanted | {"quarantine": quarantined})
    assert publish(str(tmp_path)) == snapshot
    assert verify(str(tmp_path)).sound
    assert os.listdir(tmp_path / "frames") == [snapshot.parts[0].files["frames"].path.removeprefix("frames/")]


def test_files_are_sorted_have_statistics_and_a_sensible_size(tmp_path):
    segments = write(tmp_path, 40)
    snapshot = publish(str(tmp_path), target_bytes=SMALL)
    assert 1 < len(snapshot.parts) < 20
    assert all(part.bytes >= SMALL for part in snapshot.parts[:-1])
    order = []
    for part in snapshot.parts:
        file = pq.ParquetFile(tmp_path / part.files["frames"].path)
        table = file.read()
        order += list(zip(table["sequence_id"].to_pylist(), table["frame_index"].to_pylist(), strict=True))
        column = file.metadata.row_group(0).column(table.schema.get_field_index("sequence_id"))
        assert column.is_stats_set
        assert column.has_column_index
    assert [sequence for sequence, _ in order] == sorted(sequence for sequence, _ in order)
    starts = [index // 6 for sequence, index in order if sequence == "seq0"]
    assert starts == sorted(starts)
    assert_holds(neuface_ray.open(tmp_path), expected(segments))


def test_small_parts_are_merged_and_contents_do_not_depend_on_the_order_of_commits(tmp_path):
    segments = [make_segment(i) for i in range(6)]
    names = []
    for root, order in ((tmp_path / "a", segments), (tmp_path / "b", segments[::-1])):
        output = Output.open(str(root), provenance())
        for segment in order:
            output.commit(segment, make_rows(segment))
        publish(output.store)
        names.append([name.rpartition("-")[2] for name in os.listdir(root / "frames")])  # the beginning of the sha256
    assert names[0] == names[1]
    for i in range(6, 9):
        output.commit(make_segment(i), make_rows(make_segment(i)))
        assert len(publish(output.path).parts) == 1
    assert len(os.listdir(tmp_path / "b" / "frames")) == 1


def test_publish_waits_until_there_is_enough(tmp_path):
    write(tmp_path, 2)
    assert publish(str(tmp_path), minimum_bytes=10**9).number == 0
    assert publish(str(tmp_path), minimum_bytes=1).number == 1


def _resume(root, wanted):
    """What a user does after a crash; before it, readers are exact, and after it a plain glob is too."""
    assert_holds(neuface_ray.open(root), wanted)
    publish(str(root))
    assert_holds(neuface_ray.open(root), wanted)
    assert globbed(root, "frames") == wanted["frames"].num_rows
    assert globbed(root, "clips") == wanted["clips"].num_rows
    for name in os.listdir(f"{root}/_tmp"):
        os.utime(f"{root}/_tmp/{name}", (0, 0))
    report = verify(str(root), repair=True)
    assert report.sound, report.problems
    shutil.rmtree(root)


def test_a_publish_killed_at_any_change_loses_and_doubles_nothing(tmp_path):
    """The hard case: new segments, a small part to merge and a retried segment that supersedes a published one."""
    start = tmp_path / "start"
    segments = write(start, 2, quarantined=1)
    publish(str(start))
    output = Output.open(str(start), provenance("retry"))
    output.commit(segments[2], make_rows(segments[2], 1, accepted=True))
    extra = make_segment(3, "seq1", person="person1")
    output.commit(extra, make_rows(extra, 2, accepted=False))
    segments = [*segments, extra]
    wanted = expected(segments)

    def attempt(step):
        shutil.copytree(start, tmp_path / str(step))
        return lambda: publish(str(tmp_path / str(step)))

    assert every_crash(attempt, lambda step: _resume(tmp_path / str(step), wanted)) > 12


def test_a_deletion_killed_at_any_change_is_done_or_not_done(tmp_path):
    start = tmp_path / "start"
    segments = write(start, 4)
    publish(str(start))
    lost = [s.segment_id for s in segments if s.person == "person0"]
    seen = set()

    def attempt(step):
        shutil.copytree(start, tmp_path / str(step))
        return lambda: delete_segments(str(tmp_path / str(step)), lost)

    def recover(step):
        root = tmp_path / str(step)
        frames = neuface_ray.open(root).frames()
        seen.add(frames.num_rows)
        assert frames.num_rows in (expected(segments)["frames"].num_rows, 48)
        delete_segments(str(root), lost)
        assert set(neuface_ray.open(root).frames()["person"].to_pylist()) == {"person1"}
        assert globbed(root, "frames") == 48
        shutil.rmtree(root)

    assert every_crash(attempt, recover) > 10
    assert len(seen) == 2


def _publisher(root, stop, failures):
    try:
        while not stop.is_set():
            publish(root, target_bytes=SMALL)
    except BaseException as error:
        failures.put(repr(error))


def _committer(root, run_id, numbers, failures):
    try:
        output = Output.open(root, provenance(run_id))
        for i in numbers:
            segment = make_segment(i, f"seq{i % 2}")
            output.commit(segment, make_rows(segment, 1 + i % 2, accepted=i % 3 > 0, run_id=run_id))
    except BaseException as error:
        failures.put(repr(error))


def test_readers_are_exact_while_others_commit_and_publish(tmp_path):
    root, count = str(tmp_path), 30
    Output.open(root, provenance())
    context = multiprocessing.get_context("fork")
    stop, failures = context.Event(), context.SimpleQueue()
    workers = [
        context.Process(target=_committer, args=(root, "one", range(count), failures)),
        context.Process(target=_committer, args=(root, "two", range(count - 1, -1, -1), failures)),
    ]
    publishers = [context.Process(target=_publisher, args=(root, stop, failures)) for _ in range(2)]
    for process in workers + publishers:
        process.start()
    store, rounds, seen = open_store(root), 0, -1
    while any(worker.is_alive() for worker in workers) or rounds < 5:
        before = {kind for kind, outcome in Output(store, provenance()).outcomes().items() if outcome == "committed"}
        dataset = neuface_ray.open(root)
        rows = dataset.frames(columns=["segment_id", "clip_id", "view", "frame_index"])
        keys = list(zip(*(rows[c].to_pylist() for c in ("clip_id", "view", "frame_index")), strict=True))
        assert len(keys) == len(set(keys))
        assert before <= set(rows["segment_id"].to_pylist())
        assert len(rows) >= seen
        seen, rounds = len(rows), rounds + 1
        time.sleep(0.01)
    stop.set()
    for process in workers + publishers:
        process.join()
        assert process.exitcode == 0
    assert failures.empty(), failures.get()
    publish(root)
    assert_holds(neuface_ray.open(root), expected([make_segment(i, f"seq{i % 2}") for i in range(count)]))
    assert verify(root).sound
    assert globbed(root, "clips") == 45


def test_an_open_reader_follows_replaced_files(tmp_path):
    segments = write(tmp_path, 6)
    publish(str(tmp_path), target_bytes=1)
    dataset = neuface_ray.open(tmp_path)
    pieces = dataset.scan("frames")
    first = next(pieces)
    extra = make_segment(7, "seq0")
    Output.open(str(tmp_path), provenance()).commit(extra, make_rows(extra))
    publish(str(tmp_path))
    rest = list(pieces)
    keys = [
        key
        for table in (first, *rest)
        for key in zip(table["clip_id"].to_pylist(), table["view"].to_pylist(), table["frame_index"].to_pylist(), strict=True)
    ]
    assert len(keys) == len(set(keys))
    assert {segment.segment_id for segment in segments} <= {
        s for table in (first, *rest) for s in table["segment_id"].to_pylist()
    }


def test_deleting_a_person_reaches_every_file(tmp_path):
    segments = write(tmp_path, 4, quarantined=2, with_vertices=True)
    publish(str(tmp_path))
    fresh = make_segment(8, "seq0", person="person0")
    output = Output.open(str(tmp_path), provenance())
    output.commit(fresh, make_rows(fresh, with_vertices=True))
    output.begin_attempt(segments[0].segment_id)
    output.store.create("report/person0.mp4", b"person0")
    output.store.create("run.json", b"person0")
    deleted = delete(str(tmp_path), person="person0")
    assert deleted == {"frames": 36, "clips": 3, "vertices": 36, "quarantine": 1, "segments": 4}
    for folder, _, names in os.walk(tmp_path):
        for name in names:
            content = Path(folder, name).read_bytes()
            assert b"person0" not in content, name
            assert b"seq0" not in content, name
            if name.endswith(".parquet"):
                assert "person0" not in str(pq.read_table(os.path.join(folder, name)).to_pylist())
    assert output.pending([*segments, fresh]) == []
    assert output.outcomes()[fresh.segment_id] == "deleted"
    zombie = Output.open(str(tmp_path), provenance("zombie"))
    zombie.is_done = lambda segment_id: False
    zombie.commit(fresh, make_rows(fresh, with_vertices=True))
    assert set(neuface_ray.open(tmp_path).frames()["person"].to_pylist()) == {"person1"}
    publish(str(tmp_path))
    assert verify(str(tmp_path)).sound
    assert set(delete(str(tmp_path), person="person0").values()) == {0}, "repeated: nothing is left to do"
    with pytest.raises(UsageError, match="name whom"):
        delete(str(tmp_path), name="x")


def test_mixed_layouts_are_refused(tmp_path):
    output = Output.open(str(tmp_path), provenance())
    output.commit(make_segment(0), make_rows(make_segment(0)))
    output.commit(make_segment(1), make_rows(make_segment(1), empty=True))
    with pytest.raises(OutputError, match="differing layout"):
        publish(str(tmp_path))
    assert read_snapshot(output.store).number == 0


def test_a_lost_snapshot_never_costs_data(tmp_path):
    write(tmp_path, 3)
    publish(str(tmp_path))
    shutil.rmtree(tmp_path / "_snapshots")
    with pytest.raises(OutputError, match="a snapshot was lost"):
        publish(str(tmp_path))
    assert {public_number(f"frames/{name}") for name in os.listdir(tmp_path / "frames")} == {1}


def test_parts_that_lose_a_segment_are_thinned_one_by_one(tmp_path):
    segments = write(tmp_path, 12)
    before = publish(str(tmp_path), target_bytes=1)
    lost = [segment.segment_id for segment in segments[:3]]
    after = delete_segments(str(tmp_path), lost, target_bytes=1)
    assert len(before.parts) == 12
    assert sum(part in before.parts for part in after.parts) == 9
    assert after.rows() == {"frames": 9 * 12 + 5 * 12, "clips": 14, "vertices": 0, "quarantine": 0, "segments": 12}
    assert verify(str(tmp_path)).sound


@pytest.mark.parametrize("moment", ["list_staged", "read_snapshot"])
def test_a_publish_in_the_middle_of_opening_hides_nothing(tmp_path, monkeypatch, moment):
    segments = write(tmp_path, 3)
    original, published = getattr(snapshot_module, moment), []

    def then_publish(store, *arguments):
        result = original(store, *arguments)
        if not published:
            published.append(True)
            publish(str(tmp_path))
        return result

    monkeypatch.setattr(snapshot_module, moment, then_publish)
    assert_holds(neuface_ray.open(tmp_path), expected(segments))
    assert published


def test_collecting_spares_the_files_of_a_publisher_at_work(tmp_path):
    write(tmp_path, 2)
    number, store = publish(str(tmp_path)).number, open_store(tmp_path)
    at_work = f"frames/frames-{number + 1:08d}-0000-{'0' * 16}.parquet"
    dead = f"frames/frames-{number:08d}-0007-{'0' * 16}.parquet"
    for name in (at_work, dead):
        store.create(name, b"")
    collect(store, read_view(store))
    assert store.exists(at_work)
    assert not store.exists(dead)
