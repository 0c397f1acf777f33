"""Scanned and foreign heads as ground truth: reading them, and bringing them upright, in millimetres, into the head frame.

Scans come in any unit and orientation. A face detector looks at renders of the scan; rays through its landmarks give points on
the surface, and these give the unit (the power of ten that makes the eyes a human distance apart) and the pose.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import trimesh
from scipy.spatial.transform import Rotation

from neuface_ray.errors import DataError, UsageError
from neuface_ray.geometry import alignment as align
from neuface_ray.geometry import render
from neuface_ray.geometry.rays import HeadCamera, RayCaster, WeakCamera, crop_to_pixels
from neuface_ray.geometry.visibility import visible_points

Detect = Callable[[np.ndarray], np.ndarray | None]
"""From a uint8 RGB image to MediaPipe's 478 points in pixels, or None where no face is found."""

SKIN = (0.78, 0.60, 0.50)
OUTER_EYES, N_POINTS, NOSE_TIP = (33, 263), 478, 1
EYE_DISTANCE_MM = (60.0, 130.0)
EXTENSIONS = (".obj", ".ply", ".stl", ".off", ".glb")
_SIDE = 512
_TURNS = [(0, 0, 0), (-90, 0, 0), (0, 180, 0), (90, 0, 0), (0, 90, 0), (0, -90, 0), (-90, 180, 0), (-90, 90, 0), (-90, -90, 0)]


@dataclass(frozen=True)
class Scan:
    """A head as a textured or plain triangle mesh.

    Args:
        vertices: (N, 3); mm in the head frame once `normalise` has been through. faces: (T, 3).
        colour: (N, 3) in [0, 1]. uv: (N, 2) and texture: uint8 [h, w, 3], or None; the texture covers the first ``textured``
            triangles, the colours the rest.
        landmarks: (478, 3) on the surface, NaN where a ray missed it; None before normalisation.
    """

    name: str
    vertices: np.ndarray
    faces: np.ndarray
    colour: np.ndarray
    uv: np.ndarray | None = None
    texture: np.ndarray | None = None
    textured: int = 0
    landmarks: np.ndarray | None = None

    def moved(self, matrix: np.ndarray, translation: np.ndarray) -> Scan:
        """The scan with every point p at ``matrix @ p + translation``."""
        points = None if self.landmarks is None else self.landmarks @ matrix.T + translation
        return replace(self, vertices=self.vertices @ matrix.T + translation, landmarks=points)

    def picture(self, camera: HeadCamera, size: tuple[int, int], samples: int = 2, background: float = 0.42) -> np.ndarray:
        """A render, uint8 [H, W, 3]: the surface under soft light before a plain wall."""
        raster = render.rasterise(self.vertices, self.faces, camera, size, samples)
        colour = render.interpolate(raster, self.faces, self.colour)
        if self.texture is not None and self.uv is not None:
            painted = render.sample_texture(self.texture, render.interpolate(raster, self.faces, self.uv)) / 255
            colour = np.where((raster.triangle < self.textured)[..., None], painted, colour)
        lit = render.shade(raster, self.vertices, self.faces, colour, _room_light, gloss=0.04)
        wall = np.float32(background) * np.linspace(1.15, 0.85, len(lit), dtype=np.float32)[:, None, None]
        picture = np.where(raster.mask[..., None], lit, wall)
        small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
        return np.rint(np.clip(small, 0, 1) * 255).astype(np.uint8)


@dataclass(frozen=True)
class ScanFiles:
    """Where a scan lies: one or more meshes (head, eyeballs), each with a texture or none named."""

    name: str
    meshes: tuple[Path, ...]
    textures: tuple[Path, ...] = ()


