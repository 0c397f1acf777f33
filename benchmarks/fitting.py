"""Landmark accuracy of an annotator on your own clips and annotated photographs.

    python benchmarks/fitting.py --clips VIDEO_OR_FOLDER ... --photos FOLDER --out fitting.json [annotator.KEY=VALUE ...]

For every clip: NME of all points with an embedding, NME of a fifth of the points left out of a second fit (the detector's
points are otherwise both what is fitted and what is measured), identity norm (1 = a typical person), MSI3D and speed. For
every photograph with a 68-point annotation beside it (.pts, .npy of (68, 2), or AFLW2000's .mat): the error of the fitted
head's 68 points against it, in percent of the annotated outer eye-corner distance. One thread, so that speeds compare.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from neuface_ray.config import load
from neuface_ray.evaluation import tables
from neuface_ray.heads import load_head
from neuface_ray.media import MediaConfig, plan, prepare
from neuface_ray.methods.registry import AnnotatorConfig, build_annotator
from neuface_ray.metrics import annotation as metrics
from neuface_ray.metrics.clip_quality import measure
from neuface_ray.metrics.landmarks import project_landmarks, read_annotated, source_landmarks
from neuface_ray.types import FaceClip, MeshSequence


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", nargs="*", default=[], help="videos, folders or manifests")
    parser.add_argument("--photos", nargs="*", default=[], help="folders of photographs, searched recursively")
    parser.add_argument("--max-frames", type=int, default=120, help="frames of each clip that are used")
    parser.add_argument("--out", type=Path, default=Path("fitting.json"))
    parser.add_argument("overrides", nargs="*", help="annotator settings, such as direct_fitting.steps=100")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    head = load_head()
    annotator = build_annotator(load(AnnotatorConfig, None, arguments.overrides), head)
    media = MediaConfig(max_frames=arguments.max_frames, max_faces=1, crop_size=annotator.crop_size)
    rows = [row for path in arguments.clips for row in clip_rows(path, media, annotator)]
    photos = [row for folder in arguments.photos for row in photo_rows(Path(folder), media, annotator)]
    for title, lines in (("clips", rows), ("photographs", photos)):
        if lines:
            print(f"\n{title}\n" + tables.markdown([*lines, median(lines)], digits=2))
    arguments.out.write_text(json.dumps({"clips": rows, "photographs": photos}, indent=1))


def clip_rows(path: str, media: MediaConfig, annotator) -> list[dict]:
    """A row for the first clip of every sequence under ``path``."""
    rows, seen = [], set()
    for segment in plan(path, media):
        clips = [] if segment.sequence_id in seen else prepare(segment, media)
        seen.add(segment.sequence_id)
        clips = [clip for clip in clips if clip.valid.any()]
        if clips:
            rows.append(clip_row(clips[0], annotator))
            print(tables.markdown(rows[-1:], digits=2).splitlines()[-1], flush=True)
    return rows


def clip_row(clip: FaceClip, annotator) -> dict:
    """Measures one clip, once with all landmarks and once with a fifth left out."""
    started = time.perf_counter()
    sequence = annotator.annotate(clip)
    seconds = time.perf_counter() - started
    quality = measure(clip, sequence, annotator.head)
    held = np.flatnonzero(annotator.head.embedding(clip.landmark_scheme).valid.numpy())[2::5]
    confidence = clip.landmark_confidence.copy()
    confidence[..., held] = 0
    blind = annotator.annotate(replace(clip, landmark_confidence=confidence))
    return {
        "clip": f"{Path(clip.segment.views[0].uri).parent.name}/{clip.segment.sequence_id}",
        "frames": int(clip.valid.sum()),
        "nme": quality.clip_nme,
        "nme_left_out": float(np.nanmean(landmark_error(clip, blind, annotator.head, held))),
        "identity_norm": quality.shape_norm,
        "msi3d_vertices": quality.msi3d_vertices,
        "face_frames_per_s": float(clip.valid.sum()) / seconds,
    }


def landmark_error(clip: FaceClip, sequence: MeshSequence, head, points: np.ndarray) -> np.ndarray:
    """NME [F, V] in percent over some landmarks."""
    predicted = project_landmarks(clip, sequence, head, clip.landmark_scheme)
    reference = source_landmarks(clip)
    eyes = metrics.eye_distance(reference, clip.landmark_scheme)
    error = metrics.nme(predicted[..., points, :], reference[..., points, :], eyes)
    return np.where(clip.valid, error, np.nan)


def photo_rows(folder: Path, media: MediaConfig, annotator) -> list[dict]:
    """A row for every photograph in which a face is found; the 68-point error where an annotation lies beside it."""
    rows = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png")):
        for segment in plan(str(path), media):
            for clip in prepare(segment, media):
                if clip.valid.any():
                    rows.append(photo_row(clip, path, annotator))
    return rows


def photo_row(clip: FaceClip, path: Path, annotator) -> dict:
    """Errors on one photograph in percent; NaN where no annotation matches the face."""
    sequence = annotator.annotate(clip)
    quality = measure(clip, sequence, annotator.head)
    row = {"photo": f"{path.parent.name}/{path.stem}", "nme": quality.clip_nme, "identity_norm": quality.shape_norm}
    truth = read_annotated(path)
    row["nme68_annotated"] = row["nme51_annotated"] = float("nan")
    if truth is not None:
        points = project_landmarks(clip, sequence, annotator.head, "ibug68")[0, 0]
        eyes = metrics.eye_distance(truth, "ibug68")
        error = 100 * np.linalg.norm(points - truth, axis=-1) / eyes
        if np.median(error) < 100:
            row["nme68_annotated"], row["nme51_annotated"] = float(error.mean()), float(error[17:].mean())
    return row


def median(rows: list[dict]) -> dict:
    """The median of every numeric column, ignoring NaN."""
    result = {}
    for key, value in rows[0].items():
        numbers = np.array([row[key] for row in rows]) if not isinstance(value, str) else np.array([np.nan])
        result[key] = "median" if isinstance(value, str) else float(np.nanmedian(numbers))
    return result


if __name__ == "__main__":
    main()
