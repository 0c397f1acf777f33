"""Encoders: face crops to the parameters and camera of the head model they were trained on.

All encoders share one interface, ``encoder(crops [B, 3, H, W] in [0, 1]) -> HeadParameters`` of batch B, and are a chain of
named stages, so that the stages below the lowest trainable one can be computed once: ``encoder.train_from("stage4")``, then

Sources: DECA (Feng et al., SIGGRAPH 2021), coarse encoder; EMOCA (Danecek et al., CVPR 2022), expression encoder. Both are
re-implemented from their descriptions; their weights are under a non-commercial licence and are read from the user's file.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor, nn

from neuface_ray.geometry.rotations import matrix_to_rotvec, rotation_6d_to_matrix
from neuface_ray.heads.parameters import HeadParameters
from neuface_ray.networks.resnet import ResNet50, freeze_batchnorm
from neuface_ray.networks.trunk import WIDTHS, compact_stages
from neuface_ray.types import POSE_SIZE

CROP_SIZE = 128
"""Side of the compact encoder's crops, pixels."""
DECA_PARTS = {"shape": 100, "tex": 50, "exp": 50, "pose": 6, "cam": 3, "light": 27}


class Encoder(nn.Module):
    """Base of all encoders: a chain of stages, the last of which gives the raw output that ``decode`` turns into parameters.

    Args:
        crop_size: side of the crops in pixels. head_model: name or identifier of the head its numbers belong to.
        stages: names of the chained stages, from the image up.

    ``snr`` is the signal-to-noise ratio of an identity told from one image, infinite where it is not known, see
    ``fitting.identity.shrinkage_correction``.

    BatchNorm layers, where an encoder has them, always use their stored statistics and never move: an encoder is adapted to
    single clips, whose own statistics would mislead it (the paper's official code does the same).
    """

    def __init__(self, crop_size: int, head_model: str, stages: tuple[str, ...]):
        super().__init__()
        self.crop_size, self.head_model, self.stages = crop_size, head_model, stages
        self.lowest_trainable = stages[0]
        self.snr = math.inf

    @abstractmethod
    def run(self, stage: str, x: Tensor) -> Tensor:
        """Applies one stage to the output of the stage before it."""

    @abstractmethod
    def stage_modules(self, stage: str) -> list[nn.Module]:
        """The submodules whose parameters belong to a stage."""

    @abstractmethod
    def decode(self, raw: Tensor) -> HeadParameters:
        """The raw output of the last stage as parameters."""

    def train_from(self, stage: str) -> list[nn.Parameter]:
        """Makes ``stage`` and all above it trainable and the rest fixed; returns the moving parameters.

        Raises:
            ValueError: there is no such stage.
        """
        if stage not in self.stages:
            raise ValueError(f"{type(self).__name__} has no stage {stage!r}; it has {', '.join(self.stages)}")
        self.lowest_trainable = stage
        moving = False
        for name in self.stages:
            moving = moving or name == stage
            for module in self.stage_modules(name):
                module.requires_grad_(moving)
        freeze_batchnorm(self)
        return [parameter for parameter in self.parameters() if parameter.requires_grad]

    def train(self, mode: bool = True) -> Encoder:
        super().train(mode)
        freeze_batchnorm(self)
        return self

    def features(self, crops: Tensor) -> Tensor:
        """Output of the stages below the lowest trainable one; the crops themselves when everything moves."""
        for stage in self.stages[: self.stages.index(self.lowest_trainable)]:
            crops = self.run(stage, crops)
        return crops

    def head(self, features: Tensor) -> HeadParameters:
        """The parameters from ``features``, by the moving stages."""
        for stage in self.stages[self.stages.index(self.lowest_trainable) :]:
            features = self.run(stage, features)
        return self.decode(features)

    def forward(self, crops: Tensor) -> HeadParameters:
        return self.head(self.features(crops))


