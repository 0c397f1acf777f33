"""Time per face of every method, one thread, and of NeuFace in the paper's form."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import torch

from neuface_ray.evaluation.glvd.criteria import PAPER_FORM
from neuface_ray.evaluation.glvd.scores import only_views
from neuface_ray.evaluation.glvd.settings import GlvdEvaluation
from neuface_ray.evaluation.tables import Row
from neuface_ray.heads import HeadModel
from neuface_ray.methods.annotator import Annotator
from neuface_ray.methods.encoder.network import DecaEncoder
from neuface_ray.methods.lvd.annotator import VertexDescent
from neuface_ray.methods.neuface.fit import OFFICIAL_BATCH
from neuface_ray.methods.neuface.settings import NeufaceSettings
from neuface_ray.methods.registry import AnnotatorConfig, build_annotator
from neuface_ray.types import FaceClip

OFFICIAL_LR, OFFICIAL_ITERATIONS = 2e-5, 100
_IMAGES_AT_ONCE = 2


def time_methods(methods: dict[str, Annotator], clip: FaceClip, settings: GlvdEvaluation, head: HeadModel) -> list[Row]:
    """Measure seconds per face with one thread.

    Args:
        clip: calibrated, of at least three views, whose frames are annotated together as far as a method does so.

    Returns:
        Rows of ``method``, ``faces`` (annotated in one call) and ``seconds_per_face``; descents also alone, from one and from
        three views.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        rows, front = [], only_views(clip, [0])
        for name, method in methods.items():
            rows.append(_timed(name, lambda m=method: m.annotate(front), clip.n_frames, "all frames in one call"))
        for name, method in methods.items():
            if isinstance(method, VertexDescent):
                for views in ([0], [0, 1, 2]):
                    single = one_frame(only_views(clip, views), 0)
                    how = f"one face alone, {len(views)} view{'s' if len(views) > 1 else ''}"
                    rows.append(_timed(f"{name}, alone, {len(views)} v", lambda m=method, c=single: m.annotate(c), 1, how))
        if "neuface" in methods:
            rows += time_papers_neuface(settings, front, head)
        return rows
    finally:
        torch.set_num_threads(threads)


def one_frame(clip: FaceClip, frame: int) -> FaceClip:
    """One frame of a clip."""
    names = ("crops", "landmarks", "landmark_confidence", "crop_to_image", "valid", "core", "frame_index", "source_frame")
    fields = {name: getattr(clip, name)[frame : frame + 1] for name in (*names, "timestamps_s", "face_px", "blur")}
    if clip.blendshapes is not None:
        fields["blendshapes"] = clip.blendshapes[frame : frame + 1]
    return replace(clip, **fields)


def time_papers_neuface(settings: GlvdEvaluation, front: FaceClip, head: HeadModel) -> list[Row]:
    """Time NeuFace in the paper's form: the whole network, official code, 100 iterations, one identity, batches of 20 frames.

    The paper moves DECA's ResNet-50 at 224 px. Its weights are not needed to know how long its iterations take, so a network of
    that form with random weights is timed, without decoding and losses, which makes the figure a lower bound. The packaged
    encoder is timed in the same form beside it, with everything.
    """
    fit = replace(
        settings.neuface,
        objective=replace(settings.neuface.objective, fidelity="official_code"),
        lr=OFFICIAL_LR,
        iterations=OFFICIAL_ITERATIONS,
        min_improvement=float("-inf"),
    )
    config = AnnotatorConfig(name="neuface", device=settings.device, settings=NeufaceSettings(settings.encoder, fit))
    encoder = build_annotator(config, head).encoder
    adapted = replace(config, settings=NeufaceSettings(settings.encoder, replace(fit, trainable_from=encoder.stages[0])))
    annotator = build_annotator(adapted, head)
    packaged = _timed(
        "neuface, packaged encoder whole", lambda: annotator.annotate(front), front.n_frames, "100 iterations", warm=False
    )
    network = DecaEncoder().to(annotator.device).eval()
    adam = torch.optim.Adam(network.train_from(network.stages[0]), lr=OFFICIAL_LR)
    crops = torch.rand(_IMAGES_AT_ONCE, 3, network.crop_size, network.crop_size, device=annotator.device)
    one_pass = _timed("", lambda: _pass(network, crops, adam), _IMAGES_AT_ONCE, "")["seconds_per_face"]
    how = f"{OFFICIAL_ITERATIONS} iterations of ResNet-50 at {network.crop_size} px, batches of {OFFICIAL_BATCH}; a lower bound"
    return [packaged, {"method": PAPER_FORM, "faces": 1, "seconds_per_face": OFFICIAL_ITERATIONS * one_pass, "how": how}]


def _pass(network: DecaEncoder, crops: torch.Tensor, adam: torch.optim.Optimizer) -> None:
    adam.zero_grad(set_to_none=True)
    torch.cat([value.flatten(1) for value in network.head(crops)], -1).square().mean().backward()
    adam.step()


def _timed(name: str, call: Callable[[], object], faces: int, how: str, warm: bool = True) -> Row:
    if warm:
        call()
    started = time.perf_counter()
    call()
    return {"method": name, "faces": faces, "seconds_per_face": (time.perf_counter() - started) / faces, "how": how}
