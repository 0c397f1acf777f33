"""The whole command on object storage: a manifest and videos read from S3, the dataset written there, with failing requests."""

from __future__ import annotations

import os
from pathlib import Path

import boto3
import pytest

import neuface_ray
from neuface_ray.dataset.schema import TIMING_COLUMNS
from neuface_ray.dataset.verify import verify
from tests.faults.disturbed import Command
from tests.s3_server import serve_s3

UNLIKE = (*TIMING_COLUMNS, "segment_id", "clip_id", "sequence_id", "source_uri", "source_uris", "person")
"""Columns that tell where the media lie, or differ between runs."""


@pytest.mark.long
@pytest.mark.slow
def test_from_s3_to_s3(videos: Path, undisturbed: Path, tmp_path: Path):
    with serve_s3("bucket") as server:
        bucket = boto3.client("s3")
        for path in videos.iterdir():
            bucket.upload_file(str(path), "bucket", f"media/{path.name}")
        rows = "".join(f"{path.name},person {path.stem}\n" for path in sorted(videos.iterdir()))
        bucket.put_object(Bucket="bucket", Key="media/list.csv", Body=f"uri,person\n{rows}missing.mp4,nobody\n".encode())
        server.rate = 0.03
        environment = {**os.environ, **server.environment}
        command = Command("s3://bucket/media/list.csv", "s3://bucket/out", tmp_path / "log", ("ray.num_cpus=1",), environment)
        code = command.run()
        server.rate = 0.0
        assert code == 3, command.log.read_text()
        assert server.faults > 0
        assert verify("s3://bucket/out").sound
        dataset = neuface_ray.open("s3://bucket/out")
        (lost,) = dataset.table("quarantine").to_pylist()
        assert (lost["source_uri"], lost["error"]) == ("s3://bucket/media/missing.mp4", "not_found")
        assert comparable(dataset) == comparable(neuface_ray.open(str(undisturbed)))
        assert set(dataset.table("clips")["person"].to_pylist()) == {"person 0", "person 1", "person 2"}


def comparable(dataset) -> list[str]:
    """What is in the frames, without the names of places."""
    frames = dataset.frames()
    kept = frames.drop_columns([name for name in UNLIKE if name in frames.column_names])
    return sorted(map(str, kept.to_pylist()))