def split_deca(raw: Tensor) -> dict[str, Tensor]:
    """DECA's 236 numbers (B, 236) by name: shape 100, tex 50, exp 50, pose 6 (root, jaw), cam 3, light 27."""
    return dict(zip(DECA_PARTS, raw.split(list(DECA_PARTS.values()), -1), strict=True))


class RegressorNet(nn.Module):
    """DECA's ``ResnetEncoder``: ResNet-50 and two linear layers, with its parameter names ``encoder.*``, ``layers.{0,2}.*``."""

    def __init__(self, n_outputs: int):
        super().__init__()
        self.encoder = ResNet50()
        self.layers = nn.Sequential(nn.Linear(ResNet50.n_features, 1024), nn.ReLU(), nn.Linear(1024, n_outputs))

    def run(self, stage: str, x: Tensor) -> Tensor:
        return self.layers(x) if stage == "layers" else self.encoder.run(stage, x)

    def stage_modules(self, stage: str) -> list[nn.Module]:
        return [self.layers] if stage == "layers" else self.encoder.stage_modules(stage)


class DecaEncoder(Encoder):
    """DECA's coarse encoder for FLAME: 224 px crops to shape 100, expression 50, root and jaw rotation, camera."""

    def __init__(self):
        super().__init__(224, "FLAME", (*ResNet50.stages, "layers"))
        self.E_flame = RegressorNet(sum(DECA_PARTS.values()))
        freeze_batchnorm(self)

    def run(self, stage: str, x: Tensor) -> Tensor:
        return self.E_flame.run(stage, x)

    def stage_modules(self, stage: str) -> list[nn.Module]:
        return self.E_flame.stage_modules(stage)

    def decode(self, raw: Tensor) -> HeadParameters:
        parts = split_deca(raw)
        return HeadParameters(parts["shape"], parts["exp"], _flame_pose(parts["pose"]), parts["cam"])


class EmocaEncoder(Encoder):
    """EMOCA: DECA's encoder, and a second one whose expression (50) replaces DECA's; root and jaw stay with DECA.

    Between stages the two networks' features are one tensor with a leading axis of 2; with ``n_expression_outputs`` of 53 the
    last three numbers are the jaw rotation and replace DECA's.
    """

    def __init__(self, n_expression_outputs: int = DECA_PARTS["exp"]):
        super().__init__(224, "FLAME", (*ResNet50.stages, "layers"))
        self.E_flame = RegressorNet(sum(DECA_PARTS.values()))
        self.E_expression = RegressorNet(n_expression_outputs)
        freeze_batchnorm(self)

    def run(self, stage: str, x: Tensor) -> Tensor:
        coarse, expression = (x, x) if stage == self.stages[0] else x.unbind(1)
        outputs = self.E_flame.run(stage, coarse), self.E_expression.run(stage, expression)
        return torch.cat(outputs, -1) if stage == "layers" else torch.stack(outputs, 1)

    def stage_modules(self, stage: str) -> list[nn.Module]:
        return self.E_flame.stage_modules(stage) + self.E_expression.stage_modules(stage)

    def decode(self, raw: Tensor) -> HeadParameters:
        parts = split_deca(raw[..., : sum(DECA_PARTS.values())])
        expression = raw[..., sum(DECA_PARTS.values()) :]
        pose = parts["pose"]
        if expression.shape[-1] > DECA_PARTS["exp"]:
            pose = torch.cat([pose[..., :3], expression[..., DECA_PARTS["exp"] :]], -1)
        return HeadParameters(parts["shape"], expression[..., : DECA_PARTS["exp"]], _flame_pose(pose), parts["cam"])


def _flame_pose(root_and_jaw: Tensor) -> Tensor:
    zero = torch.zeros_like(root_and_jaw[..., :3])
    return torch.cat([root_and_jaw[..., :3], zero, root_and_jaw[..., 3:], zero, zero], -1)


