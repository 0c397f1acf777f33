"""The 68-point scheme: inner points from MediaPipe's, the jaw line from the silhouette of the mean head."""

from __future__ import annotations

import numpy as np

from neuface_ray.geometry.rays import RayCaster
from neuface_ray.heads.build.embedding import closest_points, yaw_pitch_matrix
from neuface_ray.heads.landmarks import MAX_CONTOUR_YAW_DEG, N_CONTOUR, N_CONTOUR_ROWS

# Points 17 to 67 on the subject's right half and the midline, as MediaPipe points with weights. Single points are the usual
# correspondence; the mixtures correct it where the points annotated in photographs differ by more than two millimetres.
RIGHT_FROM_MEDIAPIPE = {
    17: {70: 2 / 3, 46: 1 / 3},
    18: {63: 1},
    19: {105: 2 / 3, 66: 1 / 3},
    20: {66: 0.7, 107: 0.3},
    21: {107: 0.7, 55: 0.3},
    27: {168: 1},
    28: {6: 0.5, 197: 0.5},
    29: {195: 0.5, 5: 0.5},
    30: {4: 1},
    31: {240: 1},
    32: {97: 1},
    33: {2: 1},
    36: {33: 1},
    37: {160: 1},
    38: {158: 1},
    39: {133: 1},
    40: {153: 1},
    41: {144: 1},
    48: {61: 1},
    49: {39: 0.5, 40: 0.5},
    50: {37: 1},
    51: {0: 1},
    57: {17: 1},
    58: {84: 1},
    59: {181: 0.5, 91: 0.5},
    60: {78: 1},
    61: {82: 1},
    62: {13: 1},
    66: {14: 1},
    67: {87: 1},
}
LEFT_OF_RIGHT = {
    **{17: 26, 18: 25, 19: 24, 20: 23, 21: 22, 31: 35, 32: 34, 36: 45, 37: 44, 38: 43, 39: 42, 40: 47, 41: 46},
    **{48: 54, 49: 53, 50: 52, 58: 56, 59: 55, 60: 64, 61: 63, 67: 65},
}
N_FAN, DEPTH_STEP, SMOOTHING = 181, 0.0005, 13
START_BELOW_EYES = 0.008
# The contour is taken where the surface still faces the viewer a little: a near camera sees less of the sides than a far one,
# and the chin that people mark is the edge above the sloping floor of the mouth.
FORWARD_TILT, JAW_EDGE_YAW_DEG = 0.3, 17


def mirror_68() -> np.ndarray:
    """The point (68,) on the other side of each of the 68 points."""
    table = np.arange(68)
    table[:N_CONTOUR] = table[:N_CONTOUR][::-1]
    for right, left in LEFT_OF_RIGHT.items():
        table[right], table[left] = left, right
    return table


def inner_points(corners, barycentric, spread, pairs, mean, skin_triangles) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points 17 to 67 from MediaPipe's embedding: vertex corners (51, 3), barycentric (51, 3) and spread (51,)."""
    places = (mean[corners] * barycentric[..., None]).sum(1)
    found = np.zeros((68, 3), int), np.zeros((68, 3)), np.zeros(68)
    for point, parts in RIGHT_FROM_MEDIAPIPE.items():
        sides = {point: parts}
        if point in LEFT_OF_RIGHT:
            sides[LEFT_OF_RIGHT[point]] = {int(pairs[index]): weight for index, weight in parts.items()}
        for target, mixture in sides.items():
            index, weight = np.array(list(mixture)), np.array(list(mixture.values()))
            found[2][target] = spread[index] @ weight
            if len(index) == 1:
                found[0][target], found[1][target] = corners[index[0]], barycentric[index[0]]
            else:
                triangle, coordinates = closest_points((weight @ places[index])[None], mean, skin_triangles)
                found[0][target], found[1][target] = skin_triangles[triangle[0]], coordinates[0]
    return tuple(part[N_CONTOUR:] for part in found)


