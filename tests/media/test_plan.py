import itertools
import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest
from PIL import Image

from neuface_ray.errors import UsageError
from neuface_ray.media import MediaConfig, plan
from neuface_ray.media.plan import find_recordings, segment_identity, split_range
from neuface_ray.types import View
from neuface_ray.uri import SourceUri
from tests.media.files import numbered, portrait, write_video


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write_video(tmp_path_factory.mktemp("clip") / "clip.mp4", numbered(30)).read_bytes()


def put(path: Path, content: bytes = b"x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def sequences(path: object, **options: object) -> dict[str, list[str]]:
    found = find_recordings(str(path), MediaConfig(**options))
    assert len({r.sequence for r in found}) == len(found)
    return {r.sequence: [view.name for view in r.views] for r in found}


def test_equal_parts_cover_the_range_once() -> None:
    for start, total, most, overlap in [(0, 1, 120, 8), (0, 120, 120, 8), (5, 121, 120, 8), (7, 4800, 120, 8), (0, 50, 10, 0)]:
        parts = split_range(start, start + total, most, overlap)
        assert parts[0][0] == start
        assert parts[-1][1] == start + total
        assert all(a[1] == b[0] for a, b in itertools.pairwise(parts))
        assert max(c1 - c0 for _, _, c0, c1 in parts) <= most
        assert max(b - a for a, b, _, _ in parts) - min(b - a for a, b, _, _ in parts) <= 1
        for a, b, c0, c1 in parts:
            assert (c0, c1) == (max(start, a - overlap), min(start + total, b + overlap))


def test_one_video_and_one_image(tmp_path: Path, clip: bytes) -> None:
    video = put(tmp_path / "a.b.mp4", clip)
    (segment,) = plan(video, MediaConfig())
    assert (segment.sequence_id, segment.start, segment.stop, segment.is_image) == ("a.b", 0, 30, False)
    assert segment.views[0].uri == str(video)
    parts = plan(str(video), MediaConfig(max_frames=12, overlap=2))
    assert [(s.start, s.stop) for s in parts] == [(0, 7), (7, 15), (15, 22), (22, 30)]
    assert len({s.segment_id for s in parts}) == 4
    image = tmp_path / "face.png"
    Image.fromarray(portrait(64)).save(image)
    (still,) = plan(image, MediaConfig(stride=3))
    assert (still.start, still.stop, still.is_image, still.stride) == (0, 1, True, 1)


def test_identities_depend_on_what_is_computed_and_nothing_else(
    tmp_path: Path, clip: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = put(tmp_path / "a.mp4", clip)
    first = plan(video, MediaConfig())[0].segment_id
    assert plan(tmp_path, MediaConfig(crop_size=64, max_faces=1, min_face_px=50))[0].segment_id == first
    monkeypatch.chdir(tmp_path)
    assert plan("a.mp4", MediaConfig())[0].segment_id == first
    assert plan(video, MediaConfig(stride=2))[0].segment_id != first
    assert plan(video, MediaConfig(fps=5))[0].segment_id != first
    assert plan(video, MediaConfig(max_frames=20, overlap=2))[0].segment_id != first
    assert plan(put(tmp_path / "other" / "a.mp4", clip), MediaConfig())[0].segment_id != first


def test_sampling(tmp_path: Path, clip: bytes) -> None:
    video = put(tmp_path / "a.mp4", clip)
    assert plan(video, MediaConfig(stride=4))[0].stop == 8
    assert plan(video, MediaConfig(fps=5))[0].stop == 6


def test_folder(tmp_path: Path, clip: bytes) -> None:
    for name in ("b/c.mp4", "a.mov", "a.jpg", ".hidden.mp4", ".git/x.mp4", "z.JPG"):
        put(tmp_path / name, clip)
    put(tmp_path / "notes.txt", b"BMW, mp4 and other words")
    assert sequences(tmp_path) == {"a.jpg": ["front"], "a.mov": ["front"], "b/c": ["front"], "z": ["front"]}
    assert set(sequences(f"{tmp_path}/**/*.mp4")) == {"c"}
    assert list(sequences(f"{tmp_path}/*.jp*")) == ["a"]
    put(tmp_path / "odd[1].mp4", clip)
    assert list(sequences(tmp_path / "odd[1].mp4")) == ["odd[1]"]


def test_links(tmp_path: Path, clip: bytes) -> None:
    put(tmp_path / "real" / "a.mp4", clip)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "in" / "loop").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "dangling.mp4").symlink_to(tmp_path / "nowhere.mp4")
    assert sequences(tmp_path / "in") == {"dangling": ["front"], "linked/a": ["front"]}


