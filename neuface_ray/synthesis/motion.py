"""Natural head motion and facial expression: poses, gaze, blinks, speech and emotions, each a smooth function of time.

Everything is drawn once from a generator and then evaluated at any times, so that a still is a sequence of one frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from neuface_ray.types import ARKIT_NAMES, POSE_SIZE

Curve = Callable[[np.ndarray], np.ndarray]


def _both(**weights: float) -> dict[str, float]:
    """Weights of one-sided action names, given to the left and the right."""
    return {f"{name}{side}": weight for name, weight in weights.items() for side in ("Left", "Right")}


EMOTIONS: dict[str, dict[str, float]] = {
    "neutral": {},
    "smile": _both(mouthSmile=0.8, cheekSquint=0.5, eyeSquint=0.25, mouthDimple=0.2),
    "grin": {**_both(mouthSmile=0.9, mouthUpperUp=0.5, cheekSquint=0.6, eyeSquint=0.3, mouthLowerDown=0.3), "jawOpen": 0.1},
    "laugh": {**_both(mouthSmile=0.9, mouthUpperUp=0.5, cheekSquint=0.8, eyeSquint=0.6, mouthLowerDown=0.4), "jawOpen": 0.4},
    "surprise": {**_both(eyeWide=0.8, browOuterUp=0.8), "browInnerUp": 0.8, "jawOpen": 0.5},
    "anger": {**_both(browDown=0.9, eyeSquint=0.4, noseSneer=0.4, mouthPress=0.5, mouthFrown=0.3), "mouthShrugLower": 0.2},
    "shout": {**_both(browDown=0.8, noseSneer=0.7, mouthUpperUp=0.5, mouthLowerDown=0.6, eyeSquint=0.3), "jawOpen": 0.7},
    "sadness": {**_both(mouthFrown=0.8, eyeSquint=0.2), "browInnerUp": 0.8, "mouthShrugLower": 0.4},
    "disgust": {**_both(noseSneer=0.9, mouthUpperUp=0.5, browDown=0.5, mouthFrown=0.3, eyeSquint=0.4)},
    "fear": {**_both(eyeWide=0.9, mouthStretch=0.7, browOuterUp=0.3), "browInnerUp": 0.9, "jawOpen": 0.25},
    "pout": {"mouthPucker": 0.8, "mouthShrugLower": 0.4, "browInnerUp": 0.2},
    "kiss": {"mouthPucker": 1.0, "mouthFunnel": 0.2},
    "tight": {**_both(mouthPress=0.8, mouthDimple=0.4), "mouthRollLower": 0.4, "mouthRollUpper": 0.4},
    "puff": {"cheekPuff": 0.9, **_both(mouthPress=0.5)},
    "doubt": {"mouthLeft": 0.5, "browDownLeft": 0.6, "browOuterUpRight": 0.8, "mouthPressLeft": 0.4},
    "smirk": {"mouthSmileLeft": 0.7, "mouthDimpleLeft": 0.5, "mouthLeft": 0.2, "cheekSquintLeft": 0.3},
    "squint": _both(eyeSquint=0.9, cheekSquint=0.5, browDown=0.5, noseSneer=0.2),
    "yawn": {**_both(eyeBlink=0.7, mouthLowerDown=0.2), "jawOpen": 0.95, "mouthFunnel": 0.2},
}
VISEMES: dict[str, dict[str, float]] = {
    "rest": {},
    "a": {"jawOpen": 0.5, **_both(mouthLowerDown=0.25)},
    "e": {"jawOpen": 0.22, **_both(mouthStretch=0.35, mouthLowerDown=0.25, mouthUpperUp=0.15)},
    "i": {"jawOpen": 0.1, **_both(mouthSmile=0.3, mouthStretch=0.3, mouthLowerDown=0.3)},
    "o": {"jawOpen": 0.32, "mouthFunnel": 0.6, "mouthPucker": 0.2},
    "u": {"jawOpen": 0.12, "mouthPucker": 0.75, "mouthFunnel": 0.2},
    "m": {"mouthClose": 0.03, "mouthRollLower": 0.35, "mouthRollUpper": 0.3, **_both(mouthPress=0.3)},
    "f": {"jawOpen": 0.07, "mouthRollLower": 0.55, **_both(mouthUpperUp=0.3)},
    "s": {"jawOpen": 0.05, **_both(mouthStretch=0.2, mouthUpperUp=0.2, mouthLowerDown=0.3)},
    "sh": {"jawOpen": 0.1, "mouthFunnel": 0.45, **_both(mouthUpperUp=0.15)},
    "l": {"jawOpen": 0.25, "tongueOut": 0.03, **_both(mouthUpperUp=0.1)},
}
MAX_GAZE_DEG = 35.0


@dataclass(frozen=True)
class MotionRange:
    """How far heads turn and how lively faces are.

    Args:
        yaw_deg, pitch_deg, roll_deg: largest resting angles; most heads are far nearer to the front.
        turning: amplitude of the movement about the resting pose, 1 for talking people. wide: share of poses spread evenly
            over the whole range. intensity: strength of emotions. random_expressions: share of faces with random actions that
            have nothing to do with one another.
    """

    yaw_deg: float = 80.0
    pitch_deg: float = 32.0
    roll_deg: float = 35.0
    turning: float = 1.0
    wide: float = 0.4
    intensity: float = 1.0
    random_expressions: float = 0.3


@dataclass(frozen=True)
class Motion:
    """One person's movement as functions of time (seconds, any array [F]): ``expression(t)`` [F, 52] ARKit weights in [0, 1],
    ``angles_deg(t)`` [F, 3] yaw, pitch and roll."""

    expression: Curve
    angles_deg: Curve

    def pose(self, times: np.ndarray) -> np.ndarray:
        """(F, 15) pose with the root rotation Ry(yaw) Rx(pitch) Rz(roll) as axis-angle."""
        pose = np.zeros((len(times), POSE_SIZE))
        pose[:, :3] = angles_to_rotvec(self.angles_deg(times))
        return pose


def sample_motion(rng: np.random.Generator, limits: MotionRange, duration_s: float = 0.0) -> Motion:
    """A random movement that is defined from 0 to ``duration_s``."""
    return Motion(_sample_expression(rng, limits, duration_s), _sample_angles(rng, limits))


def angles_to_rotvec(angles_deg: np.ndarray) -> np.ndarray:
    """Axis-angle (F, 3) of Ry(yaw) Rx(pitch) Rz(roll) for angles (F, 3) in degrees."""
    half = np.deg2rad(angles_deg) / 2
    (cy, cx, cz), (sy, sx, sz) = np.cos(half).T, np.sin(half).T
    w = cy * cx * cz + sy * sx * sz
    vector = np.stack([cy * sx * cz + sy * cx * sz, sy * cx * cz - cy * sx * sz, cy * cx * sz - sy * sx * cz], -1)
    norm = np.linalg.norm(vector, axis=-1)
    angle = 2 * np.arctan2(norm, w)
    return vector * np.where(norm > 1e-9, angle / np.maximum(norm, 1e-9), 2.0)[:, None]


def smooth_noise(rng: np.random.Generator, channels: int, period_s: float) -> Curve:
    """A random function of time with unit variance and the given typical period: times [F] to [F, channels]."""
    frequency = rng.uniform(0.4, 1.6, (6, channels)) / period_s
    phase = rng.uniform(0, 2 * np.pi, (6, channels))
    weight = rng.normal(size=(6, channels))
    weight /= np.linalg.norm(weight, axis=0) / np.sqrt(2)
    return lambda t: (weight * np.sin(2 * np.pi * frequency * np.asarray(t)[:, None, None] + phase)).sum(1)


def _sample_angles(rng: np.random.Generator, limits: MotionRange) -> Curve:
    bound = np.array([limits.yaw_deg, limits.pitch_deg, limits.roll_deg])
    rest = np.clip(rng.normal(size=3) * [18.0, 8.0, 7.0], -bound, bound)
    wide = rng.random(3) < limits.wide * np.array([1.0, 0.6, 0.35])
    rest = np.where(wide, rng.uniform(-bound, bound), rest)
    amplitude = limits.turning * rng.uniform(0.3, 1.0, 3) * [9.0, 4.5, 3.5]
    slow, fast = smooth_noise(rng, 3, 3.0), smooth_noise(rng, 3, 0.9)
    return lambda t: np.clip(rest + amplitude * (slow(t) + 0.15 * fast(t)), -1.1 * bound, 1.1 * bound)


def _sample_expression(rng: np.random.Generator, limits: MotionRange, duration_s: float) -> Curve:
    emotion, speech = _sample_emotion(rng, limits), _sample_speech(rng, duration_s)
    blink, gaze = _sample_blinks(rng, duration_s), _sample_gaze(rng, duration_s)
    asymmetry = np.exp(rng.normal(size=len(ARKIT_NAMES)) * 0.18)
    unrelated = np.zeros(len(ARKIT_NAMES))
    if rng.random() < limits.random_expressions:
        chosen = rng.choice(len(ARKIT_NAMES), rng.integers(1, 6), replace=False)
        unrelated[chosen] = rng.beta(1.2, 2.0, len(chosen))
    unrelated[ARKIT_NAMES.index("mouthClose")] = 0.0

    def evaluate(times: np.ndarray) -> np.ndarray:
        face = (emotion(times) + speech(times) + unrelated) * asymmetry
        lids = blink(times)
        for side in ("Left", "Right"):
            index = ARKIT_NAMES.index(f"eyeBlink{side}")
            face[:, index] = np.maximum(face[:, index], lids)
            face[:, ARKIT_NAMES.index(f"eyeWide{side}")] *= 1 - lids
        face[:, ARKIT_NAMES.index("mouthClose")] = np.minimum(
            face[:, ARKIT_NAMES.index("mouthClose")], face[:, ARKIT_NAMES.index("jawOpen")]
        )
        return np.clip(face + gaze(times), 0, 1)

    return evaluate


def _vector(weights: dict[str, float]) -> np.ndarray:
    out = np.zeros(len(ARKIT_NAMES))
    for name, weight in weights.items():
        out[ARKIT_NAMES.index(name)] = weight
    return out


def _mirrored(vector: np.ndarray) -> np.ndarray:
    swap = {"Left": "Right", "Right": "Left"}
    order = []
    for name in ARKIT_NAMES:
        side = next((end for end in swap if name.endswith(end)), None)
        order.append(ARKIT_NAMES.index(name if side is None else name.removesuffix(side) + swap[side]))
    return vector[order]


def _sample_emotion(rng: np.random.Generator, limits: MotionRange) -> Curve:
    """Two emotions that come and go; one in three faces is nearly neutral, smiles are the most frequent of the rest."""
    names = list(EMOTIONS)
    odds = np.array([4.0 if name in ("smile", "grin", "laugh") else 1.0 for name in names])
    pair = rng.choice(names, 2, p=odds / odds.sum())
    targets = np.stack([_vector(EMOTIONS[name]) for name in pair])
    if rng.random() < 0.5:
        targets = np.stack([_mirrored(target) for target in targets])
    strength = (
        limits.intensity * (rng.beta(0.6, 3.0) if rng.random() < 0.35 else rng.uniform(0.2, 1.25)) * np.array([1.0, 0.35])
    )
    wave = smooth_noise(rng, 2, 2.5)
    return lambda t: (np.clip(0.75 + 0.45 * wave(t), 0, 1.2) * strength) @ targets


def _sample_speech(rng: np.random.Generator, duration_s: float) -> Curve:
    """Mouth shapes that follow one another about five times a second, in spells of talking; half of the people are silent."""
    step = rng.uniform(0.15, 0.26)
    shapes = np.stack([_vector(VISEMES[name]) for name in rng.choice(list(VISEMES), int(duration_s / step) + 3)])
    shapes *= rng.uniform(0.4, 1.3, (len(shapes), 1)) * (rng.random() < 0.55)
    offset = rng.uniform(0, step)
    spell = smooth_noise(rng, 1, 4.0)

    def evaluate(times: np.ndarray) -> np.ndarray:
        position = (np.asarray(times) + offset) / step
        index = position.astype(int)
        mix = (0.5 - 0.5 * np.cos(np.pi * (position - index)))[:, None]
        talking = 1 / (1 + np.exp(-6 * (spell(times) + 0.6)))
        return ((1 - mix) * shapes[index] + mix * shapes[index + 1]) * talking

    return evaluate


def _sample_blinks(rng: np.random.Generator, duration_s: float) -> Curve:
    """Lid closure [F]: blinks of a quarter second about every three seconds, on lids that rest open, low or shut."""
    times = np.cumsum(np.concatenate([[rng.uniform(-0.3, 3)], rng.exponential(3.0, int(duration_s / 2) + 2)]))
    rest = rng.choice([0.0, rng.uniform(0.1, 0.5), rng.uniform(0.8, 1.0)], p=[0.72, 0.2, 0.08])
    depth = rng.uniform(0.85, 1.0, len(times))

    def evaluate(t: np.ndarray) -> np.ndarray:
        since = np.asarray(t)[:, None] - times
        closing, opening = np.clip(since / 0.08, 0, 1), np.clip((since - 0.12) / 0.16, 0, 1)
        ease = [0.5 - 0.5 * np.cos(np.pi * x) for x in (closing, opening)]
        return np.maximum(rest, (depth * (ease[0] - ease[1])).max(1))

    return evaluate


def _sample_gaze(rng: np.random.Generator, duration_s: float) -> Curve:
    """Both eyes jump between fixations (Gaussian, 10 by 6 degrees); the ARKit look-weights of a rotation are linear in it."""
    starts = np.cumsum(np.concatenate([[0.0], rng.uniform(0.4, 2.0, int(duration_s / 0.4) + 2)]))
    targets = rng.normal(size=(len(starts), 2)) * [11.0, 6.0]

    def evaluate(t: np.ndarray) -> np.ndarray:
        t = np.asarray(t)
        index = np.clip(np.searchsorted(starts, t, side="right") - 1, 0, len(starts) - 1)
        before = targets[np.maximum(index - 1, 0)]
        mix = np.clip((t - starts[index]) / 0.05, 0, 1)[:, None]
        left, down = (((1 - mix) * before + mix * targets[index]) / MAX_GAZE_DEG).T
        out = np.zeros((len(t), len(ARKIT_NAMES)))
        for name, weight in {
            "eyeLookOutLeft": left,
            "eyeLookInRight": left,
            "eyeLookInLeft": -left,
            "eyeLookOutRight": -left,
            "eyeLookDownLeft": down,
            "eyeLookDownRight": down,
            "eyeLookUpLeft": -down,
            "eyeLookUpRight": -down,
        }.items():
            out[:, ARKIT_NAMES.index(name)] = np.clip(weight, 0, 1)
        return out

    return evaluate
