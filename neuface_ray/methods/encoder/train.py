"""Trains the compact encoder on synthetic faces: ``python -m neuface_ray.methods.encoder.train --faces faces --out run``.

One process, plain PyTorch on the CPU or a GPU. It checkpoints every few minutes and goes on from ``run/checkpoint.pt`` when it
is started again with the same arguments; ``run/compact_encoder.safetensors`` is always the newest averaged weights, and
``run/log.jsonl`` the curve.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from neuface_ray.errors import NeufaceError, UsageError
from neuface_ray.fitting.identity import distinct_directions, expansion
from neuface_ray.heads import HeadModel, load_head
from neuface_ray.methods.encoder.augment import augment
from neuface_ray.methods.encoder.losses import FaceTargets, LossWeights, accuracy, form, losses
from neuface_ray.methods.encoder.network import CompactEncoder
from neuface_ray.methods.encoder.weights import load_encoder, save_compact
from neuface_ray.synthesis.shards import Shards

_FIELDS = ("image", "shape", "expression", "pose", "camera", "landmarks", "visible")


@dataclass(frozen=True)
class TrainOptions:
    """One-cycle AdamW. ``steps`` of ``batch`` faces, of which ``group`` consecutive ones show one person; ``lr`` at the peak,
    after ``warmup`` of the steps; ``ema`` half-life in steps of the averaged weights; ``held_out`` faces for measuring."""

    steps: int = 12_000
    batch: int = 64
    group: int = 4
    lr: float = 1.2e-3
    weight_decay: float = 0.02
    warmup: float = 0.08
    ema: float = 400.0
    clip: float = 1.0
    held_out: int = 1024
    seed: int = 0
    save_every_s: float = 180.0
    measure_every: int = 500


def new_encoder(head: HeadModel) -> CompactEncoder:
    """A fresh compact encoder for a head: its camera is anchored between eyes and mouth."""
    root = head.template_joints[0]
    inner = head.regions["inner_face"] if "inner_face" in head.regions else torch.arange(head.n_vertices)
    anchor = head.template[inner].mean(0)
    return CompactEncoder(
        head.id,
        n_shape=min(head.n_shape, 100),
        n_expression=head.n_expression,
        bounded=head.expression_bounded,
        jaw=not head.expression_bounded,
        anchor=tuple(anchor.tolist()),
        pivot=tuple(root.tolist()),
        scale=9.0,
    )


def batch_indices(rng: np.random.Generator, count: int, batch: int, group: int) -> np.ndarray:
    """Faces (B,) of a batch: random groups of ``group`` consecutive ones, which show one person."""
    people = rng.choice(count // group, batch // group, replace=False)
    return (people[:, None] * group + np.arange(group)).reshape(-1)


def load_batch(shards: Shards, indices: np.ndarray, device: torch.device) -> tuple[Tensor, FaceTargets]:
    """Crops (B, 3, S, S) in [0, 1] and their truth."""
    taken = shards.take(indices, _FIELDS)
    tensors = {name: torch.from_numpy(values).to(device) for name, values in taken.items()}
    crops = tensors.pop("image").permute(0, 3, 1, 2).float() / 255
    return crops, FaceTargets(**tensors)


def rate(step: int, options: TrainOptions) -> float:
    """Learning rate of a step: linear warm-up, then a cosine to a hundredth of the peak."""
    rise = max(int(options.warmup * options.steps), 1)
    if step < rise:
        return options.lr * (step + 1) / rise
    way = (step - rise) / max(options.steps - rise, 1)
    return options.lr * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(way, 1.0))))


class Run:
    """The state of a training: network, averaged network, optimiser and the number of steps taken; saved and restored whole."""

    def __init__(self, head: HeadModel, options: TrainOptions, folder: Path, device: torch.device):
        torch.manual_seed(options.seed)
        self.options, self.folder = options, folder
        self.network = new_encoder(head).to(device, memory_format=torch.channels_last).train()
        self.average = new_encoder(head).to(device, memory_format=torch.channels_last).eval()
        self.average.load_state_dict(self.network.state_dict())
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        rest = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": options.weight_decay}, {"params": rest, "weight_decay": 0.0}]
        self.optimiser = torch.optim.AdamW(groups, lr=options.lr, betas=(0.9, 0.99))
        self.step, self.seconds = 0, 0.0

    @property
    def path(self) -> Path:
        return self.folder / "checkpoint.pt"

    def save(self, facts: dict) -> None:
        """Writes the checkpoint and the averaged weights, each by renaming a finished file."""
        state = {
            "options": asdict(self.options),
            "network": self.network.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        partial = self.path.with_suffix(".partial")
        torch.save(state, partial)
        os.replace(partial, self.path)
        weights = self.folder / "compact_encoder.safetensors"
        save_compact(self.average, weights.with_suffix(".partial"), step=self.step, options=asdict(self.options), **facts)
        os.replace(weights.with_suffix(".partial"), weights)

    def restore(self) -> None:
        """Continues from the checkpoint; raises UsageError when it was made with other options."""
        state = torch.load(self.path, map_location="cpu", weights_only=True)
        if state["options"] != asdict(self.options):
            raise UsageError(f"{self.path} was made with {state['options']}; give the same options or another --out")
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step, self.seconds = state["step"], state["seconds"]

    @torch.no_grad()
    def follow(self) -> None:
        """Moves the averaged weights towards the network's; the average is short in the beginning."""
        keep = min(0.5 ** (1 / self.options.ema), (1 + self.step) / (10 + self.step))
        for mean, new in zip(self.average.parameters(), self.network.parameters(), strict=True):
            mean.lerp_(new, 1 - keep)


