"""Synthetic faces to train on, made on the cluster before the training starts if they are not there yet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from neuface_ray.synthesis.faces import FaceOptions
from neuface_ray.synthesis.shards import SHARD_SIZE, write_shard


@dataclass
class SyntheticConfig:
    """Synthetic faces that a training makes for itself; equal settings give equal faces."""

    count: int = 0
    """Faces to make, in whole shards of 512; 0: none. They are added to `data`."""
    folder: str = "data/faces"
    """Where they are kept, for other trainings too; on a file system that all workers share."""
    seed: int = 0
    """Of the faces."""
    size: int = 128
    """Side of the crops, pixels."""
    skins: str | None = None
    """Folder of skin textures in the head's UV space; null: painted skins."""
    hdr: str | None = None
    """Folder of environment maps; null: random lights."""
    backgrounds: str | None = None
    """Folder of photographs; null: painted backgrounds."""


def make_faces(config: SyntheticConfig, head: str) -> str:
    """Makes what is missing of the faces, one Ray task for each shard, and returns their folder; prints progress."""
    import ray

    folder = Path(config.folder).absolute()
    options = FaceOptions(size=config.size, skins=config.skins, hdr=config.hdr, backgrounds=config.backgrounds)
    numbers = range(-(-config.count // SHARD_SIZE))
    missing = [number for number in numbers if not (folder / f"shard-{number:05d}").is_dir()]
    make = ray.remote(num_cpus=1, max_retries=3)(write_shard)
    waiting = [make.remote(str(folder), options, config.seed, number, SHARD_SIZE, head) for number in missing]
    while waiting:
        done, waiting = ray.wait(waiting)
        ray.get(done)
        made = len(numbers) - len(waiting)
        print(f"synthetic faces in {folder}: {made * SHARD_SIZE} of {len(numbers) * SHARD_SIZE}", flush=True)
    return str(folder)
