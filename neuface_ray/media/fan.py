"""FAN, the 68-point face alignment network of the papers, with weights from the user's own file.

Bulat and Tzimiropoulos, "How far are we from solving the 2D & 3D face alignment problem?", ICCV 2017; network from the
package face-alignment (BSD-3). Faces are found by MediaPipe; points are read from the heat maps without rounding to pixels.
"""

from __future__ import annotations

import os

import numpy as np

from neuface_ray.errors import ModelFileError
from neuface_ray.extras import load_extra
from neuface_ray.media.crop import cut

INPUT_SIDE = 256
HEATMAP_SIDE = 64
REFERENCE_SCALE = 195.0  # size of the box, in the network's own measure, that fills 200 units
CENTRE_SHIFT = 0.12
WHERE = "2DFAN4-11f355bf06.pth.tar of face-alignment (BSD-3), https://www.adrianbulat.com/downloads/python-fan/"


class Fan:
    """Callable ``(image, box) -> landmarks (68, 2) pixels, scores (68,)``.

    Raises:
        UsageError: face-alignment is not installed.
        ModelFileError: the weights are missing or of another network.
    """

    def __init__(self, weights: str | None):
        import torch  # seconds that only who asks for FAN should spend

        if weights is None or not os.path.isfile(weights):
            raise ModelFileError(f"media.fan_weights={weights}: no such file; it names {WHERE}")
        self._network = load_extra("face_alignment.models", "media.detector=fan").FAN(4).eval()
        try:
            self._network.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
        except Exception as error:  # torch reports a refused or foreign file by many kinds of errors
            reason = str(error).partition("\n")[0]
            raise ModelFileError(f"media.fan_weights={weights}: not the weights of 2DFAN-4 ({reason}); get {WHERE}") from error

    def __call__(self, image: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        import torch

        width, height = box[2:] - box[:2]
        centre = (box[:2] + box[2:]) / 2 - [0, CENTRE_SHIFT * height]
        half = 100.0 * (width + height) / REFERENCE_SCALE
        crop = cut(image, np.array([[half, 0, centre[0]], [0, half, centre[1]], [0, 0, 1.0]]), INPUT_SIDE)
        with torch.inference_mode():
            heatmaps = self._network(torch.from_numpy(crop[None] / np.float32(255)))
        points, scores = peaks((heatmaps[-1] if isinstance(heatmaps, list) else heatmaps)[0].numpy())
        return centre + (points / HEATMAP_SIDE * 2 - 1) * half, np.clip(scores, 0, 1).astype(np.float32)


def peaks(heatmaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Maxima of (L, H, W) heat maps, shifted by a quarter of a pixel towards the higher neighbour.

    Returns:
        (L, 2) x, y with pixel centres at +0.5, and their values (L,).
    """
    count, height, width = heatmaps.shape
    y, x = np.unravel_index(heatmaps.reshape(count, -1).argmax(1), (height, width))
    padded = np.pad(heatmaps, ((0, 0), (1, 1), (1, 1)), mode="edge")
    each = np.arange(count)
    slope_x = padded[each, y + 1, x + 2] - padded[each, y + 1, x]
    slope_y = padded[each, y + 2, x + 1] - padded[each, y, x + 1]
    inside = (x > 0) & (x < width - 1) & (y > 0) & (y < height - 1)
    shift = 0.25 * np.stack([np.sign(slope_x), np.sign(slope_y)], -1) * inside[:, None]
    return np.stack([x, y], -1) + 0.5 + shift, heatmaps[each, y, x]
