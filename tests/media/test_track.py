import numpy as np

from neuface_ray.media import MediaConfig
from neuface_ray.media.detect import Face
from neuface_ray.media.track import cuts, link, persons, thumbnail
from tests.media.files import portrait

CONFIG = MediaConfig()


def face(x: float, y: float = 100.0, side: float = 50.0) -> Face:
    mesh = np.array([x, y]) + (np.random.default_rng(0).random((478, 2)) - 0.5) * side
    return Face(mesh, mesh, np.ones(478), np.zeros(52))


def scene(seed: int, n_frames: int, speed: float = 1.0) -> list[np.ndarray]:
    """A textured wall passing by behind a moving head."""
    rng = np.random.default_rng(seed)
    wall = np.kron(rng.integers(0, 255, (20, 60, 3)).astype(np.uint8), np.ones((16, 16, 1), np.uint8))
    frames = []
    for k in range(n_frames):
        image = wall[:256, int(speed * k) : int(speed * k) + 256].copy()
        image[60:220, 60:200] = portrait(256, (20 * np.sin(k), 0))[60:220, 60:200]
        frames.append(thumbnail(image))
    return frames


def test_two_people_who_move_keep_their_tracks() -> None:
    faces = [[face(100 + 3 * k), face(400 - 3 * k)][:: 1 if k % 2 else -1] for k in range(40)]
    first, second = link(faces, [], CONFIG)
    for track in (first, second):
        x = np.array([faces[f][i].mesh[0, 0] for f, i in sorted(track.items())])
        assert len(x) == 40
        assert np.ptp(np.diff(x)) < 1e-9


def test_gaps_cuts_and_jumps() -> None:
    faces = [[face(100)] if k not in range(10, 15) else [] for k in range(30)]
    (track,) = link(faces, [], CONFIG)
    assert sorted(track) == [*range(10), *range(15, 30)]
    assert [sorted(t) for t in link(faces, [20], CONFIG)] == [[*range(10), *range(15, 20)], [*range(20, 30)]]
    assert len(link(faces, [], MediaConfig(max_gap=3))) == 2
    assert len(link([[face(100)]] * 10 + [[face(300)]] * 10, [], CONFIG)) == 2
    assert len(link([[face(100)]] * 10 + [[face(100, side=150)]] * 10, [], CONFIG)) == 2
    strides = [[face(100 + 45 * (k % 2))] for k in range(10)]
    assert len(link(strides, [], MediaConfig(stride=4))) == 1 < len(link(strides, [], CONFIG))


def test_false_alarms_and_max_faces() -> None:
    faces = [[face(100), face(300, side=60)] + ([face(500)] if k == 4 else []) for k in range(10)]
    tracks = link(faces, [], CONFIG)
    assert [len(track) for track in tracks] == [10, 10]
    assert faces[0][tracks[0][0]].side > faces[0][tracks[1][0]].side
    assert len(link(faces, [], MediaConfig(max_faces=1))) == 1
    assert len(link(faces[4:5], [], CONFIG)) == 3
    assert link([[], []], [], CONFIG) == []


def test_persons_across_views() -> None:
    front = [[face(100, side=80), face(300, side=40)] for _ in range(20)]
    left = [[face(200, side=30)] + ([face(50, side=60)] if not 8 <= k < 14 else []) for k in range(20)]
    views = [front, left]
    tracks = [link(view, [], MediaConfig(max_gap=3)) for view in views]
    big, small = persons(views, tracks, 4)
    assert len(big[0]) == 20
    assert sorted(big[1]) == [*range(8), *range(14, 20)]  # two tracks in one view, one person
    assert {left[f][i].side < 45 for f, i in small[1].items()} == {True}
    assert len(persons(views, tracks, 1)) == 1
    assert persons([front, [[]] * 20], [tracks[0], []], 4)[0][1] == {}
    assert persons([[[]], [[]]], [[], []], 4) == []


def test_cuts_are_found() -> None:
    shots = [scene(1, 15), scene(2, 20), scene(3, 9)]
    assert cuts([thumb for shot in shots for thumb in shot]) == [15, 35]
    assert cuts([thumb for shot in shots for thumb in [None, *shot]]) == [17, 38]


def test_motion_flashes_and_fades_are_no_cuts() -> None:
    assert cuts(scene(1, 40, speed=12)) == []
    still = scene(1, 30)
    flash = [*still[:15], np.full_like(still[0], 255), *still[16:]]
    assert cuts(flash) == []
    fade = [np.uint8(thumb * max(0.0, 1 - k / 25)) for k, thumb in enumerate(still)]
    assert cuts(fade) == []
    assert cuts([]) == cuts(still[:1]) == cuts([None, None]) == []
