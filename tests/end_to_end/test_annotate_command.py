"""The command from the outside: exit codes, messages, bad inputs beside good ones, killing it and starting again."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import skimage.data
from PIL import Image

import neuface_ray
from jobs.annotate import main
from neuface_ray.dataset.schema import TIMING_COLUMNS
from tests.conftest import FAST_FIT, write_video

ROOT = Path(__file__).parents[2]


def annotate(source, output, *more: str) -> int:
    return main([f"input={source}", f"output={output}", *FAST_FIT, *more])


def rows_of(dataset: Path, table: str) -> list[dict]:
    content = neuface_ray.open(str(dataset)).table(table)
    content = content.drop_columns([name for name in TIMING_COLUMNS if name in content.column_names])
    return sorted(content.to_pylist(), key=str)


def last_line(capsys) -> str:
    return capsys.readouterr().out.strip().splitlines()[-1]


def test_bad_inputs_are_explained_and_good_ones_beside_them_kept(ray_cluster, tiny_video, tmp_path, capsys):
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    shutil.copy(tiny_video, folder / "good.mp4")
    (folder / "text.mp4").write_text("not a video\n" * 100)
    (folder / "torn.mp4").write_bytes(tiny_video.read_bytes()[:2000])
    (folder / "empty.mp4").touch()
    Image.fromarray(skimage.data.coffee()).save(folder / "nobody.png")

    assert annotate(folder, output, "ray.cpus_per_actor=2") == 3  # unequal resources: the two stages are not fused
    shown = capsys.readouterr().out
    assert shown.strip().splitlines()[-1].startswith("exit 3: 3 of 5 segments are in quarantine")
    for name in ("text.mp4", "torn.mp4", "empty.mp4"):
        assert f"{name}: " in shown
    clips = {Path(row["source_uris"][0]).name: row for row in rows_of(output, "clips")}
    assert (clips["good.mp4"]["status"], clips["good.mp4"]["n_frames"]) == ("accepted", 12)
    assert (clips["nobody.png"]["status"], clips["nobody.png"]["reasons"]) == ("rejected", ["no_face"])
    assert {Path(row["source_uri"]).name for row in rows_of(output, "quarantine")} == {"text.mp4", "torn.mp4", "empty.mp4"}
    report = json.loads((output / "run.json").read_text())
    assert (report["exit_code"], report["planned"], len(report["quarantined"])) == (3, 5, 3)

    before = rows_of(output, "frames")
    assert annotate(folder, output) == 3, "what was given up stays given up"
    assert "0 of 0 done, 5 done before" in capsys.readouterr().out
    assert annotate(folder, output, "retry=quarantined") == 3
    assert "3 of 3 done, 2 done before" in capsys.readouterr().out
    assert neuface_ray.open(str(output)).table("quarantine")["attempts"].to_pylist() == [2, 2, 2]
    assert rows_of(output, "frames") == before

    shutil.copy(tiny_video, folder / "torn.mp4")
    assert annotate(folder, output) == 3
    assert "1 of 1 done, 4 done before" in capsys.readouterr().out
    assert len(rows_of(output, "frames")) == len(before) + 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["input={folder}/nowhere.mp4"], "nowhere.mp4"),
        (["input={folder}"], "no "),
        (["input={folder}/list.csv"], "uri"),
        (["input={video}", "media.max_face=1"], "did you mean 'media.max_faces'"),
        (["input={video}", "media.max_faces=many"], "media.max_faces must be int"),
        (["input={video}", "media.max_faces=0"], "media.max_faces=0 must be positive"),
        (["input={video}", "annotator.name=direct_fiting"], "direct_fitting"),
        (["input={video}", "head=/nowhere/flame.pkl"], "/nowhere/flame.pkl"),
        (["--config", "{folder}/nothing.yaml", "input={video}"], "no such configuration file"),
        ([], "not set: input"),
    ],
)
def test_wrong_usage_is_explained_before_anything_is_started(arguments, message, tiny_video, tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    if "list.csv" in str(arguments):
        (folder / "list.csv").write_text("file,person\na.mp4,b\n")
    arguments = [text.format(folder=folder, video=tiny_video) for text in arguments]
    assert main([*arguments, f"output={tmp_path / 'out'}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert "Traceback" not in error


def test_a_changed_configuration_is_refused_with_the_difference(ray_cluster, tiny_dataset, tiny_video, capsys):
    assert annotate(tiny_video, tiny_dataset, "gate.max_nme=29") == 2
    assert "max_nme: 30.0 there, 29.0 now" in capsys.readouterr().err


def test_ray_and_a_notebook_make_the_same_rows(ray_cluster, tiny_dataset, tiny_video, tmp_path, capsys):
    assert annotate(tiny_video, tmp_path / "out") == 0
    assert last_line(capsys) == "exit 0: all 1 segments are in the dataset"
    for table in ("frames", "clips"):
        assert rows_of(tmp_path / "out", table) == rows_of(tiny_dataset, table) != []


def test_a_spent_error_budget_stops_the_run(ray_cluster, tmp_path, capsys):
    for name in "abc":
        (tmp_path / f"{name}.mp4").write_text("no video")
    assert annotate(tmp_path, tmp_path / "out", "max_failed_fraction=0.1") == 1
    assert "max_failed_fraction" in last_line(capsys)


def test_a_segment_that_exceeds_the_time_limit_is_given_up(ray_cluster, tiny_video, tmp_path, capsys):
    assert annotate(tiny_video, tmp_path / "out", "clip_timeout_s=0.05") == 3
    (row,) = rows_of(tmp_path / "out", "quarantine")
    assert row["error"] == "time_limit"
    assert "most recent call first" in row["message"]


@pytest.fixture(scope="module")
def videos(portrait, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("videos")
    for number in range(4):
        write_video(folder / f"{number}.mp4", [np.roll(portrait, (number + 1) * step, axis=1) for step in range(4)])
    return folder


@pytest.fixture(scope="module")
def undisturbed(ray_cluster, videos, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed")
    assert annotate(videos, output) == 0
    assert len(rows_of(output, "frames")) == 16
    return output


@pytest.mark.slow
@pytest.mark.parametrize(("blow", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_a_run_that_is_ended_and_started_again_makes_the_same_rows(blow, code, videos, undisturbed, tmp_path, capsys):
    output, log = tmp_path / "out", tmp_path / "log"
    command = [sys.executable, "jobs/annotate.py", f"input={videos}", f"output={output}", *FAST_FIT, "ray.num_cpus=1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with log.open("w") as stream:
        process = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=stream, env=environment, start_new_session=True)
        deadline = time.monotonic() + 240
        while not list(output.glob("_staged/*/*.committed")) and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.02)
        if blow == signal.SIGINT:
            os.killpg(process.pid, blow)  # as a terminal does
        else:
            process.send_signal(blow)
        assert process.wait(60) == code, log.read_text()
    if blow == signal.SIGINT:
        assert log.read_text().strip().splitlines()[-1].startswith("exit 130: interrupted")
        assert json.loads((output / "run.json").read_text())["exit_code"] == 130
    kept = len(neuface_ray.open(str(output)).table("clips"))
    assert 1 <= kept < 4

    assert annotate(videos, output) == 0
    assert f"{kept} done before" in capsys.readouterr().out
    for table in ("frames", "clips", "quarantine"):
        assert rows_of(output, table) == rows_of(undisturbed, table)
