"""The configuration of a training run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from neuface_ray.config import REQUIRED
from neuface_ray.errors import UsageError
from neuface_ray.former import former_settings
from neuface_ray.methods.registry import recipes
from neuface_ray.ray_session import RayConfig
from neuface_ray.sections import as_mapping, chosen, fill_chosen
from neuface_ray.training.synthetic import SyntheticConfig

FILES = "files"
"""Key of the hashes of named files in the stored settings."""
OPTIMISERS = ("adam", "adamw", "adamax", "adadelta")
SCHEDULES = ("constant", "cosine", "halving")


@dataclass
class TrainingRayConfig(RayConfig):
    """Where the training runs."""

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

    config_kind: ClassVar[str] = "train"

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
    """Samples per step and worker; where a recipe reads several pictures of one person together, every picture counts."""
    optimiser: str = "adam"
    """adam, adamw (weight decay apart from the gradient), adamax or adadelta."""
    betas: list[float] = field(default_factory=lambda: [0.5, 0.999])
    """Decays of the averaged gradient and of its square (adam, adamw, adamax); adadelta's rho is the second."""
    weight_decay: float = 0.0
    """Of parameters with two or more dimensions; biases and scales of normalisations have none."""
    learning_rate: float = 1e-3
    """At its highest, after the warm-up."""
    schedule: str = "constant"
    """Of the learning rate: constant (then linear to 0, see `constant`), cosine (one cycle, to a hundredth), or halving (see
    `halve_every`)."""
    warmup_steps: int = 200
    """Steps in which the learning rate rises linearly from 0."""
    constant: float = 0.6
    """Share of the steps after which the learning rate falls linearly to 0."""
    halve_every: float = 0.25
    """Share of the steps after which the learning rate is halved each time."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient of all parameters together."""
    ema: float = 0.999
    """Decay of the averaged weights, which are validated and exported; 0: the last weights themselves."""
    ema_half_life: float | None = None
    """Steps in which the averaged weights forget half, instead of the decay `ema`."""
    prepare_samples: int = 512
    """Samples of the training data that a recipe may look at before the first step and after the last one."""
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
    ray: TrainingRayConfig = field(default_factory=TrainingRayConfig)
    synthetic: SyntheticConfig = field(default_factory=SyntheticConfig)
    recipe_settings: Any = field(default=None, metadata=chosen(by="recipe", among=recipes))

    def __post_init__(self) -> None:
        fill_chosen(self)
        counts = ("steps", "batch", "log_steps", "checkpoint_steps", "validate_steps", "validation_samples", "prepare_samples")
        for name in counts:
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.validate_steps % self.checkpoint_steps:
            raise UsageError(
                f"validate_steps ({self.validate_steps}) must be a multiple of checkpoint_steps ({self.checkpoint_steps})"
            )
        if not 0 <= self.validation_fraction < 1:
            raise UsageError(f"validation_fraction must be in [0, 1), got {self.validation_fraction}")
        if self.ray.workers < 1:
            raise UsageError(f"ray.workers must be at least 1, got {self.ray.workers}")
        if self.optimiser not in OPTIMISERS:
            raise UsageError(f"optimiser={self.optimiser!r} does not exist; choose one of {', '.join(OPTIMISERS)}")
        if self.schedule not in SCHEDULES:
            raise UsageError(f"schedule={self.schedule!r} does not exist; choose one of {', '.join(SCHEDULES)}")
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise UsageError(f"betas must be two numbers in [0, 1), got {self.betas}")
        if self.halve_every <= 0:
            raise UsageError(f"halve_every must be positive, got {self.halve_every}")
        if self.ema_half_life is not None and self.ema_half_life <= 0:
            raise UsageError(f"ema_half_life must be positive or null, got {self.ema_half_life}")

    def with_recipe_settings(self, values: Mapping[str, Any]) -> TrainConfig:
        """A copy in which keys of the chosen recipe's section, dotted from there, have other values."""
        return replace(self, recipe_settings=_with_values(self.recipe_settings, values))

    def result_settings(self) -> dict[str, Any]:
        """The part that the result depends on: not where it goes, where it runs, how often it is reported, nor the settings of
        recipes that are not chosen."""
        return self._result_settings(as_mapping(self))

    def former_result_settings(self) -> dict[str, Any]:
        """For each key of ``result_settings`` the value that stands for the behaviour before it existed."""
        return self._result_settings(former_settings(self))

    def _result_settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        others = {"output", "ray", "tensorboard", "log_steps", "checkpoint_steps", "validate_steps", "validation_samples"}
        return {name: value for name, value in settings.items() if name not in others}

    @property
    def hash(self) -> str:
        """sha256 of `result_settings`, 16 hex digits."""
        return hashlib.sha256(json.dumps(self.result_settings(), sort_keys=True).encode()).hexdigest()[:16]


def _with_values(section: Any, values: Mapping[str, Any]) -> Any:
    """A copy of a nested dataclass with other values of dotted keys."""
    for key, value in values.items():
        name, _, rest = key.partition(".")
        section = replace(section, **{name: _with_values(getattr(section, name), {rest: value}) if rest else value})
    return section
