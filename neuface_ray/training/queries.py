"""Random choices that training a field needs: where it is asked, for which vertices, after how many steps."""

from __future__ import annotations

import torch
from torch import Tensor

from neuface_ray.training.augment import uniform

BOX = 1.2
"""Half side of the box that holds a head, in half crops."""
LONGEST_ROLLOUT = 12


def queries(around: Tensor, count: int, sigma: float, generator: torch.Generator) -> Tensor:
    """(B, count, 3): half uniform in the box, half Gaussian with ``sigma`` about random ones of ``around`` (B, M, 3)."""
    batch, near = around.shape[0], count - count // 2
    chosen = torch.randint(around.shape[1], (batch, near, 1), generator=generator, device=around.device)
    noise = torch.randn(batch, near, 3, generator=generator, device=around.device)
    placed = around.gather(1, chosen.expand(-1, -1, 3)) + sigma * noise
    return torch.cat([uniform((batch, count // 2, 3), -BOX, BOX, generator), placed], 1)


def some_of(total: int, count: int, generator: torch.Generator) -> Tensor:
    """``count`` different random indices below ``total``; all of them if there are fewer."""
    return torch.randperm(total, generator=generator, device=generator.device)[:count]


def rollout_length(generator: torch.Generator) -> int:
    """Number of real steps after which a rollout is judged."""
    return int(torch.randint(1, LONGEST_ROLLOUT, (1,), generator=generator, device=generator.device).item())


def chance(probability: float, generator: torch.Generator) -> bool:
    """True with the given probability."""
    return torch.rand(1, generator=generator, device=generator.device).item() < probability
