import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from neuface_ray.training.config import TrainConfig
from neuface_ray.training.optimisation import Average, Optimiser, learning_rate


def config(**changes) -> TrainConfig:
    return TrainConfig("lvd", "out", **({"steps": 100, "warmup_steps": 10, "learning_rate": 2.0} | changes))


def test_learning_rate_rises_stays_and_falls():
    rates = [learning_rate(step, config(constant=0.5)) for step in range(100)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9:50] == pytest.approx([2.0] * 41)
    assert rates[75] == pytest.approx(1.0)
    assert rates[99] == pytest.approx(0.04)


def test_one_cycle_ends_at_a_hundredth():
    rates = [learning_rate(step, config(schedule="cosine")) for step in range(101)]
    assert rates[0] == pytest.approx(0.2)
    assert rates[9:11] == pytest.approx([2.0, 2.0])
    assert rates[55] == pytest.approx(2.0 * (0.01 + 0.99 / 2))
    assert rates[100] == pytest.approx(0.02)
    assert (np.diff(rates[10:]) < 0).all()


def test_the_rate_is_halved_again_and_again():
    rates = [learning_rate(step, config(schedule="halving", halve_every=0.25, warmup_steps=0)) for step in range(100)]
    assert rates == pytest.approx([2.0] * 25 + [1.0] * 25 + [0.5] * 25 + [0.25] * 25)


@pytest.mark.parametrize("name", ["adam", "adamw", "adamax", "adadelta"])
def test_every_optimiser_moves_groups_at_their_own_rates_and_continues(name):
    settings = config(
        optimiser=name, betas=[0.9, 0.99], schedule="halving", warmup_steps=0, gradient_clip=1e9, learning_rate=0.01
    )

    def begin():
        torch.manual_seed(0)
        parts = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
        parts[1].load_state_dict(parts[0].state_dict())
        groups = [{"params": list(parts[0].parameters()), "scale": 1.0}, {"params": list(parts[1].parameters()), "scale": 5.0}]
        return parts, Optimiser(groups, settings)

    def move(parts, optimiser, step):
        optimiser.zero_grad()
        sum((part(torch.ones(1, 3)) - 7).square().sum() for part in parts).backward()
        assert optimiser.step(step).isfinite()

    parts, optimiser = begin()
    start = parts[0].weight.detach().clone()
    move(parts, optimiser, 0)
    slow, fast = ((part.weight.detach() - start).abs().mean() for part in parts)
    assert fast / slow == pytest.approx(5.0, rel=0.01)
    weights, state = [p.detach().clone() for p in parts.parameters()], copy.deepcopy(optimiser.state_dict())
    other, restored = begin()
    with torch.no_grad():
        for parameter, value in zip(other.parameters(), weights, strict=True):
            parameter.copy_(value)
    restored.load_state_dict(state)
    move(parts, optimiser, 60)
    move(other, restored, 60)
    assert all(torch.equal(a, b) for a, b in zip(parts.parameters(), other.parameters(), strict=True))


def test_only_matrices_decay():
    torch.manual_seed(0)
    layer = nn.Linear(4, 4)
    before = {name: p.detach().clone() for name, p in layer.named_parameters()}
    optimiser = Optimiser([{"params": list(layer.parameters()), "scale": 2.0}], config(optimiser="adamw", weight_decay=0.1))
    for parameter in layer.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimiser.step(50)
    rate = 2.0 * learning_rate(50, optimiser.config)
    assert torch.allclose(layer.weight, before["weight"] * (1 - 0.1 * rate))
    assert torch.equal(layer.bias, before["bias"])


def test_the_gradient_is_clipped_over_all_groups_and_an_infinite_one_moves_nothing():
    first, second = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimiser = Optimiser([{"params": [first], "scale": 1.0}, {"params": [second], "scale": 1.0}], config(gradient_clip=1.0))
    first.grad, second.grad = torch.tensor([3.0]), torch.tensor([4.0])
    assert optimiser.step(20) == pytest.approx(5.0)
    assert [first.grad.item(), second.grad.item()] == pytest.approx([0.6, 0.8])
    first.grad, moved = torch.tensor([math.inf]), first.item()
    assert not optimiser.step(21).isfinite()
    assert first.item() == moved


def test_the_average_forgets_half_in_its_half_life_and_leaves_what_is_frozen():
    network = nn.Linear(2, 2)
    network.bias.requires_grad_(False)
    average = Average.of(network, config(ema_half_life=20.0))
    frozen, start = average.network.bias.clone(), average.network.weight.clone()
    with torch.no_grad():
        network.weight.add_(1.0)
        network.bias.add_(1.0)
    for step in range(1000, 1020):
        average.update(network, step)
    assert torch.allclose(average.network.weight, start + 0.5, atol=1e-5)
    assert torch.equal(average.network.bias, frozen)