class JawLine:
    """The jaw line of a symmetric head as a family of curves on its surface, one for each of the 17 points.

    Curve k lies in a half plane through the axis of depth just below the eyes; walking along it from the face to the
    ear, the visible contour is the point that reaches farthest in the direction in which the frontal outline faces there.

    Args:
        mean: (N, 3). triangles: (T, 3). face: vertices of the face region. eye_height: metres.
    """

    def __init__(self, mean: np.ndarray, triangles: np.ndarray, face: np.ndarray, eye_height: float):
        self.triangles = triangles
        caster, height = RayCaster(mean, triangles), eye_height - START_BELOW_EYES
        in_face = np.isin(triangles, face).all(1)
        angles = np.linspace(0, np.pi / 2, N_FAN)
        depths = np.arange(mean[face, 2].max(), mean[face, 2].min(), -DEPTH_STEP)
        fan = [self._curve(caster, in_face, angle, depths, height) for angle in angles]
        radial = [np.array([np.cos(angle), -np.sin(angle)]) for angle in angles]
        outline = np.array([curve[0][self._reach(curve[0], way, 0)] for way, curve in zip(radial, fan, strict=True)])
        length = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(outline[:, :2], axis=0), axis=1))])
        tangent = np.gradient(outline[:, :2], length, axis=0)
        chosen = np.searchsorted(length, np.linspace(0, length[-1], N_CONTOUR // 2 + 1)).clip(0, N_FAN - 1)
        self.curves = [fan[index] for index in chosen]
        self.directions = [_unit(np.array([-tangent[index, 1], tangent[index, 0]])) for index in chosen]
        self.directions[-1] = np.array([0.0, -1.0])

    def rows(self) -> tuple[np.ndarray, np.ndarray]:
        """Corners (79, 9, 3) and barycentric (79, 9, 3) of the points 16 (left ear) to 8 (chin) for yaws of -39 to 39 degrees.

        On the side that turns towards the viewer the points move back to the edge of the jaw, and no farther.
        """
        yaws = np.arange(-MAX_CONTOUR_YAW_DEG, MAX_CONTOUR_YAW_DEG + 1).clip(min=-JAW_EDGE_YAW_DEG)
        corners, barycentric = [], []
        for (points, triangle, weights), direction in zip(self.curves, self.directions, strict=True):
            reach = np.minimum.accumulate([self._reach(points, direction, yaw) for yaw in yaws])
            padded = np.pad(reach, SMOOTHING // 2, mode="edge")
            reach = np.convolve(padded, np.ones(SMOOTHING) / SMOOTHING, mode="valid").round().astype(int)
            corners.append(self.triangles[triangle[reach]])
            barycentric.append(weights[reach])
        return np.stack(corners, 1), np.stack(barycentric, 1)

    @staticmethod
    def _curve(caster, in_face, angle, depths, height):
        """Points (P, 3), triangles (P,) and barycentric (P, 3) on the left half plane at an angle below the horizontal."""
        outward = np.array([np.cos(angle), -np.sin(angle), 0.0])
        axis = np.stack([np.full_like(depths, 0), np.full_like(depths, height), depths], 1)
        hits = caster.cast(axis + 0.3 * outward, -outward)
        on_face = (hits.triangle >= 0) & in_face[hits.triangle]
        points = axis[on_face] + (0.3 - hits.distance[on_face, None]) * outward
        return points, hits.triangle[on_face], hits.barycentric[on_face].astype(np.float64)

    @staticmethod
    def _reach(points: np.ndarray, direction, yaw_deg: float) -> int:
        turned = points @ yaw_pitch_matrix(yaw_deg).T
        return int((turned @ np.append(direction, FORWARD_TILT)).argmax())


def contour_rows(jaw: JawLine, mirror: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners (79, 17, 3) and barycentric (79, 17, 3) of the jaw line for the yaws of `contour_row`.

    Turning to its left, the left half slides forward along its curves and the right half back; mirrored for the other way.
    """
    left, weights = jaw.rows()
    corners, barycentric = np.zeros((N_CONTOUR_ROWS, N_CONTOUR, 3), int), np.zeros((N_CONTOUR_ROWS, N_CONTOUR, 3))
    for yaw in range(-MAX_CONTOUR_YAW_DEG, MAX_CONTOUR_YAW_DEG + 1):
        row = yaw if yaw >= 0 else MAX_CONTOUR_YAW_DEG - yaw
        turned, opposite = MAX_CONTOUR_YAW_DEG + yaw, MAX_CONTOUR_YAW_DEG - yaw
        corners[row, 8:] = left[turned][::-1]
        barycentric[row, 8:] = weights[turned][::-1]
        corners[row, :8] = mirror[left[opposite][:8]]
        barycentric[row, :8] = weights[opposite][:8]
    return corners, barycentric


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)
