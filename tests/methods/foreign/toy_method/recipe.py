"""Training the toy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor, nn

from neuface_ray.heads import HeadModel
from neuface_ray.methods.recipe import Recipe, Step, pixels
from neuface_ray.networks.weight_file import load_network, save_network
from neuface_ray.training.sources import Reading
from toy_method.network import ToyNetwork
from toy_method.settings import ToyTraining


class ToyRecipe(Recipe):
    """Minimises the squared error of identity coefficients."""

    name, score = "toy", "shape_error"
    settings: ToyTraining

    def __init__(self, settings: ToyTraining, head: HeadModel):
        super().__init__(settings, head)
        self.reading = Reading(("shape",), settings.crop_size, 1)

    def build(self) -> nn.Module:
        return ToyNetwork(self.head.n_shape, self.settings.crop_size)

    def losses(self, module: nn.Module, batch: dict[str, Tensor], step: Step) -> dict[str, Tensor]:
        return {"shape": self.settings.strength * self.errors(module, batch).mean()}

    def scores(self, module: nn.Module, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        return {self.score: self.errors(module, batch)}

    def save(self, module: nn.Module, path: Path, facts: dict[str, Any]) -> None:
        save_network(module, path, facts)

    def load(self, module: nn.Module, path: Path) -> None:
        module.load_state_dict(load_network(ToyNetwork, path, "init")[0].state_dict())

    @staticmethod
    def errors(module: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        return (module(pixels(batch)[:, 0]) - batch["shape"][:, 0]).square().mean(-1)
