"""How fast synthetic faces are drawn: images a second of several processes at once, after each has read its materials.

    python -m benchmarks.synthesis [--workers 2] [--faces 200] [--rounds 5] [--textures DIR] [--hdr DIR] [--backgrounds DIR]

Each round draws other persons. What is timed is everything that `jobs/synthesize.py` draws, and neither Ray nor writing.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import time
from pathlib import Path

import cv2
import torch

from neuface_ray.errors import UsageError
from neuface_ray.heads import load_head
from neuface_ray.synthesis.faces import FaceOptions, make_face
from neuface_ray.synthesis.materials import check_materials
from neuface_ray.synthesis.renderer import Renderer

_WARM = 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--workers", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--faces", type=int, default=200, help="faces of each process in a round (default 200)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--size", type=int, default=128, help="side of the pictures, pixels (default 128)")
    for name in ("textures", "hdr", "backgrounds"):
        parser.add_argument(f"--{name}", help=f"folder of {name}; without it they are painted")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    arguments = parser.parse_args()
    options = FaceOptions(
        size=arguments.size, textures=arguments.textures, hdr=arguments.hdr, backgrounds=arguments.backgrounds
    )
    try:
        check_materials("", options)
    except UsageError as error:
        parser.error(str(error))
    rates = measure(options, arguments.workers, arguments.faces, arguments.rounds)
    figures = {"workers": arguments.workers, "images_per_s": statistics.median(rates), "rounds": rates, "size": arguments.size}
    print(f"{figures['images_per_s']:.1f} images/s in {arguments.workers} processes ({min(rates):.1f} to {max(rates):.1f})")
    if arguments.out:
        arguments.out.write_text(json.dumps(figures, indent=2))


def measure(options: FaceOptions, workers: int, faces: int, rounds: int) -> list[float]:
    """Images a second of all processes together, for each round; ends the program when one of them fails."""
    context = multiprocessing.get_context("spawn")
    together, results = context.Barrier(workers), context.Queue()
    jobs = [(options, seed, faces, rounds, together, results) for seed in range(workers)]
    processes = [context.Process(target=_draw, args=job) for job in jobs]
    for process in processes:
        process.start()
    seconds = [results.get() for _ in processes]
    for process in processes:
        process.join()
    if None in seconds:
        raise SystemExit("a process failed; its error stands above")
    return [sum(faces / one[number] for one in seconds) for number in range(rounds)]


def _draw(options: FaceOptions, seed: int, faces: int, rounds: int, together: object, results: object) -> None:
    """Puts the seconds of each round into ``results``, or None when it fails, which also frees those who wait."""
    seconds = None
    try:
        seconds = _timed(options, seed, faces, rounds, together)
    finally:
        if seconds is None:
            together.abort()
        results.put(seconds)


def _timed(options: FaceOptions, seed: int, faces: int, rounds: int, together: object) -> list[float]:
    """Seconds for each round; all processes begin a round ``together``."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    renderer, seconds = Renderer(load_head()), []
    for index in range(_WARM):
        make_face(renderer, options, seed, index)
    for number in range(rounds):
        together.wait()
        started = time.perf_counter()
        for index in range(faces):
            make_face(renderer, options, seed, _WARM + number * faces + index)
        seconds.append(time.perf_counter() - started)
    return seconds


if __name__ == "__main__":
    main()
