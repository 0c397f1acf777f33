"""Weight files of the descent networks: float16 safetensors that carry how to build the network and where it comes from."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from neuface_ray.errors import ModelFileError
from neuface_ray.methods.encoder.weights import load_strict, read_tensors
from neuface_ray.methods.glvd.network import GLVD
from neuface_ray.methods.lvd.network import LVD
from neuface_ray.networks.hourglass import HeatmapNet

NETWORKS: dict[str, type[nn.Module]] = {"lvd": LVD, "glvd": GLVD, "heatmap": HeatmapNet}


def save_network(module: nn.Module, path: str | Path, facts: dict[str, object]) -> None:
    """Writes an `LVD`, `GLVD` or `HeatmapNet`; ``facts`` (JSON values, such as ``head_model``) go into the metadata."""
    (kind,) = [name for name, network in NETWORKS.items() if type(module) is network]
    state = {name: value.detach().to("cpu", torch.float16).contiguous() for name, value in module.state_dict().items()}
    save_file(state, str(path), {"network": kind, "options": json.dumps(module.options), "facts": json.dumps(facts)})


def load_network(kind: str, path: str | Path, key: str) -> tuple[nn.Module, dict]:
    """A network of the wanted kind in eval mode, and the facts stored with it.

    Args:
        kind: ``lvd``, ``glvd`` or ``heatmap``. path: file. key: configuration key that names it, for the messages.

    Raises:
        ModelFileError: the file is missing, damaged, of another kind, or does not fit the network it describes.
    """
    path = Path(path)
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
        module = NETWORKS[kind](**json.loads(metadata["options"]))
        facts = json.loads(metadata["facts"])
    except (KeyError, TypeError, ValueError, SafetensorError) as error:
        raise ModelFileError(f"{key}: {path} does not say what network it is for ({error})") from error
    load_strict(module, state, path)
    return module.eval(), facts
