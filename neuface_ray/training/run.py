"""The driver of a training run: checks, Ray Train, progress, and the finished weights with their model card."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import neuface_ray
from neuface_ray.errors import NeufaceError, UsageError
from neuface_ray.former import complete, differing
from neuface_ray.heads import load_head
from neuface_ray.methods.recipe import Recipe
from neuface_ray.methods.registry import build_recipe
from neuface_ray.ray_session import ray_session
from neuface_ray.renamed import translate
from neuface_ray.training.config import TrainConfig
from neuface_ray.training.data import Split, Stream, split
from neuface_ray.training.model_card import write_card
from neuface_ray.training.run_log import progress_line, read_log
from neuface_ray.training.synthetic import make_faces

SETTINGS, SUMMARY, WEIGHTS, CHECKPOINTS = "config.json", "summary.json", "model.safetensors", "checkpoints"


@dataclass(frozen=True)
class Summary:
    """What a finished training amounts to; also written as ``summary.json``."""

    recipe: str
    weights: str
    steps: int
    scores: dict[str, float]
    train_samples: int
    validation_samples: int
    seconds: float
    samples_per_s: float
    config_hash: str

    def table(self) -> str:
        """A line for each number."""
        lines = [("recipe", self.recipe), ("weights", self.weights), ("steps", self.steps)]
        lines += [(f"validation {name}", f"{value:.4g}") for name, value in self.scores.items()]
        lines += [
            ("training samples", self.train_samples),
            ("held out", self.validation_samples),
            ("seconds", f"{self.seconds:.0f}"),
            ("samples/s", f"{self.samples_per_s:.1f}"),
        ]
        return "\n".join(f"{name:<36} {value}" for name, value in lines)


def run(config: TrainConfig) -> Summary:
    """Trains, or continues, or returns the summary of a training that is already finished.

    Raises:
        UsageError: configuration, data or output folder are not right; nothing was started.
        NeufaceError: the training failed; running again continues from the last checkpoint.
    """
    folder = Path(config.output).absolute()
    _check_folder(folder, config)
    if (folder / SUMMARY).is_file():
        return Summary(**json.loads((folder / SUMMARY).read_text()))
    head = load_head(config.head)
    recipe = build_recipe(config.recipe, config.recipe_settings, head)
    network = recipe.build()
    if config.init:
        recipe.load(network, Path(config.init))
    data = [_absolute(path) for path in config.data]
    if not config.synthetic.count:
        parts = _split(config, data, recipe)
    with ray_session(_with_enough_cpus(config)):
        if config.synthetic.count:
            parts = _split(config, [*data, make_faces(config.synthetic, config.head)], recipe)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SETTINGS).write_text(json.dumps(config.result_settings(), indent=1))
        started = time.perf_counter()
        with _progress(folder, config.steps):
            state = _fit(config, folder, parts, recipe)
    return _finish(config, folder, recipe, parts, state, time.perf_counter() - started)


def _split(config: TrainConfig, data: list[str], recipe: Recipe) -> Split:
    validation = [_absolute(path) for path in config.validation]
    return split(data, validation, config.validation_fraction, recipe.reading, recipe.head.id)


def _absolute(path: str) -> str:
    """Paths mean the same in all processes; URLs are left alone."""
    return path if "://" in path else os.path.abspath(path)


def for_workers(config: TrainConfig) -> TrainConfig:
    """The configuration with paths that workers, which run in folders of their own, understand."""
    weights = getattr(config.recipe_settings, "heatmap_weights", None)
    if weights is None:
        return config
    return replace(config, recipe_settings=replace(config.recipe_settings, heatmap_weights=_absolute(weights)))


def _check_folder(folder: Path, config: TrainConfig) -> None:
    """The output folder must be new, empty, or belong to the same training."""
    settings = folder / SETTINGS
    if settings.is_file():
        theirs = complete(translate(json.loads(settings.read_text())), config.former_result_settings())
        different = differing(theirs, config.result_settings())
        if different:
            raise UsageError(
                f"{folder} belongs to another training (it differs in {', '.join(different)}). Choose another output; to start "
                f"from its weights, set init={folder / WEIGHTS}"
            )
        return
    if folder.is_dir() and any(folder.iterdir()):
        raise UsageError(f"output={folder} is not empty and holds no training; choose another folder")


def _with_enough_cpus(config: TrainConfig) -> Any:
    """Cluster settings for which Ray, started on this machine, counts enough CPUs for workers and data tasks."""
    cluster = config.cluster
    if cluster.num_cpus is not None:
        return cluster
    return replace(cluster, num_cpus=max(os.cpu_count() or 1, cluster.workers * cluster.cpus_per_worker + 1))


def _fit(config: TrainConfig, folder: Path, parts: Split, recipe: Recipe) -> dict[str, Any]:
    """Runs Ray Train to the last step; returns the last checkpoint's content."""
    import ray
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from neuface_ray.training.loop import Job, read_state, train_worker

    cluster = config.cluster
    gpu = ray.cluster_resources().get("GPU", 0) >= cluster.workers if cluster.gpu is None else cluster.gpu
    total = config.steps * config.batch * cluster.workers + config.shuffle * cluster.workers
    stream = Stream(parts.train, recipe.reading, config.seed, total)
    trainer = TorchTrainer(
        train_worker,
        train_loop_config=Job(for_workers(config), parts, folder),
        datasets={"train": partial(_rest_of, stream, folder)},
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=cluster.workers, use_gpu=gpu, resources_per_worker={"CPU": cluster.cpus_per_worker, "GPU": int(gpu)}
        ),
        run_config=RunConfig(
            name=CHECKPOINTS,
            storage_path=str(folder),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            failure_config=FailureConfig(max_failures=cluster.max_failures),
        ),
    )
    try:
        result = trainer.fit()
    except (ray.exceptions.RayError, ray.train.TrainingFailedError) as error:
        raise NeufaceError(why(error), "training") from error
    if result.checkpoint is None:
        raise NeufaceError("the training ended without a checkpoint", "training")
    with result.checkpoint.as_directory() as state:
        return read_state(Path(state), config.recipe)


