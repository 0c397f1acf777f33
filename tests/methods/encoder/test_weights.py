import pytest
import torch
from safetensors.torch import save_file

from neuface_ray.errors import ModelFileError
from neuface_ray.methods.encoder.network import CompactEncoder, DecaEncoder, EmocaEncoder
from neuface_ray.methods.encoder.weights import load_encoder
from neuface_ray.networks.weight_file import save_network


def _branch(net):
    return {name: value.to(torch.float32) for name, value in net.state_dict().items()}


@pytest.fixture(scope="module")
def deca():
    torch.manual_seed(1)
    return DecaEncoder().eval()


def _tar(path, state, **rest):
    torch.save(
        {"E_flame": state, "E_detail": {"layers.0.weight": torch.zeros(2)}, "opt": {"lr": 1e-4}, "global_step": 3, **rest}, path
    )
    return path


def test_deca_file_is_read_and_gives_the_same_numbers(tmp_path, deca):
    path = _tar(tmp_path / "deca_model.tar", _branch(deca.E_flame))
    loaded = load_encoder("deca", path)
    crops = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(deca(crops).tensors, loaded(crops).tensors, strict=True):
            assert torch.equal(a, b)
    assert not loaded.training


def test_deca_file_with_differences_is_refused_with_their_list(tmp_path, deca):
    state = _branch(deca.E_flame)
    del state["encoder.layer3.2.conv2.weight"]
    state["encoder.fc.weight"] = torch.zeros(3, 3)
    state["layers.2.weight"] = torch.zeros(159, 1024)
    with pytest.raises(ModelFileError) as caught:
        load_encoder("deca", _tar(tmp_path / "bad.tar", state))
    text = str(caught.value)
    assert "1 missing: E_flame.encoder.layer3.2.conv2.weight" in text
    assert "1 unexpected: E_flame.encoder.fc.weight" in text
    assert "E_flame.layers.2.weight (159, 1024) instead of (236, 1024)" in text
    assert "bad.tar" in text


@pytest.mark.parametrize("outputs", [50, 53])
def test_emoca_lightning_checkpoint(tmp_path, outputs):
    encoder = EmocaEncoder(outputs).eval()
    state = {f"deca.{name}": value for name, value in encoder.state_dict().items()}
    state["deca.E_detail.layers.0.weight"] = torch.zeros(2)
    path = tmp_path / "emoca.ckpt"
    torch.save({"state_dict": state, "epoch": 4}, path)
    loaded = load_encoder("emoca", path)
    crops = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for a, b in zip(encoder(crops).tensors, loaded(crops).tensors, strict=True):
            assert torch.equal(a, b)
    torch.save({"state_dict": {k: v for k, v in state.items() if "E_flame" in k}}, path)
    with pytest.raises(ModelFileError, match="missing: E_expression"):
        load_encoder("emoca", path)


class _Payload:
    def __reduce__(self):
        return (print, ("should never be printed",))


def test_a_file_that_wants_to_run_code_is_refused(tmp_path, capsys):
    path = tmp_path / "evil.tar"
    torch.save({"E_flame": _Payload()}, path)
    with pytest.raises(ModelFileError, match="other than tensors"):
        load_encoder("deca", path)
    assert capsys.readouterr().out == ""


def test_missing_and_damaged_files_are_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"nowhere\.tar.*yfeng95/DECA.*annotator\.encoder"):
        load_encoder("deca", tmp_path / "nowhere.tar", key="annotator.encoder")
    with pytest.raises(ModelFileError, match="unknown encoder"):
        load_encoder("fan")
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\x08\0\0\0\0\0\0\0not json")
    with pytest.raises(ModelFileError, match=r"broken\.safetensors is damaged"):
        load_encoder("compact", broken)


@pytest.mark.parametrize(("content", "told"), [(torch.zeros(3), "Tensor"), ({3: torch.zeros(3)}, "dict"), ([1], "list")])
def test_a_file_without_named_tensors_is_refused(tmp_path, content, told):
    torch.save(content, tmp_path / "odd.tar")
    with pytest.raises(ModelFileError, match=rf"odd\.tar holds a {told}, not a state dict"):
        load_encoder("deca", tmp_path / "odd.tar")


def test_compact_file_round_trip_in_float16(tmp_path):
    torch.manual_seed(2)
    encoder = CompactEncoder(head_model="open_head/1/abc", n_shape=40, face_centre=(0.0, 0.01, 0.1), scale=9.5).eval()
    path = tmp_path / "compact.safetensors"
    save_network(encoder, path, {"seed": 3})
    assert path.stat().st_size < 15e6
    loaded = load_encoder("compact", path)
    assert loaded.head_model == "open_head/1/abc"
    crops = torch.rand(2, 3, 128, 128)
    with torch.no_grad():
        for a, b in zip(encoder(crops).tensors, loaded(crops).tensors, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-2, atol=2e-3)
    save_file({"x": torch.zeros(1)}, str(path))
    with pytest.raises(ModelFileError, match="holds weights of something else, not of encoder"):
        load_encoder("compact", path)
