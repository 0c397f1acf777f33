"""One contract for every way of annotating: ``annotate(clip) -> MeshSequence``."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor

from neuface_ray.heads import HeadModel
from neuface_ray.heads.parameters import HeadParameters
from neuface_ray.types import FaceClip, MeshSequence


class Annotator(ABC):
    """Turns a clip into a mesh sequence; built once from its configuration, then used for many clips.

    An annotator keeps no state between clips: annotating clip B after clip A gives bit for bit what annotating B alone does.

    Attributes:
        name: the value of ``annotator.name`` in configurations and of the column ``annotator``.
        crop_size: side of the crops it wants, pixels.
        head: the head model that its numbers belong to.
        weights_hash: sha256 of its weight file, None for methods without one.
        rows_version: of its results. Raised once, at the end of a piece of work by which the same settings give other numbers;
            datasets of another version are then not continued.
    """

    name: str
    crop_size: int = 224
    weights_hash: str | None = None
    rows_version: int = 1

    def __init__(self, head: HeadModel, device: str = "auto"):
        self.device = torch.device(choose_device(device))
        self.head = head.to(self.device)

    @abstractmethod
    def annotate(self, clip: FaceClip) -> MeshSequence:
        """Annotates one clip; frames without a face carry interpolated numbers and stay invalid."""

    def sequence(self, clip: FaceClip, parameters: HeadParameters, **more: object) -> MeshSequence:
        """Parameters of any broadcastable (F, V, .) shape as the record that is written."""
        frames, views = clip.valid.shape

        def array(tensor: Tensor) -> np.ndarray:
            return tensor.detach().expand(frames, views, -1).float().cpu().numpy().copy()

        return MeshSequence(
            clip_id=clip.clip_id,
            annotator=self.name,
            head_model=self.head.id,
            shape=array(parameters.identity),
            expression=array(parameters.expression),
            pose=array(parameters.pose),
            camera=array(parameters.camera),
            translation=None if parameters.translation is None else array(parameters.translation),
            valid=clip.valid.copy(),
            **more,
        )


def choose_device(device: str) -> str:
    """``auto`` becomes ``cuda`` where a GPU is visible, else ``cpu``; anything else is taken at its word."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device
