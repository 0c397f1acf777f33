"""Training Learned Vertex Descent: for random points in space, the clamped way to every vertex (LVD, section 3).

What LVD and GLVD share (samples, points, rollouts, scores) is here; `GlvdRecipe` adds keypoints.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from neuface_ray.geometry.mesh import vertex_normals
from neuface_ray.heads import HeadModel
from neuface_ray.methods.augment import change_colours, move_images, random_motion, uniform
from neuface_ray.methods.lvd import network as lvd
from neuface_ray.methods.lvd.labels import Batch, Targets, head_to_view, locate, typical_place
from neuface_ray.methods.lvd.network import LVD, Descent, Scene, confidence_error, descent_error, start_cloud
from neuface_ray.methods.lvd.queries import bernoulli, queries, random_subset, rollout
from neuface_ray.methods.lvd.settings import PROFILES, LvdTrainingSettings
from neuface_ray.methods.lvd.surface import signed_distances, silhouettes
from neuface_ray.methods.mesh_scores import mesh_scores
from neuface_ray.methods.recipe import Recipe, SampleSpec, StepContext, pixels

LABELS = ("shape", "expression", "pose", "camera")
SDF_LIMIT = 0.1
MM = 1000.0


class LvdRecipe(Recipe):
    """Trains an `LVD`; the score is the vertex error of the face after rigid alignment, mm."""

    name, score = "lvd", "mpve_rigid_face_mm"
    network = LVD
    settings: LvdTrainingSettings

    def __init__(self, settings: LvdTrainingSettings, head: HeadModel):
        super().__init__(settings, head)
        self.samples = SampleSpec(LABELS, PROFILES[settings.profile]["crop_size"], settings.views)
        self.face = head.regions["face"]

    def build(self) -> nn.Module:
        config = self.settings
        module = LVD(self.head.n_vertices, config.profile, config.mask, config.canonical, config.limit)
        module.vertex_field.begin_at(typical_place(self.head.template, config.canonical))
        return module

    def losses(self, module: nn.Module, batch: Batch, step: StepContext) -> dict[str, Tensor]:
        batch = self.views_of_step(batch, step)
        scene, targets = self.augmented(module, batch, step)
        if step.progress < self.settings.sdf:
            points, distance = self.distances(targets.vertices, step)
            return {"distance": (module.signed_distance(scene, points) - distance).abs().mean()}
        points = queries(targets.vertices, self.settings.points, self.settings.near, step.generator)
        members = random_subset(self.head.n_vertices, self.settings.members, step.generator)
        wanted = targets.vertices[:, None, members] - points[:, :, None]
        terms = {"vertices": descent_error(module.displacements(scene, points, members), wanted, self.settings.limit)}
        if self.settings.unroll > 0 and step.progress >= self.settings.unroll_from:
            terms["unroll"] = self.settings.unroll * self.unrolled(module, scene, targets, members, step)
        return terms

    def unrolled(self, module: nn.Module, scene: Scene, targets: Targets, members: Tensor, step: StepContext) -> Tensor:
        """Error of one step from where some real steps have led; only the last one has a gradient."""
        start = (start_cloud(scene, module.n_vertices)[:, members],)
        (state,) = rollout(lambda state: (module.step(scene, state[0], members),), start, step.generator)
        moves, confidence = module.paired_displacements(scene, state, members)
        return self.step_error(moves, targets.vertices[:, members] - state, state, confidence)

    def step_error(self, moves: Tensor, wanted: Tensor, points: Tensor, confidence: Tensor) -> Tensor:
        """Error of displacements from points (B, M, 3), and where a single view gave them, that of the confidence in it."""
        error = descent_error(moves, wanted, self.settings.limit)
        if confidence.shape[1] > 1 or self.settings.canonical:
            return error
        return error + self.settings.confidence * confidence_error(moves - wanted, points, confidence)

    @torch.no_grad()
    def scores(self, module: nn.Module, batch: Batch) -> dict[str, Tensor]:
        targets = locate(self.head, batch, head_to_view(self.head, batch), self.settings.canonical)
        scene = module.scene(pixels(batch), targets.to_view, targets.valid)
        return self.descent_scores(module.descend(scene), targets)

    def descent_scores(self, descent: Descent, targets: Targets) -> dict[str, Tensor]:
        """`mesh_scores` with the true scale, and the vertex error of the face as it lies after 2, 4 and 8 steps, mm."""
        metres = MM * targets.metres[:, None, None]
        path, truth = metres * descent.trajectory.float(), metres * targets.vertices
        errors = (path[:, :, self.face] - truth[:, self.face]).norm(dim=-1).mean(-1)
        to_viewer = targets.to_view[:, 0, 2, :3]
        depth = to_viewer / to_viewer.norm(dim=-1, keepdim=True)
        scores = mesh_scores(path[-1], truth, self.face, depth)
        return {f"mpve_none_face_mm_step_{t}": errors[t] for t in (2, 4, 8)} | scores

    def views_of_step(self, batch: Batch, step: StepContext) -> Batch:
        """All views, or with probability ``one_view`` the first alone."""
        alone = bernoulli(self.settings.one_view, step.generator)
        return {name: value[:, :1] for name, value in batch.items()} if alone else batch

    def augmented(self, module: nn.Module, batch: Batch, step: StepContext, **more: Any) -> tuple[Scene, Targets]:
        """Features and targets of randomly changed pictures; ``more`` inputs of the network are made from the motions."""
        images, config = pixels(batch), self.settings.augment
        motion = random_motion(tuple(images.shape[:2]), config, step.generator)
        with torch.no_grad():
            images = move_images(change_colours(images, config.colour, step.generator), motion)
            placed = lvd.compose(motion, head_to_view(self.head, batch))
            targets = locate(self.head, batch, placed, self.settings.canonical)
            if self.settings.mask:
                images = torch.cat([images, self.masks(targets, images.shape[-1], step)], 2)
        more = {name: make(motion) for name, make in more.items()}
        return module.scene(images, targets.to_view, targets.valid, **more), targets

    @staticmethod
    def masks(targets: Targets, size: int, step: StepContext) -> Tensor:
        """Silhouettes (B, N, 1, S, S) of the labels; full masks for half of the samples, since none may be known later."""
        seen = lvd.apply_similarity(targets.to_view, targets.vertices[:, None])[..., :2]
        full = uniform((len(seen), 1, 1, 1, 1), 0, 1, step.generator) < 0.5
        return silhouettes(seen * seen.new_tensor([1.0, -1.0]), size).masked_fill(full, 1.0)

    def distances(self, vertices: Tensor, step: StepContext) -> tuple[Tensor, Tensor]:
        """Queries (B, points, 3) and their signed distances (B, points) to the mesh."""
        points = queries(vertices, self.settings.points, self.settings.near, step.generator)
        return points, signed_distances(points, vertices, vertex_normals(vertices, self.head.faces), SDF_LIMIT)
