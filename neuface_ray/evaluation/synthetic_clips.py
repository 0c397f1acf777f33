"""Ground-truth clips: synthetic videos with their truth, as a detector sees them; and real clips, without truth.

The synthetic pictures are drawn wide, then treated as real ones are: MediaPipe finds the face and its points,
the crop is cut around them, and a frame in which nothing is found is invalid. The truth is kept for scoring alone.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

import neuface_ray
from neuface_ray.errors import DataError
from neuface_ray.geometry.rays import crop_to_pixels
from neuface_ray.heads import HeadModel
from neuface_ray.heads.sequence_meshes import build_meshes, head_camera
from neuface_ray.media import MediaConfig, plan, prepare
from neuface_ray.media.crop import blur, crop_to_image, cut, landmark_box, to_crop
from neuface_ray.media.detect import Face, FaceDetector
from neuface_ray.synthesis.faces import FaceOptions
from neuface_ray.synthesis.materials import Materials
from neuface_ray.synthesis.renderer import Renderer
from neuface_ray.synthesis.sequences import SequenceOptions, SyntheticSequence, make_sequence, sequence_segment
from neuface_ray.types import FaceClip, MeshSequence

_NOT_STORED = ("segment", "seconds", "metrics", "provenance")
_MIN_FRAMES = 5


@dataclass(frozen=True)
class GroundTruthClip:
    """A clip and what is known of it.

    Args:
        clip: as `media.prepare` would give it; the views of synthetic clips carry their cameras.
        truth: the sequence that made the pictures, in the clip's crops; None for real clips.
        points: float [F, V, 478, 2] true landmarks in pixels of the source images. visible: bool [F, V, 478].
    """

    clip: FaceClip
    truth: MeshSequence | None = None
    points: np.ndarray | None = None
    visible: np.ndarray | None = None


def uncalibrated(clip: FaceClip) -> FaceClip:
    """The clip without its cameras, as the paper's methods see it."""
    views = tuple(replace(view, camera=None) for view in clip.segment.views)
    return replace(clip, segment=replace(clip.segment, views=views))


def wide_faces(size: int, scale: float, yaw_deg: float, materials: Materials) -> FaceOptions:
    """Options of faces in pictures of ``size`` pixels, ``scale`` wide so that a detector finds room around the face."""
    face = SequenceOptions().face
    motion = replace(face.motion, yaw_deg=yaw_deg)
    return replace(face, size=size, crop_scale=scale, motion=motion, **materials.materials())


def make_ground_truth_clip(
    renderer: Renderer, options: SequenceOptions, seed: int, index: int, media: MediaConfig, landmarks: str = "detected"
) -> GroundTruthClip:
    """Draw a synthetic video and detect the landmarks in it.

    Args:
        options: of the drawing; ``options.face.crop_scale`` must leave room around the crops that ``media`` asks for.
        media: detector, crop size and scale. landmarks: ``detected``, or ``true`` for projections of the truth.
    """
    drawn = make_sequence(renderer, options, seed, index)
    points = _true_points(drawn, renderer.head)
    clip = _detected_clip(drawn, points, media, landmarks)
    return GroundTruthClip(
        clip, in_other_crops(drawn.truth, drawn.clip.crop_to_image, clip.crop_to_image), points, drawn.visible
    )


def _true_points(drawn: SyntheticSequence, head: HeadModel) -> np.ndarray:
    """Projections [F, V, L, 2] of the truth's landmarks by the cameras that made the pictures, in source pixels."""
    posed = head.landmarks(head.template.new_tensor(build_meshes(drawn.truth, head).posed), drawn.clip.landmark_scheme).numpy()
    grid = posed.shape[:2]
    flat = [head_camera(drawn.clip, drawn.truth, f, v).project(posed[f, v].astype(np.float64)) for f, v in np.ndindex(grid)]
    return np.stack(flat).reshape(*grid, -1, 2)


def _detected_clip(drawn: SyntheticSequence, points: np.ndarray, media: MediaConfig, landmarks: str) -> FaceClip:
    """The drawn clip with new crops, landmarks and validity."""
    wide, (frames, views) = drawn.clip, drawn.clip.valid.shape
    size, side = media.crop_size, wide.crops.shape[-1]
    clip = replace(
        wide,
        crops=np.zeros((frames, views, 3, size, size), np.uint8),
        landmarks=np.zeros_like(wide.landmarks),
        landmark_confidence=np.zeros_like(wide.landmark_confidence),
        crop_to_image=np.tile(np.eye(3), (frames, views, 1, 1)),
        valid=np.zeros((frames, views), bool),
        face_px=np.zeros((frames, views), np.float32),
        blur=np.zeros((frames, views), np.float32),
        blendshapes=np.zeros((frames, views, 52), np.float32) if landmarks == "detected" else None,
    )
    with FaceDetector(media) as detector:
        for view in range(views):
            expected: list[Face] = []
            for frame in range(frames):
                picture = np.ascontiguousarray(wide.crops[frame, view].transpose(1, 2, 0))
                to_image = wide.crop_to_image[frame, view] @ np.linalg.inv(crop_to_pixels(side, side))
                found = points[frame, view]
                if landmarks == "detected":
                    faces = detector.find(picture, expected)
                    if not faces:
                        continue
                    expected = [faces[0]]
                    found = faces[0].landmarks @ to_image[:2, :2].T + to_image[:2, 2]
                    clip.blendshapes[frame, view] = faces[0].blendshapes
                _fill(clip, frame, view, found, picture, to_image, media)
    return clip


