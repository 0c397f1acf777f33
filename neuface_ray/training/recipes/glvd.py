"""Training Guided Learned Vertex Descent: the keypoint field, and the vertex field given noisy or self-made keypoints."""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from neuface_ray.heads import HeadModel
from neuface_ray.networks.descent_file import load_network
from neuface_ray.networks.glvd import GLVD, HEATMAP_SOURCES
from neuface_ray.networks.keypoints import SETS, image_keypoints, surface_keypoints
from neuface_ray.networks.lvd import Scene, clamped_targets, start_cloud
from neuface_ray.training.augment import move_points
from neuface_ray.training.labels import Batch, Targets, head_to_view, locate
from neuface_ray.training.queries import chance, queries, rollout_length, some_of
from neuface_ray.training.recipe import Step
from neuface_ray.training.recipes.lvd import MM, DescentConfig, LvdRecipe, pixels
from neuface_ray.training.sources import Reading

PACKAGED_HEATMAP = Path(str(files("neuface_ray"))) / "assets" / "heatmap.safetensors"
KEYPOINT_NOISE = (0.0, 0.02, 0.05, 0.15)
NEAR_KEYPOINTS = 0.05


@dataclass
class GlvdConfig(DescentConfig):
    """Guided descent; ablations are ``relative``, ``heatmaps`` and ``keypoints``."""

    keypoints: int = field(default=18, metadata={"help": f"number of guiding keypoints: {', '.join(map(str, SETS))}"})
    relative: bool = field(default=True, metadata={"help": "encode vertices relative to the keypoints"})
    heatmaps: str = field(default="network", metadata={"help": f"2D evidence for keypoints: {', '.join(HEATMAP_SOURCES)}"})
    heatmap_weights: str | None = field(default=None, metadata={"help": "frozen network of recipe=heatmap; null: packaged"})
    keypoint_weight: float = field(default=1.0, metadata={"help": "weight of the keypoint term"})
    rollout_from: float = field(default=0.5, metadata={"help": "share of the training after which half of the batches use "
                                                               "the network's own keypoints"})  # fmt: skip


class GlvdRecipe(LvdRecipe):
    """Trains a `GLVD`; scores as `LvdRecipe`, and the error of the keypoints."""

    name = "glvd"
    settings: GlvdConfig

    def __init__(self, settings: GlvdConfig, head: HeadModel):
        super().__init__(settings, head)
        if settings.heatmaps == "landmarks":
            self.reading = Reading((*self.reading.columns, "landmarks"), self.reading.image_size, self.reading.views)

    def build(self) -> nn.Module:
        config, options, frozen = self.settings, None, None
        if config.heatmaps == "network":
            frozen, _ = load_network("heatmap", config.heatmap_weights or PACKAGED_HEATMAP, "glvd.heatmap_weights")
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
        )
        if frozen is not None:
            module.heatmap_net.load_state_dict(frozen.state_dict())
        return module

    def losses(self, module: nn.Module, batch: Batch, step: Step) -> dict[str, Tensor]:
        batch, config = self.views_of_step(batch, step), self.settings
        hints = self.hints(batch)
        more = {} if hints is None else {"landmarks": lambda motion: move_points(hints, motion)}
        scene, targets = self.augmented(module, batch, step, **more)
        truth = surface_keypoints(self.head, targets.vertices, config.keypoints)
        guide = self.guide(module, scene, truth, step)
        if step.progress < config.sdf:
            points, distance = self.distances(targets.vertices, step)
            return {"distance": (module.signed_distance(scene, points, guide) - distance).abs().mean()}
        points = queries(targets.vertices, config.points, config.near, step.generator)
        members = some_of(self.head.n_vertices, config.members, step.generator)
        wanted = clamped_targets(targets.vertices[:, members], points, config.limit)
        terms = {"vertices": (module.displacements(scene, points, guide, members) - wanted).abs().mean()}
        points = queries(truth, config.points, NEAR_KEYPOINTS, step.generator)
        error = module.keypoint_displacements(scene, points) - clamped_targets(truth, points, config.limit)
        terms["keypoints"] = config.keypoint_weight * error.abs().mean()
        if config.unroll > 0 and step.progress >= config.unroll_from:
            terms["unroll"] = config.unroll * self.unrolled_pair(module, scene, targets, truth, members, step)
        return terms

    def hints(self, batch: Batch) -> Tensor | None:
        """2D keypoints (B, N, K, 2) from the landmarks of the rows, where the network wants them."""
        if "landmarks" not in batch:
            return None
        landmarks = batch["landmarks"]
        made = image_keypoints(landmarks.cpu().numpy(), self.settings.keypoints)
        return torch.from_numpy(made).to(landmarks.device)

    def guide(self, module: nn.Module, scene: Scene, truth: Tensor, step: Step) -> Tensor:
        """Keypoints for the vertex field: the truth with noise, later often the network's own after some steps."""
        generator, device = step.generator, truth.device
        if chance(0.5, generator) and step.progress >= self.settings.rollout_from:
            with torch.no_grad(), parametrize.cached():
                return self.keypoints_after(module, scene, rollout_length(generator))
        sigma = torch.tensor(KEYPOINT_NOISE, device=device)
        chosen = sigma[torch.randint(len(sigma), (len(truth), 1, 1), generator=generator, device=device)]
        return truth + chosen * torch.randn(truth.shape, generator=generator, device=device)

    @staticmethod
    def keypoints_after(module: nn.Module, scene: Scene, steps: int) -> Tensor:
        keypoints = start_cloud(scene, module.n_keypoints, seed=1)
        for _ in range(steps):
            keypoints = module.step_keypoints(scene, keypoints)
        return keypoints

    def unrolled_pair(
        self, module: nn.Module, scene: Scene, targets: Targets, truth: Tensor, members: Tensor, step: Step
    ) -> Tensor:
        """As `LvdRecipe.unrolled`, in lock-step with the keypoints."""
        state, wanted_state = start_cloud(scene, module.n_vertices)[:, members], targets.vertices[:, members]
        keypoints = start_cloud(scene, module.n_keypoints, seed=1)
        with torch.no_grad(), parametrize.cached():
            for _ in range(rollout_length(step.generator)):
                keypoints = module.step_keypoints(scene, keypoints)
                state = module.step(scene, state, keypoints, members)
        limit = self.settings.limit
        moved = module.step_keypoints(scene, keypoints)
        error = (moved - keypoints - (truth - keypoints).clamp(-limit, limit)).abs().mean()
        vertices = module.step(scene, state, moved.detach(), members)
        return error + (vertices - state - (wanted_state - state).clamp(-limit, limit)).abs().mean()

    @torch.no_grad()
    def scores(self, module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        targets = locate(self.head, batch, head_to_view(self.head, batch), self.settings.canonical)
        scene = module.scene(pixels(batch), targets.to_view, targets.valid, self.hints(batch))
        descent = module.descend(scene)
        truth = surface_keypoints(self.head, targets.vertices, self.settings.keypoints)
        error = (descent.keypoints.float() - truth).norm(dim=-1).mean(-1) * targets.metres
        return self.mesh_scores(descent, targets) | {"keypoints_mm": MM * error}
