"""Training runs as a user starts them; the faults are real: processes are killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from neuface_ray.config import load
from neuface_ray.errors import UsageError
from neuface_ray.methods.glvd.settings import GlvdTrainingSettings
from neuface_ray.networks.hourglass import HeatmapNet
from neuface_ray.networks.weight_file import load_network
from neuface_ray.training.config import TrainConfig
from neuface_ray.training.loop import learning_rate
from neuface_ray.training.run import for_workers, run, why
from neuface_ray.training.run_log import read_log

ROOT = Path(__file__).parents[2]
TINY = ("recipe=heatmap", "heatmap.crop_size=64", "heatmap.width=16", "batch=4", "shuffle=16", "warmup_steps=1", "log_steps=5")


def test_learning_rate_rises_stays_and_falls():
    config = TrainConfig("lvd", "out", steps=100, warmup_steps=10, constant=0.5, learning_rate=2.0)
    rates = [learning_rate(step, config) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9:50] == pytest.approx([2.0] * 41)
    assert rates[75] == pytest.approx(1.0)
    assert rates[99] == pytest.approx(0.04)


def test_settings_that_make_no_sense_are_refused(tmp_path, single_views, head):
    with pytest.raises(UsageError, match="multiple of checkpoint_steps"):
        TrainConfig("lvd", "out", checkpoint_steps=7, validate_steps=10)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty and holds no training"):
        run(load(TrainConfig, None, [*TINY, f"data=[{single_views}]", f"output={tmp_path / 'full'}"]))


def test_a_training_is_continued_with_the_settings_that_it_was_made_with(tmp_path):
    """``finished`` has the settings file that the first released version writes; its summary's figures are invented."""
    shutil.copytree(Path(__file__).parent / "finished", tmp_path / "out")
    settings = ["recipe=heatmap", "data=[faces]", f"output={tmp_path / 'out'}", "steps=40"]
    config = load(TrainConfig, None, settings)
    assert run(config).config_hash == config.hash
    assert run(load(TrainConfig, None, [*settings, "glvd.keypoint_weight=8", "lvd.canonical=false", "log_steps=1"])).steps == 40
    with pytest.raises(UsageError, match=r"differs in heatmap\.width, steps\)"):
        run(load(TrainConfig, None, [*settings, "heatmap.width=8", "steps=41"]))

    stored = json.loads((tmp_path / "out" / "config.json").read_text())
    del stored["heatmap"]["width"], stored["ema"]
    (tmp_path / "out" / "config.json").write_text(json.dumps(stored))
    assert run(config).steps == 40
    with pytest.raises(UsageError, match=r"differs in ema, heatmap\.width\)"):
        run(load(TrainConfig, None, [*settings, "heatmap.width=8", "ema=0"]))

    (tmp_path / "out" / "config.json").write_text(json.dumps(stored | {"removed": 1}))
    with pytest.raises(UsageError, match=r"differs in removed\)"):
        run(config)


def test_the_reason_of_a_failure_is_found_in_what_ray_wraps_around_it():
    ours = "ray::task()\n  File x\nneuface_ray.errors.DataError: a.png: does not exist\n\nabove\nValueError: y\nTo change"
    assert why(RuntimeError(ours)) == "the training failed: a.png: does not exist"
    assert why(RuntimeError("Traceback\nValueError: bad shape\nsome advice")) == "the training failed: ValueError: bad shape"
    assert why(RuntimeError("nothing")) == "the training failed: RuntimeError"