def list_scans(folder: str | Path, manifest: str | Path | None = None) -> list[ScanFiles]:
    """The scans of a folder, not yet read.

    Args:
        folder: searched for meshes, each of which is a scan, unless there is a manifest.
        manifest: JSON list of ``{"name": ..., "meshes": [...], "textures": [...]}`` with paths relative to the folder; several
            meshes (head, eyeballs) make one scan, and each may have a texture. ``scans.json`` in the folder is taken if None.

    Raises:
        UsageError: no folder, no meshes, or a missing or malformed manifest.
    """
    folder = Path(folder)
    named, manifest = manifest is not None, Path(manifest) if manifest else folder / "scans.json"
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder of scans")
    if manifest.is_file() or named:
        try:
            entries = [(e["name"], e["meshes"], e.get("textures", [])) for e in json.loads(manifest.read_text())]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{manifest}: not a list of objects with name and meshes ({error})") from error
    else:
        files = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in EXTENSIONS)
        entries = [(str(path.with_suffix("")), [str(path)], []) for path in files]
    if not entries:
        raise UsageError(f"{folder}: holds no meshes ({', '.join(EXTENSIONS)})")
    return [
        ScanFiles(name, tuple(folder / path for path in meshes), tuple(folder / path for path in textures))
        for name, meshes, textures in entries
    ]


def read_scan(files: ScanFiles) -> Scan:
    """One scan from its mesh files, with textures that are named, by the materials, or not at all.

    Raises:
        DataError: a file that cannot be read, or holds no triangles (code ``bad_scan``).
    """
    meshes, textures = files.meshes, files.textures
    parts = []
    for index, path in enumerate(meshes):
        try:
            mesh = trimesh.load(path, process=False, force="mesh")
            texture = np.asarray(_image(textures[index])) if index < len(textures) else _own_texture(mesh)
        except (OSError, ValueError, IndexError, KeyError, TypeError) as error:
            raise DataError(f"{path}: cannot be read as a mesh ({error})", code="bad_scan") from error
        if not len(mesh.faces):
            raise DataError(f"{path}: holds no triangles", code="bad_scan")
        uv = getattr(mesh.visual, "uv", None)
        parts.append((np.asarray(mesh.vertices, np.float64), np.asarray(mesh.faces), _colour(mesh), uv, texture))
    offsets = np.cumsum([0, *(len(part[0]) for part in parts)])
    colours = [part[2] if part[3] is None or part[4] is None else _paint(part[3], part[4], len(part[0])) for part in parts[1:]]
    _, _, colour, uv, texture = parts[0]
    if uv is not None and texture is not None:
        uv, textured = np.pad(np.asarray(uv, np.float64), ((0, offsets[-1] - offsets[1]), (0, 0))), len(parts[0][1])
    else:
        uv, texture, textured = None, None, 0
    return Scan(
        files.name,
        np.concatenate([part[0] for part in parts]),
        np.concatenate([part[1] + offset for part, offset in zip(parts, offsets, strict=False)]),
        np.concatenate([colour, *colours]),
        uv,
        texture,
        textured,
    )


def normalise(scan: Scan, detect: Detect, reference: np.ndarray) -> Scan:
    """The scan upright, facing z, in mm, with landmarks on its surface, laid onto reference landmarks (478, 3) in mm.

    Raises:
        DataError: no orientation shows a face (code ``no_face``), or no unit makes it human (``bad_scan``).
    """
    centred = scan.moved(np.eye(3), -(scan.vertices.min(0) + scan.vertices.max(0)) / 2)
    for turn in _TURNS:
        turned = centred.moved(Rotation.from_euler("xyz", turn, degrees=True).as_matrix(), np.zeros(3))
        points = surface_landmarks(turned, detect)
        if points is not None and _is_upright(points):
            break
    else:
        raise DataError(f"scan {scan.name}: no face is found on renders of it from nine sides", code="no_face")
    distance = np.linalg.norm(points[OUTER_EYES[0]] - points[OUTER_EYES[1]])
    unit = 10.0 ** np.round(np.log10(92.0 / distance))
    if not EYE_DISTANCE_MM[0] < unit * distance < EYE_DISTANCE_MM[1]:
        raise DataError(f"scan {scan.name}: {distance:.3g} units between the eyes fit no unit", code="bad_scan")
    for _ in range(2):
        seen = ~np.isnan(points).any(-1)
        fit = align.rigid(unit * points[seen], reference[seen])
        turned = turned.moved(unit * fit.rotation, fit.translation)
        unit, again = 1.0, surface_landmarks(turned, detect)
        if again is None or np.isnan(again[list(OUTER_EYES)]).any():
            raise DataError(f"scan {scan.name}: its face is lost once it is upright", code="no_face")
        points = again
    return replace(turned, landmarks=points)


