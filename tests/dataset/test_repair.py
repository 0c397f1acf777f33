"""Repair never destroys: no byte is unlinked, and no segment that a file still holds gets lost."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import neuface_ray
from neuface_ray.dataset import Output, OutputError, publish
from neuface_ray.dataset.snapshot import PublicFile, read_snapshot, snapshot_name
from neuface_ray.dataset.storage import PosixStore, open_store
from neuface_ray.dataset.verify import verify
from tests.dataset.dying import every_crash
from tests.dataset.made import assert_holds, expected, make_rows, make_segment, provenance, write


class Died(BaseException):
    """The publisher's death, in this process."""


def contents(root: Path) -> set[str]:
    """Hashes of all files' bytes; moving a file changes nothing, unlinking it does."""
    return {hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file()}


def flip(path: Path, position: int = -100) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(bytes(data))


def grow(root: Path, numbers: range) -> list:
    output = Output.open(str(root), provenance())
    segments = [make_segment(i, f"seq{i % 2}", person=f"person{i % 2}") for i in numbers]
    for i, segment in zip(numbers, segments, strict=True):
        output.commit(segment, make_rows(segment, 1 + i % 2, accepted=i % 3 > 0))
    return segments


def two_publishers(root: Path, monkeypatch) -> list:
    """Nine publishes; then B has read what there is and stalls, A publishes more under the same number, B writes and dies."""
    segments = []
    for i in range(9):
        segments += grow(root, range(i, i + 1))
        publish(str(root), target_bytes=1 if i % 3 else 10**6)
    segments += grow(root, range(9, 11))
    create = PosixStore.create

    def stall(store, name, data):
        monkeypatch.setattr(PosixStore, "create", create)
        segments.extend(grow(root, range(11, 12)))
        publish(str(root))
        monkeypatch.setattr(PosixStore, "create", die)
        return create(store, name, data)

    def die(store, name, data):
        if name.startswith("_snapshots/"):
            raise Died
        return create(store, name, data)

    monkeypatch.setattr(PosixStore, "create", stall)
    with pytest.raises(Died):
        publish(str(root))
    monkeypatch.setattr(PosixStore, "create", create)
    return segments


@pytest.mark.parametrize("how", ["flip", "unlink"])
def test_leftovers_of_a_publisher_and_a_damaged_snapshot(tmp_path, monkeypatch, how):
    segments = two_publishers(tmp_path, monkeypatch)
    newest = tmp_path / snapshot_name(read_snapshot(open_store(tmp_path)).number)
    flip(newest) if how == "flip" else newest.unlink()
    before = contents(tmp_path)
    report = verify(str(tmp_path), repair=True)
    assert report.sound, report.problems
    assert_holds(neuface_ray.open(tmp_path), expected(segments))
    assert before <= contents(tmp_path)
    assert pq.read_table(tmp_path / "clips").num_rows == expected(segments)["clips"].num_rows, "a plain glob sees each row once"


def in_old_layout(root: Path) -> None:
    """Names as they were: without the publisher, so that two publishers' files share the name of a part."""
    store, number = open_store(root), read_snapshot(open_store(root)).number
    shorter = lambda name: "-".join(name.split("-")[:2] + name.split("-")[3:])  # noqa: E731
    for folder in ("frames", "clips", "vertices", "quarantine", "segments"):
        for path in (root / folder).glob("*.parquet") if (root / folder).exists() else ():
            path.rename(path.with_name(shorter(path.name)))
    for name in store.names("_snapshots"):
        content = json.loads(store.read(name))["snapshot"]
        for part in content["parts"]:
            part["name"] = "-".join(part["name"].split("-")[::2])
            part["files"] = {t: vars(PublicFile(**f | {"path": shorter(f["path"])})) for t, f in part["files"].items()}
        digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        store.replace(name, json.dumps({"sha256": digest, "snapshot": content}).encode())
    assert read_snapshot(store).number == number


@pytest.mark.parametrize("how", ["flip", "all"])
def test_the_same_in_the_old_layout(tmp_path, monkeypatch, how):
    segments = two_publishers(tmp_path, monkeypatch)
    in_old_layout(tmp_path)
    assert_holds(neuface_ray.open(tmp_path), expected(segments))
    names = sorted((tmp_path / "_snapshots").iterdir())
    for path in names if how == "all" else names[-1:]:
        flip(path)
    before = contents(tmp_path)
    report = verify(str(tmp_path), repair=True)
    assert report.sound, report.problems
    assert_holds(neuface_ray.open(tmp_path), expected(segments))
    assert before <= contents(tmp_path)


