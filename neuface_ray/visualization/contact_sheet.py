"""Contact sheets: clips as bands of annotated frames."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from neuface_ray.visualization.overlay import (
    BACKGROUND,
    AnnotatedFrame,
    Caption,
    MeshStyle,
    Region,
    caption_bar,
    draw_panels,
)

TILE = (192, 240)


def contact_sheet(
    bands: Sequence[tuple[Caption, Sequence[AnnotatedFrame], Region]],
    style: MeshStyle,
    size: tuple[int, int] = TILE,
    gap: int = 4,
) -> np.ndarray:
    """Draw a sheet of clips: each is a band of a caption and three strips (frame, landmarks, mesh) with one column per frame.

    The three pictures of a band with few frames, such as a still, lie in one row.

    Args:
        bands: caption, frames and region of each clip. size: width and height of a tile. gap: pixels between tiles.
    """
    columns = max(3, *(len(frames) for _, frames, _ in bands))
    width = columns * (size[0] + gap) + gap
    rows: list[np.ndarray] = []
    for caption, frames, region in bands:
        tiles = [draw_panels(frame, style, region, size) for frame in frames]
        strips = list(zip(*tiles, strict=True))
        if 3 * len(frames) <= columns:
            strips = [[tile for panels in tiles for tile in panels]]
        rows.append(caption_bar(caption, width, 36))
        for strip in strips:
            row = np.full((size[1] + gap, width, 3), BACKGROUND, np.uint8)
            for column, tile in enumerate(strip):
                left = gap + column * (size[0] + gap)
                row[: size[1], left : left + size[0]] = tile
            rows.append(row)
    return np.concatenate([*rows, np.full((gap, width, 3), BACKGROUND, np.uint8)])
