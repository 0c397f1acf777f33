import numpy as np
import pytest
import torch

from neuface_ray.geometry.alignment import similarity
from neuface_ray.geometry.cameras import project_weak
from neuface_ray.heads import load_head
from neuface_ray.heads.parameters import HeadParameters
from neuface_ray.methods.augment import move_images, planar_motion
from neuface_ray.methods.encoder.augment import augment, move_truth
from neuface_ray.methods.encoder.losses import SCHEME, FaceTargets, accuracy, form, losses
from neuface_ray.methods.encoder.recipe import faces_of, measure_snr
from neuface_ray.methods.encoder.settings import EncoderTrainingSettings
from neuface_ray.methods.encoder.weights import load_encoder
from neuface_ray.methods.recipe import StepContext
from neuface_ray.methods.registry import build_recipe
from neuface_ray.synthesis.faces import FaceOptions
from neuface_ray.synthesis.shards import write_shard
from neuface_ray.training.stream import read_some, split, stack


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("faces")
    for number in range(4):
        write_shard(folder, FaceOptions(far=1.0), 1, number, size=8)
    return folder


@pytest.fixture(scope="module")
def recipe():
    return build_recipe("encoder", EncoderTrainingSettings(), load_head())


@pytest.fixture(scope="module")
def samples(faces, recipe):
    """All faces, persons together, as the loop hands them to the recipe."""
    shards = split([str(faces)], [], 0.0, recipe.samples, recipe.head.id).train
    return {name: torch.from_numpy(value) for name, value in stack(read_some(shards, recipe.samples, 99, 0), 4).items()}


@pytest.fixture(scope="module")
def batch(recipe, samples):
    return recipe.head, *faces_of({name: value[:8] for name, value in samples.items()})


def _perfect(truth):
    return HeadParameters(truth.shape, truth.expression, truth.pose, truth.camera)


def test_the_truth_has_no_loss_and_every_error_has_some(batch):
    head, _, truth = batch
    zero = losses(head, _perfect(truth), truth, group=4)
    assert all(float(value) < 0.15 for value in zero.values()), zero
    assert accuracy(head, _perfect(truth), truth)["nme"].max() < 0.4
    wrong = HeadParameters(truth.shape + 0.5, truth.expression * 0.5, truth.pose * 1.2, truth.camera * 1.05)
    assert all(float(value) > float(zero[name]) + 0.01 for name, value in losses(head, wrong, truth, group=4).items())


def test_person_term_sees_only_the_mean_of_a_persons_shapes(batch):
    head, _, truth = batch
    offset = torch.tensor([1.0, -1.0, 1.0, -1.0] * 2)[:, None]
    swayed = HeadParameters(truth.shape + offset, truth.expression, truth.pose, truth.camera)
    terms = losses(head, swayed, truth, group=4)
    assert float(terms["person"]) < 0.1
    assert float(terms["neutral"]) > 0.5


def test_form_is_what_a_similarity_cannot_undo():
    head = load_head()
    residual = form(head)
    inner = head.template[head.regions["inner_face"]]
    points = inner - inner.mean(0)
    for direction in (
        torch.ones_like(points),
        points,
        torch.linalg.cross(torch.tensor([0.2, 1.0, -0.3]).expand_as(points), points),
    ):
        assert torch.einsum("nc,nck->k", direction, residual).abs().max() < 1e-4
    shape = torch.randn(16, 100, generator=torch.Generator().manual_seed(0))
    bent = torch.einsum("nck,bk->bnc", residual, shape)
    placed = inner + torch.einsum("nck,bk->bnc", head.shape_basis[head.regions["inner_face"]], shape)
    aligned = similarity(placed.numpy(), inner.expand_as(placed).numpy()).apply(placed.numpy()) - inner.numpy()
    assert np.abs(aligned - bent.numpy()).mean() < 0.15 * np.abs(aligned).mean()