def test_odd_names(tmp_path: Path, clip: bytes) -> None:
    names = [
        "new\nline.mp4",
        "tab\t.mp4",
        "übung 😀.mp4",
        " space .mp4",
        "x" * 250 + ".mp4",
        "quote'\".mp4",
        "%41.mp4",
        "-rf.mp4",
    ]
    for name in [*names, os.fsdecode(b"caf\xe9.mp4"), os.fsdecode(b"caf\xe8.mp4"), "new\tline.mp4"]:
        put(tmp_path / name, clip)
    segments = plan(tmp_path, MediaConfig())
    assert len(segments) == 11
    assert all(segment.stop == 30 for segment in segments)
    assert len({segment.segment_id for segment in segments}) == len({segment.sequence_id for segment in segments}) == 11
    for segment in segments:
        text = json.dumps([segment.sequence_id, segment.views[0].uri], ensure_ascii=False)
        assert text.encode("utf-8")
        assert segment.sequence_id.isprintable()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: root / "absent", "does not exist"),
        (lambda root: root / "absent.mp4", "does not exist"),
        (lambda root: put(root / "empty" / "notes.txt").parent, "holds no video or image"),
        (lambda root: f"{root}/*.mp4", "matches no video or image"),
        (lambda root: "memory://nothing-here/", "holds no video or image"),
        (lambda root: "nosuch://user:SECRET@host/", "cannot be listed"),
    ],
)
def test_usage_errors(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    with pytest.raises(UsageError, match=message) as error:
        plan(str(make(tmp_path)), MediaConfig())
    assert "SECRET" not in str(error.value)


def test_broken_files_are_planned_and_stop_nothing(tmp_path: Path, clip: bytes) -> None:
    put(tmp_path / "good.mp4", clip)
    put(tmp_path / "text.mp4", b"text")
    put(tmp_path / "zero.mp4", b"")
    (tmp_path / "folder.mp4").mkdir()
    (tmp_path / "dangling.mp4").symlink_to("nowhere")
    segments = plan(tmp_path, MediaConfig())
    assert {s.sequence_id: s.stop for s in segments} == {"good": 30, "text": 0, "zero": 0, "folder": 0, "dangling": 0}
    assert len({s.segment_id for s in segments}) == 5
    (alone,) = plan(tmp_path / "text.mp4", MediaConfig())
    assert alone.stop == 0


def test_synchronised_views_of_a_folder(tmp_path: Path, clip: bytes) -> None:
    for name in ("shoot/top.mp4", "shoot/front.mp4", "stills/l.jpg", "stills/r.jpg", "stills/r.png"):
        put(tmp_path / name, clip)
    found = sequences(tmp_path, views="folder")
    assert found == {"shoot": ["front", "top"], "stills": ["l", "r.jpg", "r.png"]}
    assert sequences(tmp_path / "shoot", views="folder") == {"shoot": ["front", "top"]}
    (segment,) = plan(tmp_path / "shoot", MediaConfig(views="folder"))
    assert segment.stop == 30
    put(tmp_path / "shoot" / "broken.mp4", b"text")
    (segment,) = plan(tmp_path / "shoot", MediaConfig(views="folder"))
    assert (segment.stop, len(segment.views)) == (0, 3)


def test_mead(tmp_path: Path, clip: bytes) -> None:
    views = ["top", "front", "left_30", "left_60", "right_30", "right_60", "down"]
    for view in views:
        put(tmp_path / "M003" / "video" / view / "happy" / "level_1" / "001.mp4", clip)
        put(tmp_path / "M003" / "video" / view / "happy" / "level_1" / "002.mp4", clip)
    put(tmp_path / "again" / "M003" / "video" / "top" / "happy" / "level_1" / "001.mp4", clip)
    put(tmp_path / "W009" / "video" / "front" / "sad" / "level_2" / "010.mp4", clip)
    segments = plan(tmp_path, MediaConfig())
    assert {s.sequence_id: len(s.views) for s in segments} == {
        "M003/happy/level_1/001": 7,
        "M003/happy/level_1/002": 7,
        "M003/happy/level_1/001#2": 1,
        "W009/sad/level_2/010": 1,
    }
    full = next(s for s in segments if s.sequence_id == "M003/happy/level_1/002")
    assert [view.name for view in full.views] == sorted(views)
    assert full.person == "M003"
    assert set(sequences(tmp_path / "M003" / "video")) == {"M003/happy/level_1/001", "M003/happy/level_1/002"}
    assert len(sequences(tmp_path, layout="files")) == 16


def test_voxceleb2_and_celebvhq(tmp_path: Path, clip: bytes) -> None:
    put(tmp_path / "dev" / "mp4" / "id00012" / "21Uxsk56VDQ" / "00001.mp4", clip)
    put(tmp_path / "hq" / "M2Ohb0FAaJU_1.mp4", clip)
    put(tmp_path / "other.mp4", clip)
    found = {r.sequence: r.person for r in find_recordings(str(tmp_path), MediaConfig())}
    assert found == {"id00012/21Uxsk56VDQ/00001": "id00012", "M2Ohb0FAaJU_1": None, "other": None}
    assert list(sequences(tmp_path, layout="voxceleb2")) == ["id00012/21Uxsk56VDQ/00001"]
    with pytest.raises(UsageError, match=r"media\.layout=mead"):
        plan(tmp_path, MediaConfig(layout="mead"))


def test_manifest(tmp_path: Path, clip: bytes) -> None:
    for name in ("a.mp4", "b.mp4", "c.mp4"):
        put(tmp_path / name, clip)
    rows = [
        {"uri": "b.mp4", "sequence": "pair", "view": "right", "person": "Ann"},
        {"uri": "a.mp4", "sequence": "pair", "view": "left", "person": "Ann"},
        {"uri": "c.mp4", "start": 0.2, "end": 0.6, "licence": "CC0"},
        {"uri": "c.mp4", "start": 0.6},
        {"uri": "c.mp4", "start": 99},
        {"uri": "missing.mp4"},
    ]
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("\n".join(map(json.dumps, rows)))
    pair, part, rest, beyond, missing = plan(manifest, MediaConfig())
    assert [view.name for view in pair.views] == ["left", "right"]
    assert (pair.sequence_id, pair.person, pair.stop) == ("pair", "Ann", 30)
    assert (part.start, part.stop, part.context_start, part.licence) == (5, 15, 5, "CC0")
    assert (rest.start, rest.stop) == (15, 30)
    assert beyond.stop == missing.stop == 0
    assert len({s.segment_id for s in (pair, part, rest, beyond, missing)}) == 5

    for bad, message in [
        ({"uri": "c.mp4", "sequence": "pair", "view": "left", "person": "Ann"}, "names the view 'left' twice"),
        ({"uri": "c.mp4", "sequence": "pair", "view": "mid", "person": "Bob"}, "person differs"),
        ({"uri": "c.mp4", "sequence": "pair", "view": "mid", "person": "Ann", "start": 1}, "start and end differ"),
        ({"uri": "c.jpg", "sequence": "pair", "view": "mid", "person": "Ann"}, "mixes stills and videos"),
    ]:
        manifest.write_text("\n".join(map(json.dumps, [*rows, bad])))
        with pytest.raises(UsageError, match=message):
            plan(manifest, MediaConfig())


def test_remote_folder_glob_and_file(clip: bytes) -> None:
    fsspec.filesystem("memory").pipe({"/bucket/x/a.mp4": clip, "/bucket/x/b.mp4": clip, "/bucket/x/notes.txt": b""})
    for address in ("memory://bucket/x", "memory://bucket/x/*.mp4"):
        segments = plan(address, MediaConfig())
        assert [s.stop for s in segments] == [30, 30]
        assert [s.sequence_id for s in segments] == ["a", "b"]
    (one,) = plan("memory://bucket/x/a.mp4?token=SECRET", MediaConfig())
    assert "SECRET" not in str(one)
    assert "SECRET" in pickle.loads(pickle.dumps(one)).views[0].uri.address


@pytest.mark.parametrize(
    ("address", "identity"),
    [
        ("https://user:pass@host.org/a%20b.mp4?X-Amz-Signature=S&part=3&pwd=x y&sig=x#F", "b230bc95e1c6c0cd547f"),
        ("s3://KEY:SECRET@bucket/dir@2/x.mp4", "31617f48875c4a38abb2"),
        ("/data/a b?.mp4", "b1e37e6c11d5d78b5383"),
    ],
)
def test_segment_ids_of_existing_datasets_stay(address: str, identity: str) -> None:
    views = [View("front", SourceUri(address))]
    assert segment_identity("s", views, [0, 1, 0, 1], 1, None) == identity
