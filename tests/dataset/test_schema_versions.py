"""Datasets of the first version of the schema, written by the code of its time, are read, continued and verified."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from neuface_ray import open as open_dataset
from neuface_ray.dataset import Output, clip_rows, finalise, publish
from neuface_ray.dataset.consistency import check_tables
from neuface_ray.dataset.rows import segment_row
from neuface_ray.dataset.schema import SCHEMA_VERSION, schema, version_of
from neuface_ray.dataset.verify import verify
from neuface_ray.errors import UsageError
from tests.dataset.made import HEAD, comparable, make_clip, make_rows, make_segment, provenance, write

STORED = Path(__file__).parent / "version1"
"""Published: two committed segments and a quarantined one, of ``made.write(count=2, quarantined=1)``; staged: a fourth one."""
NEW_COLUMNS = {
    "frames": {"source_timestamp_s", "invalid_reason", "pitch_deg", "roll_deg"},
    "clips": {"faces_found", "faces_left_out", "start_offset_s"},
}


@pytest.fixture
def folder(tmp_path) -> str:
    shutil.copytree(STORED, tmp_path / "dataset")
    return str(tmp_path / "dataset")


def segment(number: int):
    return make_segment(number, f"seq{number % 2}", 2, f"person{number % 2}")


def records(number: int) -> list:
    options = {"accepted": number % 3 > 0} if number < 2 else {}
    return [make_clip(segment(number), track, **options) for track in range(1 + number % 2 if number < 2 else 1)]


def rows_of(numbers, made_by) -> dict:
    rows = [clip_rows(*record, made_by) for number in numbers for record in records(number)]
    return {name: of_any_program(name, pa.concat_tables([one[name] for one in rows])) for name in ("frames", "clips")}


def of_any_program(name: str, table: pa.Table) -> pa.Table:
    kept = [column for column in table.schema.names if column != "code_version"]
    return comparable(name, table.select(kept))


def assert_rows(dataset, wanted) -> None:
    for name, table in wanted.items():
        assert of_any_program(name, dataset.table(name)).equals(table), name


def test_the_first_version_is_the_second_without_what_was_added():
    for table in ("frames", "clips", "vertices", "quarantine", "segments"):
        first, second = schema(table, version=1), schema(table)
        added = NEW_COLUMNS.get(table, set())
        assert set(second.names) - set(first.names) == added
        assert [name for name in second.names if name not in added] == first.names
        assert (version_of(first), version_of(second)) == (1, 2 if added else 1)


def test_the_first_version_is_read(folder):
    dataset = open_dataset(folder)
    assert_rows(dataset, rows_of((0, 1, 3), provenance(schema_version=1)))
    assert dataset.quarantine()["error"].to_pylist() == ["ValueError"]
    assert not NEW_COLUMNS["frames"] & set(dataset.schema("frames").names)
    with pytest.raises(UsageError, match="no such column"):
        dataset.frames(["roll_deg"])
    assert verify(folder).sound


def test_rows_that_join_it_have_its_columns(folder):
    output = Output.open(folder, provenance("now"))
    assert output.provenance.schema_version == 1
    todo = [segment(number) for number in range(5)]
    assert output.pending(todo, retry_quarantined=True) == [todo[2], todo[4]]
    for number in (2, 4):
        assert output.commit(segment(number), [clip_rows(*record, output.provenance) for record in records(number)])
    assert_rows(open_dataset(folder), rows_of(range(5), output.provenance))
    assert finalise(folder)["schema_version"] == 1
    assert_rows(open_dataset(folder), rows_of(range(5), output.provenance))
    files = sorted((Path(folder) / "frames").iterdir())
    assert {tuple(pq.read_schema(file).names) for file in files} == {tuple(schema("frames", version=1).names)}
    assert "schema | version 1" in (Path(folder) / "README.md").read_text()
    report = verify(folder)
    assert report.sound, report.problems
    assert Output.open(folder, provenance("again")).pending(todo) == []


def test_rows_of_another_version_do_not_join(folder, tmp_path):
    output = Output.open(folder, provenance("now"))
    with pytest.raises(UsageError, match="schema version 1"):
        output.commit(segment(4), make_rows(segment(4)))
    assert open_dataset(folder).totals()["segments"] == {"committed": 3, "quarantined": 1}
    write(tmp_path / "new", 1)
    new = Output.open(str(tmp_path / "new"), provenance("now"))
    with pytest.raises(UsageError, match="schema version 2"):
        new.commit(segment(4), [clip_rows(*records(4)[0], provenance(schema_version=1))])


def test_new_datasets_are_of_the_second_version(tmp_path):
    write(tmp_path, 2)
    publish(str(tmp_path))
    assert json.loads((tmp_path / "dataset.json").read_text())["schema_version"] == SCHEMA_VERSION == 2
    dataset = open_dataset(str(tmp_path))
    assert set(dataset.schema("frames").names) >= NEW_COLUMNS["frames"]
    assert version_of(dataset.schema("frames")) == 2
    assert verify(str(tmp_path)).sound


def test_an_unknown_version_is_refused_and_reported(folder):
    path = Path(folder) / "dataset.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema_version": 3}))
    with pytest.raises(UsageError, match="schema_version: 3 there, 2 now"):
        Output.open(folder, provenance())
    assert [problem.code for problem in verify(folder).problems] == ["schema"]


def test_tables_without_rows_have_the_columns_of_their_dataset(folder, tmp_path):
    shutil.copy(STORED / "dataset.json", tmp_path / "dataset.json")
    nothing = open_dataset(str(tmp_path))
    assert nothing.frames().schema.names == schema("frames", version=1).names
    assert nothing.head_model == HEAD


def test_verify_tells_tables_of_differing_versions(folder):
    """A part whose frames have the columns of one version and whose clips those of another."""
    one, made_by = segment(0), provenance()
    first, second = (clip_rows(*records(0)[0], provenance(schema_version=version)) for version in (1, 2))
    for rows in (first, second):
        assert list(check_tables(rows | segment_row(one, "committed", rows, 1, made_by.run_id), HEAD)) == []
    mixed = {"frames": first["frames"], "clips": second["clips"]}
    (problem,) = check_tables(mixed | segment_row(one, "committed", mixed, 1, made_by.run_id), HEAD)
    assert problem[0] == "schema"
    assert "frames" in problem[1]