def surface_landmarks(scan: Scan, detect: Detect) -> np.ndarray | None:
    """MediaPipe's points (478, 3) on the surface as seen from the front (+z), NaN where a ray misses; None without a face."""
    low, high = scan.vertices.min(0), scan.vertices.max(0)
    middle, half = (low + high) / 2, 0.55 * (high - low)[:2].max()
    camera = WeakCamera(np.array([1 / half, -middle[0], -middle[1]]), crop_to_pixels(_SIDE, _SIDE))
    found = detect(scan.picture(camera, (_SIDE, _SIDE), samples=1))
    if found is None:
        return None
    origins, directions = camera.rays(np.asarray(found, np.float64), scan.vertices)
    hits = RayCaster(scan.vertices, scan.faces).cast(origins, directions)
    distance = np.where(hits.triangle < 0, np.nan, hits.distance)
    return origins + distance[:, None] * directions


def surface_sample(scan: Scan, count: int, seed: int = 0, within: float = 100.0) -> np.ndarray:
    """At most ``count`` points (P, 3) evenly spread over the outside of a normalised scan within so many mm of its nose tip.

    Outside is what can be seen, unoccluded, from the front, the sides, above or below; this leaves out the insides of mouth,
    nostrils and eye sockets.
    """
    rng = np.random.default_rng(seed)
    corners = scan.vertices[scan.faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    area = np.linalg.norm(normals, axis=-1)
    near = np.linalg.norm(corners.mean(1) - scan.landmarks[NOSE_TIP], axis=-1) < within
    drawn = 3 * count
    chosen = rng.choice(len(area), size=drawn, p=area * near / (area * near).sum())
    weights = rng.dirichlet(np.ones(3), size=drawn)
    points, normal = (weights[..., None] * corners[chosen]).sum(1), normals[chosen] / area[chosen, None]
    seen = np.zeros(drawn, bool)
    for yaw, pitch in ((0, 0), (50, 0), (-50, 0), (0, 40), (0, -40)):
        turn = Rotation.from_euler("yx", [yaw, pitch], degrees=True).as_matrix()
        caster = RayCaster(scan.vertices @ turn.T, scan.faces)
        seen |= visible_points(points @ turn.T, normal @ turn.T, caster, WeakCamera(np.ones(3), np.eye(3)))
    return points[seen][:count]


def _room_light(normals: np.ndarray) -> np.ndarray:
    return render.lambert(normals, 0.55, (render.Light((-0.4, 0.5, 0.8), 0.45), render.Light((0.8, 0.2, 0.5), 0.15)))


def _is_upright(points: np.ndarray) -> bool:
    """The eyes lie above the mouth and level to within 45 degrees, and the right eye on the image's left."""
    right, left, chin = points[OUTER_EYES[0]], points[OUTER_EYES[1]], points[152]
    if np.isnan([right, left, chin]).any():
        return False
    across, down = left - right, chin - (right + left) / 2
    return across[0] > abs(across[1]) and -down[1] > abs(down[0])


def _colour(mesh: trimesh.Trimesh) -> np.ndarray:
    """Vertex colours (N, 3) of a mesh that has them, else skin."""
    if getattr(mesh.visual, "kind", None) == "vertex":
        return np.asarray(mesh.visual.vertex_colors, np.float64)[:, :3] / 255
    return np.tile(np.array(SKIN), (len(mesh.vertices), 1))


def _own_texture(mesh: trimesh.Trimesh) -> np.ndarray | None:
    material = getattr(mesh.visual, "material", None)
    image = getattr(material, "image", None) or getattr(material, "baseColorTexture", None)
    return None if image is None or max(image.size) < 8 else np.asarray(image.convert("RGB"))


def _image(path: Path) -> np.ndarray:
    image = cv2.imread(str(path))
    if image is None:
        raise OSError(f"texture {path} cannot be read")
    return image[..., ::-1]


def _paint(uv: np.ndarray, texture: np.ndarray, count: int) -> np.ndarray:
    """Vertex colours (N, 3) from a texture."""
    return render.sample_texture(texture, np.asarray(uv, np.float64)[None])[0][:count] / 255
