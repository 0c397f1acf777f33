import math

import numpy as np
import pytest
import torch

from neuface_ray.errors import ModelFileError, UsageError
from neuface_ray.methods.glvd.network import GLVD
from neuface_ray.methods.glvd.settings import GlvdTrainingSettings
from neuface_ray.methods.heatmap.settings import HeatmapTrainingSettings
from neuface_ray.methods.lvd.network import LVD
from neuface_ray.methods.lvd.settings import LvdTrainingSettings
from neuface_ray.methods.recipe import StepContext
from neuface_ray.methods.registry import build_recipe
from neuface_ray.networks.hourglass import HeatmapNet
from neuface_ray.networks.weight_file import load_network, save_network
from neuface_ray.training.stream import read_some, split, stack

SMALL = {"views": 3, "points": 32, "members": 40}


@pytest.fixture(scope="module")
def heatmap_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "heatmap.safetensors"
    torch.manual_seed(0)
    save_network(HeatmapNet(18, width=16, depth=2), path, {"head_model": "x"})
    return path


def recipe_and_batch(head, data, kind, settings):
    recipe = build_recipe(kind, settings, head)
    samples = read_some(split([str(data)], [], 0.0, recipe.samples, head.id).train, recipe.samples, 2, 0)
    return recipe, {name: torch.from_numpy(value) for name, value in stack(samples).items()}


def step(progress, seed=0):
    return StepContext(progress, torch.Generator().manual_seed(seed))


def test_lvd_learns_from_every_term(head, three_views):
    recipe, batch = recipe_and_batch(head, three_views, "lvd", LvdTrainingSettings(**SMALL, one_view=0.0))
    module = recipe.build()
    early, late = recipe.losses(module, batch, step(0.0)), recipe.losses(module, batch, step(0.9))
    assert set(early) == {"vertices"}
    assert set(late) == {"vertices", "unroll"}
    assert torch.equal(early["vertices"], recipe.losses(module, batch, step(0.0))["vertices"])
    sum(late.values()).backward()
    learned = {name for name, p in module.named_parameters() if p.grad is not None and p.grad.isfinite().all()}
    assert {name for name, _ in module.named_parameters()} - learned == {
        f"vertex_field.distance.{x}" for x in ("weight", "bias")
    }


@pytest.mark.parametrize("kind", ["lvd", "glvd"])
def test_distances_come_first_and_masks_are_optional(head, single_views, kind):
    settings = {"lvd": LvdTrainingSettings, "glvd": lambda **more: GlvdTrainingSettings(heatmaps="none", **more)}[kind](
        **SMALL, sdf=0.2, mask=True
    )
    recipe, batch = recipe_and_batch(head, single_views, kind, settings)
    module = recipe.build()
    assert module.n_channels == 4
    assert set(recipe.losses(module, batch, step(0.1))) == {"distance"}
    later = recipe.losses(module, batch, step(0.2))
    assert "distance" not in later
    recipe.losses(module, batch, step(0.1))["distance"].backward()
    assert module.vertex_field.distance.weight.grad.abs().sum() > 0
    assert recipe.scores(module, batch)["mpve_rigid_face_mm"].isfinite().all()  # pictures without a mask


@pytest.mark.parametrize("kind", ["lvd", "glvd"])
def test_mixed_precision_changes_little(head, three_views, kind):
    settings = LvdTrainingSettings(**SMALL) if kind == "lvd" else GlvdTrainingSettings(heatmaps="landmarks", **SMALL)
    recipe, batch = recipe_and_batch(head, three_views, kind, settings)
    module = recipe.build()
    exact = recipe.losses(module, batch, step(0.9))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = recipe.losses(module, batch, step(0.9))
        scores = recipe.scores(module, batch)
    for name, value in exact.items():
        assert rounded[name].float().item() == pytest.approx(value.item(), rel=0.05)
    sum(rounded.values()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in module.parameters())
    assert scores["mpve_rigid_face_mm"].isfinite().all()


