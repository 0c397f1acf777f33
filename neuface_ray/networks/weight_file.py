"""Weight files: float16 safetensors that carry how to build the network and where it comes from.

A network class can be stored if it has ``kind``, the name that its files carry, and its instances have ``options``, JSON values
that build it again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from neuface_ray.errors import ModelFileError
from neuface_ray.methods.encoder.weights import load_strict, read_tensors

Network = TypeVar("Network", bound=nn.Module)


def save_network(module: nn.Module, path: str | Path, facts: dict[str, object]) -> None:
    """Writes a network; ``facts`` (JSON values, such as ``head_model``) go into the file's metadata."""
    state = {name: value.detach().to("cpu", torch.float16).contiguous() for name, value in module.state_dict().items()}
    save_file(state, str(path), {"network": module.kind, "options": json.dumps(module.options), "facts": json.dumps(facts)})


def load_network(network: type[Network], path: str | Path, key: str) -> tuple[Network, dict]:
    """Reads a network of class ``network``, in eval mode, and the facts stored with it.

    Args:
        path: file. key: configuration key that names it, for the messages.

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
        found = metadata.get("network", "something else")
        if found != kind:
            raise ModelFileError(f"{key}: {path} holds weights of {found}, not of {kind}")
        module = network(**json.loads(metadata["options"]))
        facts = json.loads(metadata["facts"])
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise ModelFileError(f"{key}: {path} does not say what network it is for ({error})") from error
    load_strict(module, state, path)
    return module.eval(), facts
