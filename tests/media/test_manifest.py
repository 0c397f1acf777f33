import csv
import json
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neuface_ray.errors import UsageError
from neuface_ray.media import Limits, MediaConfig, manifest
from neuface_ray.media.manifest import read_manifest

K = [500.0, 0, 320, 0, 500, 240, 0, 0, 1]
T = [*np.eye(4).ravel()]


def write(path: Path, rows: list[dict]) -> Path:
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def fails(path: Path, match: str, **options: object) -> None:
    with pytest.raises(UsageError, match=match) as error:
        read_manifest(str(path), MediaConfig(**options))
    assert path.name in str(error.value)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_the_three_formats_agree(tmp_path: Path, suffix: str) -> None:
    camera = {"intrinsics": K, "world_to_camera": T}
    rows = [
        {
            "uri": "a b.mp4",
            "sequence": "s,1",
            "view": "left",
            "start": 1.5,
            "end": 3,
            "person": "Ann",
            "licence": "CC0",
            **camera,
        },
        {
            "uri": "sub/c.mp4",
            "sequence": "s,1",
            "view": "right",
            "start": 1.5,
            "end": 3,
            "person": "Ann",
            "licence": "CC0",
            **camera,
        },
    ]
    if suffix == ".csv":
        rows = [{**row, "intrinsics": json.dumps(K), "world_to_camera": " ".join(map(str, T))} for row in rows]
    first, second = read_manifest(str(write(tmp_path / f"m{suffix}", rows)), MediaConfig())
    assert first.uri == str(tmp_path / "a b.mp4")
    assert second.uri == str(tmp_path / "sub/c.mp4")
    assert (first.sequence, first.view, first.start, first.end) == ("s,1", "left", 1.5, 3.0)
    assert (first.person, first.licence) == ("Ann", "CC0")
    assert first.camera is not None
    np.testing.assert_array_equal(first.camera.intrinsics, np.reshape(K, (3, 3)))
    np.testing.assert_array_equal(first.camera.world_to_camera, np.eye(4))


def test_messages_name_the_row_and_the_remedy(tmp_path: Path) -> None:
    def row(**values: object) -> Path:
        return write(tmp_path / "m.jsonl", [{"uri": "ok.mp4"}, {"uri": "a.mp4", **values}])

    fails(write(tmp_path / "m.csv", [{"path": "x.mp4"}]), "column uri is missing; there are: 'path'")
    fails(write(tmp_path / "m.csv", [{"uri": "x.mp4", "persn": "A"}]), "'persn'; did you mean 'person'")
    fails(row(start="soon"), "row 2: start='soon'")
    fails(row(start=-1), "row 2: start=-1")
    fails(row(end=float("nan")), "row 2: end=nan")
    fails(row(start=3, end=2), "row 2: end=2 is not after start=3")
    fails(row(uri=""), "row 2: uri is empty")
    fails(row(uri=["a"]), "row 2: uri is not text")
    fails(row(uri="a\0b"), "row 2: uri holds a NUL")
    fails(row(intrinsics=K), "come together")
    fails(row(intrinsics=K[:8], world_to_camera=T), "intrinsics needs 9 numbers")
    fails(row(intrinsics=K, world_to_camera=[2.0, *T[1:]]), "not a rigid transform")
    (tmp_path / "m.csv").write_text("uri,view\na.mp4\n")
    fails(tmp_path / "m.csv", "line 2: has not as many fields")
    (tmp_path / "m.csv").write_text("uri\n")
    fails(tmp_path / "m.csv", "holds no rows")
    (tmp_path / "m.jsonl").write_text("[1]\n")
    fails(tmp_path / "m.jsonl", "line 1: is not a JSON object")
    (tmp_path / "m.jsonl").write_text("[" * 100_000)
    fails(tmp_path / "m.jsonl", "cannot be read as jsonl")
    (tmp_path / "m.csv").write_bytes(b"uri\n\xff\xfe.mp4\n")
    fails(tmp_path / "m.csv", "cannot be read as csv")
    (tmp_path / "m.parquet").write_bytes(b"PAR1 no")
    fails(tmp_path / "m.parquet", "cannot be read as parquet")
    fails(tmp_path / "absent.csv", "does not exist")
    fails(write(tmp_path / "m.csv", [{"uri": "a.mp4"}] * 5), "max_files=4", limits=Limits(max_files=4))


