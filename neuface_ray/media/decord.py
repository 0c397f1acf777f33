"""decord (the maintained fork decord2) as a second decoder: ``media.decoder=decord``.

Frame times, frame numbers and limits come from demuxing (`neuface_ray.media.decode.probe_video`) for either decoder, so a plan
and the numbers in a dataset mean the same pictures. decord only decodes, on one thread, and is refused (``decoder`` in the
quarantine) where its own list of frames is another one. It is there to compare with work that read its videos with decord; it
is not faster, and slower where a video has many segments: each is decoded from the video's beginning.

What decord2 3.4.0 does, frame by frame beside PyAV 18.1:

* MP4, MOV, MKV and WebM with H.264 (B-frames), HEVC, MPEG-4, VP8 or VP9; variable rate, rotated by the container,
  beginning late: identical to the last bit, times equal. Read here.
* HEVC with open groups of pictures, read from the middle (index, batch or ``skip_frames``): 2 to 5 frames late up to the end of
  the video, where the last frame is repeated. Here: never read from the middle.
* MP4 with damaged frames: what is predicted from a damaged frame is returned as if it were whole (ten frames, wrong by 11 grey
  levels; PyAV says that they are unreadable). **Not noticed here: such frames count as valid.**
* WebM whose picture changes its size: scaled to the first size. Here too; PyAV reads each picture in its own size.
* Pixels that are not square: not stretched. Interlaced: not made whole. Mirrored or turned by the container: as FFmpeg does.
  Refused here where the first picture is not the one that PyAV reads.
* MP4 whose edit list hides 20 of 60 frames: counts 60. Cut off, or WebM with one repeated time, or raw H.264: does not open.
  VP8 with hidden frames: times off by up to 0.13 s. Refused here.
* MPEG-TS and interlaced MPEG-PS: right number and times, but the pictures begin 12 frames late and the last one is repeated.
  MPEG-PS and H.264 in AVI: times of -10^14 s. So nothing but MP4, MOV, MKV and WebM is read here, although MPEG-4 in AVI and
  GIF are right.
* 96 pixels wide: the padding of rows comes back as a fourth channel. Refused here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from neuface_ray.errors import DataError
from neuface_ray.extras import load_extra
from neuface_ray.media import decode
from neuface_ray.media.config import Limits
from neuface_ray.media.decode import VideoFacts

REMEDY = "media.decoder=pyav reads it"


def read_video(path: str, facts: VideoFacts, wanted: Sequence[int], limits: Limits) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (source frame, (H, W, 3) uint8 RGB upright) for ascending frame numbers, as ``decode.read_video`` does.

    Raises:
        UsageError: decord is not installed.
        DataError: ``decoder``: decord cannot read the file, or lists other frames than demuxing does.
    """
    decord = load_extra("decord", "media.decoder=decord")
    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader = decord.VideoReader(path, num_threads=1)
        _check_frames(reader, path, facts)
        numbers = {int(index) for index in wanted}
        _, shown = next(decode.read_video(path, facts, [min(numbers)], limits))
        for index in range(max(numbers) + 1):
            image = reader.next()
            if index in numbers:
                picture = _rgb(image.asnumpy(), path)
                if shown is not None and index == min(numbers) and not np.array_equal(picture, shown):
                    message = (
                        f"{path}: decord shows another picture (it knows no fields and no pixels but square ones); {REMEDY}"
                    )
                    raise DataError(message, code="decoder")
                yield index, picture
    except (decord.DECORDError, StopIteration) as error:
        raise DataError(f"{path}: decord cannot read it ({type(error).__name__}); {REMEDY}", code="decoder") from error


def _check_frames(reader: Any, path: str, facts: VideoFacts) -> None:
    """DataError unless decord's frames are the demuxer's: as many, at the same times, in a container with an index."""
    if not facts.seekable or facts.lost:
        raise DataError(f"{path}: decord is right only for whole MP4, MOV, MKV and WebM files; {REMEDY}", code="decoder")
    if len(reader) != facts.n_frames:
        raise DataError(f"{path}: decord counts {len(reader)} frames, shown are {facts.n_frames}; {REMEDY}", code="decoder")
    times_s = np.array([start for start, _ in reader.get_frame_timestamp(list(range(len(reader))))], np.float64)
    apart = float(np.abs(times_s - times_s[0] - facts.times_s).max())
    if apart > 0.5 / facts.fps:
        raise DataError(f"{path}: decord places frames up to {apart:.3g} s from where they belong; {REMEDY}", code="decoder")


def _rgb(image: np.ndarray, path: str) -> np.ndarray:
    if image.shape[2] != 3:
        message = f"{path}: decord returns {image.shape[2]} channels for pictures {image.shape[1]} wide; {REMEDY}"
        raise DataError(message, code="decoder")
    return image
