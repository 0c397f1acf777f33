"""Sets of synthetic faces on disk: folders of plain ``.npy`` arrays, made in parallel, each a function of (seed, number).

``python -m neuface_ray.synthesis.shards --out faces --count 60000 --workers 2`` writes them; what is there already stays, so
that a broken run goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import time
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch

from neuface_ray.errors import NeufaceError, UsageError
from neuface_ray.heads import load_head
from neuface_ray.renamed import translate
from neuface_ray.synthesis.detections import detect_faces
from neuface_ray.synthesis.faces import FaceOptions, make_face
from neuface_ray.synthesis.materials import check_materials
from neuface_ray.synthesis.renderer import Renderer

FIELDS = ("image", "shape", "expression", "pose", "camera", "landmarks", "visible", "intrinsics", "translation")
SHARD_SIZE = 512
DETECTED = "detected.npy"


def write_shard(
    folder: str | Path,
    options: FaceOptions,
    seed: int,
    number: int,
    size: int = SHARD_SIZE,
    head: str = "open_head",
    detect: bool = False,
) -> Path:
    """Makes faces ``number * size`` and on into ``folder/shard-NNNNN``, all or nothing; an existing shard is kept.

    Args:
        detect: also look for the faces with the detector, and store its landmarks as ``detected`` float16 [n, 478, 2], NaN
            where it finds none; an existing shard without them gets them.

    Raises:
        UsageError: the existing shard was made with another seed, head or other options.
    """
    renderer, target = _load_renderer(head), shard_path(folder, number)
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    if not shard_exists(target, options, seed, number, renderer.head.id):
        faces = [make_face(renderer, options, seed, index) for index in range(number * size, (number + 1) * size)]
        arrays = {name: np.stack([getattr(face, name) for face in faces]) for name in FIELDS}
        _write_arrays(target, arrays, describe_shard(options, seed, number, renderer.head.id))
    if detect and not has_detections(target):
        _replace_array(target / DETECTED, detect_faces(np.load(target / "image.npy", mmap_mode="r")))
    return target


def _write_arrays(target: Path, arrays: dict[str, np.ndarray], about: dict[str, object]) -> None:
    partial = target.with_name(f".{target.name}.{os.getpid()}")
    partial.mkdir(parents=True)
    for name, values in arrays.items():
        np.save(partial / f"{name}.npy", values)
    (partial / "about.json").write_text(json.dumps(about, indent=1))
    try:
        partial.rename(target)
    except OSError:
        shutil.rmtree(partial)
        if not target.is_dir():
            raise


def _replace_array(target: Path, values: np.ndarray) -> None:
    partial = target.with_name(f".{os.getpid()}.{target.name}")
    np.save(partial, values)
    partial.replace(target)


def has_detections(path: Path) -> bool:
    """Whether a shard holds a detector's landmarks."""
    return (path / DETECTED).is_file()


def shard_path(folder: str | Path, number: int) -> Path:
    """Where a shard lies."""
    return Path(folder) / f"shard-{number:05d}"


def describe_shard(options: FaceOptions, seed: int, number: int, head: str) -> dict[str, object]:
    """All that a shard's faces depend on, as its ``about.json`` holds it; ``head`` is the head model's id."""
    return {"seed": seed, "number": number, "options": asdict(options), "head": head}


def shard_exists(path: Path, options: FaceOptions, seed: int, number: int, head: str) -> bool:
    """Whether a shard has been made; raises UsageError when what lies there is another one."""
    if not path.is_dir():
        return False
    asked = json.loads(json.dumps(describe_shard(options, seed, number, head)))
    found = json.loads((path / "about.json").read_text())
    found["options"] = translate(found["options"])
    if found != asked:
        asked, found = (about | about["options"] for about in (asked, found))
        names = [name for name in asked if name != "options" and asked[name] != found.get(name)]
        different = ", ".join(f"{name} {found.get(name)!r}, not {asked[name]!r}" for name in names)
        raise UsageError(
            f"{path} was made with {different or 'keys of another version'}; name another folder, or the same settings"
        )
    return True


@lru_cache(maxsize=1)
def _load_renderer(head: str) -> Renderer:
    return Renderer(load_head(head))


def write_shards(
    folder: str | Path,
    options: FaceOptions,
    seed: int,
    count: int,
    workers: int = 1,
    head: str = "open_head",
    detect: bool = False,
) -> None:
    """Writes the first ``count`` faces (rounded up to whole shards) of a seed with parallel processes; prints progress."""
    jobs = [(folder, options, seed, number, SHARD_SIZE, head, detect) for number in range(-(-count // SHARD_SIZE))]
    started = time.time()
    with multiprocessing.get_context("spawn").Pool(workers) as pool:
        for done, path in enumerate(pool.imap(_write, jobs), 1):
            print(f"{path} {done}/{len(jobs)} {done * SHARD_SIZE / (time.time() - started):.1f} images/s", flush=True)


def _write(job: tuple) -> Path:
    return write_shard(*job)


def main() -> None:
    """Writes the shards that the command line describes."""
    parser = argparse.ArgumentParser(prog="python -m neuface_ray.synthesis.shards", description=__doc__)
    parser.add_argument("--out", required=True, help="folder of the shards")
    parser.add_argument("--count", type=int, default=60_000, help="faces, rounded up to whole shards (default 60000)")
    parser.add_argument("--seed", type=int, default=0, help="of the set (default 0)")
    parser.add_argument("--workers", type=int, default=1, help="processes (default 1)")
    parser.add_argument("--size", type=int, default=128, help="side of the crops, pixels (default 128)")
    parser.add_argument("--head", default="open_head", help="head model (default open_head)")
    for name, flags in (("textures", ["--textures", "--skins"]), ("hdr", ["--hdr"]), ("backgrounds", ["--backgrounds"])):
        parser.add_argument(*flags, dest=name, help=f"folder of {name}; without it they are painted")
    for name, former, text in (
        ("untextured", "sculpted", "share of people drawn like scans without a texture (default 0)"),
        ("unshaded", "plain", "share of people drawn without shadows (default 0)"),
    ):
        parser.add_argument(f"--{name}", f"--{former}", dest=name, type=float, default=0.0, help=text)
    parser.add_argument("--shape-sd", type=float, default=1.0, help="spread of the identity coefficients (default 1)")
    parser.add_argument("--canonical", type=float, default=0.0, help="see FaceOptions (default 0)")
    parser.add_argument("--detect", action="store_true", help="also store a detector's landmarks")
    arguments = parser.parse_args()
    names = ("size", "textures", "hdr", "backgrounds", "untextured", "unshaded", "shape_sd", "canonical")
    options = replace(FaceOptions(), **{name: getattr(arguments, name) for name in names})
    try:
        check_materials("", options)
        write_shards(
            arguments.out, options, arguments.seed, arguments.count, arguments.workers, arguments.head, arguments.detect
        )
    except NeufaceError as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()
