"""Deletion is a rule about persons that lasts: whatever runs, dies, is repaired or moved, they do not come back."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import time
import uuid
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import neuface_ray
from neuface_ray.dataset import Output, delete, finalise, publish
from neuface_ray.dataset.delete import purge_remains
from neuface_ray.dataset.deleted import list_deletions, read_deletions
from neuface_ray.dataset.parquet import PartWriter
from neuface_ray.dataset.rows import segment_row
from neuface_ray.dataset.schema import TABLES
from neuface_ray.dataset.snapshot import Snapshot, read_snapshot, read_view, snapshot_name
from neuface_ray.dataset.staged import decode
from neuface_ray.dataset.storage import OutputError, PosixStore, open_store
from neuface_ray.dataset.verify import verify
from neuface_ray.errors import UsageError
from tests.dataset.dying import every_crash, run_until
from tests.dataset.made import assert_holds, comparable, expected, make_rows, make_segment, provenance, write

HER = {"person": "person0"}


def names_them(path: Path, text: str = "person0") -> bool:
    """The bytes of a file, or the rows in it, name somebody."""
    data = path.read_bytes()
    if data[:4] == b"PAR1":
        return text in str(pq.read_table(path).to_pylist())
    if data[:8] == b"NFSTAGE1" and path.name != "torn":
        return text in str(decode(data, path.name)[1])
    return text.encode() in data


def files_naming(root: Path, text: str = "person0") -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and names_them(path, text)]


def assert_gone(root: Path | str, segments: list) -> None:
    """No reader shows them, nothing of theirs is pending, and what stays is as it was."""
    output = Output.open(str(root), provenance("later"))
    assert output.pending([segment for segment in segments if segment.person == "person0"]) == []
    assert {kind for kind in output.outcomes(segments).values() if kind != "committed"} <= {"deleted"}
    for table in TABLES:
        assert "person0" not in str(neuface_ray.open(str(root)).table(table).to_pylist())
    stay = {one.segment_id for one in segments if one.person != "person0"}
    for table, rows in expected(segments).items():
        kept = comparable(table, rows.filter([one in stay for one in rows["segment_id"].to_pylist()]))
        assert comparable(table, neuface_ray.open(str(root)).table(table)).equals(kept)


def new(number: int, person: str | None = "person0", sequence: str = "new", **changes):
    return make_segment(number, sequence, person=person, **changes)


# During a run


def test_who_is_not_yet_annotated_is_kept_out(tmp_path):
    segments = write(tmp_path, 4)
    output = Output.open(str(tmp_path), provenance("running"))
    later = [new(i) for i in range(3)]
    assert output.pending([*segments, *later]) == later
    delete(str(tmp_path), **HER)
    assert not output.commit(later[0], make_rows(later[0]))
    assert not output.quarantine(later[1], "fit", ValueError("about person0"))
    assert output.pending([*segments, *later]) == []
    assert {output.outcomes(later)[one.segment_id] for one in later} == {"deleted"}
    finalise(output.store)
    assert files_naming(tmp_path) == []
    assert_gone(tmp_path, segments)
    assert verify(str(tmp_path)).sound


def test_somebody_of_whom_nothing_is_there_is_kept_out(tmp_path):
    output, segment = Output.open(str(tmp_path), provenance()), new(0)
    assert set(delete(str(tmp_path), **HER).values()) == {0}
    assert output.pending([segment]) == []
    assert not output.commit(segment, make_rows(segment))
    assert delete(str(tmp_path), sequence_id="other") == dict.fromkeys(TABLES, 0)
    assert output.pending([new(0, None, "other")]) == []
    with pytest.raises(UsageError, match="not a dataset"):
        delete(str(tmp_path / "nowhere"), **HER)


def test_a_commit_that_is_under_way_when_somebody_is_deleted(tmp_path, monkeypatch):
    segments, segment = write(tmp_path, 2), new(0)
    output, create = Output.open(str(tmp_path), provenance()), PosixStore.create

    def delete_first(store, name, data):
        monkeypatch.setattr(PosixStore, "create", create)
        delete(store, **HER)
        return create(store, name, data)

    monkeypatch.setattr(PosixStore, "create", delete_first)
    assert not output.commit(segment, make_rows(segment))
    assert files_naming(tmp_path) == []
    assert_gone(tmp_path, segments)


def test_a_late_worker_that_never_looked(tmp_path, monkeypatch):
    """Its staged file is shown to nobody, found by verification and removed by the next publish."""
    segments, segment = write(tmp_path, 2), new(0)
    publish(str(tmp_path))
    delete(str(tmp_path), **HER)
    late = Output.open(str(tmp_path), provenance("late"))
    monkeypatch.setattr(Output, "_refuse", lambda *_: False)
    assert late.commit(segment, make_rows(segment))
    monkeypatch.undo()
    assert files_naming(tmp_path)
    assert_gone(tmp_path, segments)
    assert {problem.code for problem in verify(str(tmp_path)).problems} == {"deletion_pending"}
    assert verify(str(tmp_path), repair=True).sound
    assert files_naming(tmp_path) == []


def test_a_publisher_at_work_while_somebody_is_deleted(tmp_path, monkeypatch):
    """It took its view before and wins: what it lists is hidden, and the deletion that follows takes it out."""
    segments = write(tmp_path, 4)
    create = PosixStore.create

    def mark_first(store, name, data):
        monkeypatch.setattr(PosixStore, "create", create)
        list_deletions(store, HER.items())
        return create(store, name, data)

    monkeypatch.setattr(PosixStore, "create", mark_first)
    publish(str(tmp_path))
    assert files_naming(tmp_path / "frames")
    assert_gone(tmp_path, segments)
    publish(str(tmp_path))
    assert files_naming(tmp_path) == []
    assert_gone(tmp_path, segments)


# Marked first, written anew later


@pytest.mark.parametrize("published", [True, False])
def test_from_the_mark_on_no_reader_shows_them(tmp_path, published):
    segments = write(tmp_path, 5, with_vertices=True)
    if published:
        publish(str(tmp_path))
    opened = neuface_ray.open(tmp_path)
    theirs = opened.clips(filter=[("person", "==", "person0")])["clip_id"].to_pylist()
    list_deletions(open_store(tmp_path), HER.items())
    for dataset in (opened.refresh(), neuface_ray.open(tmp_path)):
        for table in TABLES:
            assert "person0" not in str(dataset.table(table).to_pylist())
            assert "person0" not in str(dataset.dataset(table).to_table().to_pylist())
        assert dataset.totals()["persons"] == 1
        with pytest.raises(KeyError):
            dataset.clip(theirs[0])
    assert len(neuface_ray.open(tmp_path)) == expected(segments, with_vertices=True)["frames"].num_rows - 36


def test_every_publisher_obeys_the_list(tmp_path):
    segments = write(tmp_path, 4)
    publish(str(tmp_path))
    list_deletions(open_store(tmp_path), HER.items())
    publish(str(tmp_path))
    assert files_naming(tmp_path) == []
    assert read_view(open_store(tmp_path)).obeys_deletions
    assert_gone(tmp_path, segments)


def _publish_without_end(root, stop):
    number = 0
    while not stop.is_set():
        output = Output.open(root, provenance("busy"))
        segment = make_segment(number, f"busy{os.getpid()}", person="person1")
        output.commit(segment, make_rows(segment))
        number += 1
        try:
            publish(root)
        except OutputError as error:
            if "faster" not in str(error) and "missing" not in str(error):
                raise


def test_constant_publishing_does_not_keep_a_deletion_from_its_end(tmp_path):
    root = str(tmp_path)
    segments = write(tmp_path, 60)
    publish(root)
    context = multiprocessing.get_context("fork")
    stop = context.Event()
    busy = [context.Process(target=_publish_without_end, args=(root, stop)) for _ in range(2)]
    for process in busy:
        process.start()
    try:
        before = read_snapshot(open_store(root)).number
        while read_snapshot(open_store(root)).number < before + 3:
            time.sleep(0.01)
        delete(root, **HER)
        assert "person0" not in str(neuface_ray.open(root).table("segments").to_pylist())
    finally:
        stop.set()
        for process in busy:
            process.join()
            assert process.exitcode == 0
    publish(root)
    assert files_naming(tmp_path) == []
    assert Output.open(root, provenance()).pending(segments) == []
    assert verify(root).sound


# Killed and repeated


def test_a_deletion_killed_at_any_change_is_repeated_to_its_end(tmp_path):
    start = tmp_path / "start"
    segments = write(start, 4, with_vertices=False)
    publish(str(start))
    extra = make_segment(8, "seq0", person="person0")
    Output.open(str(start), provenance()).commit(extra, make_rows(extra))
    (start / "report").mkdir()
    (start / "report" / "page.html").write_text("person0")
    (start / "run.json").write_text("person0")
    marked = set()

    def attempt(step):
        shutil.copytree(start, tmp_path / str(step))
        return lambda: delete(str(tmp_path / str(step)), **HER)

    def recover(step):
        root = tmp_path / str(step)
        is_marked = read_deletions(open_store(root)).lists("person", "person0")
        marked.add(is_marked)
        assert ("person0" not in str(neuface_ray.open(root).table("segments").to_pylist())) is is_marked
        delete(str(root), **HER)
        assert files_naming(root) == []
        assert_gone(root, [*segments, extra][:4])
        report = verify(str(root))
        assert report.sound, report.problems
        shutil.rmtree(root)

    assert every_crash(attempt, recover) > 25
    assert marked == {True, False}


@pytest.mark.parametrize("finish", [publish, finalise])
def test_after_a_killed_deletion_the_next_publish_takes_the_rows_out(tmp_path, finish):
    start = tmp_path / "start"
    segments = write(start, 4)
    publish(str(start))

    def attempt(step):
        shutil.copytree(start, tmp_path / str(step))
        return lambda: delete(str(tmp_path / str(step)), **HER)

    def recover(step):
        root = tmp_path / str(step)
        finish(str(root))
        if read_deletions(open_store(root)):
            assert [path for path in files_naming(root) if "_tmp" not in path.parts] == []
            assert_gone(root, segments)
        shutil.rmtree(root)

    every_crash(attempt, recover)


# What is left over


def test_rows_of_a_writer_that_died_before_they_had_a_name(tmp_path):
    segments = write(tmp_path, 2)
    segment, other = new(0), new(1, "person1")
    output = Output.open(str(tmp_path), provenance())
    for one in (segment, other):
        rows, step = make_rows(one), 0
        while not run_until(step, lambda one=one, rows=rows: output.commit(one, rows)):
            step += 1
            if len(os.listdir(tmp_path / "_tmp")) > (one is other):
                break
    (tmp_path / "_tmp" / "torn").write_bytes((tmp_path / "_tmp" / os.listdir(tmp_path / "_tmp")[0]).read_bytes()[:500])
    assert files_naming(tmp_path / "_tmp")
    delete(str(tmp_path), **HER)
    assert files_naming(tmp_path) == []
    assert [names_them(path, "person1") for path in (tmp_path / "_tmp").iterdir()] == [True], "that of others stays"
    assert_gone(tmp_path, segments)


def test_a_writer_whose_bytes_are_swept_away_writes_them_again(tmp_path, monkeypatch):
    segments, link, swept = write(tmp_path, 2), os.link, []

    def sweep_first(source, target):
        if not swept:
            swept.append(os.unlink(source))
        link(source, target)

    monkeypatch.setattr(os, "link", sweep_first)
    output, segment = Output.open(str(tmp_path), provenance()), new(0, "person1")
    swept.clear()
    assert output.commit(segment, make_rows(segment))
    assert len(neuface_ray.open(tmp_path).clips(filter=[("segment_id", "==", segment.segment_id)])) == 1
    assert output.pending(segments) == []


def test_the_trash_is_purged(tmp_path):
    write(tmp_path, 4)
    publish(str(tmp_path), target_bytes=1)
    for path in (tmp_path / "frames").iterdir():
        data = bytearray(path.read_bytes())
        data[-100] ^= 1
        path.write_bytes(bytes(data))
    verify(str(tmp_path), discard_damaged=True)
    assert files_naming(tmp_path / "_trash" / os.listdir(tmp_path / "_trash")[0] / "clips")
    delete(str(tmp_path), **HER)
    assert files_naming(tmp_path) == []
    assert any(names_them(path, "person1") for path in (tmp_path / "_trash").rglob("clips/*"))


def test_what_is_removed_stays_removed_when_power_fails(tmp_path, monkeypatch):
    """Every folder is synced after the last removal in it."""
    write(tmp_path, 4)
    publish(str(tmp_path))
    extra = make_segment(8, "seq0", person="person0")
    Output.open(str(tmp_path), provenance()).commit(extra, make_rows(extra))
    (tmp_path / "run.json").write_text("person0")
    events, unlink, fsync = [], os.unlink, os.fsync

    def note_unlink(path):
        unlink(path)
        events.append(("unlink", os.path.dirname(path), path))

    def note_sync(descriptor):
        fsync(descriptor)
        events.append(("sync", os.readlink(f"/proc/self/fd/{descriptor}"), None))

    monkeypatch.setattr(os, "unlink", note_unlink)
    monkeypatch.setattr(os, "fsync", note_sync)
    delete(str(tmp_path), **HER)
    removed = [(i, folder) for i, (what, folder, _) in enumerate(events) if what == "unlink"]
    assert {os.path.basename(folder) for _, folder in removed} >= {"frames", "clips", "segments", "_tmp", tmp_path.name}
    for i, folder in removed:
        assert ("sync", folder, None) in events[i:], folder


# Repair and damage


def test_damaged_parts_that_are_discarded_do_not_bring_anybody_back(tmp_path):
    segments = write(tmp_path, 4)
    publish(str(tmp_path))
    delete(str(tmp_path), **HER)
    nameless = [make_segment(0, "seq0"), make_segment(2, "seq0")]
    assert [one.segment_id for one in nameless] == [segments[0].segment_id, segments[2].segment_id]
    for path in (tmp_path / "segments").iterdir():
        path.write_bytes(path.read_bytes()[:-200])
    assert verify(str(tmp_path), discard_damaged=True).sound
    output = Output.open(str(tmp_path), provenance())
    assert output.pending([*segments, *nameless]) == [segments[1], segments[3]]
    assert not output.commit(segments[0], make_rows(segments[0]))


@pytest.mark.parametrize("lost", ["flip", "all"])
def test_a_list_that_is_made_anew_brings_nobody_back(tmp_path, lost):
    """Also if the deletion had not yet been written into the files."""
    segments = write(tmp_path, 4)
    publish(str(tmp_path), target_bytes=1)
    delete(str(tmp_path), sequence_id="other")
    list_deletions(open_store(tmp_path), HER.items())
    newest = tmp_path / snapshot_name(read_snapshot(open_store(tmp_path)).number)
    newest.write_bytes(b"{}") if lost == "flip" else shutil.rmtree(tmp_path / "_snapshots")
    report = verify(str(tmp_path), repair=True)
    assert report.sound, report.problems
    assert files_naming(tmp_path) == []
    assert_gone(tmp_path, segments)


def copies(root: Path) -> list[Path]:
    return sorted((root / "_deleted").iterdir())


def test_the_list_survives_the_loss_of_a_copy_and_is_missed_when_both_are_lost(tmp_path):
    segments = write(tmp_path, 4)
    publish(str(tmp_path))
    delete(str(tmp_path), **HER)
    first, second, *_ = copies(tmp_path)
    whole = first.read_bytes()
    shutil.copytree(tmp_path, tmp_path.parent / "fresh")  # what this process has read it need not read again
    root = tmp_path.parent / "fresh"
    (root / first.relative_to(tmp_path)).write_bytes(b"rot")
    assert_gone(root, segments)
    assert {problem.code for problem in verify(str(root)).problems} == {"deletion_copy"}
    assert verify(str(root), repair=True).sound
    assert (root / first.relative_to(tmp_path)).read_bytes() == whole
    shutil.copytree(root, tmp_path.parent / "rotten")
    root = tmp_path.parent / "rotten"
    for path in (first, second):
        (root / path.relative_to(tmp_path)).write_bytes(b"rot")
    assert {problem.code for problem in verify(str(root), repair=True).problems} == {"deletion_lost"}
    with pytest.raises(OutputError, match="not known who was deleted"):
        neuface_ray.open(root)
    with pytest.raises(UsageError, match="not known who was deleted"):
        Output.open(str(root), provenance())
    shutil.rmtree(tmp_path / "_deleted")
    assert {problem.code for problem in verify(str(tmp_path)).problems} == {"deletion_lost"}
    with pytest.raises(UsageError, match="restore the folder _deleted"):
        Output.open(str(tmp_path), provenance())
    with pytest.raises(OutputError, match="restore _deleted"):
        publish(str(tmp_path))


def test_the_list_tells_no_names_and_is_another_in_each_dataset(tmp_path):
    hashes = []
    for name in ("a", "b"):
        Output.open(str(tmp_path / name), provenance())
        delete(str(tmp_path / name), **HER)
        first, second = copies(tmp_path / name)
        assert first.read_bytes() == second.read_bytes()
        assert "person0" not in first.read_text()
        hashes.append(set(json.loads(first.read_text())["hashes"]))
    assert hashes[0].isdisjoint(hashes[1])


# Under other names


def test_a_moved_input_is_known_by_person_and_by_sequence(tmp_path):
    segments = write(tmp_path, 4)
    delete(str(tmp_path), person="Zoe\u0308")
    delete(str(tmp_path), sequence_id="seq1")
    output = Output.open(str(tmp_path), provenance())
    moved = [make_segment(0, "elsewhere", person="Zo\u00eb"), make_segment(0, "seq1", views=1)]
    assert not {one.segment_id for one in moved} & {one.segment_id for one in segments}
    assert output.pending(moved) == []
    assert not output.commit(moved[0], make_rows(moved[0]))
    stranger = make_segment(0, "elsewhere", person="Zoe")
    assert output.pending([stranger]) == [stranger]


def test_a_video_is_known_by_its_bytes_unless_it_shows_others_too(tmp_path):
    output = Output.open(str(tmp_path), provenance())
    alone, shared, other = new(0), new(1, sequence="shared"), new(2, "person1", "shared")
    assert output.commit(alone, make_rows(alone, source_hash="aa" * 32))
    assert output.commit(shared, make_rows(shared, source_hash="bb" * 32))
    publish(output.store)
    assert output.commit(other, make_rows(other, source_hash="bb" * 32))
    delete(output.store, **HER)
    renamed, of_shared = new(5, None, "renamed"), new(6, "person1", "renamed")
    assert output.pending([renamed, of_shared]) == [renamed, of_shared]
    assert not output.commit(renamed, make_rows(renamed, source_hash="aa" * 32))
    assert output.commit(of_shared, make_rows(of_shared, source_hash="bb" * 32))
    for _ in range(2):
        assert output.pending([renamed]) == []
        assert output.outcomes()[renamed.segment_id] == "deleted"
        assert verify(output.path).sound
        assert len(neuface_ray.open(output.path).clips()) == 2
        publish(output.store)


# Versions


def test_versions_share_the_list(tmp_path):
    path, changed = str(tmp_path / "out"), {"seed": 1}
    segments = write(path, 4)
    publish(path)
    second = Output.open(path, provenance(**changed), on_change="new_version")
    assert second.path == f"{path}.v2"
    for segment in segments:
        second.commit(segment, make_rows(segment))
    assert delete(path, **HER)["segments"] == 4, "it reaches the later version"
    assert files_naming(tmp_path) == []
    assert second.pending(segments) == []
    third = Output.open(path, provenance(seed=2), on_change="new_version")
    assert third.path == f"{path}.v3"
    assert third.pending(segments) == [segments[1], segments[3]]
    delete(third.store, person="person1")
    for output in (Output.open(path, provenance()), second, third, Output.open(third.path, provenance(seed=2))):
        assert output.pending(segments) == []
        assert len(neuface_ray.open(output.path)) == 0


# Cost


def test_a_deletion_from_a_large_part_does_not_take_it_apart(tmp_path):
    """5,000 segments in one part. Segment by segment this took 12 s."""
    output = Output.open(str(tmp_path), provenance())
    writer, count = PartWriter(output.store, 1, 10**12), 5000
    segment = new(0)
    (rows,) = make_rows(segment)
    for name, table in (rows | segment_row(segment, "committed", rows, 1, "run")).items():
        many = table.take(pa.array(np.tile(np.arange(table.num_rows), count)))
        for column in {"segment_id", "sequence_id", "clip_id", "person"} & set(table.schema.names):
            values = pa.array(np.repeat([f"{column}{i:04d}" for i in range(count)], table.num_rows), pa.string())
            many = many.set_column(table.schema.get_field_index(column), table.schema.field(column), values)
        writer.add_rows(name, many)
    output.store.create(snapshot_name(1), Snapshot(1, tuple(writer.close())).encode())
    before, started = neuface_ray.open(tmp_path).frames(), time.process_time()
    assert delete(str(tmp_path), person="person0007")["frames"] == 12
    assert time.process_time() - started < 4
    kept = before.filter([one != "person0007" for one in before["person"].to_pylist()])
    assert neuface_ray.open(tmp_path).frames().equals(kept), "in the same order"
    assert verify(str(tmp_path)).sound


# Elsewhere than in a folder


@pytest.mark.parametrize("how", ["done", "marked"])
def test_in_a_store_in_memory(how):
    root = f"memory://{uuid.uuid4().hex}/out"
    segments = write(root, 4, quarantined=1)
    publish(root)
    if how == "done":
        assert delete(root, **HER) == {"frames": 24, "clips": 2, "vertices": 0, "quarantine": 1, "segments": 3}
        assert verify(root).sound
    else:
        list_deletions(open_store(root), HER.items())
        assert {problem.code for problem in verify(root).problems} == {"deletion_pending"}
    assert_gone(root, segments[:4])
    assert Output.open(root, provenance()).pending(segments) == []


def test_nothing_listed_costs_nothing(tmp_path):
    segments = write(tmp_path, 3)
    publish(str(tmp_path))
    purge_remains(open_store(tmp_path))
    assert not read_deletions(open_store(tmp_path))
    assert not (tmp_path / "_deleted").exists()
    assert_holds(neuface_ray.open(tmp_path), expected(segments))