def test_an_old_dataset_is_continued(tmp_path):
    segments = write(tmp_path, 3)
    publish(str(tmp_path))
    in_old_layout(tmp_path)
    assert verify(str(tmp_path)).sound
    segments += grow(tmp_path, range(3, 5))
    publish(str(tmp_path))
    assert_holds(neuface_ray.open(tmp_path), expected(segments))
    assert verify(str(tmp_path)).sound
    assert len(list((tmp_path / "frames").iterdir())) == 1


def test_repair_unlinks_nothing(tmp_path):
    """Every repairable fault at once."""
    write(tmp_path, 4, quarantined=1)
    grow(tmp_path, range(10, 13))
    commit, late, *_ = sorted((tmp_path / "_staged").rglob("*.committed"))
    content = late.read_bytes()
    aside = commit.rename(tmp_path / "aside")
    number = publish(str(tmp_path), target_bytes=1).number
    late.parent.mkdir(exist_ok=True)
    late.write_bytes(content)
    flip(aside)
    aside.rename(commit)
    shutil.copy(next((tmp_path / "frames").iterdir()), tmp_path / "frames" / "copy.parquet")
    (tmp_path / "frames" / f"frames-{number:08d}-0009-{'0' * 16}.parquet").write_bytes(b"dead")
    (tmp_path / "frames" / f"frames-{number + 1:08d}-0000-{'0' * 16}.parquet").write_bytes(b"begun")
    (tmp_path / "_tmp" / "left").write_bytes(b"left over")
    os.utime(tmp_path / "_tmp" / "left", (0, 0))
    before = contents(tmp_path)
    assert not verify(str(tmp_path)).sound
    report = verify(str(tmp_path), repair=True)
    assert report.sound, report.problems
    assert before <= contents(tmp_path)
    (folder,) = (tmp_path / "_trash").iterdir()
    assert (folder / commit.relative_to(tmp_path)).exists(), "under its old name, so that it can be put back"


def test_discarding_damaged_parts_unlinks_nothing(tmp_path):
    write(tmp_path, 4)
    publish(str(tmp_path), target_bytes=1)
    flip(next((tmp_path / "frames").iterdir()))
    before = contents(tmp_path)
    assert verify(str(tmp_path), discard_damaged=True).sound
    assert before <= contents(tmp_path)


def test_repair_refuses_to_lose_segments_that_can_be_read(tmp_path):
    """With all lists lost, a file of one part is harmed; another file holds rows of a segment of it that can still be read."""
    write(tmp_path, 4)
    (part,) = publish(str(tmp_path)).parts
    shutil.rmtree(tmp_path / "_snapshots")
    frames = tmp_path / part.files["frames"].path
    table = pq.read_table(frames)
    some = table.filter(table["segment_id"].to_numpy() == table["segment_id"][0].as_py())
    frames.unlink()
    pq.write_table(some, frames)
    frames.rename(frames.with_name(f"{frames.name[:-24]}{hashlib.sha256(frames.read_bytes()).hexdigest()[:16]}.parquet"))
    before = contents(tmp_path)
    with pytest.raises(OutputError, match="1 segments that can be read"):
        verify(str(tmp_path), repair=True)
    assert contents(tmp_path) == before
    assert verify(str(tmp_path), repair=True, discard_damaged=True).sound
    assert before <= contents(tmp_path)


def test_an_incomplete_part_stays_listed_for_the_user_to_restore(tmp_path):
    segments = write(tmp_path, 4)
    snapshot = publish(str(tmp_path), target_bytes=1)
    store, lost = open_store(tmp_path), tmp_path / snapshot.parts[0].files["frames"].path
    grow(tmp_path, range(4, 5))
    publish(str(tmp_path), target_bytes=1)
    flip(tmp_path / store.names("_snapshots")[-1])
    aside = lost.rename(tmp_path / "aside")
    assert {problem.code for problem in verify(str(tmp_path), repair=True).problems} == {"missing_file"}
    aside.rename(lost)
    assert verify(str(tmp_path)).sound
    assert_holds(neuface_ray.open(tmp_path), expected([*segments, make_segment(4, "seq0", person="person0")]))


def test_a_repair_killed_at_any_change_loses_nothing_and_can_be_repeated(tmp_path, monkeypatch):
    start = tmp_path / "start"
    segments = two_publishers(start, monkeypatch)
    flip(start / snapshot_name(read_snapshot(open_store(start)).number))
    before, wanted = contents(start), expected(segments)

    def attempt(step):
        shutil.copytree(start, tmp_path / str(step))
        return lambda: verify(str(tmp_path / str(step)), repair=True)

    def recover(step):
        root = tmp_path / str(step)
        assert before <= contents(root)
        report = verify(str(root), repair=True)
        assert report.sound, report.problems
        assert_holds(neuface_ray.open(root), wanted)
        shutil.rmtree(root)

    assert every_crash(attempt, recover) > 10