class CompactEncoder(Encoder):
    """The project's own small encoder: the compact trunk and a head on its feature map, 128 px crops.

    GroupNorm has no running statistics to go wrong when the network is adapted to a clip, and costs within 5 % of BatchNorm
    on a CPU. The head keeps the 4x4 layout of the last feature map, for alignment needs to know where things are. The
    camera is predicted as the scale and the image position of a point in the middle of the face (``face_centre``), so that an
    error in rotation about ``pivot`` does not move the face in the image.

    Args:
        n_shape, n_expression: sizes of the head's coefficients. bounded: expressions are weights in [0, 1] (open head).
        jaw: three more outputs are the jaw's axis-angle (heads whose expressions do not open the mouth).
        face_centre, pivot: middle of the face and root joint in the head frame, metres.
        scale: camera scale of an average crop. snr: as in `Encoder`; None where it was not measured.
    """

    kind = "encoder"
    renamed: ClassVar = {"anchor": "face_centre", "signal": "snr"}
    hidden = 512

    def __init__(
        self,
        head_model: str = "open_head",
        n_shape: int = 100,
        n_expression: int = 52,
        bounded: bool = True,
        jaw: bool = False,
        face_centre: tuple[float, float, float] = (0.0, 0.0, 0.0),
        pivot: tuple[float, float, float] = (0.0, 0.0, 0.0),
        scale: float = 8.0,
        snr: float | None = None,
    ):
        super().__init__(CROP_SIZE, head_model, ("stem", "stage1", "stage2", "stage3", "stage4", "top"))
        self.bounded = bounded
        self.options = {
            "head_model": head_model,
            "n_shape": n_shape,
            "n_expression": n_expression,
            "bounded": bounded,
            "jaw": jaw,
            "face_centre": tuple(face_centre),
            "pivot": tuple(pivot),
            "scale": scale,
            "snr": snr,
        }
        self.snr = math.inf if snr is None else snr
        self.sizes = {"shape": n_shape, "expression": n_expression, "rotation": 6, "camera": 3, "jaw": 3 if jaw else 0}
        self.register_buffer("face_centre", torch.tensor(face_centre, dtype=torch.float32), persistent=False)
        self.register_buffer("pivot", torch.tensor(pivot, dtype=torch.float32), persistent=False)
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32), persistent=False)
        for name, layers in compact_stages().items():
            self.add_module(name, layers)
        self.top = nn.Sequential(
            nn.Conv2d(WIDTHS[-1], 64, 1),
            nn.Flatten(),
            nn.Linear(64 * (self.crop_size // 32) ** 2, self.hidden),
            nn.LayerNorm(self.hidden),
            nn.ReLU(),
            nn.Linear(self.hidden, sum(self.sizes.values())),
        )
        nn.init.normal_(self.top[-1].weight, std=0.01)
        nn.init.zeros_(self.top[-1].bias)

    def run(self, stage: str, x: Tensor) -> Tensor:
        return getattr(self, stage)((x - 0.5) / 0.25 if stage == "stem" else x)

    def stage_modules(self, stage: str) -> list[nn.Module]:
        return [getattr(self, stage)]

    def decode(self, raw: Tensor) -> HeadParameters:
        shape, expression, rotation, camera, jaw = raw.split(list(self.sizes.values()), -1)
        matrix = rotation_6d_to_matrix(rotation + rotation.new_tensor([1.0, 0, 0, 0, 1.0, 0]))
        pose = torch.cat([matrix_to_rotvec(matrix), rotation.new_zeros(*rotation.shape[:-1], POSE_SIZE - 3)], -1)
        if self.sizes["jaw"]:
            pose = torch.cat([pose[..., :6], jaw, pose[..., 9:]], -1)
        if self.bounded:
            expression = torch.sigmoid(expression - 2.0)
        face_centre = matrix @ (self.face_centre - self.pivot) + self.pivot
        scale = self.scale * torch.exp(0.2 * camera[..., :1])
        shift = 0.2 * camera[..., 1:] * camera.new_tensor([1.0, -1.0]) / scale - face_centre[..., :2]
        return HeadParameters(shape, expression, pose, torch.cat([scale, shift], -1))
