import pytest
import torch

from neuface_ray.geometry.cameras import project_weak
from neuface_ray.geometry.rotations import rotvec_to_matrix
from neuface_ray.methods.encoder.network import CompactEncoder, DecaEncoder, EmocaEncoder, split_deca
from neuface_ray.networks.resnet import ResNet50


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)
    torch.set_num_threads(1)


def test_resnet_has_torchvisions_names_and_sizes():
    net = ResNet50()
    state = net.state_dict()
    assert state["layer1.0.downsample.0.weight"].shape == (256, 64, 1, 1)
    assert state["layer4.2.conv3.weight"].shape == (2048, 512, 1, 1)
    assert state["layer3.5.bn2.running_var"].shape == (256,)
    assert sum(p.numel() for p in net.parameters()) == 23_508_032  # torchvision's 25,557,032 without its classifier
    assert not any(name.startswith("layer1.1.downsample") for name in state)


def test_deca_splits_its_outputs_in_the_published_order():
    raw = torch.arange(236.0)[None]
    parts = split_deca(raw)
    assert [part.shape[-1] for part in parts.values()] == [100, 50, 50, 6, 3, 27]
    assert list(parts) == ["shape", "tex", "exp", "pose", "cam", "light"]
    parameters = DecaEncoder().decode(raw)
    assert parameters.expression[0, 0] == 150
    assert parameters.pose[0].tolist() == [200, 201, 202, 0, 0, 0, 203, 204, 205, 0, 0, 0, 0, 0, 0]
    assert parameters.camera[0].tolist() == [206, 207, 208]


def test_emoca_takes_expression_from_its_own_branch():
    encoder = EmocaEncoder().eval()
    crops = torch.rand(1, 3, 64, 64)
    parameters = encoder(crops)
    coarse = encoder.E_flame.layers(encoder.E_flame.encoder(crops))
    expression = encoder.E_expression.layers(encoder.E_expression.encoder(crops))
    torch.testing.assert_close(parameters.expression, expression)
    torch.testing.assert_close(parameters.identity, coarse[:, :100])
    torch.testing.assert_close(parameters.pose[:, 6:9], coarse[:, 203:206])
    with_jaw = EmocaEncoder(53).decode(torch.arange(236.0 + 53)[None])
    assert with_jaw.pose[0, 6:9].tolist() == [286, 287, 288]
    assert with_jaw.pose[0, :3].tolist() == [200, 201, 202]


def _encoders():
    yield CompactEncoder(), 128
    yield DecaEncoder(), 64
    yield EmocaEncoder(), 64


@pytest.mark.parametrize("index", range(3))
def test_cached_features_and_head_equal_the_whole_for_every_split(index):
    encoder, size = list(_encoders())[index]
    crops = torch.rand(2, 3, size, size)
    encoder.train()
    with torch.no_grad():
        whole = encoder(crops)
        for stage in encoder.stages:
            moving = encoder.train_from(stage)
            split = encoder.head(encoder.features(crops))
            assert len(moving) > 0
            for a, b in zip(whole.tensors, split.tensors, strict=True):
                torch.testing.assert_close(a, b)
    with pytest.raises(ValueError, match="no stage 'nose'"):
        encoder.train_from("nose")


@pytest.mark.parametrize("index", range(3))
def test_only_the_stages_from_the_split_up_receive_gradients(index):
    encoder, size = list(_encoders())[index]
    everything = {id(p) for p in encoder.train_from(encoder.stages[0])}
    last = encoder.stages[-1]
    moving = {id(p) for p in encoder.train_from(last)}
    assert moving < everything
    parameters = encoder(torch.rand(2, 3, size, size))
    sum(part.square().sum() for part in parameters.tensors).backward()
    with_gradient = {id(p) for p in encoder.parameters() if p.grad is not None}
    assert with_gradient == moving


def test_batchnorm_never_moves():
    encoder = DecaEncoder().train()
    encoder.train_from("conv1")
    before = {k: v.clone() for k, v in encoder.state_dict().items() if ".bn" in k}
    moving = {id(p) for p in encoder.parameters() if p.requires_grad}
    assert not any(id(p) in moving for m in encoder.modules() if isinstance(m, torch.nn.BatchNorm2d) for p in m.parameters())
    encoder(torch.rand(2, 3, 64, 64))
    assert before.keys()
    assert all(torch.equal(encoder.state_dict()[k], v) for k, v in before.items())


def test_images_of_a_batch_do_not_influence_each_other():
    for encoder, size in _encoders():
        encoder.train()
        crops = torch.rand(3, 3, size, size)
        with torch.no_grad():
            for alone, together in zip(encoder(crops[1:2]).tensors, encoder(crops).tensors, strict=True):
                torch.testing.assert_close(alone[0], together[1], rtol=1e-4, atol=1e-5)


def test_compact_camera_puts_the_face_centre_where_the_raw_output_says():
    face_centre, pivot = (0.0, -0.01, 0.09), (0.0, -0.05, -0.02)
    encoder = CompactEncoder(face_centre=face_centre, pivot=pivot, scale=9.0).double()
    raw = torch.randn(4, sum(encoder.sizes.values()), dtype=torch.float64)
    parameters = encoder.decode(raw)
    face_centre_t, pivot_t = encoder.face_centre, encoder.pivot
    posed = (rotvec_to_matrix(parameters.pose[:, :3]) @ (face_centre_t - pivot_t) + pivot_t)[:, None]
    seen = project_weak(posed, parameters.camera)[:, 0]
    torch.testing.assert_close(seen, 0.2 * raw[:, 159:161])
    assert (parameters.camera[:, 0] > 0).all()
    assert ((parameters.expression > 0) & (parameters.expression < 1)).all()
    assert parameters.pose.shape == (4, 15)
    assert (parameters.pose[:, 3:] == 0).all()


def test_compact_for_an_unbounded_head_with_a_jaw():
    encoder = CompactEncoder("FLAME", n_expression=50, bounded=False, jaw=True)
    parameters = encoder(torch.rand(2, 3, 128, 128))
    assert parameters.expression.shape == (2, 50)
    assert (parameters.pose[:, 6:9] != 0).all()
    assert (parameters.pose[:, [3, 4, 5, 9, 14]] == 0).all()


def test_compact_decode_gradient():
    encoder = CompactEncoder(face_centre=(0.0, 0.0, 0.1)).double()
    raw = torch.randn(2, sum(encoder.sizes.values()), dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda r: torch.cat(encoder.decode(r).tensors, -1), raw)
    assert encoder(torch.zeros(0, 3, 128, 128, dtype=torch.float64)).identity.shape == (0, 100)