def _rest_of(stream: Stream, folder: Path) -> Any:
    """The stream from where the last checkpoint stands; called whenever workers are started."""
    from neuface_ray.training.loop import POSITION

    note = folder / POSITION
    skipped = json.loads(note.read_text())["samples"] if note.is_file() else 0
    return replace(stream, skipped=min(skipped, stream.total)).dataset()


def why(error: BaseException) -> str:
    """The innermost reason in what Ray wrapped: the last error of ours that it quotes, else the last error of any kind."""
    failures = getattr(error, "worker_failures", None) or {}
    text = "\n".join(str(failure) for failure in (*failures.values(), error))
    ours = re.findall(r"^neuface_ray\.errors\.\w+: (.+)", text, re.MULTILINE)
    others = re.findall(r"^[\w.]*(?:Error|Exception|Died\w*)\b.*", text, re.MULTILINE)
    return f"the training failed: {(ours or others or [type(error).__name__])[-1]}"


def _finish(config: TrainConfig, folder: Path, recipe: Recipe, parts: Split, state: dict[str, Any], seconds: float) -> Summary:
    """Exports the averaged weights with their card, and the summary as the sign that the training is finished."""
    network = recipe.build()
    network.load_state_dict(state["average"])
    rates = [row["samples_per_s"] for row in read_log(folder) if "samples_per_s" in row]
    summary = Summary(
        recipe=config.recipe,
        weights=str(folder / WEIGHTS),
        steps=state["step"],
        scores=state["scores"],
        train_samples=parts.count("train"),
        validation_samples=parts.count("validation"),
        seconds=seconds,
        samples_per_s=sorted(rates)[len(rates) // 2] if rates else 0.0,
        config_hash=config.hash,
    )
    facts = {
        "head_model": parts.head_model,
        "recipe": config.recipe,
        "config_hash": config.hash,
        "code_version": neuface_ray.__version__,
        "data": sorted({Path(unit.dataset).name for unit in parts.train}),
        "scores": state["scores"],
        "keypoints": getattr(recipe.settings, "keypoints", None),
    }
    recipe.save(network.eval(), folder / WEIGHTS, facts)
    write_card(folder / "MODEL_CARD.md", config, summary, facts)
    (folder / (SUMMARY + ".new")).write_text(json.dumps(vars(summary), indent=1))
    (folder / (SUMMARY + ".new")).replace(folder / SUMMARY)
    return summary


@contextmanager
def _progress(folder: Path, steps: int, seconds: float = 5.0) -> Iterator[None]:
    """Prints a line of progress whenever the log has grown, at most every few seconds."""
    stop = threading.Event()

    def watch() -> None:
        seen = len(read_log(folder))
        while not stop.wait(seconds):
            rows = read_log(folder)
            if len(rows) > seen:
                print(progress_line(rows[-1], steps), flush=True)
            seen = len(rows)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
