"""Encoder weights by kind: the compact encoder's own files, and those that DECA's and EMOCA's authors give out."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from neuface_ray.errors import ModelFileError
from neuface_ray.methods.encoder.network import DECA_PARTS, CompactEncoder, DecaEncoder, EmocaEncoder, Encoder
from neuface_ray.networks.trunk import PACKAGED_COMPACT
from neuface_ray.networks.weight_file import load_network, load_strict, read_tensors

ENCODERS = ("compact", "deca", "emoca")
_OBTAIN = {
    "compact": "`python jobs/train.py --config configs/train/encoder.yaml` makes it",
    "deca": "deca_model.tar of https://github.com/yfeng95/DECA (registration; non-commercial licence of the MPI)",
    "emoca": "the lightning checkpoint of https://github.com/radekd91/emoca (non-commercial licence of the MPI)",
}


def load_encoder(kind: str, path: str | Path | None = None, key: str = "encoder.path") -> Encoder:
    """An encoder with its weights, in eval mode.

    Args:
        kind: ``compact``, ``deca`` or ``emoca``. path: weight file; None takes the packaged compact encoder.
        key: configuration key that names the file, for the error messages.

    Raises:
        ModelFileError: the file is missing, holds more than tensors, or differs from the network in any name or shape.
    """
    if kind not in ENCODERS:
        raise ModelFileError(f"unknown encoder {kind!r}; choose one of {', '.join(ENCODERS)}")
    if path is None and kind == "compact":
        path = PACKAGED_COMPACT
    if path is None or not Path(path).is_file():
        raise ModelFileError(f"{kind} encoder weights not found at {path}. Obtain: {_OBTAIN[kind]}; then set {key}")
    path = Path(path)
    if kind == "compact":
        return load_network(CompactEncoder, path, key)[0]
    state = _flat_state(read_tensors(path), path)
    encoder: Encoder = DecaEncoder()
    if kind == "emoca":
        last = state.get("E_expression.layers.2.weight")
        encoder = EmocaEncoder(DECA_PARTS["exp"] if last is None else last.shape[0])
    wanted = ("E_flame.", "E_expression.") if kind == "emoca" else ("E_flame.",)
    load_strict(encoder, {name: value for name, value in state.items() if name.startswith(wanted)}, path)
    return encoder.eval()


def _flat_state(content: object, path: Path) -> dict[str, Tensor]:
    """Flat names of DECA's nested ``{E_flame: {...}}``, EMOCA's ``{state_dict: {deca.E_flame...}}`` or an already flat file.

    Raises:
        ModelFileError: the content is no mapping of names.
    """
    content = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(name, str) for name in content):
        raise ModelFileError(f"{path} holds a {type(content).__name__}, not a state dict of named tensors")
    flat: dict[str, Tensor] = {}
    for name, value in content.items():
        if isinstance(value, dict):
            flat |= {f"{name}.{inner}": tensor for inner, tensor in value.items() if isinstance(tensor, Tensor)}
        elif isinstance(value, Tensor):
            flat[name.removeprefix("deca.")] = value
    return flat
