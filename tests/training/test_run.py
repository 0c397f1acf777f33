"""Training runs as a user starts them; the faults are real: processes are killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from neuface_ray.config import load
from neuface_ray.errors import ModelFileError, UsageError
from neuface_ray.methods.glvd.settings import GlvdTrainingSettings
from neuface_ray.methods.heatmap.recipe import HeatmapRecipe
from neuface_ray.methods.registry import build_recipe
from neuface_ray.networks.hourglass import HeatmapNet
from neuface_ray.networks.weight_file import load_network, save_network
from neuface_ray.training.config import TrainConfig
from neuface_ray.training.run import compared_settings, for_workers, run, starting_weights, why
from neuface_ray.training.run_log import read_log
from neuface_ray.training.stream import split
from neuface_ray.training.summary import TrainingSummary

ROOT = Path(__file__).parents[2]
TINY = ("recipe=heatmap", "heatmap.crop_size=64", "heatmap.width=16", "batch=4", "shuffle=16", "warmup_steps=1", "log_steps=5")


def test_settings_that_make_no_sense_are_refused(tmp_path, single_views, head):
    with pytest.raises(UsageError, match="multiple of checkpoint_steps"):
        TrainConfig("lvd", "out", checkpoint_steps=7, validate_steps=10)
    for change in ({"optimiser": "sgd"}, {"schedule": "steps"}, {"betas": [0.9]}, {"halve_every": 0.0}, {"ema_half_life": 0.0}):
        with pytest.raises(UsageError, match=next(iter(change))):
            TrainConfig("lvd", "out", **change)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not empty and holds no training"):
        run(load(TrainConfig, None, [*TINY, f"data=[{single_views}]", f"output={tmp_path / 'full'}"]))


def test_a_training_is_continued_with_the_settings_that_it_was_made_with(tmp_path):
    """``finished`` has the settings file that the first released version writes; its summary's figures are invented."""
    shutil.copytree(Path(__file__).parent / "finished", tmp_path / "out")
    settings = ["recipe=heatmap", "data=[faces]", f"output={tmp_path / 'out'}", "steps=40"]
    config = load(TrainConfig, None, settings)
    assert run(config).config_hash == "f99277ffb36dc84b"  # there were fewer keys then
    assert run(load(TrainConfig, None, [*settings, "log_steps=1"])).steps == 40
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


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_workers_survive_the_death_of_one_and_of_the_driver(single_views, tmp_path):
    folder, steps = tmp_path / "out", 300
    command = [sys.executable, "jobs/train.py", *TINY, f"data=[{single_views}]", f"output={folder}", f"steps={steps}"]
    command += ["ray.workers=2", "checkpoint_steps=5", "validate_steps=300"]

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


def test_workers_get_paths_that_do_not_depend_on_their_folder(monkeypatch, tmp_path, head):
    monkeypatch.chdir(tmp_path)
    config = TrainConfig(
        recipe="glvd", output="out", recipe_settings=GlvdTrainingSettings(heatmap_weights="a/model.safetensors")
    )
    recipe = build_recipe(config.recipe, config.recipe_settings, head)
    assert for_workers(config, recipe).recipe_settings.heatmap_weights == str(tmp_path / "a" / "model.safetensors")
    with pytest.raises(ModelFileError, match=r"glvd\.heatmap_weights: there is no file a/model\.safetensors"):
        compared_settings(config, recipe)
    packaged = TrainConfig(recipe="glvd", output="out")
    assert (
        for_workers(packaged, build_recipe(packaged.recipe, packaged.recipe_settings, head)).recipe_settings.heatmap_weights
        is None
    )


FORMER = {
    **{"recipe": "heatmap", "data": ["d"], "validation": [], "validation_fraction": 0.1, "head": "open_head", "init": None},
    **{"seed": 0, "steps": 40, "batch": 4, "learning_rate": 0.001, "warmup_steps": 200, "constant": 0.6, "gradient_clip": 1.0},
    **{"ema": 0.999, "mixed_precision": True, "shuffle": 1024},
    "synthetic": {
        **{"count": 0, "folder": "data/faces", "kind": "faces", "seed": 0, "size": 128, "frames": 4, "views": 3},
        **{"skins": None, "hdr": None, "backgrounds": None},
    },
    "heatmap": {
        **{"keypoints": 18, "crop_size": 128, "width": 64, "stacks": 1, "sigma": 0.06},
        "augment": {"colour": 0.3, "rotation_deg": 15.0, "scale": 0.1, "shift": 0.1},
    },
}
"""``config.json`` of a training by version 0.1, which had fewer keys."""


