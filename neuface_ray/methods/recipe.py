"""One contract for every way of training: a recipe says what it reads, what it builds and what it minimises.

The loop (`neuface_ray.training.loop`) does the rest. A method's folder names its recipes; see `neuface_ray.methods.registry`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from neuface_ray.heads import HeadModel
from neuface_ray.training.sources import Reading


class Step(NamedTuple):
    """Where training stands: ``progress`` in [0, 1], and random numbers that follow from seed, step and worker alone."""

    progress: float
    generator: torch.Generator


class Recipe(ABC):
    """What is special about training one kind of network.

    Attributes:
        name: value of ``recipe`` in configurations. reading: columns, crop size and views per sample.
        score: the validation score that is reported as the result; lower is better.
    """

    name: str
    reading: Reading
    score: str

    def __init__(self, settings: Any, head: HeadModel):
        self.settings, self.head = settings, head

    @abstractmethod
    def build(self) -> nn.Module:
        """The network with its starting weights."""

    @abstractmethod
    def losses(self, module: nn.Module, batch: dict[str, Tensor], step: Step) -> dict[str, Tensor]:
        """Named loss terms whose sum is minimised. ``batch`` holds arrays of `data.read_unit` with a batch dimension."""

    @abstractmethod
    def scores(self, module: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Named validation scores (B,) of the samples of a batch; no gradient, no randomness."""

    @abstractmethod
    def save(self, module: nn.Module, path: Path, facts: dict[str, Any]) -> None:
        """Writes the weights for use, with ``facts`` (JSON values) about how they came to be."""

    @abstractmethod
    def load(self, module: nn.Module, path: Path) -> None:
        """Reads weights of this recipe as starting values. ModelFileError if they are of another one or do not fit."""


def pixels(batch: dict[str, Tensor]) -> Tensor:
    """Images (B, N, 3, S, S) in [0, 1] of a batch's uint8 [B, N, S, S, 3]."""
    return batch["image"].permute(0, 1, 4, 2, 3).float() / 255
