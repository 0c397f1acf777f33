"""Annotation by an encoder, bare and moved by NeuFace, from a weight file as a user names it."""

import numpy as np
import pytest
import torch

from neuface_ray.errors import ModelFileError, UsageError
from neuface_ray.heads import load_head
from neuface_ray.methods.encoder.network import CompactEncoder, DecaEncoder
from neuface_ray.methods.encoder.settings import EncoderSettings
from neuface_ray.methods.neuface.settings import NeufaceFitSettings, NeufaceSettings
from neuface_ray.methods.registry import AnnotatorConfig, build_annotator
from neuface_ray.networks.weight_file import save_network
from tests.fitting.made import make_clip


@pytest.fixture(scope="module")
def head():
    return load_head()


@pytest.fixture(scope="module")
def weights(head, tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "encoder.safetensors"
    save_network(CompactEncoder(head.id), path, {})
    return str(path)


def filmed(head, views=(0.0, 0.4)):
    clip, _ = make_clip(head, frames=4, azimuths=views, calibrated=False)
    clip.crops = np.random.default_rng(0).integers(0, 255, (4, len(views), 3, 160, 160), dtype=np.uint8)
    clip.valid[1, 0] = False
    clip.landmark_confidence[1, 0] = 0
    return clip


def test_the_bare_encoder_answers_for_every_frame_with_one_identity(head, weights):
    annotator = build_annotator(AnnotatorConfig(name="encoder", device="cpu", settings=EncoderSettings(path=weights)), head)
    sequence = annotator.annotate(filmed(head))
    assert annotator.crop_size == 128
    assert len(annotator.weights_hash) == 64
    assert sequence.expression.shape == (4, 2, head.n_expression)
    assert (sequence.shape == sequence.shape[0, 0]).all()
    own = EncoderSettings(path=weights, share_identity=False)
    apart = build_annotator(AnnotatorConfig(name="encoder", device="cpu", settings=own), head).annotate(filmed(head))
    assert not (apart.shape == apart.shape[0, 0]).all()


def test_neuface_annotates_and_forgets(head, weights):
    settings = NeufaceSettings(EncoderSettings(path=weights), NeufaceFitSettings(iterations=2))
    annotator = build_annotator(AnnotatorConfig(name="neuface", device="cpu", settings=settings), head)
    once, twice = annotator.annotate(filmed(head)), annotator.annotate(filmed(head))
    assert once.annotator == "neuface"
    assert np.array_equal(once.expression, twice.expression)
    assert "loss_landmark" in once.metrics


def test_weights_of_another_head_and_missing_weights_are_named(head, tmp_path):
    file = tmp_path / "deca_model.tar"
    torch.save({"E_flame": DecaEncoder().E_flame.state_dict()}, file)
    with pytest.raises(ModelFileError, match=r"FLAME.*annotator.encoder.kind"):
        build_annotator(AnnotatorConfig(name="encoder", settings=EncoderSettings("deca", str(file))), head)
    with pytest.raises(ModelFileError, match=r"annotator.encoder.path"):
        build_annotator(AnnotatorConfig(name="encoder", settings=EncoderSettings("deca", str(tmp_path / "none.tar"))), head)


def test_a_stage_that_the_encoder_does_not_have_is_refused_before_any_clip(head, weights):
    config = NeufaceSettings(EncoderSettings(path=weights), NeufaceFitSettings(trainable_from="bogus"))
    with pytest.raises(UsageError, match=r"annotator\.neuface\.fit\.trainable_from='bogus'.*top"):
        build_annotator(AnnotatorConfig(name="neuface", settings=config), head)
