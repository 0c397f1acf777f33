"""What a camera adds to a face: a background, things in the way, blur, noise, compression, colour; values in [0, 1]."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from neuface_ray.errors import DataError
from neuface_ray.synthesis.appearance import NOISE_SIZE, build_noise_tiles, linear_to_display
from neuface_ray.synthesis.materials import MAPS, material_files, read_map


def sample_background(rng: np.random.Generator, size: int, folder: str | Path | None = None) -> np.ndarray:
    """Sample a blurred surrounding float32 [size, size, 3], painted; with a folder, three in four are cut from its pictures."""
    files = material_files(str(folder), "backgrounds") if folder is not None else ()
    if files and rng.random() < 0.75:
        file = files[rng.integers(len(files))]
        if file.suffix.lower() in MAPS:
            picture = _crop_panorama(rng, _read_exposed_map(file), size)
        else:
            picture = _crop_photograph(rng, _read_image(file), size)
    else:
        picture = _paint_background(rng, size)
    blur = rng.choice([0.0, rng.uniform(0.5, 2.0), rng.uniform(2, 8)], p=[0.35, 0.35, 0.3]) * size / 128
    picture = cv2.GaussianBlur(picture, (0, 0), blur) if blur > 0.3 else picture
    return np.clip(picture * rng.uniform(0.5, 1.15), 0, 1).astype(np.float32)


@lru_cache(maxsize=128)
def _read_image(path: Path) -> np.ndarray:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise DataError(f"{path} is no readable image")
    scale = 512 / max(image.shape[:2])
    return cv2.resize(image, None, fx=min(scale, 1), fy=min(scale, 1), interpolation=cv2.INTER_AREA)[..., ::-1]


@lru_cache(maxsize=64)
def _read_exposed_map(path: Path) -> np.ndarray:
    """Read an equirectangular map as display values in [0, 1], exposed so that its median is a middling grey."""
    radiance = read_map(path, 1024)
    return linear_to_display(0.18 * radiance / max(float(np.median(radiance)), 1e-6))


def _crop_panorama(rng: np.random.Generator, panorama: np.ndarray, size: int) -> np.ndarray:
    """A perspective view of a panorama in a random direction near the horizon, 30 to 90 degrees wide."""
    half = np.tan(np.radians(rng.uniform(15, 45)))
    x, y = np.meshgrid(np.linspace(-half, half, size), np.linspace(-half, half, size))
    pitch = rng.normal() * 0.25
    down, ahead = y * np.cos(pitch) - np.sin(pitch), np.cos(pitch) + y * np.sin(pitch)
    azimuth = (np.arctan2(x, ahead) / (2 * np.pi) + rng.random()) % 1.0
    polar = np.arctan2(down, np.hypot(x, ahead)) / np.pi + 0.5
    height, width = panorama.shape[:2]
    columns, rows = (azimuth * width).astype(np.float32), (polar * height).astype(np.float32)
    return cv2.remap(panorama, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP).astype(np.float32)


def _crop_photograph(rng: np.random.Generator, image: np.ndarray, size: int) -> np.ndarray:
    side = int(min(image.shape[:2]) * rng.uniform(0.3, 1.0))
    top, left = (int(rng.integers(0, extent - side + 1)) for extent in image.shape[:2])
    patch = cv2.resize(image[top : top + side, left : left + side], (size, size), interpolation=cv2.INTER_AREA)
    return (patch[:, :: int(rng.choice([-1, 1]))] / 255).astype(np.float32)


def _paint_background(rng: np.random.Generator, size: int) -> np.ndarray:
    colours = sample_muted_colours(rng, 4).reshape(2, 2, 3)
    along = np.linspace([1, 0], [0, 1], size)
    picture = np.einsum("yi,ixc->yxc", along, np.einsum("xj,ijc->ixc", along, colours))
    picture = 0.5 * picture + 0.5 * colours[0, 0] if rng.random() < 0.5 else picture
    picture = np.ascontiguousarray(picture, np.float32)
    if rng.random() < 0.6:
        for _ in range(rng.integers(2, 14)):
            colour = tuple(map(float, sample_muted_colours(rng, 1)[0]))
            centre, extent = rng.uniform(-0.1, 1.1, 2) * size, rng.uniform(0.03, 0.6, 2) * size
            box = cv2.boxPoints(
                (tuple(map(float, centre)), tuple(map(float, extent)), float(rng.choice([0, 0, rng.uniform(0, 180)])))
            )
            if rng.random() < 0.7:
                cv2.fillConvexPoly(picture, box.astype(np.int32), colour, cv2.LINE_AA)
            else:
                cv2.circle(picture, tuple(map(int, centre)), int(extent[0] / 2), colour, -1, cv2.LINE_AA)
    if rng.random() < 0.6:
        picture = picture * (1 + rng.uniform(0.02, 0.3) * sample_noise_image(rng, size, rng.integers(1, 3)))
    return picture


def sample_muted_colours(rng: np.random.Generator, count: int) -> np.ndarray:
    """Display colours (count, 3) as rooms, streets and clothes have them: mostly greyish, now and then strong."""
    grey = rng.beta(1.3, 1.3, (count, 1))
    return np.clip(grey + rng.normal(size=(count, 3)) * rng.gamma(1.2, 0.08, (count, 1)), 0.01, 0.99)


def sample_noise_image(rng: np.random.Generator, size: int, channel: int) -> np.ndarray:
    """One of the noise tiles [size, size, 1], shifted and turned at random."""
    tile = build_noise_tiles()[..., int(channel)]
    angle, zoom = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 1.5) * NOISE_SIZE / size
    matrix = zoom * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = np.concatenate([matrix, rng.uniform(0, NOISE_SIZE, (2, 1))], 1)
    picture = cv2.warpAffine(
        tile, matrix, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=cv2.BORDER_WRAP
    )
    return picture[..., None]


def sample_occluder(rng: np.random.Generator, size: int, skin: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Sample a thing before the face: picture [size, size, 3] and cover [size, size, 1]; fingers, a bar, a box or a blob.

    Args:
        skin: (3,) display colour of the fingers.
    """
    cover = np.zeros((size, size), np.float32)
    kind = rng.choice(["hand", "bar", "box", "blob"], p=[0.4, 0.2, 0.2, 0.2])
    turn = rng.uniform(0, 2 * np.pi)
    towards = np.array([np.cos(turn), np.sin(turn)])
    tip = size * (0.5 + towards * rng.uniform(0.12, 0.42))
    if kind in ("hand", "bar"):
        fingers = rng.integers(2, 5) if kind == "hand" else 1
        width = size * (rng.uniform(0.05, 0.085) if kind == "hand" else rng.uniform(0.03, 0.2))
        across = np.array([-towards[1], towards[0]])
        for k in range(fingers):
            start = tip + across * width * 1.08 * (k - fingers / 2) + towards * rng.uniform(0, 0.08) * size
            end = start + (towards + across * rng.normal() * 0.08) * size
            cv2.line(cover, _pixel(start), _pixel(end), 1.0, max(int(width), 1), cv2.LINE_AA)
    else:
        extent = size * rng.uniform(0.15, 0.5, 2)
        centre = tip + towards * extent.mean() / 2
        if kind == "box":
            corners = cv2.boxPoints(
                (tuple(map(float, centre)), tuple(map(float, extent)), float(np.rad2deg(turn) + rng.normal() * 20))
            )
        else:
            angle = np.linspace(0, 2 * np.pi, 14, endpoint=False)
            corners = centre + np.stack([np.cos(angle), np.sin(angle)], -1) * extent / 2 * rng.uniform(0.6, 1.2, (14, 1))
        cv2.fillPoly(cover, [corners.astype(np.int32)], 1.0, cv2.LINE_AA)
    depth = cv2.GaussianBlur(cover, (0, 0), size / 40)
    gradient = cv2.Sobel(depth, cv2.CV_32F, 1, 0) * rng.normal() + cv2.Sobel(depth, cv2.CV_32F, 0, 1) * rng.normal()
    colour = skin * rng.uniform(0.75, 1.15) if kind == "hand" else sample_muted_colours(rng, 1)[0]
    relief = 1 + 1.2 * gradient[..., None] + 0.08 * sample_noise_image(rng, size, 2)
    picture = colour * relief * (0.55 + 0.45 * depth[..., None])
    return np.clip(picture, 0, 1).astype(np.float32), cover[..., None]


