"""Pictures into files: H.264 videos and PNG."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np


def write_video(path: Path, pictures: Iterator[np.ndarray], fps: float) -> None:
    """Write uint8 [H, W, 3] pictures of even size as H.264 (MPEG-4 where the encoder is not built in)."""
    codec = "libx264" if "libx264" in av.codecs_available else "mpeg4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=Fraction(fps).limit_denominator(1000))
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "20", "preset": "veryfast"} if codec == "libx264" else {"qscale": "3"}
        for picture in pictures:
            if not stream.codec_context.is_open:
                stream.height, stream.width = picture.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))


def write_png(path: Path, picture: np.ndarray) -> None:
    """Write a uint8 [H, W, 3] picture as PNG."""
    encoded = cv2.imencode(".png", np.ascontiguousarray(picture[..., ::-1]))[1]
    path.write_bytes(encoded.tobytes())