def finished(folder: Path, settings: dict) -> TrainConfig:
    """A finished training with these stored settings, and the configuration that FORMER came from."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(settings))
    summary = TrainingSummary("heatmap", "w", 40, {}, 1, 0, 1.0, 1.0, "hash")
    (folder / "summary.json").write_text(json.dumps(vars(summary)))
    return load(TrainConfig, None, ["recipe=heatmap", "data=[d]", "steps=40", "batch=4", f"output={folder}"])


def test_trainings_of_earlier_versions_continue(tmp_path):
    config = finished(tmp_path / "out", FORMER)
    assert run(config).steps == 40
    for change in ({"learning_rate": 0.01}, {"optimiser": "adamw"}, {"ema_half_life": 5.0}):
        with pytest.raises(UsageError, match=rf"differs in {next(iter(change))}\)"):
            run(replace(config, **change))
    with pytest.raises(UsageError, match=r"differs in synthetic\.detect\)"):
        run(replace(config, synthetic=replace(config.synthetic, detect=True)))


def test_a_training_whose_settings_have_former_names_continues(tmp_path):
    synthetic = FORMER["synthetic"] | {"sculpted": 0.5, "plain": 0.25}
    config = finished(tmp_path / "out", FORMER | {"synthetic": synthetic})
    faces = replace(config.synthetic, untextured=0.5, unshaded=0.25)
    assert run(replace(config, synthetic=faces)).steps == 40
    with pytest.raises(UsageError, match=r"differs in synthetic\.unshaded\)"):
        run(replace(config, synthetic=replace(faces, unshaded=0.5)))


def test_another_file_under_the_same_path_is_noticed(tmp_path, head):
    path = tmp_path / "heatmap.safetensors"
    save_network(HeatmapNet(18, width=16, depth=2), path, {})
    settings = ["recipe=glvd", "data=[d]", f"glvd.heatmap_weights={path}", f"output={tmp_path / 'out'}"]
    config = load(TrainConfig, None, settings)
    stored = compared_settings(config, build_recipe(config.recipe, config.recipe_settings, head))
    finished(tmp_path / "out", stored)
    assert run(config).steps == 40
    save_network(HeatmapNet(18, width=32, depth=2), path, {})
    with pytest.raises(UsageError, match=r"differs in files\.glvd\.heatmap_weights\)"):
        run(config)
    del stored["files"]  # by an earlier version, which did not write it down
    (tmp_path / "out" / "config.json").write_text(json.dumps(stored))
    assert run(config).steps == 40


def test_the_former_name_of_the_section_ray_still_works(tmp_path, capsys):
    (tmp_path / "c.yaml").write_text("cluster:\n  workers: 2\n")
    config = load(TrainConfig, tmp_path / "c.yaml", ["recipe=lvd", "output=o", "cluster.max_failures=1"])
    assert (config.ray.workers, config.ray.max_failures) == (2, 1)
    assert "cluster.max_failures is now called ray.max_failures" in capsys.readouterr().err
    assert load(TrainConfig, None, ["recipe=lvd", "output=o", "ray.workers=2"]).result_settings() == config.result_settings()


class Centred(HeatmapRecipe):
    """Counts how often it is prepared, and marks the network with the number of samples it saw."""

    prepared = 0

    def prepare(self, module, batch):
        type(self).prepared += 1
        with torch.no_grad():
            module.last.bias.fill_(len(batch["landmarks"]))


def test_what_is_computed_from_the_data_is_computed_once(tmp_path, single_views, head):
    config = load(TrainConfig, None, [*TINY, f"data=[{single_views}]", f"output={tmp_path}", "prepare_samples=7"])
    recipe = Centred(config.recipe_settings, head)
    parts = split(config.data, [], 0.0, recipe.samples, head.id)
    path = starting_weights(config, tmp_path, recipe, recipe.build(), parts)
    assert path == tmp_path / "start.safetensors"
    worker = recipe.build()
    recipe.load(worker, path)
    assert (worker.last.bias == 7).all()
    again = starting_weights(config, tmp_path, recipe, recipe.build(), parts)
    assert (again, Centred.prepared) == (path, 1)
    plain = HeatmapRecipe(config.recipe_settings, head)
    assert starting_weights(config, tmp_path / "other", plain, plain.build(), parts) is None
    init = replace(config, init="weights.safetensors")
    assert starting_weights(init, tmp_path, recipe, recipe.build(), parts) == Path("weights.safetensors").absolute()
    assert Centred.prepared == 1


def loaded_by(*modules: str) -> list[str]:
    """Modules that importing some others loads."""
    code = f"import sys, {', '.join(modules)}; print(*sys.modules)"
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()


def test_importing_the_training_loads_only_what_it_needs():
    assert not {"torch", "mediapipe", "ray"} & set(loaded_by("neuface_ray.training.stream"))
    names = loaded_by("neuface_ray.training.run", "neuface_ray.training.config")
    heavy = {"mediapipe", "ray", "matplotlib", "embreex"} & set(names)
    assert not heavy
    needless = ("direct_fitting", "neuface", "encoder.network", "encoder.recipe", "lvd.annotator", "glvd.annotator")
    assert not [name for name in names if name.startswith(tuple(f"neuface_ray.methods.{part}" for part in needless))]
    assert not [name for name in names if name.startswith(("neuface_ray.pipeline", "neuface_ray.synthesis.renderer"))]
