"""The comparison of NeuFace from the command line, small, with an encoder that knows nothing."""

import json
import re

import numpy as np
import pytest
import torch

from jobs.evaluate import main
from neuface_ray.evaluation import synthetic_clips
from neuface_ray.evaluation.neuface import variants
from neuface_ray.evaluation.neuface.plots import away_from_landmarks, gradient_of_landmark_loss
from neuface_ray.evaluation.neuface.settings import NeufaceEvaluation
from neuface_ray.fitting.objective import ObjectiveConfig
from neuface_ray.heads import load_head
from neuface_ray.media import MediaConfig
from neuface_ray.methods.encoder.annotator import EncoderAnnotator, EncoderConfig
from neuface_ray.methods.encoder.network import CompactEncoder
from neuface_ray.methods.encoder.weights import save_compact
from neuface_ray.metrics.landmarks import source_landmarks
from neuface_ray.synthesis.draw import Stage
from neuface_ray.synthesis.faces import FaceOptions
from neuface_ray.synthesis.sequences import SequenceOptions

PICTURES = {"cvd_per_view", "motion_traces", "error_against_time", "stability_against_error", "gradient_maps"}


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def weights(head, tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "encoder.safetensors"
    save_compact(CompactEncoder(head.id), path)
    return path


def arguments(folder, weights, **more):
    settings = {
        "sequences": 2,
        "frames": 8,
        "views": 2,
        "picture_px": 144,
        "workers": 1,
        "encoder.path": weights,
        "neuface.passes": 2,
        "direct.steps": 3,
        "direct.pose_steps": 2,
        "low_pass": "[1.0]",
        "whole_sequences": 1,
        "curve_sequences": 1,
        "curve_passes": "[1]",
        "curve_steps": "[2]",
    }
    return [
        "evaluation=neuface_claims",
        f"output={folder}",
        *(f"neuface_claims.{key}={value}" for key, value in {**settings, **more}.items()),
    ]


def test_the_comparison_reports_and_its_exit_code_says_whether_all_criteria_are_met(weights, tmp_path, capsys):
    code = main(arguments(tmp_path, weights))
    printed = capsys.readouterr()
    report = json.loads((tmp_path / "report.json").read_text())
    assert code == (0 if report["passed"] else 4)
    assert [criterion["name"] for criterion in report["criteria"]] == [*(f"N{n}" for n in range(1, 8)), "O1", "O2"]
    lines = [line for line in printed.out.splitlines() if re.match(r"[NO]\d (PASS|FAIL) .+: .+", line)]
    assert len(lines) == 9
    assert "fits: 100 %" in printed.err
    assert {path.stem for path in tmp_path.glob("*.png")} == PICTURES
    tables = report["tables"]
    truth = tables["Table 2: methods"][0]
    assert truth["method"] == "truth"
    assert truth["CVD mm"] == pytest.approx(0, abs=1e-3)
    against = {line["method"]: line for line in tables["Against the truth"]}
    assert against["truth"]["MPVE root mm"] == pytest.approx(0, abs=1e-3)
    assert against["truth"]["NME true %"] == pytest.approx(0, abs=1e-2)
    assert 0 < against["landmarks given"]["NME true %"] < 15
    assert {"truth", "landmarks given"} <= {line["method"] for line in tables["Movement"]}
    assert against[variants.DIRECT]["NME true %"] < against[variants.ENCODER]["NME true %"]
    rows = json.loads((tmp_path / "rows.json").read_text())["synthetic"]
    assert sum(row["method"] == variants.WHOLE for row in rows) == 1
    assert sum(row["method"] == variants.FULL for row in rows) == 2

    stored = {path: path.stat().st_mtime_ns for path in tmp_path.glob("sequences-*/*.npz")}
    assert len(stored) == 2
    main(arguments(tmp_path, weights, whole_sequences=0, curve_sequences=0, curve_passes="[]", curve_steps="[]", low_pass="[]"))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.glob("sequences-*/*.npz")} == stored


def test_wrong_settings_and_missing_weights_are_named(weights, tmp_path, capsys):
    for change, message in (
        ({"views": 1}, "neuface_claims.views=1"),
        ({"landmarks": "guessed"}, "neuface_claims.landmarks='guessed'"),
        ({"picture_scale": 1.2}, "neuface_claims.picture_scale"),
        ({"encoder.path": tmp_path / "none.safetensors"}, "neuface_claims.encoder.path"),
    ):
        assert main(arguments(tmp_path, weights, **change)) == 2
        assert message in capsys.readouterr().err


