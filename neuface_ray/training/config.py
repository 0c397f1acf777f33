"""The configuration of a training run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from neuface_ray.config import REQUIRED
from neuface_ray.errors import UsageError
from neuface_ray.former import former_settings
from neuface_ray.methods.registry import recipes
from neuface_ray.sections import as_mapping, chosen, fill_chosen
from neuface_ray.training.synthetic import SyntheticConfig


@dataclass
class ClusterConfig:
    """Where the training runs."""

    address: str | None = None
    """Address of a running cluster; null takes RAY_ADDRESS (set inside `ray job submit`), else starts Ray on this machine."""
    num_cpus: int | None = None
    """CPUs to count when Ray is started on this machine; null: all, but enough for the workers and the data tasks."""
    workers: int = 1
    """Training processes; the batch of a step is `batch` times this."""
    gpu: bool | None = None
    """One GPU for each worker; null: if the cluster has one for each."""
    cpus_per_worker: int = 1
    """CPUs reserved for each worker, and its number of threads where it computes on the CPU."""
    max_failures: int = 3
    """How often the workers are started again from the last checkpoint after one of them died."""


@dataclass
class TrainConfig:
    """Everything that a training run can be told."""

    recipe: str = REQUIRED
    """What to train; its settings are the section of the same name."""
    output: str = REQUIRED
    """Folder of checkpoints, logs and the final weights, on a file system that all workers share. Running again with the same
    output continues where it stopped."""
    data: list[str] = field(default_factory=list)
    """Folders of mesh datasets with parameters, from jobs/annotate.py or jobs/synthesize.py; one named twice counts double."""
    validation: list[str] = field(default_factory=list)
    """Folders of datasets to validate on; empty: hold out some persons of `data`."""
    validation_fraction: float = 0.1
    """Share of the persons (recordings, where persons are unknown) of `data` that is held out when `validation` is empty."""
    validation_samples: int = 64
    """Samples that every validation looks at, always the same ones."""
    head: str = "open_head"
    """Head model of the labels: open_head, or the path of a FLAME file."""
    init: str | None = None
    """Weights of an earlier training of the same recipe to start from."""
    seed: int = 0
    """Seed of all random numbers."""
    steps: int = 20_000
    """Optimiser steps."""
    batch: int = 8
    """Samples per step and worker."""
    learning_rate: float = 1e-3
    """Of Adam, after the warm-up."""
    warmup_steps: int = 200
    """Steps in which the learning rate rises linearly from 0."""
    constant: float = 0.6
    """Share of the steps after which the learning rate falls linearly to 0."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient."""
    ema: float = 0.999
    """Decay of the averaged weights, which are validated and exported; 0: the last weights themselves."""
    mixed_precision: bool = True
    """Compute in bfloat16 where a GPU is used."""
    shuffle: int = 1024
    """Samples in each worker's shuffle buffer."""
    log_steps: int = 50
    """Steps between two lines of the log."""
    checkpoint_steps: int = 500
    """Steps between two checkpoints."""
    validate_steps: int = 1000
    """Steps between two validations; must be a multiple of `checkpoint_steps`."""
    tensorboard: bool = True
    """Also write TensorBoard event files."""
    cluster: ClusterConfig = field(default_factory=ClusterConfig)
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    recipe_settings: Any = field(default=None, metadata=chosen(by="recipe", among=recipes))

    def __post_init__(self) -> None:
        fill_chosen(self)
        for name in ("steps", "batch", "log_steps", "checkpoint_steps", "validate_steps", "validation_samples"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.validate_steps % self.checkpoint_steps:
            raise UsageError(
                f"validate_steps ({self.validate_steps}) must be a multiple of checkpoint_steps ({self.checkpoint_steps})"
            )
        if not 0 <= self.validation_fraction < 1:
            raise UsageError(f"validation_fraction must be in [0, 1), got {self.validation_fraction}")
        if self.cluster.workers < 1:
            raise UsageError(f"cluster.workers must be at least 1, got {self.cluster.workers}")

    def result_settings(self) -> dict[str, Any]:
        """The part that the result depends on: not where it goes, where it runs, how often it is reported, nor the settings of
        recipes that are not chosen."""
        return self._result_settings(as_mapping(self))

    def former_result_settings(self) -> dict[str, Any]:
        """For each key of ``result_settings`` the value that stands for the behaviour before it existed."""
        return self._result_settings(former_settings(self))

    def _result_settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        others = {"output", "cluster", "tensorboard", "log_steps", "checkpoint_steps", "validate_steps", "validation_samples"}
        return {name: value for name, value in settings.items() if name not in others}

    @property
    def hash(self) -> str:
        """sha256 of `result_settings`, 16 hex digits."""
        return hashlib.sha256(json.dumps(self.result_settings(), sort_keys=True).encode()).hexdigest()[:16]
