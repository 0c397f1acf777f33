"""Optimisers, schedules of the learning rate, and averaged weights, as the configuration names them."""

from __future__ import annotations

import copy
import math
from typing import Any

import torch
from torch import Tensor, nn

from neuface_ray.training.config import TrainConfig

FINAL_SHARE = 0.01
"""Of the highest learning rate, at the end of a cosine."""


def learning_rate(step: int, config: TrainConfig) -> float:
    """Learning rate of a step: a linear warm-up, then as ``config.schedule`` says."""
    rise = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    if config.schedule == "cosine":
        done = (step - config.warmup_steps) / max(config.steps - config.warmup_steps, 1)
        share = FINAL_SHARE + (1 - FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0)))
    elif config.schedule == "halving":
        share = 0.5 ** math.floor(step / config.steps / config.halve_every)
    else:
        share = min(1.0, (1 - step / config.steps) / max(1 - config.constant, 1e-9))
    return config.learning_rate * rise * share


class Optimiser:
    """A torch optimiser over a recipe's parameter groups, each with its share of the learning rate.

    Args:
        groups: ``{"params": [...], "scale": s}``, see `Recipe.groups`. With ``weight_decay``, each is parted into parameters of
            two and more dimensions, which decay, and the others, which do not.
    """

    def __init__(self, groups: list[dict[str, Any]], config: TrainConfig):
        self.config, self.scales = config, []
        parted = []
        for group in groups:
            decayed = [p for p in group["params"] if p.ndim > 1 or not config.weight_decay]
            rest = [p for p in group["params"] if p.ndim <= 1 and config.weight_decay]
            for parameters, decay in ((decayed, config.weight_decay), (rest, 0.0)):
                if parameters:
                    parted.append({"params": parameters, "weight_decay": decay})
                    self.scales.append(group.get("scale", 1.0))
        self.inner = _build(parted, config)

    def step(self, number: int) -> Tensor:
        """Take step ``number`` with the gradients that are there, clipped together; returns their norm, which may be infinite,
        and then nothing has moved."""
        rate = learning_rate(number, self.config)
        for group, scale in zip(self.inner.param_groups, self.scales, strict=True):
            group["lr"] = rate * scale
        norm = nn.utils.clip_grad_norm_(self.parameters(), self.config.gradient_clip)
        if torch.isfinite(norm):
            self.inner.step()
        return norm

    def zero_grad(self) -> None:
        self.inner.zero_grad(set_to_none=True)

    def parameters(self) -> list[nn.Parameter]:
        """All that is moved."""
        return [parameter for group in self.inner.param_groups for parameter in group["params"]]

    def state_dict(self) -> dict[str, Any]:
        return self.inner.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.inner.load_state_dict(state)


def _build(groups: list[dict[str, Any]], config: TrainConfig) -> torch.optim.Optimizer:
    betas = tuple(config.betas)
    if config.optimiser == "adamw":
        return torch.optim.AdamW(groups, betas=betas, fused=True)
    if config.optimiser == "adamax":
        return torch.optim.Adamax(groups, betas=betas)
    if config.optimiser == "adadelta":
        return torch.optim.Adadelta(groups, rho=betas[1])
    return torch.optim.Adam(groups, betas=betas, fused=True)


class Average:
    """Exponential moving average of a network's parameters; young averages forget faster. Buffers are copied.

    Args:
        decay: 0 to 1 a step; 0 follows the network. Parameters that are not trained stay as they are.
    """

    def __init__(self, network: nn.Module, decay: float):
        self.network, self.decay = copy.deepcopy(network).eval().requires_grad_(False), decay

    @classmethod
    def of(cls, network: nn.Module, config: TrainConfig) -> Average:
        """The average that ``ema_half_life`` or ``ema`` asks for."""
        decay = config.ema if config.ema_half_life is None else 0.5 ** (1 / config.ema_half_life)
        return cls(network, decay)

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Follow the network after ``step``, counted from 0."""
        decay = min(self.decay, (1 + step) / (10 + step)) if self.decay else 0.0
        for mean, value in zip(self.network.parameters(), network.parameters(), strict=True):
            if value.requires_grad:
                mean.lerp_(value.detach().to(mean.dtype), 1 - decay)
        for mean, value in zip(self.network.buffers(), network.buffers(), strict=True):
            mean.copy_(value)
