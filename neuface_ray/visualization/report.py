"""Report of a dataset in pictures: for chosen clips an overlay video each, and one contact sheet of them all.

The mesh that is drawn is rebuilt from the dataset's rows by the code that measures them, and laid over frames read back from
the sources, which must still hold the bytes that were annotated.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow.compute as pc

from neuface_ray.config import REQUIRED
from neuface_ray.dataset.reader import MeshClip, MeshDataset
from neuface_ray.dataset.reader import open as open_dataset
from neuface_ray.errors import DataError, UsageError
from neuface_ray.geometry.rays import HeadCamera, PinholeCamera, WeakCamera
from neuface_ray.heads import HeadModel, load_head
from neuface_ray.heads.sequence_meshes import SequenceMeshes, build_meshes
from neuface_ray.media.config import Limits
from neuface_ray.media.footage import open_source
from neuface_ray.screen import printable_line
from neuface_ray.types import MeshSequence
from neuface_ray.uri import is_remote
from neuface_ray.visualization.contact_sheet import contact_sheet
from neuface_ray.visualization.overlay import AnnotatedFrame, Caption, MeshStyle, Region, face_region, mesh_style, overlay_frame
from neuface_ray.visualization.video import write_png, write_video

CHOICES = ("first", "worst", "best", "random")
_LOG = logging.getLogger(__name__)


@dataclass
class ReportConfig:
    """Settings of a report."""

    dataset: str = REQUIRED
    """Folder (or fsspec URL) of the dataset."""
    output: str | None = None
    """Local folder for the pictures; null: the folder report inside the dataset."""
    clips: int = 3
    """How many clips are shown."""
    choose: str = "first"
    """Which clips: first, worst or best (by landmark error; without a face is worst), or random."""
    ids: list[str] = field(default_factory=list)
    """Clip ids to show instead of choosing."""
    head: str = "open_head"
    """Head model of the dataset: open_head, or the path of the FLAME file it was made with."""
    seed: int = 0
    """Seed of choose=random."""
    columns: int = 6
    """Frames of each clip on the contact sheet."""
    max_frames: int = 300
    """Longest overlay video, in frames."""
    videos: bool = True
    """Write overlay videos (a PNG for a still); the contact sheet is always made."""

    def __post_init__(self) -> None:
        if self.choose not in CHOICES:
            raise UsageError(f"choose={self.choose!r}: choose one of {', '.join(CHOICES)}")
        for name in ("clips", "columns", "max_frames"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name}={getattr(self, name)} must be at least 1")


def report(dataset: str, clips: int = 3) -> list[Path]:
    """Draw the first ``clips`` clips of a dataset; see `draw`."""
    return draw(ReportConfig(dataset=str(dataset), clips=clips))


def draw(config: ReportConfig) -> list[Path]:
    """Make the pictures of a report.

    Returns:
        Their paths, the contact sheet first. A clip whose source cannot be read is left out with a warning.

    Raises:
        UsageError: no such dataset or clip, no clips, wrong head, or a remote dataset without ``output``.
        DataError: none of the sources could be read.
    """
    dataset, head = open_dataset(config.dataset), load_head(config.head)
    if head.id != dataset.head_model:
        raise UsageError(f"{config.dataset} was made with head {dataset.head_model}, head={config.head} is {head.id}")
    if config.output is None and is_remote(config.dataset):
        raise UsageError(f"{config.dataset} is remote: say where the pictures go with output=FOLDER")
    folder = Path(config.output or Path(config.dataset) / "report")
    folder.mkdir(parents=True, exist_ok=True)
    style, bands, problem = mesh_style(head), [], None
    paths: list[Path] = []
    for clip_id in choose_clips(dataset, config):
        try:
            for view in ClipView.of_clip(dataset, clip_id, head):
                stem = folder / f"{_file_name(view.title)}-{clip_id[:8]}"
                written, frames = view.write(stem, style, config)
                paths += written
                bands.append((view.clip_caption(), frames, view.region))
        except DataError as error:
            problem = error
            _LOG.warning("clip %s is left out of the report: %s", clip_id, printable_line(str(error)))
    if not bands:
        raise problem or UsageError(f"{config.dataset} holds no clips to show")
    sheet = folder / "contact_sheet.png"
    write_png(sheet, contact_sheet(bands, style))
    return [sheet, *paths]


def choose_clips(dataset: MeshDataset, config: ReportConfig) -> list[str]:
    """Choose clip ids by the configuration's choice; UsageError for an id that is not there."""
    clips = dataset.clips(columns=["clip_id", "sequence_id", "first_frame", "track", "nme"])
    if config.ids:
        missing = sorted(set(config.ids) - set(clips["clip_id"].to_pylist()))
        if missing:
            raise UsageError(f"{config.dataset} has no clip {', '.join(missing)}")
        return list(config.ids)
    order = [(name, "ascending") for name in ("sequence_id", "first_frame", "track", "clip_id")]
    if config.choose in ("worst", "best"):
        worst = config.choose == "worst"
        clips = clips.set_column(clips.schema.get_field_index("nme"), "nme", pc.fill_null(clips["nme"], float("inf")))
        order.insert(0, ("nme", "descending" if worst else "ascending"))
    rows = pc.sort_indices(clips, order).to_numpy()
    if config.choose == "random":
        rows = np.random.default_rng(config.seed).permutation(rows)
    return clips["clip_id"].take(rows[: config.clips]).to_pylist()


