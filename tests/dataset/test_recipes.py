"""The SQL and Polars recipes of the README, run as they stand."""

import re
from pathlib import Path

import duckdb
import polars as pl
import pytest

from neuface_ray.dataset import Output, finalise
from tests.dataset.made import provenance, write

SQL = {
    "how much is there, and how good is it": """
        SELECT status, count(*) AS clips, sum(n_frames * n_views) AS frames, round(median(nme), 2) AS median_nme
        FROM 'clips/*.parquet' GROUP BY status ORDER BY status
    """,
    "frontal, sharp, accepted frames with a small error": """
        SELECT clip_id, view, frame_index, timestamp_s, nme, yaw_deg FROM 'frames/*.parquet'
        WHERE accepted AND valid AND nme < 3 AND abs(yaw_deg) < 15 ORDER BY nme
    """,
    "why clips were rejected": """
        SELECT reason, count(*) AS clips
        FROM (SELECT unnest(reasons) AS reason FROM 'clips/*.parquet' WHERE status = 'rejected')
        GROUP BY reason ORDER BY clips DESC
    """,
    "what failed, where and how often": """
        SELECT stage, error, count(*) AS segments, max(attempts) AS attempts, any_value(source_uri) AS example
        FROM 'quarantine/*.parquet' GROUP BY stage, error ORDER BY segments DESC
    """,
    "one coefficient over time": """
        SELECT frame_index, timestamp_s, expression[1] AS first_expression, pose[7] AS jaw_x
        FROM 'frames/*.parquet' WHERE view = 'view0' AND valid ORDER BY clip_id, frame_index
    """,
    "landmarks in source pixels": """
        SELECT clip_id, view, frame_index, i AS point,
               crop_to_image[1] * landmarks[2*i-1] + crop_to_image[2] * landmarks[2*i] + crop_to_image[3] AS x_px,
               crop_to_image[4] * landmarks[2*i-1] + crop_to_image[5] * landmarks[2*i] + crop_to_image[6] AS y_px
        FROM (SELECT *, unnest(range(1, len(landmark_confidence) + 1)) AS i FROM 'frames/*.parquet' WHERE valid)
    """,
    "where the time goes": """
        SELECT annotator, round(sum(seconds_total) / sum(n_frames * n_views), 4) AS seconds_per_frame,
               sum(CAST(seconds->>'fit' AS DOUBLE)) AS fit_seconds
        FROM 'clips/*.parquet' GROUP BY annotator
    """,
    "frames per person, with their clips' metrics": """
        SELECT f.person, count(*) AS frames, round(avg(f.nme), 2) AS nme, round(avg(c.msi3d_vertices), 3) AS stability
        FROM 'frames/*.parquet' f JOIN 'clips/*.parquet' c USING (clip_id)
        WHERE f.accepted GROUP BY f.person ORDER BY frames DESC
    """,
}

POLARS = """
frames = pl.scan_parquet("frames/*.parquet")
best = (
    frames.filter(pl.col("accepted") & pl.col("valid"))
    .sort("nme")
    .select("clip_id", "frame_index", "nme", jaw=pl.col("pose").arr.get(6))
    .head(5)
    .collect()
)
per_view = frames.group_by("view").agg(pl.len(), pl.col("nme").median()).sort("view").collect()
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    path = tmp_path_factory.mktemp("recipes")
    write(path, 6, quarantined=2)
    finalise(Output.open(str(path), provenance()).store)
    return path


@pytest.mark.parametrize("title", SQL)
def test_sql(root, title, monkeypatch):
    monkeypatch.chdir(root)
    rows = duckdb.sql(SQL[title]).fetchall()
    assert rows
    if title.startswith("how much"):
        assert [(status, clips, frames) for status, clips, frames, _ in rows] == [("accepted", 6, 72), ("rejected", 3, 36)]
    if title.startswith("what failed"):
        assert rows == [("fit", "ValueError", 2, 1, "s3://bucket/seq0/v0.mp4")]
    if title.startswith("why"):
        assert rows == [("nme_above_limit", 3)]


def test_landmarks_in_pixels_are_those_of_the_crop_transform(root, monkeypatch):
    monkeypatch.chdir(root)
    row = duckdb.sql(SQL["landmarks in source pixels"] + " LIMIT 1").fetchall()[0]
    frame = pl.read_parquet("frames/*.parquet").filter(
        (pl.col("clip_id") == row[0]) & (pl.col("view") == row[1]) & (pl.col("frame_index") == row[2])
    )
    matrix, points = frame["crop_to_image"].to_numpy().reshape(3, 3), frame["landmarks"].to_numpy().reshape(-1, 2)
    point = matrix @ [*points[row[3] - 1].astype(float), 1]
    assert row[4:] == pytest.approx(tuple(point[:2]))


def test_polars(root, monkeypatch):
    monkeypatch.chdir(root)
    names = {"pl": pl}
    exec(POLARS, names)
    assert names["best"].shape == (5, 4)
    assert names["per_view"]["len"].sum() == 108


def test_the_readme_shows_recipes_that_run(root, monkeypatch):
    """Every ```sql block of the README runs on a dataset."""
    blocks = re.findall(r"```sql\n(.*?)```", (Path(__file__).parents[2] / "README.md").read_text(), re.DOTALL)
    assert blocks
    monkeypatch.chdir(root)
    for block in blocks:
        here = re.sub(r"'[^']*?((frames|clips|vertices|quarantine|segments)/\*\.parquet)'", r"'\1'", block)
        for statement in filter(str.strip, here.split(";")):
            duckdb.sql(statement).fetchall()
