"""Reading and writing encoder weights: strict, tensors only, and with a list of every difference when a file does not fit."""

from __future__ import annotations

import json
import pickle
import zipfile
from importlib.resources import files
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from neuface_ray.errors import ModelFileError
from neuface_ray.methods.encoder.network import DECA_PARTS, CompactEncoder, DecaEncoder, EmocaEncoder, Encoder

ENCODERS = ("compact", "deca", "emoca")
_OBTAIN = {
    "compact": "`python -m neuface_ray.methods.encoder.train` writes it from faces of `python -m neuface_ray.synthesis.shards`",
    "deca": "deca_model.tar of https://github.com/yfeng95/DECA (registration; non-commercial licence of the MPI)",
    "emoca": "the lightning checkpoint of https://github.com/radekd91/emoca (non-commercial licence of the MPI)",
}

PACKAGED = Path(str(files("neuface_ray"))) / "assets" / "compact_encoder.safetensors"


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
        path = PACKAGED
    if path is None or not Path(path).is_file():
        raise ModelFileError(f"{kind} encoder weights not found at {path}. Obtain: {_OBTAIN[kind]}; then set {key}")
    path = Path(path)
    if kind == "compact":
        return _load_compact(path)
    state = _flat_state(read_tensors(path), path)
    encoder: Encoder = DecaEncoder()
    if kind == "emoca":
        last = state.get("E_expression.layers.2.weight")
        encoder = EmocaEncoder(DECA_PARTS["exp"] if last is None else last.shape[0])
    wanted = ("E_flame.", "E_expression.") if kind == "emoca" else ("E_flame.",)
    load_strict(encoder, {name: value for name, value in state.items() if name.startswith(wanted)}, path)
    return encoder.eval()


def read_tensors(path: Path) -> dict:
    """Contents of a ``.safetensors`` file or of a torch file, unpickled with tensors and plain containers only.

    Raises:
        ModelFileError: the file is damaged or asks to construct anything else.
    """
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, pickle.UnpicklingError, RuntimeError, EOFError, zipfile.BadZipFile) as error:
        raise ModelFileError(
            f"{path} is damaged or holds objects other than tensors, which are refused since unpickling them runs code: "
            f"{str(error).splitlines()[0]}. Save its state dict alone, in a process you trust, and name that file"
        ) from error


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


def load_strict(module: nn.Module, state: dict[str, Tensor], path: str | Path) -> None:
    """Copies ``state`` into ``module``; every name and shape must agree (BatchNorm's ``num_batches_tracked`` is not read).

    Raises:
        ModelFileError: names missing, unexpected or of another shape, all of them listed by kind.
    """
    own = module.state_dict()
    names = {name for name in own if not name.endswith("num_batches_tracked")}
    given = {name for name in state if not name.endswith("num_batches_tracked")}
    problems = {
        "missing": sorted(names - given),
        "unexpected": sorted(given - names),
        "misshaped": [
            f"{name} {tuple(state[name].shape)} instead of {tuple(own[name].shape)}"
            for name in sorted(names & given)
            if state[name].shape != own[name].shape
        ],
    }
    if any(problems.values()):
        report = "; ".join(f"{len(found)} {what}: {_some(found)}" for what, found in problems.items() if found)
        raise ModelFileError(f"{path} does not fit {type(module).__name__}: {report}")
    module.load_state_dict({name: state[name].float() for name in names}, strict=False)


def _some(names: list[str], limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def save_compact(encoder: CompactEncoder, path: str | Path, **facts: object) -> None:
    """Writes a compact encoder as float16 safetensors; its options and ``facts`` (JSON values) go into the file's metadata."""
    state = {name: value.detach().to(torch.float16).contiguous() for name, value in encoder.state_dict().items()}
    save_file(state, str(path), {"options": json.dumps(encoder.options), "facts": json.dumps(facts)})


def _load_compact(path: Path) -> CompactEncoder:
    state = read_tensors(path)
    try:
        with safe_open(path, "pt") as file:
            options = json.loads((file.metadata() or {})["options"])
        encoder = CompactEncoder(**options)
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise ModelFileError(f"{path} is no compact encoder: its metadata has no valid `options` ({error})") from error
    load_strict(encoder, state, path)
    return encoder.eval()