def _fill(
    clip: FaceClip, frame: int, view: int, found: np.ndarray, picture: np.ndarray, to_image: np.ndarray, media: MediaConfig
) -> None:
    """Enter landmarks (L, 2) in source pixels and the crop around them, cut from a picture that ``to_image`` places."""
    box = landmark_box(found)
    matrix = crop_to_image(box, media.crop_scale)
    crop = cut(picture, np.linalg.inv(to_image) @ matrix, media.crop_size)
    clip.crops[frame, view], clip.blur[frame, view] = crop, blur(crop)
    clip.landmarks[frame, view] = to_crop(found, matrix)
    clip.landmark_confidence[frame, view] = 1
    clip.crop_to_image[frame, view] = matrix
    clip.valid[frame, view] = True
    clip.face_px[frame, view] = (box[2:] - box[:2]).mean()


def in_other_crops(sequence: MeshSequence, old: np.ndarray, new: np.ndarray) -> MeshSequence:
    """The sequence with its weak-perspective cameras in other crops; ``old`` and ``new`` are [F, V, 3, 3] crop to image."""
    return replace(sequence, camera=from_image(in_image(sequence.camera, old), new).astype(np.float32))


def in_image(camera: np.ndarray, crop_to_image: np.ndarray) -> np.ndarray:
    """Weak-perspective cameras (..., 3) as pixels a metre and the image position of the head's origin, y down."""
    scale = camera[..., 0] * crop_to_image[..., 0, 0]
    x, y = scale * camera[..., 1] + crop_to_image[..., 0, 2], -scale * camera[..., 2] + crop_to_image[..., 1, 2]
    return np.stack([scale, x, y], -1)


def from_image(camera: np.ndarray, crop_to_image: np.ndarray) -> np.ndarray:
    """The inverse of `in_image`."""
    scale, x, y = np.moveaxis(camera, -1, 0)
    tx, ty = (x - crop_to_image[..., 0, 2]) / scale, -(y - crop_to_image[..., 1, 2]) / scale
    return np.stack([scale / crop_to_image[..., 0, 0], tx, ty], -1)


def store_name(
    options: SequenceOptions, seed: int, head: HeadModel, media: MediaConfig, landmarks: str
) -> tuple[str, dict[str, object]]:
    """Name a folder of clips by a hash of all that they depend on, the drawing's source files too; and list what that is."""
    package = Path(neuface_ray.__file__).parent
    drawing = [*(package / "synthesis").glob("*.py"), *(package / "geometry").glob("*.py")]
    sources = sorted(
        [*drawing, *(package / "media" / name for name in ("detect.py", "orientation.py", "crop.py")), Path(__file__)]
    )
    code = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()[:12]
    keys = ("detector", "fan_weights", "max_faces", "min_face_px", "crop_size", "crop_scale")
    detection = {key: getattr(media, key) for key in keys} | {"landmarks": landmarks}
    about = {"options": asdict(options), "seed": seed, "head": head.id, "detection": detection, "code": code}
    return f"sequences-{hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]}", about


def save(known: GroundTruthClip, path: Path) -> None:
    """Write a synthetic clip and its truth as one ``.npz``, all or nothing; the segment is not stored."""
    arrays = {"points": known.points, "visible": known.visible}
    for name in ("clip", "truth"):
        record = getattr(known, name)
        values = {f.name: getattr(record, f.name) for f in fields(record) if f.name not in _NOT_STORED}
        arrays |= {f"{name}.{key}": np.asarray(value) for key, value in values.items() if value is not None}
    partial = path.with_name(f".{path.stem}.{os.getpid()}.npz")
    np.savez(partial, **arrays)
    partial.replace(path)


def load(path: Path, options: SequenceOptions, seed: int, index: int) -> GroundTruthClip:
    """Read what `save` wrote for the video ``index`` of the set ``seed``."""
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}

    def record(prefix: str) -> dict[str, object]:
        found = {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
        return {name: value.item() if value.ndim == 0 else value for name, value in found.items()}

    clip, truth = record("clip."), record("truth.")
    clip["source_hash"], truth["reasons"] = tuple(clip["source_hash"].tolist()), ()
    clip["notes"] = tuple(clip["notes"].tolist())
    clip["segment"] = sequence_segment(options, seed, index)
    return GroundTruthClip(FaceClip(**clip), MeshSequence(**truth), arrays["points"], arrays["visible"])


def real_clip(path: str, media: MediaConfig) -> GroundTruthClip:
    """Read the largest face of the first segment of a real recording.

    Raises:
        DataError: no face is seen on five frames of it. UsageError: the path does not exist.
    """
    clips = prepare(plan(path, media)[0], media)
    clip = max(clips, key=lambda clip: clip.valid.any(1).sum())
    if clip.valid.any(1).sum() < _MIN_FRAMES:
        raise DataError(f"{path}: a face is seen on fewer than {_MIN_FRAMES} frames of its first segment", code="no_face")
    return GroundTruthClip(clip)
