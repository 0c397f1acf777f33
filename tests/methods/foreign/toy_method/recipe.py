"""Training the toy."""

from __future__ import annotations

from torch import Tensor, nn

from neuface_ray.heads import HeadModel
from neuface_ray.methods.recipe import Batch, Recipe, SampleSpec, StepContext, pixels
from toy_method.network import ToyNetwork
from toy_method.settings import ToyTraining


class ToyRecipe(Recipe):
    """Minimises the squared error of identity coefficients."""

    name, score, network = "toy", "shape_error", ToyNetwork
    settings: ToyTraining

    def __init__(self, settings: ToyTraining, head: HeadModel):
        super().__init__(settings, head)
        self.samples = SampleSpec(("shape",), settings.crop_size)

    def build(self) -> nn.Module:
        return ToyNetwork(self.head.n_shape, self.settings.crop_size)

    def losses(self, module: nn.Module, batch: Batch, step: StepContext) -> dict[str, Tensor]:
        return {"shape": self.settings.strength * self.errors(module, batch).mean()}

    def scores(self, module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return {self.score: self.errors(module, batch)}

    @staticmethod
    def errors(module: nn.Module, batch: Batch) -> Tensor:
        return (module(pixels(batch)[:, 0]) - batch["shape"][:, 0]).square().mean(-1)
