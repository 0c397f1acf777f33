"""Training Guided Learned Vertex Descent: the keypoint field, and the vertex field given noisy or self-made keypoints."""

from __future__ import annotations

from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from neuface_ray.heads import HeadModel
from neuface_ray.methods.augment import move_points
from neuface_ray.methods.glvd.network import GLVD
from neuface_ray.methods.glvd.settings import GlvdTrainingSettings
from neuface_ray.methods.heatmap.keypoints import image_keypoints, surface_keypoints
from neuface_ray.methods.lvd.labels import Batch, Targets, head_to_view, locate, typical_place
from neuface_ray.methods.lvd.network import Scene, descent_error, start_cloud
from neuface_ray.methods.lvd.queries import bernoulli, queries, random_subset, rollout
from neuface_ray.methods.lvd.recipe import MM, LvdRecipe
from neuface_ray.methods.recipe import StepContext, pixels
from neuface_ray.networks.hourglass import HeatmapNet
from neuface_ray.networks.weight_file import load_network

PACKAGED_HEATMAP = Path(str(files("neuface_ray"))) / "assets" / "heatmap.safetensors"
KEYPOINT_NOISE = (0.0, 0.02, 0.05, 0.15)
NEAR_KEYPOINTS = 0.05


class GlvdRecipe(LvdRecipe):
    """Trains a `GLVD`; scores as `LvdRecipe`, and the error of the keypoints."""

    name = "glvd"
    network = GLVD
    settings: GlvdTrainingSettings

    def __init__(self, settings: GlvdTrainingSettings, head: HeadModel):
        super().__init__(settings, head)
        if settings.heatmaps == "landmarks":
            self.samples = replace(self.samples, columns=(*self.samples.columns, "landmarks"))

    def build(self) -> nn.Module:
        config, options, frozen = self.settings, None, None
        if config.heatmaps == "network":
            frozen, _ = load_network(HeatmapNet, config.heatmap_weights or PACKAGED_HEATMAP, "glvd.heatmap_weights")
            options = frozen.options
        module = GLVD(
            self.head.n_vertices,
            config.keypoints,
            config.profile,
            config.mask,
            config.canonical,
            heatmaps=config.heatmaps,
            heatmap_options=options,
            relative=config.relative,
            limit=config.limit,
        )
        resting = typical_place(self.head.template, config.canonical)
        module.vertex_field.begin_at(resting)
        module.keypoint_field.begin_at(surface_keypoints(self.head, resting, config.keypoints))
        if frozen is not None:
            module.heatmap_net.load_state_dict(frozen.state_dict())
        return module

    def files(self) -> dict[str, str]:
        path = self.settings.heatmap_weights
        return {} if path is None else {"glvd.heatmap_weights": path}

    def facts(self, module: nn.Module) -> dict[str, Any]:
        return {"keypoints": self.settings.keypoints}

    def losses(self, module: nn.Module, batch: Batch, step: StepContext) -> dict[str, Tensor]:
        batch, config = self.views_of_step(batch, step), self.settings
        hints = self.hints(batch)
        more = {} if hints is None else {"landmarks": lambda motion: move_points(hints, motion)}
        scene, targets = self.augmented(module, batch, step, **more)
        truth = surface_keypoints(self.head, targets.vertices, config.keypoints)
        noisy = self.noisy(truth, step)
        if step.progress < config.sdf:
            points, distance = self.distances(targets.vertices, step)
            return {"distance": (module.signed_distance(scene, points, noisy) - distance).abs().mean()}
        members = random_subset(self.head.n_vertices, config.members, step.generator)
        terms, found = {}, noisy
        if config.unroll > 0 and step.progress >= config.unroll_from:
            error, found = self.unrolled_pair(module, scene, targets, truth, members, step)
            terms["unroll"] = config.unroll * error
        predicted = bernoulli(0.5, step.generator) and step.progress >= config.rollout_from
        points = queries(targets.vertices, config.points, config.near, step.generator)
        wanted = targets.vertices[:, None, members] - points[:, :, None]
        moves = module.displacements(scene, points, found if predicted else noisy, members)
        terms["vertices"] = descent_error(moves, wanted, config.limit)
        points = queries(truth, config.points, NEAR_KEYPOINTS, step.generator)
        moves = module.keypoint_displacements(scene, points)
        terms["keypoints"] = config.keypoint_weight * descent_error(moves, truth[:, None] - points[:, :, None], config.limit)
        return terms

    def hints(self, batch: Batch) -> Tensor | None:
        """2D keypoints (B, N, K, 2) from the landmarks of the rows, where the network wants them."""
        if "landmarks" not in batch:
            return None
        landmarks = batch["landmarks"]
        keypoints = image_keypoints(landmarks.cpu().numpy(), self.settings.keypoints)
        return torch.from_numpy(keypoints).to(landmarks.device)

    @staticmethod
    def noisy(truth: Tensor, step: StepContext) -> Tensor:
        """The true keypoints, as wrong as those of a sample's early or late steps may be."""
        sigma = torch.tensor(KEYPOINT_NOISE, device=truth.device)
        chosen = sigma[torch.randint(len(sigma), (len(truth), 1, 1), generator=step.generator, device=truth.device)]
        return truth + chosen * torch.randn(truth.shape, generator=step.generator, device=truth.device)

    def unrolled_pair(
        self, module: nn.Module, scene: Scene, targets: Targets, truth: Tensor, members: Tensor, step: StepContext
    ) -> tuple[Tensor, Tensor]:
        """As `LvdRecipe.unrolled`, in lock-step with the keypoints, which are returned too (without a gradient)."""

        def update(state: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            keypoints = module.step_keypoints(scene, state[1])
            return module.step(scene, state[0], keypoints, members), keypoints

        start = (start_cloud(scene, module.n_vertices)[:, members], start_cloud(scene, module.n_keypoints, seed=1))
        state, keypoints = rollout(update, start, step.generator)
        limit = self.settings.limit
        moves, confidence = module.paired_keypoint_displacements(scene, keypoints)
        error = self.step_error(moves, truth - keypoints, keypoints, confidence)
        keypoints = (keypoints + moves.clamp(-limit, limit)).detach()
        moves, confidence = module.paired_displacements(scene, state, keypoints, members)
        return error + self.step_error(moves, targets.vertices[:, members] - state, state, confidence), keypoints

    @torch.no_grad()
    def scores(self, module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        targets = locate(self.head, batch, head_to_view(self.head, batch), self.settings.canonical)
        scene = module.scene(pixels(batch), targets.to_view, targets.valid, self.hints(batch))
        descent = module.descend(scene)
        truth = surface_keypoints(self.head, targets.vertices, self.settings.keypoints)
        error = (descent.keypoints.float() - truth).norm(dim=-1).mean(-1) * targets.metres
        return self.descent_scores(descent, targets) | {"keypoints_mm": MM * error}