def apply_sensor(
    rng: np.random.Generator, picture: np.ndarray, size: int, noise_rng: np.random.Generator | None = None
) -> np.ndarray:
    """Show the picture [R, R, 3] as a random camera does: uint8 [size, size, 3], cleaner or worse than most real crops.

    The frames of a video give an equal ``rng`` for one camera, and each its own ``noise_rng``.
    """
    noise_rng = noise_rng or rng
    picture = _apply_optics(rng, picture, size)
    picture = _apply_colours(rng, picture)
    if rng.random() < 0.75:
        sigma = rng.gamma(1.2, 0.011)
        noise = noise_rng.normal(size=picture.shape).astype(np.float32)
        if rng.random() < 0.4:
            noise = cv2.GaussianBlur(noise, (0, 0), 0.8) * 2.2
        picture = picture + sigma * noise * np.sqrt(0.3 + picture.mean(-1, keepdims=True).clip(0, 1))
    image = np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    if rng.random() < 0.6:
        quality = int(rng.uniform(18, 95))
        image = cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
    return image


def _apply_optics(rng: np.random.Generator, picture: np.ndarray, size: int) -> np.ndarray:
    if rng.random() < 0.18:
        length = int(rng.integers(3, 9))
        kernel = np.zeros((length, length), np.float32)
        angle = rng.uniform(0, np.pi)
        reach = np.array([np.cos(angle), np.sin(angle)]) * (length - 1) / 2
        cv2.line(kernel, _pixel((length - 1) / 2 - reach), _pixel((length - 1) / 2 + reach), 1.0, 1)
        picture = cv2.filter2D(picture, -1, kernel / kernel.sum())
    if rng.random() < 0.35:
        low = int(size * rng.uniform(0.3, 1.0))
        picture = cv2.resize(picture, (low, low), interpolation=cv2.INTER_AREA)
        return cv2.resize(picture, (size, size), interpolation=cv2.INTER_CUBIC if rng.random() < 0.5 else cv2.INTER_LINEAR)
    picture = cv2.resize(picture, (size, size), interpolation=cv2.INTER_AREA)
    blur = rng.gamma(1.0, 0.45)
    if blur > 0.35:
        return cv2.GaussianBlur(picture, (0, 0), min(blur, 2.5))
    if rng.random() < 0.5:
        amount = rng.uniform(0, 0.8)
        return picture + amount * (picture - cv2.GaussianBlur(picture, (0, 0), 1.0))
    return picture


def _apply_colours(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    picture = np.clip(picture, 0, 1.3) ** np.exp(rng.normal() * 0.12) * np.exp(rng.normal() * 0.14 + rng.normal(size=3) * 0.05)
    grey = picture @ np.array([0.299, 0.587, 0.114])
    saturation = 0.0 if rng.random() < 0.05 else np.exp(rng.normal() * 0.22)
    picture = grey[..., None] + saturation * (picture - grey[..., None])
    mean = grey.mean()
    return (mean + np.exp(rng.normal() * 0.14) * (picture - mean) + rng.normal() * 0.025).astype(np.float32)


def _pixel(point: np.ndarray) -> tuple[int, int]:
    return round(float(point[0])), round(float(point[1]))
