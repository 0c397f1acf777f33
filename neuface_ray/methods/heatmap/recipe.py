"""Training the small network that marks the guiding keypoints in an image, on the landmarks of the rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from neuface_ray.heads import HeadModel
from neuface_ray.methods.augment import change_colours, move_images, move_points, random_motion
from neuface_ray.methods.heatmap.keypoints import image_keypoints
from neuface_ray.methods.heatmap.settings import HeatmapTrainingSettings
from neuface_ray.methods.recipe import Batch, Recipe, SampleSpec, StepContext, pixels
from neuface_ray.networks.hourglass import HeatmapNet, gaussian_heatmaps, heatmap_peaks

FOREGROUND_WEIGHT = 20.0


class HeatmapRecipe(Recipe):
    """Trains a `HeatmapNet`; the score is the mean distance of the peaks from the points, percent of the crop's side."""

    name, score = "heatmap", "distance_percent"
    network = HeatmapNet
    settings: HeatmapTrainingSettings

    def __init__(self, settings: HeatmapTrainingSettings, head: HeadModel):
        super().__init__(settings, head)
        self.samples = SampleSpec(("landmarks",), settings.crop_size)

    def build(self) -> nn.Module:
        return HeatmapNet(self.settings.keypoints, self.settings.width, self.settings.stacks)

    def facts(self, module: nn.Module) -> dict[str, Any]:
        return {"keypoints": self.settings.keypoints}

    def points(self, batch: Batch) -> Tensor:
        """Keypoints (B, K, 2) of the first view, crop coordinates."""
        landmarks = batch["landmarks"][:, 0]
        return torch.from_numpy(image_keypoints(landmarks.cpu().numpy(), self.settings.keypoints)).to(landmarks.device)

    def losses(self, module: nn.Module, batch: Batch, step: StepContext) -> dict[str, Tensor]:
        images, config = pixels(batch)[:, 0], self.settings.augment
        motion = random_motion((len(images),), config, step.generator)
        with torch.no_grad():
            images = move_images(change_colours(images, config.colour, step.generator), motion)
            points = move_points(self.points(batch), motion)
        found = module(images).float()
        wanted = gaussian_heatmaps(points, found.shape[-1], self.settings.sigma)
        return {"heatmaps": ((1 + FOREGROUND_WEIGHT * wanted) * (found - wanted) ** 2).mean()}

    @torch.no_grad()
    def scores(self, module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        peaks, _ = heatmap_peaks(module(pixels(batch)[:, 0]).float())
        return {self.score: 50 * (peaks - self.points(batch)).norm(dim=-1).mean(-1)}