@pytest.fixture(scope="module")
def options():
    return SequenceOptions(frames=3, views=2, face=FaceOptions(size=144, crop_scale=1.7, occluded=0.0))


@pytest.mark.parametrize("landmarks", ["detected", "true"])
def test_a_ground_truth_clip_is_seen_by_the_detector_and_survives_its_file(head, options, landmarks, tmp_path):
    media = MediaConfig(crop_size=128, max_faces=1)
    made = synthetic_clips.make_ground_truth_clip(Stage(head), options, 5, 0, media, landmarks)
    assert made.clip.crops.shape == (3, 2, 3, 128, 128)
    assert made.clip.valid.any()
    given = source_landmarks(made.clip)[made.clip.valid]
    off = np.linalg.norm(given - made.points[made.clip.valid], axis=-1).mean()
    size = np.ptp(made.points, axis=2).mean()
    assert off < (0.1 if landmarks == "detected" else 1e-5) * size
    assert (made.clip.blendshapes is None) == (landmarks == "true")
    assert np.abs(made.clip.landmarks).max() < 1.2
    synthetic_clips.save(made, tmp_path / "clip.npz")
    read = synthetic_clips.load(tmp_path / "clip.npz", options, 5, 0)
    for record, again in ((made.clip, read.clip), (made.truth, read.truth)):
        for name, value in vars(record).items():
            if isinstance(value, np.ndarray):
                assert np.array_equal(value, getattr(again, name)), name
    assert read.clip.clip_id == made.clip.clip_id
    assert read.clip.segment.views[1].name == "left_30"
    assert synthetic_clips.uncalibrated(read.clip).segment.views[1].camera is None
    assert read.clip.segment.views[1].camera is not None


def test_the_store_is_another_one_for_other_options(head, options):
    media = MediaConfig(crop_size=128)
    names = [
        synthetic_clips.store_name(options, seed, head, media, landmarks)[0]
        for seed, landmarks in ((1, "detected"), (2, "detected"), (1, "true"), (1, "detected"))
    ]
    assert len(set(names)) == 3
    assert names[0] == names[3]


def test_every_fifth_landmark_is_withheld(head):
    out, valid = variants.withheld_landmarks(head, "mediapipe478"), head.embedding("mediapipe478").valid.numpy()
    assert not (out & ~valid).any()
    assert out.sum() == pytest.approx(valid.sum() / 5, abs=1)


def test_the_variants_are_what_their_names_say():
    settings = NeufaceEvaluation(curve_passes=[3], curve_steps=[7])
    by_name = {variant.name: variant for variant in variants.all_variants(settings, "stage1")}
    terms = {
        name: by_name[name].annotator.neuface.fit.objective for name in (variants.POINTS, variants.VIEW, variants.TEMPORAL)
    }
    assert (terms[variants.POINTS].view, terms[variants.POINTS].temporal, terms[variants.POINTS].smoothness) == (0, 0, 0)
    assert terms[variants.VIEW].view > 0 == terms[variants.VIEW].temporal
    assert terms[variants.TEMPORAL].temporal > 0 == terms[variants.TEMPORAL].view
    assert by_name[variants.FULL].annotator.neuface.fit == settings.neuface
    assert by_name[variants.WHOLE].annotator.neuface.fit.moves_from == "stage1"
    assert by_name[variants.CALIBRATED].calibrated
    assert by_name[variants.curve_name(variants.FULL, 3)].annotator.neuface.fit.passes == 3
    assert by_name[variants.curve_name(variants.DIRECT, 7)].annotator.flame_fitting.steps == 7
    assert variants.choose_terms(ObjectiveConfig(), view=True, temporal=True) == ObjectiveConfig()


def test_the_landmark_loss_reaches_pixels_away_from_landmarks(head, options, weights):
    made = synthetic_clips.make_ground_truth_clip(Stage(head), options, 5, 0, MediaConfig(crop_size=128, max_faces=1), "true")
    annotator = EncoderAnnotator(head, EncoderConfig(path=str(weights)), "cpu")
    magnitude = gradient_of_landmark_loss(annotator, made.clip, 1)
    assert magnitude.shape == (2, 128, 128)
    assert 0.01 < away_from_landmarks(magnitude[0], made.clip.landmarks[1, 0]) < 1
    everywhere = np.stack(np.meshgrid(np.linspace(-1, 1, 40), np.linspace(-1, 1, 40)), -1).reshape(-1, 2)
    assert away_from_landmarks(magnitude[0], everywhere) == 0