def test_unknown_columns_are_ignored(tmp_path: Path) -> None:
    (entry,) = read_manifest(str(write(tmp_path / "m.csv", [{"uri": "x.mp4", "emotion": "happy"}])), MediaConfig())
    assert entry.uri.endswith("x.mp4")


def test_a_manifest_cannot_leave_its_root(tmp_path: Path) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "x.mp4").touch()
    (root / "link").symlink_to(outside)
    escapes = ["../outside/x.mp4", str(outside / "x.mp4"), f"file://{outside}/x.mp4", "link/x.mp4", "a/../../outside/x.mp4"]
    escapes += ["http://169.254.169.254/latest/meta-data", "s3://other/x.mp4", "https://u:SECRET@h/x.mp4?token=SECRET"]
    for uri in escapes:
        path = write(root / "m.jsonl", [{"uri": uri}])
        with pytest.raises(UsageError, match="allow_outside_root=true") as error:
            read_manifest(str(path), MediaConfig())
        assert "SECRET" not in str(error.value)
        assert len(read_manifest(str(path), MediaConfig(allow_outside_root=True))) == 1
    path = write(tmp_path / "m.jsonl", [{"uri": "x.mp4"}])
    (entry,) = read_manifest(str(path), MediaConfig(manifest_root=str(outside)))
    assert entry.uri == str(outside / "x.mp4")


def test_a_remote_manifest_and_its_root() -> None:
    fsspec.filesystem("memory").pipe("/data/m.csv", b"uri\nclips/a.mp4\n")
    (entry,) = read_manifest("memory://data/m.csv", MediaConfig())
    assert entry.uri == "memory://data/clips/a.mp4"
    for escape in (b"/etc/passwd", b"file:///etc/passwd", b"../x.mp4", b"memory://other/x.mp4"):
        fsspec.filesystem("memory").pipe("/data/m.csv", b"uri\n" + escape + b"\n")
        try:
            (entry,) = read_manifest("memory://data/m.csv", MediaConfig())
        except UsageError:
            continue
        assert entry.uri.startswith("memory://data/")


csv_like = st.text(max_size=200).map(lambda text: ("uri,start\n" + text).encode("utf-8", "replace"))


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.one_of(st.binary(max_size=200), csv_like))
@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_any_bytes_are_read_or_refused(tmp_path: Path, suffix: str, content: bytes) -> None:
    path = tmp_path / f"any{suffix}"
    path.write_bytes(content)
    try:
        entries = read_manifest(str(path), MediaConfig())
    except UsageError:
        return
    assert all(entry.uri.startswith(str(tmp_path.resolve())) for entry in entries)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    row=st.fixed_dictionaries(
        {"uri": st.text(max_size=30)},
        optional={
            key: st.one_of(st.none(), st.text(max_size=10), st.floats(), st.integers(), st.lists(st.floats(), max_size=16))
            for key in ("sequence", "view", "start", "end", "person", "intrinsics", "world_to_camera")
        },
    )
)
def test_any_row_is_read_or_refused(tmp_path: Path, row: dict) -> None:
    path = tmp_path / "row.jsonl"
    path.write_text(json.dumps(row) + "\n")
    try:
        (entry,) = read_manifest(str(path), MediaConfig())
    except UsageError:
        return
    assert entry.start is None or entry.start >= 0
    assert entry.end is None or entry.end > (entry.start or 0)


def test_manifests_expand_no_further_than_is_useful(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files that hold much: one long text for many rows, many texts, a list without an end, a line without an end."""

    def parquet(name: str, **columns: object) -> Path:
        pq.write_table(pa.table(columns), tmp_path / name, compression="zstd")
        assert (tmp_path / name).stat().st_size < 10**5
        return tmp_path / name

    fails(parquet("long.parquet", uri=["x" * 5_000_000] * 50), "a value of uri has more than 32768 characters")
    fails(parquet("list.parquet", uri=["a.mp4"], intrinsics=[[0.0] * 10**6]), "intrinsics hold more than 16 numbers")
    monkeypatch.setattr(manifest, "MOST_EXPANDED_BYTES", 10**6)
    fails(parquet("many.parquet", uri=["x" * 1000] * 2000), "text expands to more than 1000000 bytes")
    (tmp_path / "line.jsonl").write_text('{"uri": "a.mp4", "note": "' + "x" * 2_000_000 + '"}\n')
    fails(tmp_path / "line.jsonl", "line 1: more than 1048576 characters")
    (tmp_path / "long.csv").write_text("uri\n" + "x" * 40_000 + "\n")
    fails(tmp_path / "long.csv", "uri has more than 32768 characters")