@dataclass(frozen=True)
class ClipView:
    """One view of a clip, ready to be drawn: its rows as arrays [F, ...], its meshes and the region to show."""

    clip: MeshClip
    view: int
    columns: dict[str, np.ndarray]
    meshes: SequenceMeshes
    region: Region

    @classmethod
    def of_clip(cls, dataset: MeshDataset, clip_id: str, head: HeadModel) -> Iterator[ClipView]:
        """Read the views of a clip; its meshes are rebuilt as when they were measured."""
        clip = dataset.clip(clip_id)
        names = "valid nme yaw_deg source_frame timestamp_s frame_index translation intrinsics image_width image_height "
        names += "landmarks crop_to_image shape expression pose camera"
        columns = {name: np.asarray(clip.array(name)) for name in names.split()}
        stored = dataset.vertices(clip.frames) if dataset.has_vertices else None
        if stored is not None:
            stored = np.swapaxes(stored.reshape(clip.info["n_views"], clip.info["n_frames"], *stored.shape[1:]), 0, 1)
        parameters = {name: columns[name] for name in ("shape", "expression", "pose", "camera", "valid")}
        sequence = MeshSequence(clip_id, clip.info["annotator"], clip.info["head_model"], **parameters, vertices=stored)
        meshes = build_meshes(sequence, head)
        for view in range(clip.info["n_views"]):
            arrays = {name: values[:, view] for name, values in columns.items()}
            matrix = arrays["crop_to_image"]
            arrays["landmarks"] = arrays["landmarks"] @ matrix[:, :2, :2].swapaxes(-1, -2) + matrix[:, None, :2, 2]
            size = (int(arrays["image_width"][0]), int(arrays["image_height"][0]))
            region = face_region(arrays["landmarks"][arrays["valid"]], size)
            yield cls(clip, view, arrays, SequenceMeshes(*(getattr(meshes, name)[:, view] for name in vars(meshes))), region)

    @property
    def title(self) -> str:
        info = self.clip.info
        return f"{info['sequence_id']} · {info['views'][self.view]}" if info["n_views"] > 1 else info["sequence_id"]

    @property
    def decision(self) -> tuple[str, bool]:
        accepted = self.clip.info["status"] == "accepted"
        reasons = ", ".join(self.clip.info["reasons"] or [])
        return (reasons and not accepted and f"rejected: {reasons}") or self.clip.info["status"], accepted

    def clip_caption(self) -> Caption:
        """The clip's line on the contact sheet."""
        info = self.clip.info
        numbers = [f"{info['n_frames']} frames" if info["n_frames"] > 1 else "still"]
        numbers += [f"NME {info['nme']:.2f} %"] if info["nme"] is not None else ["no face"]
        numbers += [f"MSI {info['msi3d_landmarks']:.3g}"] if info["msi3d_landmarks"] is not None else []
        numbers += [f"CVD {info['cvd']:.2f} mm"] if info["cvd"] is not None else []
        return Caption(self.title, "   ".join(numbers), *self.decision)

    def frame_caption(self, frame: int) -> Caption:
        """The line under one frame."""
        place = f"{self.title} · frame {self.columns['frame_index'][frame]} · {self.columns['timestamp_s'][frame]:.2f} s"
        if not self.columns["valid"][frame]:
            return Caption(place, "no face", *self.decision)
        numbers = f"NME {self.columns['nme'][frame]:.2f} %   yaw {self.columns['yaw_deg'][frame]:+.0f}°"
        return Caption(place, numbers, *self.decision)

    def camera(self, frame: int) -> HeadCamera:
        """The camera that projects the frame's posed mesh into the source image."""
        translation = self.columns["translation"][frame]
        if np.isnan(translation).any():
            return WeakCamera(self.columns["camera"][frame], self.columns["crop_to_image"][frame])
        return PinholeCamera(translation, self.columns["intrinsics"][frame])

    def frames(self, numbers: Sequence[int]) -> Iterator[AnnotatedFrame]:
        """Read the frames of ascending numbers from the source; an unreadable one is black."""
        wanted = [int(self.columns["source_frame"][frame]) for frame in numbers]
        size = (int(self.columns["image_height"][0]), int(self.columns["image_width"][0]))
        for frame, image in zip(numbers, self._images(wanted), strict=True):
            if image is None:
                yield AnnotatedFrame(np.zeros((*size, 3), np.uint8))
            elif not self.columns["valid"][frame]:
                yield AnnotatedFrame(image)
            else:
                points, posed, still = self.columns["landmarks"][frame], self.meshes.posed[frame], self.meshes.canonical[frame]
                yield AnnotatedFrame(image, points, posed, self.camera(frame), still)

    def write(self, stem: Path, style: MeshStyle, config: ReportConfig) -> tuple[list[Path], list[AnnotatedFrame]]:
        """Write the overlay video (or PNG); returns its path and the frames for the contact sheet."""
        count = min(self.clip.info["n_frames"], config.max_frames)
        chosen = np.unique(np.linspace(0, count - 1, config.columns).round().astype(int))
        if not config.videos:
            return [], list(self.frames(chosen))
        shown: list[AnnotatedFrame] = []

        def pictures() -> Iterator[np.ndarray]:
            for number, frame in enumerate(self.frames(range(count))):
                if number in chosen:
                    shown.append(frame)
                yield overlay_frame(frame, style, self.region, self.frame_caption(number))

        if count == 1:
            path = stem.with_name(stem.name + ".png")
            write_png(path, next(pictures()))
        else:
            path = stem.with_name(stem.name + ".mp4")
            write_video(path, pictures(), self.clip.info["fps"])
        return [path], shown

    def _images(self, wanted: list[int]) -> Iterator[np.ndarray | None]:
        uri, hashes = self.clip.info["source_uris"][self.view], self.clip.info["source_hashes"]
        with open_source(uri, Limits()) as source:
            if hashes and source.content_hash() != hashes[self.view]:
                raise DataError(f"{uri}: is not the file that was annotated any more", code="source_changed")
            readable = sorted({frame for frame in wanted if frame >= 0})
            images, last, image = source.read(readable, set()) if readable else iter(()), -1, None
            for frame in wanted:
                if frame >= 0 and frame != last:
                    last, image = frame, next(images)
                yield image if frame >= 0 else None


def _file_name(title: str) -> str:
    return re.sub(r"[^\w.-]+", "_", title).strip("_.")[-80:] or "clip"
