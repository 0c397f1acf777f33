"""The records that flow through the system, from a planned piece of video to a mesh sequence and the decision on it.

Shape letters used everywhere: F frames, V views, L landmarks, N vertices, S identity and E expression coefficients.

Conventions, stated once: metres; right-handed, x to the subject's left, y up, z out of the face; axis-angle radians;
quaternions w, x, y, z; images RGB with pixel centres at +0.5; crop coordinates in [-1, 1], y down; weak-perspective camera
``[scale, tx, ty]`` in crop coordinates, ``u = scale (x + tx)``, ``v = -scale (y + ty)``. A calibrated camera follows OpenCV
(x right, y down, z forward, pixels). ``pose`` is 15 numbers for every head: axis-angle of root, neck, jaw, left eye, right eye.

The view frame is that of the picture as it is shown: x right and y up in it, z towards the viewer. A face that lies on its side
in the picture has that quarter turn in its root rotation, and its crop is the square around it like any other, in which it lies
on its side, too; so crop coordinates, camera and pose fit together without exception. Methods see such a crop turned upright,
by ``FaceClip.quarter_turns``, and their answers are turned back (`neuface_ray.methods.upright`).

All records hold numpy arrays or plain values, so that they can be pickled, hashed and written without torch or Ray.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

POSE_SIZE = 15
JOINT_NAMES = ("root", "neck", "jaw", "left_eye", "right_eye")
# The 52 facial actions of Apple's ARKit (`ARFaceAnchor.BlendShapeLocation`), in alphabetical order.
ARKIT_NAMES: tuple[str, ...] = tuple(
    """
    browDownLeft browDownRight browInnerUp browOuterUpLeft browOuterUpRight cheekPuff cheekSquintLeft
    cheekSquintRight eyeBlinkLeft eyeBlinkRight eyeLookDownLeft eyeLookDownRight eyeLookInLeft eyeLookInRight
    eyeLookOutLeft eyeLookOutRight eyeLookUpLeft eyeLookUpRight eyeSquintLeft eyeSquintRight eyeWideLeft
    eyeWideRight jawForward jawLeft jawOpen jawRight mouthClose mouthDimpleLeft mouthDimpleRight mouthFrownLeft
    mouthFrownRight mouthFunnel mouthLeft mouthLowerDownLeft mouthLowerDownRight mouthPressLeft mouthPressRight
    mouthPucker mouthRight mouthRollLower mouthRollUpper mouthShrugLower mouthShrugUpper mouthSmileLeft
    mouthSmileRight mouthStretchLeft mouthStretchRight mouthUpperUpLeft mouthUpperUpRight noseSneerLeft
    noseSneerRight tongueOut
    """.split()  # noqa: SIM905
)


@dataclass(frozen=True)
class Camera:
    """A calibrated pinhole camera (OpenCV convention).

    Args:
        intrinsics: (3, 3) K in pixels of the undistorted image as shown (upright, square pixels), pixel centres at +0.5.
        world_to_camera: (4, 4) rigid transform, metres.
    """

    intrinsics: np.ndarray
    world_to_camera: np.ndarray


@dataclass(frozen=True)
class View:
    """One of the synchronised recordings of a sequence: a name such as ``front``, where it lies, and its camera if known.

    ``offset_s`` seconds are added to its clock to make it the other views'. A URI whose last part holds ``%d`` names numbered
    stills.
    """

    name: str
    uri: str
    camera: Camera | None = None
    offset_s: float = 0.0


@dataclass(frozen=True)
class Segment:
    """A unit of work: all synchronised views of a planned range of frames, known before anything is decoded.

    Frame numbers count the sampled frames (after ``stride`` or ``fps``) from the beginning of the source. The segment owns
    the frames ``[start, stop)`` and is computed on ``[context_start, context_stop)``, which overlaps its neighbours.

    Args:
        segment_id: hash of (sequence, view URIs, range, sampling); deterministic across runs and machines.
        sequence_id: name of the recording, shared by all its segments.
        person: name of the person when the manifest or the directory layout tells it, else None.
        views: the synchronised views, in a fixed order.
        start, stop, context_start, context_stop: ranges in sampled frames; a still has the range ``[0, 1)``.
        stride: every ``stride``-th source frame is taken, 1 for all.
        fps: when set, sampling by timestamp at this rate instead of ``stride``.
        is_image: the views are still images; ``start`` is then the page in a file of several.
        licence: free text from the manifest, carried into the dataset.
        stills_fps: when set, the views are stills (numbered files, or pages of one) that make a clip of this rate.
    """

    segment_id: str
    sequence_id: str
    views: tuple[View, ...]
    start: int
    stop: int
    context_start: int
    context_stop: int
    person: str | None = None
    stride: int = 1
    fps: float | None = None
    is_image: bool = False
    licence: str | None = None
    stills_fps: float | None = None


@dataclass
class FaceClip:
    """One face track of a segment in all its views: cropped pixels, landmarks and how to get back to the source.

    Args:
        clip_id: hash of (segment, track); never of the configuration.
        crops: uint8 [F, V, 3, H, W] RGB. Zeros where ``valid`` is False.
        landmarks: float32 [F, V, L, 2] in crop coordinates [-1, 1]; zeros where ``valid`` is False.
        landmark_confidence: float32 [F, V, L] in [0, 1]; 0 where ``valid`` is False.
        landmark_scheme: ``mediapipe478`` or ``ibug68``.
        crop_to_image: float64 [F, V, 3, 3], maps homogeneous crop coordinates in [-1, 1] to pixels of the source image.
        valid: bool [F, V], the face was found.
        core: bool [F], the frame belongs to this segment (False: overlap that is only computed on).
        frame_index: int64 [F], sampled frame number from the beginning of the source.
        source_frame: int64 [F, V], decoded frame number in each view's source; -1 where there is none.
        timestamps_s: float64 [F], after the first picture of the view that gives the instants, the slowest; single wrong stamps
            mended and jumps of the clock joined. start_offset_s: that picture's time after its container's start, with
            the view's ``offset_s``.
        source_timestamps_s: float64 [F, V], the stamp as the file has it; NaN where there is none or it was mended.
        blendshapes: float32 [F, V, 52] scores in [0, 1] in the order of ``ARKIT_NAMES``, or None.
        image_size: int64 [V, 2], width and height of the source images as shown: upright, with square pixels; the first's where
            they change. image_sizes: int64 [F, V, 2], each one's own; 0 where there is none.
        face_px: float32 [F, V], side of the landmark box in source pixels; blur: float32 [F, V], variance of the
            Laplacian of the 8-bit crop's luma.
        quarter_turns: int8 [F, V], by how many quarter turns counter-clockwise (0 to 3) the face is turned from upright; None
            for none. Crops and landmarks lie as the picture does.
        faces_found: faces of the segment, over time and in its fullest frame; faces_left_out: those beyond ``media.max_faces``,
            which have no clip. None where nobody looked for faces.
        source_hash: sha256 of each view's source bytes.
        invalid_reason: object [F, V], why ``valid`` is False: ``unreadable``, ``truncated`` (the file ends before),
            ``no_partner`` (the view has no picture at that instant) or ``no_face``; an empty text where it is True.
        notes: what is unusual about the sources and what was done to them, as codes with numbers.
    """

    clip_id: str
    segment: Segment
    track: int
    crops: np.ndarray
    landmarks: np.ndarray
    landmark_confidence: np.ndarray
    landmark_scheme: str
    crop_to_image: np.ndarray
    valid: np.ndarray
    core: np.ndarray
    frame_index: np.ndarray
    source_frame: np.ndarray
    timestamps_s: np.ndarray
    fps: float
    image_size: np.ndarray
    face_px: np.ndarray
    blur: np.ndarray
    blendshapes: np.ndarray | None = None
    source_hash: tuple[str, ...] = ()
    source_timestamps_s: np.ndarray | None = None
    image_sizes: np.ndarray | None = None
    invalid_reason: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    start_offset_s: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)
    quarter_turns: np.ndarray | None = None
    faces_found: int | None = None
    faces_left_out: int | None = None

    @property
    def n_frames(self) -> int:
        return self.crops.shape[0]

    @property
    def n_views(self) -> int:
        return self.crops.shape[1]


@dataclass
class MeshSequence:
    """What an annotator returns for a clip: head parameters per frame and view, or vertices for model-free methods.

    Args:
        head_model: identifier of the head (``name/version/hash``) that the numbers belong to.
        shape: float32 [F, V, S] identity in standard deviations; equal along F and V when shared.
        expression: float32 [F, V, E]; pose: float32 [F, V, 15] axis-angle in the view's frame.
        camera: float32 [F, V, 3] weak perspective in crop coordinates. With ``translation`` it is the weak-perspective
            camera nearest to the calibrated projection.
        translation: float32 [F, V, 3] of the head in the view's frame (x right, y up, z towards the viewer), metres, for
            calibrated views; else None.
        vertices: float32 [F, V, N, 3] posed, metres, for methods without parameters; else None.
        valid: bool [F, V], the numbers rest on an observation of that frame and view.
        reasons: codes of what went wrong without being fatal, such as ``diverged``.
        metrics: per-sequence numbers worth keeping (losses, steps); seconds: durations of its parts.
    """

    clip_id: str
    annotator: str
    head_model: str
    shape: np.ndarray
    expression: np.ndarray
    pose: np.ndarray
    camera: np.ndarray
    valid: np.ndarray
    translation: np.ndarray | None = None
    vertices: np.ndarray | None = None
    reasons: tuple[str, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    provenance: dict[str, Any] = field(default_factory=dict)


@dataclass
class Quality:
    """Measurements that the quality gate decides by; per frame and view [F, V] float32 (NaN where invalid) or per sequence.

    NME in percent of the outer eye-corner distance in source pixels, CVD in mm, MSI3D in frame^4 / mm^2. Yaw, pitch and roll in
    degrees, by `geometry.rotations.yaw_pitch_roll_deg`: positive yaw turns the face to its left (the picture's right), positive
    pitch nods down, positive roll, in (-180, 180], turns it counter-clockwise in the picture.
    """

    nme: np.ndarray
    yaw_deg: np.ndarray
    visible_fraction: np.ndarray
    clip_nme: float
    msi3d_landmarks: float
    msi3d_vertices: float
    cvd: float | None
    shape_norm: float
    valid_fraction: float
    pitch_deg: np.ndarray | None = None
    roll_deg: np.ndarray | None = None


@dataclass(frozen=True)
class GateDecision:
    """The quality gate's decision: accepted, or the reason codes why not, with the numbers behind them."""

    accepted: bool
    reasons: tuple[str, ...] = ()
    numbers: dict[str, float] = field(default_factory=dict)
