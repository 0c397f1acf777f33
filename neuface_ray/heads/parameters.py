"""The numbers of a head model and of the camera that sees it, for any batch of heads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class HeadParameters:
    """Parameters of heads; their leading dimensions broadcast against each other, so that a shared identity may be (1, 1, S).

    Args:
        identity: (..., S) standard deviations, the head model's ``shape`` coefficients. expression: (..., E).
        pose: (..., 15) axis-angle of root, neck, jaw and eyes in the view's frame, radians.
        camera: (..., 3) weak perspective: scale, tx, ty in crop coordinates.
        translation: (..., 3) of the head in the view's frame, metres, for calibrated views; else None.
    """

    identity: Tensor
    expression: Tensor
    pose: Tensor
    camera: Tensor
    translation: Tensor | None = None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """The tensors that are there, in the order of the fields."""
        fields = (self.identity, self.expression, self.pose, self.camera, self.translation)
        return tuple(value for value in fields if value is not None)

    def map(self, function: Callable[[Tensor], Tensor]) -> HeadParameters:
        """The parameters with a function applied to every tensor."""
        return HeadParameters(*map(function, self.tensors))

    def unflatten(self, *sizes: int) -> HeadParameters:
        """The first dimension split into dimensions of these sizes, such as frames and views."""
        return self.map(lambda value: value.unflatten(0, sizes))

    @staticmethod
    def cat(parts: Sequence[HeadParameters]) -> HeadParameters:
        """Several batches as one, along the first dimension."""
        return HeadParameters(*map(torch.cat, zip(*(part.tensors for part in parts), strict=True)))
