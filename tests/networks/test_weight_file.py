import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from neuface_ray.errors import ModelFileError
from neuface_ray.methods.encoder.network import CompactEncoder
from neuface_ray.methods.glvd.network import GLVD
from neuface_ray.methods.lvd.network import LVD
from neuface_ray.networks.hourglass import HeatmapNet
from neuface_ray.networks.trunk import PACKAGED_COMPACT
from neuface_ray.networks.weight_file import load_network, present_names, save_network


class Indexed(nn.Module):
    """Floats, vertex indices beyond what float16 can tell apart, flags, and a normalisation that counts its batches."""

    kind = "indexed"

    def __init__(self, count: int):
        super().__init__()
        self.options = {"count": count}
        self.layer = nn.Linear(2, 2)
        self.norm = nn.BatchNorm1d(2)
        self.register_buffer("indices", torch.zeros(count, dtype=torch.int32))
        self.register_buffer("shown", torch.zeros(count, dtype=torch.bool))


@pytest.fixture
def module():
    module = Indexed(4706)
    module.indices.copy_(torch.arange(4706).flip(0))
    module.shown[::3] = True
    return module


def test_floats_are_halved_and_integers_stay_as_they_are(module, tmp_path):
    path = tmp_path / "w.safetensors"
    save_network(module, path, {"head_model": "a/b/c"})
    stored = load_file(path)
    assert {name: value.dtype for name, value in stored.items()} == {
        **dict.fromkeys(("layer.weight", "layer.bias", "norm.weight", "norm.bias"), torch.float16),
        **dict.fromkeys(("norm.running_mean", "norm.running_var"), torch.float16),
        **{"norm.num_batches_tracked": torch.int64, "indices": torch.int32, "shown": torch.bool},
    }
    loaded, facts = load_network(Indexed, path, "x.path")
    assert facts == {"head_model": "a/b/c"}
    assert loaded.indices.dtype == torch.int32
    assert torch.equal(loaded.indices, module.indices)
    assert torch.equal(loaded.shown, module.shown)
    assert loaded.layer.weight.dtype == torch.float32
    assert torch.allclose(loaded.layer.weight, module.layer.weight, atol=1e-3)
    assert not loaded.training


def test_indices_that_were_stored_as_floats_are_refused(module, tmp_path):
    path = tmp_path / "w.safetensors"
    save_network(module, path, {})
    state = load_file(path)
    state["indices"] = state["indices"].half()
    save_file(state, str(path), {"network": "indexed", "options": json.dumps(module.options), "facts": "{}"})
    with pytest.raises(ModelFileError, match=r"1 of another type: indices torch\.float16 instead of torch\.int32"):
        load_network(Indexed, path, "x.path")


@pytest.mark.parametrize("network", [LVD, GLVD, HeatmapNet])
def test_packaged_files_are_read(network):
    module, facts = load_network(network, PACKAGED_COMPACT.with_name(f"{network.kind}.safetensors"), "x.path")
    assert facts["recipe"] == network.kind
    assert all(value.isfinite().all() for value in module.state_dict().values())


@pytest.mark.parametrize("network", [LVD, GLVD])
def test_tensors_of_checkpoints_have_their_present_names(network):
    sizes = {"crop_size": 32, "width": 16, "stacks": 1, "depth": 1, "reduction": 2, "hidden": 32}
    module = network(12, **sizes)
    present = module.state_dict()
    former = {name.replace(".confidence.", ".trust."): value for name, value in present.items()}
    assert former.keys() != present.keys()
    for either in (former, present):
        module.load_state_dict(present_names(module, either))


def test_a_compact_encoder_of_the_format_without_a_name_is_read(tmp_path):
    """As every file of users and the packaged one is, which say ``options`` and not which network they are for."""
    torch.manual_seed(0)
    encoder = CompactEncoder("open_head/1/abc", n_shape=20, face_centre=(0.0, 0.01, 0.1), scale=9.5, snr=2.5)
    state = {name: value.detach().half().contiguous() for name, value in encoder.state_dict().items()}
    save_file(state, str(tmp_path / "old.safetensors"), {"options": json.dumps(encoder.options), "facts": '{"seed": 3}'})
    loaded, facts = load_network(CompactEncoder, tmp_path / "old.safetensors", "x.path")
    assert facts == {"seed": 3}
    assert (loaded.snr, loaded.head_model) == (2.5, "open_head/1/abc")
    assert all(torch.equal(loaded.state_dict()[name], value.float()) for name, value in state.items())
    assert load_network(CompactEncoder, PACKAGED_COMPACT, "x.path")[0].snr > 1
    options = encoder.options | {"anchor": encoder.options["face_centre"], "signal": encoder.options["snr"]}
    former = {name: value for name, value in options.items() if name not in ("face_centre", "snr")}
    save_file(state, str(tmp_path / "older.safetensors"), {"options": json.dumps(former), "facts": "{}"})
    older, _ = load_network(CompactEncoder, tmp_path / "older.safetensors", "x.path")
    assert older.options == loaded.options
    with pytest.raises(ModelFileError, match="does not say what network it is for"):
        load_network(LVD, tmp_path / "old.safetensors", "init")
