"""The driver of a training run: checks, Ray Train, progress, and the finished weights with their model card."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neuface_ray.errors import ModelFileError, NeufaceError, UsageError
from neuface_ray.former import complete, differing
from neuface_ray.heads import load_head
from neuface_ray.machine import usable_cpus
from neuface_ray.methods.recipe import Recipe
from neuface_ray.methods.registry import build_recipe
from neuface_ray.networks.weight_file import present_names
from neuface_ray.ray_session import RayConfig, ray_session
from neuface_ray.renamed import translate
from neuface_ray.training.checkpoints import read_state, write_text
from neuface_ray.training.config import FILES, TrainConfig
from neuface_ray.training.model_card import write_card
from neuface_ray.training.run_log import progress_line, read_log
from neuface_ray.training.stream import Split, Stream, read_some, split, stack
from neuface_ray.training.summary import TrainingSummary
from neuface_ray.training.synthetic import make_faces
from neuface_ray.training.worker_context import POSITION, WorkerContext
from neuface_ray.uri import content_hash
from neuface_ray.version import code_version

SETTINGS, SUMMARY, WEIGHTS, CHECKPOINTS = "config.json", "summary.json", "model.safetensors", "checkpoints"
START = "start.safetensors"


def run(config: TrainConfig) -> TrainingSummary:
    """Trains, or continues, or returns the summary of a training that is already finished.

    Raises:
        UsageError: configuration, data or output folder are not right; nothing was started.
        NeufaceError: the training failed; running again continues from the last checkpoint.
    """
    folder = Path(config.output).absolute()
    recipe = build_recipe(config.recipe, config.recipe_settings, load_head(config.head))
    settings = compared_settings(config, recipe)
    _check_folder(folder, settings, config)
    if (folder / SUMMARY).is_file():
        return TrainingSummary(**json.loads((folder / SUMMARY).read_text()))
    _check_batch(config, recipe)
    network = _initial_network(config, recipe)
    data = [_absolute(path) for path in config.data]
    if not config.synthetic.count:
        parts = _split(config, data, recipe)
    with ray_session(_with_enough_cpus(config)):
        if config.synthetic.count:
            parts = _split(config, [*data, make_faces(config.synthetic, config.head)], recipe)
        folder.mkdir(parents=True, exist_ok=True)
        write_text(folder / SETTINGS, json.dumps(settings, indent=1))
        start = starting_weights(config, folder, recipe, network, parts)
        started = time.perf_counter()
        with _progress(folder, config.steps):
            state = _fit(WorkerContext(for_workers(config, recipe), parts, folder, start), recipe)
    return _finish(config, folder, recipe, parts, state, time.perf_counter() - started)


def compared_settings(config: TrainConfig, recipe: Recipe) -> dict[str, Any]:
    """What a training that continues must agree in: its settings, and the content of the files that they name.

    Raises:
        ModelFileError: such a file is missing.
    """
    for key, path in recipe.files().items():
        if not os.path.isfile(path):
            raise ModelFileError(f"{key}: there is no file {path}")
    hashes = {key: content_hash(path) for key, path in recipe.files().items()}
    return config.result_settings() | (translate({FILES: hashes}) if hashes else {})


def _check_batch(config: TrainConfig, recipe: Recipe) -> None:
    group = recipe.samples.group
    if config.batch % group:
        raise UsageError(f"batch={config.batch} must be a multiple of {group}, the pictures of one person that stay together")


def _initial_network(config: TrainConfig, recipe: Recipe) -> nn.Module:
    """What the workers begin with, but for what is computed from the data. Raises ModelFileError if ``init`` does not fit."""
    torch.manual_seed(config.seed)
    network = recipe.build()
    if config.init:
        recipe.load(network, Path(config.init))
    return network


def starting_weights(config: TrainConfig, folder: Path, recipe: Recipe, network: nn.Module, parts: Split) -> Path | None:
    """The weight file to begin with: ``init``, or what the recipe computes from the data, once and for all; None: neither."""
    if config.init:
        return Path(config.init).absolute()
    if type(recipe).prepare is Recipe.prepare:
        return None
    path = folder / START
    if not path.is_file():
        recipe.prepare(network, _some_batch(config, recipe, parts))
        recipe.save(network, path.with_suffix(".new"), {"head_model": parts.head_model})
        path.with_suffix(".new").replace(path)
    return path


def _some_batch(config: TrainConfig, recipe: Recipe, parts: Split) -> dict[str, Tensor]:
    """``prepare_samples`` samples of the training data as one batch."""
    group = recipe.samples.group
    samples = read_some(parts.train, recipe.samples, max(config.prepare_samples // group, 1), config.seed)
    return {name: torch.from_numpy(value) for name, value in stack(samples, group).items()}


def _split(config: TrainConfig, data: list[str], recipe: Recipe) -> Split:
    validation = [_absolute(path) for path in config.validation]
    return split(data, validation, config.validation_fraction, recipe.samples, recipe.head.id)


def _absolute(path: str) -> str:
    """Paths mean the same in all processes; URLs are left alone."""
    return path if "://" in path else os.path.abspath(path)


def for_workers(config: TrainConfig, recipe: Recipe) -> TrainConfig:
    """The configuration with paths that workers, which run in folders of their own, understand."""
    head = _absolute(config.head) if os.path.exists(config.head) else config.head
    files = {key.removeprefix(f"{recipe.name}."): _absolute(path) for key, path in recipe.files().items()}
    return replace(config, head=head).with_recipe_settings(files)


def _check_folder(folder: Path, ours: dict[str, Any], config: TrainConfig) -> None:
    """The output folder must be new, empty, or belong to the same training."""
    settings = folder / SETTINGS
    if settings.is_file():
        theirs = _read_settings(settings)
        if theirs is None:
            return
        theirs = complete(translate(theirs), config.former_result_settings())
        theirs.setdefault(FILES, ours.get(FILES, {}))  # trainings of earlier versions do not say
        different = differing(theirs, {FILES: {}} | ours)
        if different:
            raise UsageError(
                f"{folder} belongs to another training (it differs in {', '.join(different)}). Choose another output; to start "
                f"from its weights, set init={folder / WEIGHTS}"
            )
        return
    continued = any((folder / CHECKPOINTS).glob("checkpoint_*"))  # whose settings the user removed, as the message says
    if folder.is_dir() and any(folder.iterdir()) and not continued:
        raise UsageError(f"output={folder} is not empty and holds no training; choose another folder")


def _read_settings(path: Path) -> dict[str, Any] | None:
    """The settings of the training in a folder; None if they are damaged and there is no checkpoint to continue from.

    Raises:
        UsageError: they are damaged, and there are checkpoints.
    """
    try:
        return json.loads(path.read_text())
    except ValueError as error:
        if any((path.parent / CHECKPOINTS).glob("checkpoint_*")):
            raise UsageError(
                f"{path} is damaged ({error}), so it cannot be compared with the present settings. If they are those of this "
                "training, remove that file and the folder continues; else choose another output"
            ) from error
        return None


def _with_enough_cpus(config: TrainConfig) -> RayConfig:
    """Settings for which Ray, started on this machine, counts enough CPUs for workers and data tasks."""
    if config.ray.num_cpus is not None:
        return config.ray
    return replace(config.ray, num_cpus=max(usable_cpus(), config.ray.workers * config.ray.cpus_per_worker + 1))


def _fit(settings: WorkerContext, recipe: Recipe) -> dict[str, Any]:
    """Runs Ray Train to the last step; returns the last checkpoint's content."""
    import ray
    from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer

    from neuface_ray.training.loop import train_worker

    config, where = settings.config, settings.config.ray
    gpu = ray.cluster_resources().get("GPU", 0) >= where.workers if where.gpu is None else where.gpu
    total = (config.steps * config.batch + config.shuffle) * where.workers // recipe.samples.group
    stream = Stream(settings.split.train, recipe.samples, config.seed, total)
    trainer = TorchTrainer(
        train_worker,
        train_loop_config=settings,
        datasets={"train": partial(_rest_of, stream, settings.folder)},
        torch_config=TorchConfig(backend="nccl" if gpu else "gloo"),
        scaling_config=ScalingConfig(
            num_workers=where.workers, use_gpu=gpu, resources_per_worker={"CPU": where.cpus_per_worker, "GPU": int(gpu)}
        ),
        run_config=RunConfig(
            name=CHECKPOINTS,
            storage_path=str(settings.folder),
            checkpoint_config=CheckpointConfig(num_to_keep=2),
            failure_config=FailureConfig(max_failures=where.max_failures),
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
    note = folder / POSITION
    try:
        skipped = json.loads(note.read_text())["samples"]
    except (FileNotFoundError, ValueError, KeyError):
        skipped = 0  # the first samples are seen again
    return replace(stream, skipped=min(skipped, stream.total)).dataset()


def why(error: BaseException) -> str:
    """The innermost reason in what Ray wrapped: the last error of ours that it quotes, else the last error of any kind."""
    failures = getattr(error, "worker_failures", None) or {}
    text = "\n".join(str(failure) for failure in (*failures.values(), error))
    ours = re.findall(r"^neuface_ray\.errors\.\w+: (.+)", text, re.MULTILINE)
    others = re.findall(r"^[\w.]*(?:Error|Exception|Died\w*)\b.*", text, re.MULTILINE)
    return f"the training failed: {(ours or others or [type(error).__name__])[-1]}"


def _finish(
    config: TrainConfig, folder: Path, recipe: Recipe, parts: Split, state: dict[str, Any], seconds: float
) -> TrainingSummary:
    """Exports the averaged weights with their card, and the summary as the sign that the training is finished."""
    network = recipe.build()
    network.load_state_dict(present_names(network, state["average"]))
    network.eval()
    if type(recipe).finish is not Recipe.finish:
        recipe.finish(network, _some_batch(config, recipe, parts))
    rates = [row["samples_per_s"] for row in read_log(folder) if "samples_per_s" in row]
    summary = TrainingSummary(
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
        "code_version": code_version(),
        "data": sorted({Path(shard.dataset).name for shard in parts.train}),
        "scores": state["scores"],
    }
    facts |= recipe.facts(network)
    recipe.save(network, folder / WEIGHTS, facts)
    write_card(folder / "MODEL_CARD.md", config, summary, facts)
    write_text(folder / SUMMARY, json.dumps(vars(summary), indent=1))
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