def test_augmented_pictures_and_truth_move_together(batch):
    head, crops, truth = batch
    torch.manual_seed(0)
    changed, moved = augment(head, crops, truth)
    assert changed.shape == crops.shape
    assert not torch.equal(changed, crops)
    vertices = head(moved.shape, moved.expression, moved.pose[:, :3])
    seen = project_weak(head.landmarks(vertices, SCHEME), moved.camera)
    assert (seen - moved.landmarks).norm(dim=-1).mean() < 5e-3
    assert (moved.landmarks - truth.landmarks).norm(dim=-1).mean() > 0.02


def test_a_marked_pixel_moves_as_the_landmarks_do():
    head = load_head()
    crops = torch.zeros(1, 3, 128, 128)
    crops[:, :, 30:33, 90:93] = 1.0
    place = torch.tensor([[[(91.5 / 64) - 1, (31.5 / 64) - 1]]])
    still = FaceTargets(
        torch.zeros(1, 100), torch.zeros(1, 52), torch.zeros(1, 15), torch.tensor([[8.0, 0, 0]]), place, place > 9
    )
    motion = planar_motion(torch.tensor([-0.3]), torch.tensor([1.1]), torch.tensor([[0.05, 0.1]]))
    image = move_images(crops, motion, "border")[0, 0]
    y, x = torch.meshgrid(torch.arange(128) + 0.5, torch.arange(128) + 0.5, indexing="ij")
    centre = torch.stack([(image * x).sum(), (image * y).sum()]) / image.sum() / 64 - 1
    torch.testing.assert_close(centre, move_truth(head, still, motion).landmarks[0, 0], atol=5e-3, rtol=0)


class _Noisy:
    """Answers with the truth of the pictures it is asked about, in order, plus noise, shrunk as a trained network would."""

    def __init__(self, shapes: torch.Tensor, snr: float):
        noise = torch.randn(shapes.shape, generator=torch.Generator().manual_seed(0)) / snr**0.5
        self.answers = iter((snr / (1 + snr) * (shapes + noise)).split(4))

    def __call__(self, crops: torch.Tensor) -> HeadParameters:
        pose = torch.zeros(4, 15)
        pose[:, 1] = torch.tensor([-1.2, -0.4, 0.4, 1.2])
        return HeadParameters(next(self.answers), torch.zeros(4, 52), pose, torch.zeros(4, 3))


@pytest.mark.parametrize("snr", [0.4, 3.0])
def test_the_snr_of_an_encoder_is_found(samples, snr):
    found = measure_snr(load_head(), _Noisy(samples["shape"][:, 0], snr), samples, 4)
    assert 0.4 < found / snr < 2.5


def test_batches_hold_whole_persons(samples):
    shapes = samples["shape"][:, 0].unflatten(0, (-1, 4))
    assert len(shapes) == 8
    assert torch.equal(shapes[:, :1].expand_as(shapes), shapes)
    assert len({tuple(person[0, :3].tolist()) for person in shapes}) == 8


def test_every_term_teaches_and_the_exported_file_knows_its_snr(recipe, samples, tmp_path):
    torch.manual_seed(0)
    network = recipe.build().train()
    batch = {name: value[:8] for name, value in samples.items()}
    terms = recipe.losses(network, batch, StepContext(0.0, torch.Generator()))
    assert all(term > 0 for term in terms.values())
    sum(terms.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in network.parameters())
    scores = recipe.scores(network.eval(), batch)
    assert {value.shape for value in scores.values()} == {(8,)}
    assert recipe.score in scores
    recipe.finish(network, samples)
    recipe.save(network, tmp_path / "encoder.safetensors", {"head_model": recipe.head.id})
    loaded = load_encoder("compact", tmp_path / "encoder.safetensors")
    assert loaded.snr == network.snr
    assert 0.05 <= loaded.snr <= 50
    other = recipe.build()
    recipe.load(other, tmp_path / "encoder.safetensors")
    assert torch.allclose(other.stage4[1].conv2.weight, network.stage4[1].conv2.weight, atol=1e-3)