def test_the_true_field_has_no_loss_and_scores_zero(head, single_views):
    settings = LvdTrainingSettings(**SMALL, confidence=0.0)
    recipe, batch = recipe_and_batch(head, single_views, "lvd", settings)
    module = recipe.build()
    known = {}

    class Oracle(LVD):
        """Knows the targets of the last scene."""

        def displacements(self, scene, points, members=None):
            return known["vertices"][:, None, members] - points[:, :, None]

        def paired_displacements(self, scene, vertices, members=None):
            moves = (known["vertices"] if members is None else known["vertices"][:, members]) - vertices
            return moves, torch.ones(*moves.shape[:1], 1, moves.shape[1], 2)

    module.__class__ = Oracle
    from neuface_ray.methods.lvd import recipe as lvd_recipe

    real = lvd_recipe.locate

    def remembering(*arguments):
        targets = real(*arguments)
        known["vertices"] = targets.vertices
        return targets

    lvd_recipe.locate = remembering
    try:
        assert sum(recipe.losses(module, batch, step(0.9)).values()) < 1e-6
        scores = recipe.scores(module, batch)
    finally:
        lvd_recipe.locate = real
    assert (scores["mpve_none_face_mm_step_2"] > 10).all()
    assert (scores["mpve_none_face_mm_step_4"] < scores["mpve_none_face_mm_step_2"]).all()
    assert all((scores[name] < 1e-2).all() for name in ("mpve_none_face_mm", "mpve_rigid_face_mm"))


@pytest.mark.parametrize(
    "changes",
    [{}, {"heatmaps": "landmarks"}, {"heatmaps": "none", "relative": "none", "keypoints": 13, "canonical": True}],
    ids=str,
)
def test_glvd_learns_from_every_term_and_leaves_the_heatmaps_frozen(head, three_views, heatmap_file, changes):
    settings = GlvdTrainingSettings(**SMALL, one_view=0.0, heatmap_weights=str(heatmap_file), **changes)
    recipe, batch = recipe_and_batch(head, three_views, "glvd", settings)
    module = recipe.build().train()
    before = {name: value.clone() for name, value in module.state_dict().items() if name.startswith("heatmap_net")}
    assert bool(before) == (settings.heatmaps == "network")
    terms = recipe.losses(module, batch, step(0.9, seed=1))
    assert set(terms) == {"vertices", "keypoints", "unroll"}
    assert all(term.isfinite() and term > 0 for term in terms.values())
    optimiser = torch.optim.Adam([p for p in module.parameters() if p.requires_grad], 1e-3)
    sum(terms.values()).backward()
    optimiser.step()
    assert all(torch.equal(value, module.state_dict()[name]) for name, value in before.items())
    scores = recipe.scores(module, batch)
    assert scores["keypoints_mm"].shape == scores["mpve_rigid_face_mm"].shape == (2,)


def test_heatmaps_are_scored_by_the_distance_of_their_peaks(head, single_views):
    recipe, batch = recipe_and_batch(head, single_views, "heatmap", HeatmapTrainingSettings(crop_size=64, width=16))
    module = recipe.build()
    assert recipe.losses(module, batch, step(0.0))["heatmaps"].isfinite()
    points = recipe.points(batch)
    truth = np.asarray(batch["landmarks"][:, 0, [33, 263]])  # outer eye corners
    assert np.allclose(points[:, [3, 4]], truth, atol=1e-6)

    class Off(torch.nn.Module):
        def forward(self, images):
            from neuface_ray.networks.hourglass import gaussian_heatmaps

            return gaussian_heatmaps(points + 0.1, 64, 0.1)

    assert torch.allclose(recipe.scores(Off(), batch)["distance_percent"], torch.tensor(5 * math.sqrt(2)), atol=0.4)


def test_weights_come_back_as_they_went_and_only_to_their_own_kind(head, heatmap_file, tmp_path):
    torch.manual_seed(0)
    model = LVD(30, width=16, stacks=1)
    path = tmp_path / "lvd.safetensors"
    save_network(model, path, {"head_model": "a/b/c"})
    loaded, facts = load_network(LVD, path, "x.path")
    assert facts == {"head_model": "a/b/c"}
    for (name, value), other in zip(model.state_dict().items(), loaded.state_dict().values(), strict=True):
        assert torch.allclose(value, other, atol=2e-3), name
    with pytest.raises(ModelFileError, match="holds weights of heatmap, not of lvd"):
        load_network(LVD, heatmap_file, "init")
    with pytest.raises(ModelFileError, match=r"no glvd weights at .*jobs/train\.py"):
        load_network(GLVD, tmp_path / "none.safetensors", "annotator.glvd.weights")
    with pytest.raises(UsageError, match="recipe='nerf' does not exist"):
        build_recipe("nerf", None, head)
