import logging
from dataclasses import replace

import av
import cv2
import numpy as np
import pytest

from neuface_ray.dataset import Output, Provenance, clip_rows, finalise
from neuface_ray.errors import DataError, UsageError
from neuface_ray.geometry.render import draw_mesh
from neuface_ray.heads import load_head
from neuface_ray.heads.sequence_meshes import build_meshes, head_camera
from neuface_ray.metrics.clip_quality import measure
from neuface_ray.types import GateDecision
from neuface_ray.uri import content_hash
from neuface_ray.visualization.report import ReportConfig, choose_clips, draw, open_dataset, report
from neuface_ray.visualization.video import write_video
from tests.metrics.clips import make_clip


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory, head):
    """A video of two views, a still, and a clip whose source is gone."""
    folder = tmp_path_factory.mktemp("report")
    output = Output.open(str(folder / "faces"), Provenance("run", "test", head.id))
    for name, frames, views in (("talk", 6, 2), ("still", 1, 1), ("gone", 3, 1)):
        uris = [str(folder / f"{name}{v}.{'png' if frames == 1 else 'mp4'}") for v in range(views)]
        clip, sequence = make_clip(head, frames=frames, views=views, seed=len(name), uris=uris)
        clip.clip_id = sequence.clip_id = f"{name}-clip"
        clip.segment = replace(clip.segment, segment_id=f"{name}segment", sequence_id=name)
        made = build_meshes(sequence, head)
        for v, uri in enumerate(uris):
            grey = np.full((480, 640, 3), 90, np.uint8)
            pictures = [
                draw_mesh(grey, made.posed[f, v], head.faces.numpy(), head_camera(clip, sequence, f, v)) for f in range(frames)
            ]
            if frames == 1:
                cv2.imwrite(uri, pictures[0])
            else:
                write_video(folder / uri, iter(pictures), 25.0)
        clip.source_hash = tuple(content_hash(uri) for uri in uris)
        if name == "talk":
            clip.source_frame[5, 1] = -1
            clip.valid[5, 1] = False
            clip.valid[3, 0] = False
        measured = measure(clip, sequence, head)
        decision = GateDecision(name != "still", ("nme",) if name == "still" else ())
        output.commit(clip.segment, [clip_rows(clip, sequence, measured, decision, output.provenance)])
        if name == "gone":
            (folder / f"{name}0.mp4").unlink()
    finalise(output.store)
    return str(folder / "faces")


def test_pictures_of_a_dataset(dataset, tmp_path, monkeypatch):
    log, messages = logging.Logger("report"), []
    log.addHandler(logging.NullHandler())
    log.addFilter(lambda record: messages.append(record.getMessage()) or True)
    # A logger of the test's own: what other tests did to the shared ones does not matter.
    monkeypatch.setattr("neuface_ray.visualization.report._LOG", log)
    paths = draw(ReportConfig(dataset, str(tmp_path / "pictures"), clips=9))
    names = [path.name for path in paths]
    assert names[0] == "contact_sheet.png"
    assert sorted(name.rsplit(".")[-1] for name in names[1:]) == ["mp4", "mp4", "png"]
    assert any("left out" in message and "gone" in message for message in messages)
    with av.open(str(next(path for path in paths if "talk" in path.name))) as video:
        frames = [frame.to_ndarray(format="rgb24") for frame in video.decode(video=0)]
    assert len(frames) == 6
    assert frames[0].shape[1] == 1200
    mesh, bare = frames[0][:500, 400:800].astype(int), frames[3][:500, 400:800].astype(int)
    assert np.abs(mesh - bare).mean() > 2
    sheet = cv2.imread(str(paths[0]))
    assert sheet.shape[0] == 3 * 36 + (3 + 3 + 1) * 244 + 4


def test_default_folder_is_in_the_dataset(dataset):
    paths = report(dataset, clips=2)
    assert all(str(path).startswith(dataset) and path.stat().st_size > 1000 for path in paths)


def test_choices(dataset):
    opened = open_dataset(dataset)

    def chosen(**options):
        return choose_clips(opened, ReportConfig(dataset, clips=9, **options))

    errors = {row["clip_id"]: row["nme"] for row in opened.clips(columns=["clip_id", "nme"]).to_pylist()}
    assert chosen() == ["gone-clip", "still-clip", "talk-clip"]
    assert [errors[name] for name in chosen(choose="best")] == sorted(errors.values())
    assert chosen(choose="worst") == chosen(choose="best")[::-1]
    assert chosen(choose="random", seed=1) == chosen(choose="random", seed=1)
    assert sorted(chosen(choose="random")) == sorted(errors)
    assert chosen(ids=["talk-clip"]) == ["talk-clip"]


def test_wrong_usage(dataset, tmp_path):
    with pytest.raises(UsageError, match="no clip nobody"):
        draw(ReportConfig(dataset, ids=["nobody"]))
    with pytest.raises(UsageError, match="choose"):
        ReportConfig(dataset, choose="prettiest")
    with pytest.raises(UsageError):
        draw(ReportConfig(str(tmp_path / "nothing")))
    with pytest.raises(DataError, match="gone"):
        draw(ReportConfig(dataset, str(tmp_path / "x"), ids=["gone-clip"]))


def test_a_changed_source_is_not_drawn_over(dataset, tmp_path):
    still = next(row for row in open_dataset(dataset).clips().to_pylist() if row["clip_id"] == "still-clip")
    path = still["source_uris"][0]
    original = cv2.imread(path)
    try:
        cv2.imwrite(path, original + 1)
        with pytest.raises(DataError, match="annotated any more"):
            draw(ReportConfig(dataset, str(tmp_path / "y"), ids=["still-clip"]))
    finally:
        cv2.imwrite(path, original)