def train_step(run: Run, head: HeadModel, crops: Tensor, truth: FaceTargets, weights: LossWeights) -> dict[str, float]:
    """One step of the optimiser; returns the value of each loss term."""
    for group in run.optimiser.param_groups:
        group["lr"] = rate(run.step, run.options)
    run.optimiser.zero_grad(set_to_none=True)
    terms = losses(head, run.network(crops.contiguous(memory_format=torch.channels_last)), truth, run.options.group)
    total = sum(getattr(weights, name) * value for name, value in terms.items())
    total.backward()
    torch.nn.utils.clip_grad_norm_(run.network.parameters(), run.options.clip)
    run.optimiser.step()
    run.step += 1
    run.follow()
    return {name: float(value.detach()) for name, value in terms.items()}


@torch.no_grad()
def measure(
    head: HeadModel, encoder: CompactEncoder, shards: Shards, indices: np.ndarray, device: torch.device
) -> dict[str, float]:
    """Mean accuracy of an encoder on some faces of the shards, see ``encoder_losses.accuracy``."""
    found = []
    for chunk in np.array_split(indices, max(len(indices) // 64, 1)):
        crops, truth = load_batch(shards, chunk, device)
        predicted = encoder(crops.contiguous(memory_format=torch.channels_last))
        found.append({name: value * len(chunk) for name, value in accuracy(head, predicted, truth).items()})
    return {name: sum(part[name] for part in found) / len(indices) for name in found[0]}


@torch.no_grad()
def measure_signal(
    head: HeadModel, encoder: CompactEncoder, shards: Shards, group: int, people: int, device: torch.device
) -> float:
    """The signal-to-noise ratio with which `fitting.identity.expansion` brings mean identities nearest to the truth.

    Over the inner face but for moves, turns and scale, for ``group`` images each of up to ``people`` persons, taken evenly
    from all shards; most of them were trained on, which makes the answer cautious.
    """
    means, truths, counts = [], [], []
    basis = form(head).flatten(0, 1)
    for first in np.unique(np.linspace(0, len(shards) // group - 1, people).astype(int)) * group:
        crops, truth = load_batch(shards, first + np.arange(group), device)
        predicted = encoder(crops.contiguous(memory_format=torch.channels_last))
        means.append(basis[:, : predicted.identity.shape[-1]] @ predicted.identity.mean(0))
        truths.append(basis @ truth.shape[0])
        counts.append(distinct_directions(predicted.pose[:, None], torch.ones(group, 1, dtype=torch.bool, device=device)))
    mean, truth = torch.stack(means), torch.stack(truths)

    def error(signal: float) -> float:
        factors = mean.new_tensor([expansion(count, signal) for count in counts])
        return float((factors[:, None] * mean - truth).square().sum())

    return min(np.geomspace(0.05, 50, 61).tolist(), key=error)


def train(
    folders: list[str], out: str, options: TrainOptions, head: str = "open_head", device: str = "cpu", init: str = ""
) -> None:
    """Trains on the shards in ``folders``; new shards are taken in whenever a measurement is made.

    Args:
        init: file of weights to begin with instead of random ones.
    """
    place, folder = torch.device(device), Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    model = load_head(head).to(place)
    shards = Shards(*folders)
    if shards.head != model.id:
        raise UsageError(f"the faces show head {shards.head}, but {head} is {model.id}; make them again")
    run = begin(model, options, folder, place, init)
    facts = {"head": model.id, "faces": [str(Path(name).name) for name in folders], "seed": options.seed}
    weights, saved, begun, terms = LossWeights(), time.monotonic(), time.monotonic(), []
    while run.step < options.steps:
        rng = np.random.default_rng([options.seed, run.step])
        held = min(options.held_out, len(shards) // 4)
        indices = batch_indices(rng, len(shards) - held, options.batch, options.group) + held
        crops, truth = load_batch(shards, indices, place)
        torch.manual_seed(options.seed * 1_000_003 + run.step)
        with torch.no_grad():
            crops, truth = augment(model, crops, truth)
        terms.append(train_step(run, model, crops, truth, weights))
        done = run.step == options.steps
        if run.step % options.measure_every == 0 or done:
            speed = len(terms) * options.batch / (time.monotonic() - begun)
            report(run, terms, speed, len(shards), measure(model, run.average, shards, np.arange(held), place))
            shards, terms = Shards(*folders), []
        if time.monotonic() - saved > options.save_every_s or done:
            run.seconds += time.monotonic() - saved
            run.save(facts)
            saved = time.monotonic()
        if not terms:
            begun = time.monotonic()
    signal = measure_signal(model, run.average, shards, options.group, options.held_out, place)
    run.average.signal = run.average.options["signal"] = signal
    print(f"signal-to-noise ratio of an identity told from one image: {signal:.3g}")
    run.save(facts)


def begin(head: HeadModel, options: TrainOptions, folder: Path, device: torch.device, init: str) -> Run:
    """The run in a folder where it stopped, or a new one from the weights in the file ``init``, if named."""
    run = Run(head, options, folder, device)
    if run.path.is_file():
        run.restore()
    elif init:
        state = load_encoder("compact", init, "--init").state_dict()
        run.network.load_state_dict(state)
        run.average.load_state_dict(state)
    return run


def report(run: Run, terms: list[dict[str, float]], speed: float, faces: int, found: dict[str, float]) -> None:
    """Appends a line to the run's curve, and prints it: mean loss terms since the last one, and what was measured."""
    line = {"step": run.step, "faces": faces, "images_per_s": round(speed, 1), "lr": rate(run.step, run.options)}
    line |= {name: round(sum(one[name] for one in terms) / len(terms), 5) for name in terms[0]}
    line |= {f"held_out_{name}": round(value, 4) for name, value in found.items()}
    with (run.folder / "log.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    print(json.dumps(line), flush=True)


def main() -> None:
    """Trains, or continues, the encoder that the command line describes."""
    parser = argparse.ArgumentParser(prog="python -m neuface_ray.methods.encoder.train", description=__doc__)
    parser.add_argument("--faces", required=True, nargs="+", help="folders of shards (neuface_ray.synthesis.shards)")
    parser.add_argument("--out", required=True, help="folder of the run; an unfinished one is continued")
    parser.add_argument("--head", default="open_head")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=0, help="of torch; 0 leaves them as they are")
    parser.add_argument("--init", default="", help="weights to begin with instead of random ones")
    defaults = TrainOptions()
    for name in ("steps", "batch", "lr", "seed", "measure_every", "save_every_s"):
        default = getattr(defaults, name)
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    given = vars(parser.parse_args())
    if given.pop("threads"):
        torch.set_num_threads(parser.parse_args().threads)
    where = {name: given.pop(name) for name in ("faces", "out", "head", "device", "init")}
    try:
        train(where["faces"], where["out"], TrainOptions(**given), where["head"], where["device"], where["init"])
    except NeufaceError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
