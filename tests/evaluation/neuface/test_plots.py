"""The landmark loss's gradient by the picture."""

import numpy as np
import torch

from neuface_ray.evaluation.neuface.plots import away_from_landmarks, gradient_of_landmark_loss
from neuface_ray.evaluation.synthetic_clips import make_ground_truth_clip
from neuface_ray.heads import load_head
from neuface_ray.media import MediaConfig
from neuface_ray.methods.encoder.annotator import EncoderAnnotator
from neuface_ray.methods.encoder.network import CompactEncoder
from neuface_ray.methods.encoder.settings import EncoderSettings
from neuface_ray.networks.weight_file import save_network
from neuface_ray.synthesis.faces import FaceOptions
from neuface_ray.synthesis.renderer import Renderer
from neuface_ray.synthesis.sequences import SequenceOptions


def test_the_landmark_loss_reaches_pixels_away_from_landmarks(tmp_path):
    head, options = load_head(), SequenceOptions(frames=3, views=2, face=FaceOptions(size=144, crop_scale=1.7, occluded=0.0))
    torch.manual_seed(0)
    save_network(CompactEncoder(head.id), tmp_path / "encoder.safetensors", {})
    known = make_ground_truth_clip(Renderer(head), options, 5, 0, MediaConfig(crop_size=128, max_faces=1), "true")
    annotator = EncoderAnnotator(head, EncoderSettings(path=str(tmp_path / "encoder.safetensors")), "cpu")
    magnitude = gradient_of_landmark_loss(annotator, known.clip, 1)
    assert magnitude.shape == (2, 128, 128)
    assert 0.01 < away_from_landmarks(magnitude[0], known.clip.landmarks[1, 0]) < 1
    everywhere = np.stack(np.meshgrid(np.linspace(-1, 1, 40), np.linspace(-1, 1, 40)), -1).reshape(-1, 2)
    assert away_from_landmarks(magnitude[0], everywhere) == 0
