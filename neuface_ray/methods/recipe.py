"""One contract for every way of training: a recipe says what it reads, what it builds and what it minimises.

The loop (`neuface_ray.training.loop`) does the rest: it is the same for every recipe and knows none by name. A method's folder
names its recipes; see `neuface_ray.methods.registry`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from neuface_ray.errors import UsageError

if TYPE_CHECKING:  # what reads samples needs no torch
    import torch
    from torch import Tensor, nn

    from neuface_ray.heads import HeadModel

Batch = dict[str, "Tensor"]


@dataclass(frozen=True)
class SampleSpec:
    """What a sample is made of.

    Args:
        columns: of the table ``frames``, or arrays of shards of faces. ``detected`` are a detector's landmarks: the column
            ``landmarks`` of a dataset, the array ``detected`` of a shard, whose ``landmarks`` are true ones. Samples whose
            ``detected`` were not found are left out.
        image_size: side of the crops, pixels; 0: no pictures.
        views: most views of an instant; samples with fewer are filled up with copies of the first that are marked invalid.
        frames: 1, or the length of a window of consecutive valid and accepted rows of one clip and view.
        group: samples of one person that stay together; a batch then consists of whole groups.

    Arrays of a sample are [views, ...], those of a window [frames, ...]; ``image`` is uint8 [..., S, S, 3].
    """

    columns: tuple[str, ...]
    image_size: int = 0
    views: int = 1
    frames: int = 1
    group: int = 1

    def __post_init__(self) -> None:
        if min(self.views, self.frames, self.group) < 1 or self.image_size < 0:
            raise UsageError(f"{self}: views, frames and group must be at least 1, image_size not negative")
        if self.frames > 1 and (self.views > 1 or self.group > 1):
            raise UsageError(f"{self}: a window shows one view and is not grouped")


class StepContext(NamedTuple):
    """Where training stands: ``progress`` in [0, 1], and random numbers that follow from seed, step and worker alone."""

    progress: float
    generator: torch.Generator


class Recipe(ABC):
    """What is special about training one kind of network.

    Attributes:
        name: value of ``recipe`` in configurations; its settings are the section of that name.
        score: the validation score that is reported as the result; lower is better.
        network: class of what ``build`` makes, as weight files need it.
        samples: what it reads.
    """

    name: ClassVar[str]
    score: ClassVar[str]
    network: ClassVar[type[nn.Module]]
    samples: SampleSpec

    def __init__(self, settings: Any, head: HeadModel):
        self.settings, self.head = settings, head

    @abstractmethod
    def build(self) -> nn.Module:
        """The network with its starting weights."""

    @abstractmethod
    def losses(self, module: nn.Module, batch: Batch, step: StepContext) -> dict[str, Tensor]:
        """Named loss terms whose sum is minimised, of the samples of ``batch`` [B, ...]."""

    @abstractmethod
    def scores(self, module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Named validation scores (B,) of the samples of a batch; no gradient, no randomness."""

    def groups(self, module: nn.Module) -> list[dict[str, Any]]:
        """Parameter groups ``{"params": [...], "scale": s}``, whose learning rates are s times that of the step."""
        return [{"params": [p for p in module.parameters() if p.requires_grad], "scale": 1.0}]

    def prepare(self, module: nn.Module, batch: Batch) -> None:  # noqa: B027 (most recipes need none)
        """Set what is computed from the data (normalisers, means, bases) in a new ``module``.

        The driver calls it once, on some samples [B, ...] of the training data, and hands the result to all workers as a
        weight file. It is not called when a training continues, nor when it starts from the weights of ``init``.
        """

    def finish(self, module: nn.Module, batch: Batch) -> None:  # noqa: B027
        """Set what is measured with the trained ``module`` in eval mode before it is saved; ``batch`` as in `prepare`."""

    def files(self) -> Mapping[str, str]:
        """Files that the settings name, by their configuration keys; the run depends on their content."""
        return {}

    def facts(self, module: nn.Module) -> dict[str, Any]:
        """What else (JSON values) the weight file says about ``module``."""
        return {}

    def save(self, module: nn.Module, path: Path, facts: dict[str, Any]) -> None:
        """Write the weights for use, with ``facts`` (JSON values) about how they came to be."""
        from neuface_ray.networks.weight_file import save_network

        save_network(module, path, facts)

    def load(self, module: nn.Module, path: Path) -> None:
        """Read weights of this recipe as starting values. ModelFileError if they are of another one or do not fit."""
        from neuface_ray.networks.weight_file import load_network

        module.load_state_dict(load_network(self.network, path, "init")[0].state_dict())


def pixels(batch: Batch) -> Tensor:
    """Images (B, N, 3, S, S) in [0, 1] of a batch's uint8 [B, N, S, S, 3]."""
    return batch["image"].permute(0, 1, 4, 2, 3).float() / 255
