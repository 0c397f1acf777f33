import numpy as np
import pytest
import torch

from neuface_ray.errors import UsageError
from neuface_ray.geometry.alignment import similarity
from neuface_ray.geometry.cameras import project_weak
from neuface_ray.heads import load_head
from neuface_ray.heads.parameters import HeadParameters
from neuface_ray.methods.encoder.augment import augment, move_pixels
from neuface_ray.methods.encoder.losses import SCHEME, accuracy, form, losses
from neuface_ray.methods.encoder.train import TrainOptions, batch_indices, load_batch, measure_signal, rate, train
from neuface_ray.methods.encoder.weights import load_encoder
from neuface_ray.synthesis.faces import FaceOptions
from neuface_ray.synthesis.shards import Shards, write_shard


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("faces")
    for number in range(4):
        write_shard(folder, FaceOptions(far=1.0), 1, number, size=8)
    return folder


@pytest.fixture(scope="module")
def batch(faces):
    return load_head(), *load_batch(Shards(faces), np.arange(8), torch.device("cpu"))


def _perfect(truth):
    return HeadParameters(truth.shape, truth.expression, truth.pose, truth.camera)


def test_the_truth_has_no_loss_and_every_error_has_some(batch):
    head, _, truth = batch
    zero = losses(head, _perfect(truth), truth, group=4)
    assert all(float(value) < 0.15 for value in zero.values()), zero
    assert accuracy(head, _perfect(truth), truth)["nme"] < 0.2
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
    from neuface_ray.methods.encoder.augment import move_truth
    from neuface_ray.methods.encoder.losses import FaceTargets

    head = load_head()
    crops = torch.zeros(1, 3, 128, 128)
    crops[:, :, 30:33, 90:93] = 1.0
    place = torch.tensor([[[(91.5 / 64) - 1, (31.5 / 64) - 1]]])
    still = FaceTargets(
        torch.zeros(1, 100), torch.zeros(1, 52), torch.zeros(1, 15), torch.tensor([[8.0, 0, 0]]), place, place > 9
    )
    change = (torch.tensor([0.3]), torch.tensor([1.1]), torch.tensor([[0.05, -0.1]]))
    image = move_pixels(crops, *change)[0, 0]
    y, x = torch.meshgrid(torch.arange(128) + 0.5, torch.arange(128) + 0.5, indexing="ij")
    centre = torch.stack([(image * x).sum(), (image * y).sum()]) / image.sum() / 64 - 1
    torch.testing.assert_close(centre, move_truth(head, still, *change).landmarks[0, 0], atol=5e-3, rtol=0)


def test_rate_rises_and_falls():
    options = TrainOptions(steps=100, lr=1.0, warmup=0.1)
    values = [rate(step, options) for step in range(100)]
    assert np.argmax(values) in (9, 10)
    assert values[-1] < 0.02
    assert (np.diff(values[10:]) < 0).all()


class _Noisy:
    """Answers with the truth of the pictures it is asked about, in order, plus noise, shrunk as a trained network would."""

    def __init__(self, shapes: torch.Tensor, signal: float):
        noise = torch.randn(shapes.shape, generator=torch.Generator().manual_seed(0)) / signal**0.5
        self.answers = iter((signal / (1 + signal) * (shapes + noise)).split(4))

    def __call__(self, crops: torch.Tensor) -> HeadParameters:
        pose = torch.zeros(4, 15)
        pose[:, 1] = torch.tensor([-1.2, -0.4, 0.4, 1.2])
        return HeadParameters(next(self.answers), torch.zeros(4, 52), pose, torch.zeros(4, 3))


@pytest.mark.parametrize("signal", [0.4, 3.0])
def test_the_signal_of_an_encoder_is_found(faces, signal):
    shards = Shards(faces)
    shapes = torch.from_numpy(shards.take(np.arange(len(shards)), ("shape",))["shape"])
    found = measure_signal(load_head(), _Noisy(shapes, signal), shards, 4, 99, torch.device("cpu"))
    assert 0.4 < found / signal < 2.5


def test_batches_hold_whole_groups():
    indices = batch_indices(np.random.default_rng(0), 40, 16, 4)
    assert sorted({int(i) // 4 for i in indices}) == sorted({int(i) // 4 for i in indices[::4]})
    assert len(set(indices.tolist())) == 16
    assert indices.max() < 40


def test_training_continues_to_the_same_weights_and_measures_its_signal(faces, tmp_path):
    options = TrainOptions(steps=6, batch=8, held_out=8, measure_every=3, save_every_s=0.0)
    train([str(faces)], str(tmp_path / "whole"), options)
    import neuface_ray.methods.encoder.train as module

    class Stop(Exception):
        pass

    original = module.train_step

    def stopping(run, *rest):
        if run.step == 4:
            raise Stop
        return original(run, *rest)

    module.train_step = stopping
    try:
        with pytest.raises(Stop):
            train([str(faces)], str(tmp_path / "broken"), options)
    finally:
        module.train_step = original
    train([str(faces)], str(tmp_path / "broken"), options)
    whole, broken = (load_encoder("compact", tmp_path / name / "compact_encoder.safetensors") for name in ("whole", "broken"))
    for a, b in zip(whole.parameters(), broken.parameters(), strict=True):
        torch.testing.assert_close(a, b)
    assert whole.head_model == load_head().id
    assert 0.05 <= whole.signal <= 50
    assert broken.signal == whole.signal
    with pytest.raises(UsageError, match="was made with"):
        train([str(faces)], str(tmp_path / "whole"), TrainOptions(steps=7))
