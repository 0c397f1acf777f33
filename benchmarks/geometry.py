"""Scan-to-mesh accuracy of an annotator on renders of a folder of scans, against the mean head.

    python benchmarks/geometry.py FOLDER --output results/geometry [--annotator flame_fitting] [--views=-40,0,40] ...

Prints a table and writes it as Markdown and JSON, with the pictures that were annotated beside it if --pictures is given.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch

from neuface_ray.annotators import ANNOTATORS, Annotator, AnnotatorConfig, build_annotator
from neuface_ray.errors import DataError, UsageError
from neuface_ray.evaluation import geometry_benchmark as benchmark
from neuface_ray.evaluation import tables
from neuface_ray.evaluation.scans import Scan, find_scans, normalise
from neuface_ray.heads import HeadModel, load_head
from neuface_ray.media import MediaConfig, prepare
from neuface_ray.media.detect import FaceDetector
from neuface_ray.types import Segment, View


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns 0, or 2 for wrong usage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="folder of .obj or .ply heads")
    parser.add_argument("--manifest", help="JSON list of scans; scans.json in the folder if it is there")
    parser.add_argument("--annotator", default="flame_fitting", choices=ANNOTATORS)
    parser.add_argument("--head", default="open_head")
    parser.add_argument("--views", action="append", help="yaws seen together, such as -40,0,40; may be repeated")
    parser.add_argument("--output", default="results/geometry", help="path of the table, without extension")
    parser.add_argument("--pictures", help="folder for the renders")
    options = parser.parse_args(arguments)
    head = load_head(options.head)
    annotator = build_annotator(AnnotatorConfig(name=options.annotator), head)
    media = MediaConfig(max_faces=1, views="folder", crop_size=annotator.crop_size)
    groups = [[float(yaw) for yaw in text.split(",")] for text in options.views or ()] or [[yaw] for yaw in benchmark.YAWS_DEG]
    with FaceDetector(media) as detector:
        try:
            scans = load(options.folder, options.manifest, detector, head)
        except UsageError as error:
            print(f"error: {error}", file=sys.stderr)
            return 2
        annotate = Annotation(annotator, detector, media, options.pictures)
        mean_head = benchmark.Prediction.of(head, head.template.numpy())
        rows = benchmark.run(scans, {options.annotator: annotate}, mean_head, groups)
    for by_turn in (False, True):
        print(tables.markdown(benchmark.table(rows, by_turn)))
    notes = "Scan to mesh, mm; the mean head is the line below which nothing counts.\n\n"
    paths = tables.write(options.output, rows, "Geometry", notes + tables.markdown(benchmark.table(rows)))
    print(*paths, sep="\n")
    return 0


def load(folder: str, manifest: str | None, detector: FaceDetector, head: HeadModel) -> list[Scan]:
    """The normalised scans of a folder; those without a face are named and left out."""
    reference = 1000 * head.landmarks(head.template, "mediapipe478").numpy()

    def detect(image: np.ndarray) -> np.ndarray | None:
        faces = detector.find(image)
        return faces[0].mesh if faces else None

    scans = []
    for scan in find_scans(folder, manifest):
        try:
            scans.append(normalise(scan, detect, reference))
        except DataError as error:
            print(f"left out: {error}", file=sys.stderr)
    if not scans:
        raise UsageError(f"{folder}: no scan shows a face")
    return scans


class Annotation:
    """An annotator behind the benchmark's contract: pictures of one head in, its neutral shape out."""

    def __init__(self, annotator: Annotator, detector: FaceDetector, media: MediaConfig, pictures: str | None):
        self.annotator, self.detector, self.media = annotator, detector, media
        self.pictures, self.count = None if pictures is None else Path(pictures), 0

    def __call__(self, renders: Sequence[benchmark.Render]) -> benchmark.Prediction | None:
        """The identity of the largest face with expression and pose at zero; None where no face is found in any view."""
        with tempfile.TemporaryDirectory() as folder:
            views = []
            for index, render in enumerate(renders):
                path = Path(folder) / f"view{index}.png"
                cv2.imwrite(str(path), np.ascontiguousarray(render.image[..., ::-1]))
                views.append(View(f"view{index}", str(path), render.camera if len(renders) > 1 else None))
                self._keep(path)
            segment = Segment("scan", "scan", tuple(views), 0, 1, 0, 1, is_image=True)
            clips = [clip for clip in prepare(segment, self.media, self.detector) if clip.valid.any()]
        if not clips:
            return None
        sequence, head = self.annotator.annotate(clips[0]), self.annotator.head
        shape = torch.from_numpy(sequence.shape[sequence.valid].mean(0)).to(self.annotator.device)
        with torch.no_grad():
            return benchmark.Prediction.of(head, head(shape).cpu().numpy())

    def _keep(self, path: Path) -> None:
        if self.pictures is not None:
            self.pictures.mkdir(parents=True, exist_ok=True)
            (self.pictures / f"{self.count:05d}.png").write_bytes(path.read_bytes())
            self.count += 1


if __name__ == "__main__":
    sys.exit(main())
