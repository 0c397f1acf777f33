import pytest
import torch

from neuface_ray.errors import UsageError
from neuface_ray.methods.encoder.network import CompactEncoder
from neuface_ray.methods.encoder.weights import load_encoder
from neuface_ray.networks.trunk import Trunk


@pytest.mark.parametrize(("kind", "size", "shape"), [("compact", 128, (320, 4, 4)), ("resnet50", 224, (2048, 7, 7)),
                                                     ("alexnet", 224, (256, 6, 6))])  # fmt: skip
def test_feature_maps_have_the_promised_shape(kind, size, shape):
    trunk = Trunk(kind).eval()
    with torch.no_grad():
        features = trunk(torch.rand(2, 3, size, size))
    assert features.shape == (2, *shape)
    assert trunk.channels == shape[0]
    assert features.isfinite().all()


def test_the_packaged_trunk_is_the_encoders():
    trunk, encoder = Trunk("compact", "packaged").eval(), load_encoder("compact")
    encoder.train_from("top")
    crops = torch.rand(2, 3, 128, 128)
    with torch.no_grad():
        assert torch.allclose(trunk(crops), encoder.features(crops), atol=1e-5)
    names = {name for name in CompactEncoder().state_dict() if not name.startswith("top.")}
    assert names == set(trunk.state_dict())


def test_frozen_stages_do_not_learn():
    trunk = Trunk("compact", frozen_to="stage2")
    trunk(torch.rand(1, 3, 128, 128)).sum().backward()
    learned = {name.split(".")[0] for name, p in trunk.named_parameters() if p.grad is not None}
    assert learned == {"stage3", "stage4"}
    assert all(p.requires_grad for p in Trunk("alexnet").parameters())


def test_statistics_of_batches_never_enter():
    trunk = Trunk("resnet50").train()
    before = {name: value.clone() for name, value in trunk.named_buffers()}
    trunk(torch.rand(2, 3, 64, 64))
    assert all(torch.equal(value, before[name]) for name, value in trunk.named_buffers())
    assert not trunk.stage1[0].bn1.weight.requires_grad


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"kind": "vgg"}, "there is no trunk 'vgg'; choose one of compact, resnet50, alexnet"),
        ({"kind": "alexnet", "init": "packaged"}, "no weights are packaged for the trunk alexnet"),
        ({"init": "imagenet"}, "fresh or packaged"),
        ({"frozen_to": "top"}, "has no stage 'top' to freeze; it has stem, stage1"),
    ],
)
def test_what_does_not_exist_is_named(arguments, words):
    with pytest.raises(UsageError, match=words):
        Trunk(**arguments)
