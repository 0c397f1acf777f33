"""The one training loop: what each Ray Train worker does, for every recipe.

All state is a function of the step: random numbers follow from (seed, step, worker), the stream of samples from (seed, number
of samples consumed). A checkpoint therefore holds the step, weights, averaged weights and the optimiser, and training that is
resumed goes on as if it had not stopped, but that it may see again the samples of its last checkpoint interval.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import ray.train
import ray.train.torch
import torch
from torch import Tensor, nn

from neuface_ray.errors import NeufaceError
from neuface_ray.heads import load_head
from neuface_ray.methods.recipe import Recipe, SampleSpec, StepContext
from neuface_ray.methods.registry import build_recipe
from neuface_ray.networks.weight_file import present_names
from neuface_ray.training.checkpoints import newest_state, write_state, write_text
from neuface_ray.training.config import TrainConfig
from neuface_ray.training.optimisation import Average, Optimiser, learning_rate
from neuface_ray.training.run_log import RunLog
from neuface_ray.training.samples import Sample
from neuface_ray.training.stream import read_some, stack
from neuface_ray.training.worker_context import POSITION, WorkerContext

PREFETCHED_BATCHES = 2


class Learner(nn.Module):
    """A network with its losses as one module, so that gradients are averaged over workers whatever the recipe calls."""

    def __init__(self, recipe: Recipe, network: nn.Module):
        super().__init__()
        self.network = network
        self.recipe = recipe

    def forward(self, batch: dict[str, Tensor], step: StepContext) -> dict[str, Tensor]:
        return self.recipe.losses(self.network, batch, step)


def train_worker(settings: WorkerContext) -> None:
    """Trains from the last checkpoint, or from the start, to the last step; runs in every worker."""
    config, context = settings.config, ray.train.get_context()
    rank, device = context.get_world_rank(), ray.train.torch.get_device()
    if device.type == "cpu":
        torch.set_num_threads(config.ray.cpus_per_worker)
    torch.manual_seed(config.seed)
    recipe = build_recipe(config.recipe, config.recipe_settings, load_head(config.head).to(device))
    network = recipe.build().to(device).train()
    if settings.start:
        recipe.load(network, settings.start)
    average = Average.of(network, config)
    optimiser = Optimiser(recipe.groups(network), config)
    done = _restore(network, average, optimiser, config)
    learner = ray.train.torch.prepare_model(Learner(recipe, network), parallel_strategy_kwargs={"find_unused_parameters": True})
    log = RunLog(settings.folder, done, config.tensorboard) if rank == 0 else None
    tests = _validation_samples(settings, recipe) if rank == 0 else []
    meter, registered = ThroughputMeter(config, context.get_world_size(), done), done
    for step, batch in zip(range(done, config.steps), _batches(config, recipe.samples, context, done), strict=False):
        terms = update(learner, optimiser, batch, step, rank, device)
        average.update(network, step)
        if rank == 0 and ((step + 1) % config.log_steps == 0 or step == done):
            log.add(step + 1, meter.numbers(step + 1, terms))
        last = step + 1 == config.steps
        if last or (step + 1) % config.checkpoint_steps == 0:
            scores = {}
            if rank == 0 and tests and (last or (step + 1) % config.validate_steps == 0):
                scores = validate(recipe, average.network, tests, config.batch, device)
                log.add(step + 1, {f"validation/{name}": value for name, value in scores.items()})
            _checkpoint(config, rank, step + 1, network, average, optimiser, scores)
            if rank == 0:
                _note_position(settings, recipe.samples.group, registered, context.get_world_size())
            registered = step + 1
    if rank == 0:
        log.close()


def _validation_samples(settings: WorkerContext, recipe: Recipe) -> list[Sample]:
    spec, config = recipe.samples, settings.config
    return read_some(settings.split.validation, spec, max(config.validation_samples // spec.group, 1), config.seed)


def _batches(config: TrainConfig, spec: SampleSpec, context: Any, done: int) -> Iterator[dict[str, Tensor]]:
    shard = ray.train.get_dataset_shard("train")
    size = config.batch // spec.group
    for batch in shard.iter_torch_batches(
        batch_size=size,
        drop_last=True,
        prefetch_batches=PREFETCHED_BATCHES,
        local_shuffle_buffer_size=max(config.shuffle // spec.group, size),
        local_shuffle_seed=config.seed + done + context.get_world_rank(),
    ):
        yield batch if spec.group == 1 else {name: value.flatten(0, 1) for name, value in batch.items()}
    raise NeufaceError("the stream of training samples ended too early: more rows than expected could not be read")


def update(
    learner: nn.Module, optimiser: Optimiser, batch: dict[str, Tensor], step: int, rank: int, device: torch.device
) -> dict[str, Tensor]:
    """One optimiser step; returns the loss terms. Raises NeufaceError if the gradient is not finite."""
    config = optimiser.config
    seed = int(np.random.SeedSequence([config.seed, step, rank]).generate_state(1)[0])
    torch.manual_seed(seed)
    context = StepContext(step / config.steps, torch.Generator(device).manual_seed(seed))
    with torch.autocast(device.type, torch.bfloat16, enabled=config.mixed_precision and device.type == "cuda"):
        terms = learner(batch, context)
    loss = torch.stack([term.float() for term in terms.values()]).sum()
    optimiser.zero_grad()
    loss.backward()
    norm = optimiser.step(step)
    if not torch.isfinite(norm):
        raise NeufaceError(f"training diverged at step {step}: the gradient is not finite; lower learning_rate", "diverged")
    return {"loss": loss.detach()} | {f"loss/{name}": term.detach() for name, term in terms.items()} | {"gradient": norm}


def validate(recipe: Recipe, network: nn.Module, samples: list, batch: int, device: torch.device) -> dict[str, float]:
    """Mean of every score over the samples."""
    scores: dict[str, list[Tensor]] = {}
    group = recipe.samples.group
    for first in range(0, len(samples), max(batch // group, 1)):
        arrays = stack(samples[first : first + max(batch // group, 1)], group)
        tensors = {name: torch.from_numpy(value).to(device) for name, value in arrays.items()}
        for name, values in recipe.scores(network, tensors).items():
            scores.setdefault(name, []).append(values)
    return {name: torch.cat(values).double().mean().item() for name, values in scores.items()}


def _checkpoint(
    config: TrainConfig,
    rank: int,
    step: int,
    network: nn.Module,
    average: Average,
    optimiser: Optimiser,
    scores: dict[str, float],
) -> None:
    """Reports scores; worker 0 adds the checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = None
        if rank == 0:
            state = {
                "recipe": config.recipe,
                "step": step,
                "network": network.state_dict(),
                "average": average.network.state_dict(),
                "optimiser": optimiser.state_dict(),
                "scores": scores,
            }
            write_state(Path(folder), state)
            checkpoint = ray.train.Checkpoint.from_directory(folder)
        ray.train.report({"step": step} | scores, checkpoint=checkpoint)


