"""The options of everything between a file name and a face clip."""

from __future__ import annotations

from dataclasses import dataclass, field

from neuface_ray.errors import UsageError

LAYOUTS = ("auto", "files", "mead", "voxceleb2", "celebvhq")
DETECTORS = ("mediapipe", "fan")
DECODERS = ("pyav", "decord")
VIEWS = ("files", "folder")
STILLS = ("separate", "sequence")


@dataclass
class Limits:
    """Bounds on a single input, checked before its pixels are decoded."""

    max_file_bytes: int = 16_000_000_000
    """Largest file that is opened or fetched, in bytes."""
    max_pixels: int = 100_000_000
    """Largest frame or photograph, width times height."""
    max_seconds: float = 6 * 3600.0
    """Longest video, in seconds."""
    max_frames: int = 2_000_000
    """Most frames of one video."""
    max_files: int = 5_000_000
    """Most files taken from a folder, a glob or a manifest."""

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value <= 0:
                raise UsageError(f"media.limits.{name}={value} must be positive")


@dataclass
class MediaConfig:
    """How inputs are found, sampled, cut into segments, searched for faces and cropped."""

    layout: str = "auto"
    """How a folder is read: auto, files, mead, voxceleb2 or celebvhq. auto recognises the three trees by their paths."""
    views: str = "files"
    """files: every file is a recording of its own. folder: the files of a folder are synchronised views of one sequence,
    named after the files (several cameras, or photographs of one face from several sides)."""
    stills: str = "separate"
    """separate: every picture, and every page of a file with several, is a still of its own. sequence: numbered pictures of
    a folder (frame_1.jpg, frame_2.jpg, ... frame_10.jpg), and the pages of one file, make one clip in their order."""
    stills_fps: float = 25.0
    """Rate of the clips that stills=sequence makes."""
    manifest_root: str | None = None
    """Folder that relative paths of a manifest start from, and that they may not leave. Default: the manifest's folder."""
    allow_outside_root: bool = False
    """Let a manifest name files outside its root, and remote files that do not lie under it."""

    stride: int = 1
    """Take every stride-th frame of a video."""
    fps: float | None = None
    """Sample videos at this rate by timestamp; excludes stride."""
    max_frames: int = 120
    """Most sampled frames in a segment, overlap included."""
    overlap: int = 8
    """Sampled frames by which a segment reaches into each neighbour. They are computed on and not written."""

    decoder: str = "pyav"
    """What decodes videos: pyav, or decord, which keeps damaged frames and refuses more files; see neuface_ray.media.decord."""
    detector: str = "mediapipe"
    """Landmarks: mediapipe (478 points, packaged) or fan (68 points, weights named by fan_weights)."""
    fan_weights: str | None = None
    """File of 2DFAN-4 weights for detector=fan."""
    max_faces: int = 4
    """Most people in a segment, the largest first; each gives one clip. How many were left out stands in the summary."""
    min_face_px: float = 24.0
    """Smallest face that is kept: side of its landmark box in source pixels."""
    search_every: int = 24
    """Faces too small for the whole-frame detector are searched by tiles on every search_every-th sampled frame, and sooner
    where no face is in sight; not those below a sixth of the largest face. 0: never."""
    max_gap: int = 12
    """A face that is out of sight for more sampled frames than this begins a new track."""
    min_track: int = 3
    """Tracks seen on fewer frames than this, in segments that are longer, are taken for false alarms."""

    crop_size: int = 224
    """Side of the crops in pixels; the annotator declares its own."""
    crop_scale: float = 1.25
    """Side of the crop box over 1.1 times the mean side of the landmark box."""

    limits: Limits = field(default_factory=Limits)
    """Bounds on a single input."""

    def __post_init__(self) -> None:
        choices_of = (("layout", LAYOUTS), ("views", VIEWS), ("stills", STILLS), ("decoder", DECODERS), ("detector", DETECTORS))
        for name, choices in choices_of:
            if getattr(self, name) not in choices:
                raise UsageError(f"media.{name}={getattr(self, name)!r}: choose one of {', '.join(choices)}")
        for name in ("stride", "max_faces", "crop_size", "min_track", "max_gap", "min_face_px", "crop_scale", "stills_fps"):
            if getattr(self, name) <= 0:
                raise UsageError(f"media.{name}={getattr(self, name)} must be positive")
        if self.fps is not None and (self.fps <= 0 or self.stride != 1):
            raise UsageError(f"media.fps={self.fps} must be positive and excludes media.stride={self.stride}")
        if self.overlap < 0 or self.search_every < 0 or self.max_frames < 2 * self.overlap + 1:
            raise UsageError("media.overlap and media.search_every are at least 0, media.max_frames above twice the overlap")