@pytest.mark.slow
def test_a_training_learns_exports_and_is_not_repeated(ray_cluster, single_views, tmp_path):
    settings = [
        *TINY,
        f"data=[{single_views}]",
        "steps=40",
        "checkpoint_steps=20",
        "validate_steps=20",
        "validation_fraction=0.3",
    ]
    config = load(TrainConfig, None, [*settings, f"output={tmp_path / 'out'}"])
    summary = run(config)
    assert summary.steps == 40
    assert (summary.train_samples, summary.validation_samples) == (6, 4)
    losses = [row["loss"] for row in read_log(tmp_path / "out") if "loss" in row]
    assert losses[-1] < 0.8 * losses[0]
    tested = [row["step"] for row in read_log(tmp_path / "out") if "validation/distance_percent" in row]
    assert tested == [20, 40]
    module, facts = load_network(HeatmapNet, summary.weights, "x")
    assert module.options["width"] == 16
    assert facts["config_hash"] == config.hash
    assert "distance_percent" in (tmp_path / "out" / "MODEL_CARD.md").read_text()
    started = time.perf_counter()
    assert run(config) == summary
    assert time.perf_counter() - started < 5
    with pytest.raises(UsageError, match=r"belongs to another training \(it differs in recipe\)|differs in .*learning_rate"):
        run(load(TrainConfig, None, [*settings, f"output={tmp_path / 'out'}", "learning_rate=0.5"]))
    with pytest.raises(UsageError, match="holds weights of heatmap"):
        run(
            load(
                TrainConfig,
                None,
                [f"data=[{single_views}]", "recipe=lvd", f"output={tmp_path / 'o2'}", f"init={summary.weights}"],
            )
        )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_workers_survive_the_death_of_one_and_of_the_driver(single_views, tmp_path):
    folder, steps = tmp_path / "out", 300
    command = [sys.executable, "jobs/train.py", *TINY, f"data=[{single_views}]", f"output={folder}", f"steps={steps}"]
    command += ["cluster.workers=2", "checkpoint_steps=5", "validate_steps=300"]

    def start():
        return subprocess.Popen(command, cwd=ROOT, start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)

    driver = start()
    try:
        wait_for(lambda: position(folder) >= 10, driver)
        workers = train_workers(driver.pid)
        assert len(workers) == 2
        os.kill(workers[0], signal.SIGKILL)
        at_death = position(folder)
        wait_for(lambda: train_workers(driver.pid) and not set(train_workers(driver.pid)) & set(workers), driver)
        wait_for(lambda: position(folder) > at_death + 10, driver)
        assert len(train_workers(driver.pid)) == 2
        before = position(folder)
    finally:
        driver.kill()
        driver.wait()
    assert before < steps
    assert not (folder / "summary.json").exists()
    second = start()
    out, _ = second.communicate(timeout=480)
    assert second.returncode == 0, out.decode()
    assert json.loads((folder / "summary.json").read_text())["steps"] == steps
    logged = [row["step"] for row in read_log(folder) if "loss" in row]
    assert logged == sorted(set(logged))
    assert logged[-1] == steps
    resumed = [step for step in logged if step % 5]  # an attempt logs its first step
    assert resumed[0] == 1
    assert all(step % 5 == 1 for step in resumed)
    assert any(step > before for step in resumed)


def position(folder: Path) -> int:
    """Steps that are safely in a checkpoint which can be resumed from."""
    note = folder / "position.json"
    return json.loads(note.read_text())["samples"] // 8 if note.is_file() else 0


def train_workers(ancestor: int) -> list[int]:
    """Ids of the training processes below a process."""
    parents, titles = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                titles[int(entry.name)] = (entry / "cmdline").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
    found = []
    for pid, title in titles.items():
        above = pid
        while above in parents and above != ancestor:
            above = parents[above]
        if above == ancestor and title.startswith("ray::") and "TrainWorker" in title:
            found.append(pid)
    return sorted(found)


def wait_for(condition, process, seconds=180):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()[0].decode()
        assert time.monotonic() < end
        time.sleep(0.05)


def test_workers_get_paths_that_do_not_depend_on_their_folder(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    config = TrainConfig("glvd", "out", recipe_settings=GlvdTrainingSettings(heatmap_weights="a/model.safetensors"))
    assert for_workers(config).recipe_settings.heatmap_weights == str(tmp_path / "a" / "model.safetensors")
    assert for_workers(TrainConfig("glvd", "out")).recipe_settings.heatmap_weights is None
