"""Random choices that training a field needs: where it is asked, for which vertices, after how many steps."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.utils import parametrize

from neuface_ray.methods.augment import uniform

BOX = 1.2
"""Half side of the box that holds a head, in half crops."""
LONGEST_ROLLOUT = 10


def queries(around: Tensor, count: int, sigma: float, generator: torch.Generator) -> Tensor:
    """(B, count, 3): half uniform in the box, half Gaussian with ``sigma`` about random ones of ``around`` (B, M, 3)."""
    batch, near = around.shape[0], count - count // 2
    chosen = torch.randint(around.shape[1], (batch, near, 1), generator=generator, device=around.device)
    noise = torch.randn(batch, near, 3, generator=generator, device=around.device)
    placed = around.gather(1, chosen.expand(-1, -1, 3)) + sigma * noise
    return torch.cat([uniform((batch, count // 2, 3), -BOX, BOX, generator), placed], 1)


def random_subset(total: int, count: int, generator: torch.Generator) -> Tensor:
    """``count`` different random indices below ``total``; all of them if there are fewer."""
    return torch.randperm(total, generator=generator, device=generator.device)[:count]


State = tuple[Tensor, ...]


@torch.no_grad()
def rollout(step: Callable[[State], State], start: State, generator: torch.Generator) -> State:
    """Where each sample of a batch stands after its own random number of real steps, 0 to ``LONGEST_ROLLOUT`` - 1.

    Args:
        step: one update of a state of tensors (B, ...).
    """
    lengths = torch.randint(LONGEST_ROLLOUT, (len(start[0]),), generator=generator, device=generator.device)
    states = [start]
    with parametrize.cached():
        for _ in range(int(lengths.max())):
            states.append(step(states[-1]))
    rows = torch.arange(len(lengths), device=lengths.device)
    return tuple(torch.stack(parts)[lengths, rows] for parts in zip(*states, strict=True))


def bernoulli(probability: float, generator: torch.Generator) -> bool:
    """True with the given probability."""
    return torch.rand(1, generator=generator, device=generator.device).item() < probability
