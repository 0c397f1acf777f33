"""The one weight format: safetensors that carry how to build the network and where its weights come from.

Floating-point tensors are stored as float16; integers (indices, counts) and flags as they are. A network class can be stored if
it has ``kind``, the name that its files carry, and its instances have ``options``, JSON values that build it again. A class of
which options or parts have been renamed says so in ``renamed``, former name -> present name; files with former names are read.
"""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from neuface_ray.errors import ModelFileError

Network = TypeVar("Network", bound=nn.Module)
Value = TypeVar("Value")


def save_network(module: nn.Module, path: str | Path, facts: dict[str, object]) -> None:
    """Write a network; ``facts`` (JSON values, such as ``head_model``) go into the file's metadata."""
    state = {name: _stored(value.detach().cpu()).contiguous() for name, value in module.state_dict().items()}
    metadata = {"network": module.kind, "options": json.dumps(module.options), "facts": json.dumps(facts)}
    save_file(state, str(path), metadata)


def _stored(value: Tensor) -> Tensor:
    return value.half() if value.is_floating_point() else value


def load_network(network: type[Network], path: str | Path, key: str) -> tuple[Network, dict]:
    """Read a network of class ``network``, in eval mode, and the facts stored with it.

    Args:
        path: file. Files of the compact encoder that do not name their network are older than this format and are read too.
        key: configuration key that names the file, for the messages.

    Raises:
        ModelFileError: the file is missing, damaged, of another kind, or does not fit the network it describes.
    """
    path, kind = Path(path), network.kind
    if not path.is_file():
        raise ModelFileError(
            f"{key}: no {kind} weights at {path}. `python jobs/train.py --config configs/train/{kind}.yaml` makes such a file"
        )
    state = read_tensors(path)
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        found = metadata.get("network", kind if "options" in metadata else "something else")
        if found != kind:
            raise ModelFileError(f"{key}: {path} holds weights of {found}, not of {kind}")
        module = network(**present_names(network, json.loads(metadata["options"])))
        facts = json.loads(metadata["facts"])
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise ModelFileError(f"{key}: {path} does not say what network it is for ({error})") from error
    load_strict(module, present_names(network, state), path)
    return module.eval(), facts


def present_names(network: type[nn.Module] | nn.Module, values: Mapping[str, Value]) -> dict[str, Value]:
    """Options or tensors of a stored ``network`` by their present names: each part between dots as its ``renamed`` says."""
    renamed = getattr(network, "renamed", {})
    return {".".join(renamed.get(part, part) for part in name.split(".")): value for name, value in values.items()}


def read_tensors(path: Path) -> dict:
    """Read a ``.safetensors`` file, or a torch file, unpickled with tensors and plain containers only.

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


def load_strict(module: nn.Module, state: dict[str, Tensor], path: str | Path) -> None:
    """Copy ``state`` into ``module``; every name and shape must agree (BatchNorm's ``num_batches_tracked`` is not read).

    Raises:
        ModelFileError: names missing, unexpected, of another shape, or floats where integers belong, all listed by kind.
    """
    expected = module.state_dict()
    names = {name for name in expected if not name.endswith("num_batches_tracked")}
    stored = {name for name in state if not name.endswith("num_batches_tracked")}
    shared = sorted(names & stored)
    problems = {
        "missing": sorted(names - stored),
        "unexpected": sorted(stored - names),
        "misshaped": [
            f"{name} {tuple(state[name].shape)} instead of {tuple(expected[name].shape)}"
            for name in shared
            if state[name].shape != expected[name].shape
        ],
        "of another type": [
            f"{name} {state[name].dtype} instead of {expected[name].dtype}"
            for name in shared
            if state[name].is_floating_point() != expected[name].is_floating_point()
        ],
    }
    if any(problems.values()):
        report = "; ".join(f"{len(found)} {what}: {_first(found)}" for what, found in problems.items() if found)
        raise ModelFileError(f"{path} does not fit {type(module).__name__}: {report}")
    module.load_state_dict({name: state[name].to(expected[name].dtype) for name in names}, strict=False)


def _first(names: list[str], limit: int = 8) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