def _note_position(settings: WorkerContext, group: int, step: int, workers: int) -> None:
    """Writes down where in the stream the checkpoint of ``step`` stands.

    Ray registers a checkpoint shortly after its report returns, so at the time of one report only the checkpoint before it is
    sure to be the one, or older than the one, from which a dead training resumes.
    """
    write_text(settings.folder / POSITION, json.dumps({"samples": step * (settings.config.batch // group) * workers}))


def _restore(network: nn.Module, average: Average, optimiser: Optimiser, config: TrainConfig) -> int:
    """Loads the last whole checkpoint, if any; returns the number of steps done."""
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return 0
    with checkpoint.as_directory() as folder:
        state = newest_state(Path(folder), config.recipe)
    network.load_state_dict(present_names(network, state["network"]))
    average.network.load_state_dict(present_names(network, state["average"]))
    optimiser.load_state_dict(state["optimiser"])
    return state["step"]


class ThroughputMeter:
    """Speed and time to go, measured between the lines of the log."""

    def __init__(self, config: TrainConfig, workers: int, done: int):
        self.config, self.workers, self.done, self.since = config, workers, done, time.perf_counter()
        self.rate = math.nan

    def numbers(self, step: int, terms: dict[str, Tensor]) -> dict[str, float]:
        """Losses, learning rate, samples/s and the estimated seconds to the end."""
        numbers = {name: value.item() for name, value in terms.items()}
        now = time.perf_counter()
        seconds_per_step = (now - self.since) / (step - self.done)
        numbers["learning_rate"] = learning_rate(step - 1, self.config)
        numbers["samples_per_s"] = self.config.batch * self.workers / seconds_per_step
        numbers["eta_s"] = (self.config.steps - step) * seconds_per_step
        self.done, self.since = step, now
        return numbers
