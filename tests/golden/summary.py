"""Arrays in a few numbers, and whether they are those of before."""

from __future__ import annotations

import hashlib

import numpy as np

PICKED = 7


def summarise(array: np.ndarray) -> dict[str, object]:
    """Shape, number of finite entries, their mean and root mean square, and some entries from first to last (NaN as null)."""
    flat = np.asarray(array, np.float64).ravel()
    finite = flat[np.isfinite(flat)]
    mean, size = (float(finite.mean()), float(np.sqrt((finite**2).mean()))) if finite.size else (0.0, 0.0)
    picked = flat[np.linspace(0, flat.size - 1, min(PICKED, flat.size)).astype(int)] if flat.size else flat
    return {
        "shape": list(np.shape(array)),
        "finite": int(finite.size),
        "mean": _rounded(mean),
        "rms": _rounded(size),
        "picked": [_rounded(value) if np.isfinite(value) else None for value in picked.tolist()],
    }


def differences(expected: dict[str, object], found: dict[str, object], tolerance: float) -> list[str]:
    """What differs between two summaries by more than ``tolerance`` times the array's root mean square."""
    told = [f"{name} {expected[name]}, now {found[name]}" for name in ("shape", "finite") if expected[name] != found[name]]
    allowed = tolerance * float(expected["rms"])
    pairs = [(name, expected[name], found[name]) for name in ("mean", "rms")]
    pairs += [(f"picked {i}", a, b) for i, (a, b) in enumerate(zip(expected["picked"], found["picked"], strict=False))]
    for name, a, b in pairs:
        if (a is None) != (b is None) or (a is not None and abs(a - b) > allowed):
            share = "" if a is None or b is None or not expected["rms"] else f" ({abs(a - b) / float(expected['rms']):.1e})"
            told.append(f"{name} {a}, now {b}{share}")
    return told


def digest(array: np.ndarray) -> str:
    """sha256 of kind, shape and bytes of an array."""
    array = np.ascontiguousarray(array)
    return hashlib.sha256(f"{array.dtype.str}{array.shape}".encode() + array.tobytes()).hexdigest()


def _rounded(value: float) -> float:
    return float(f"{value:.9g}")
