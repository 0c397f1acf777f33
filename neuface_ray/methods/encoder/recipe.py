"""Training the compact encoder: head parameters and camera from a crop, on faces whose truth is known."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from neuface_ray.fitting.identity import distinct_directions, shrinkage_correction
from neuface_ray.heads import HeadModel
from neuface_ray.methods.encoder.augment import augment
from neuface_ray.methods.encoder.losses import FaceTargets, accuracy, form, losses
from neuface_ray.methods.encoder.network import CROP_SIZE, CompactEncoder, Encoder
from neuface_ray.methods.encoder.settings import EncoderTrainingSettings
from neuface_ray.methods.recipe import Batch, Recipe, SampleSpec, StepContext, pixels

TRUTH = ("shape", "expression", "pose", "camera", "landmarks", "visible")
MAX_SHAPE = 100
AVERAGE_SCALE = 9.0


class EncoderRecipe(Recipe):
    """Trains a `CompactEncoder`; the score is the error of the expressionless inner face but for place, turn and scale, mm."""

    name, score = "encoder", "form_mm"
    network = CompactEncoder
    settings: EncoderTrainingSettings

    def __init__(self, settings: EncoderTrainingSettings, head: HeadModel):
        super().__init__(settings, head)
        self.samples = SampleSpec(TRUTH, CROP_SIZE, group=settings.group)

    def build(self) -> CompactEncoder:
        """A fresh encoder for the head: its camera is anchored between eyes and mouth."""
        head = self.head
        inner = head.regions["inner_face"] if "inner_face" in head.regions else torch.arange(head.n_vertices)
        encoder = CompactEncoder(
            head.id,
            n_shape=min(head.n_shape, MAX_SHAPE),
            n_expression=head.n_expression,
            bounded=head.expression_bounded,
            jaw=not head.expression_bounded,
            face_centre=tuple(head.template[inner].mean(0).tolist()),
            pivot=tuple(head.template_joints[0].tolist()),
            scale=AVERAGE_SCALE,
        )
        return encoder.to(memory_format=torch.channels_last)

    def losses(self, module: CompactEncoder, batch: Batch, step: StepContext) -> dict[str, Tensor]:
        with torch.no_grad():
            crops, truth = augment(self.head, *faces_of(batch))
        terms = losses(self.head, module(_channels_last(crops)), truth, self.settings.group)
        return {name: getattr(self.settings.weights, name) * value for name, value in terms.items()}

    @torch.no_grad()
    def scores(self, module: CompactEncoder, batch: Batch) -> dict[str, Tensor]:
        crops, truth = faces_of(batch)
        return accuracy(self.head, module(_channels_last(crops)), truth)

    def finish(self, module: CompactEncoder, batch: Batch) -> None:
        """Measure the signal-to-noise ratio of the identity told from one picture."""
        module.snr = module.options["snr"] = measure_snr(self.head, module, batch, self.settings.group)


def faces_of(batch: Batch) -> tuple[Tensor, FaceTargets]:
    """Crops (B, 3, S, S) in [0, 1] and their truth, of samples with one view."""
    return pixels(batch)[:, 0], FaceTargets(**{name: batch[name][:, 0] for name in TRUTH})


def _channels_last(crops: Tensor) -> Tensor:
    return crops.contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def measure_snr(head: HeadModel, encoder: Encoder, batch: Batch, group: int) -> float:
    """The signal-to-noise ratio with which `fitting.identity.shrinkage_correction` brings mean identities nearest to the truth.

    Over the inner face but for place, turn and scale, for each ``group`` pictures of one person that follow each other; where
    they were trained on, the answer is cautious.
    """
    means, truths, counts = [], [], []
    basis = form(head).flatten(0, 1)
    for first in range(0, len(batch["shape"]), group):
        crops, truth = faces_of({name: value[first : first + group] for name, value in batch.items()})
        predicted = encoder(_channels_last(crops))
        means.append(basis[:, : predicted.identity.shape[-1]] @ predicted.identity.mean(0))
        truths.append(basis @ truth.shape[0])
        counts.append(distinct_directions(predicted.pose[:, None], torch.ones(group, 1, dtype=torch.bool, device=crops.device)))
    mean, truth = torch.stack(means), torch.stack(truths)

    def error(snr: float) -> float:
        factors = mean.new_tensor([shrinkage_correction(count, snr) for count in counts])
        return float((factors[:, None] * mean - truth).square().sum())

    return min(np.geomspace(0.05, 50, 61).tolist(), key=error)
