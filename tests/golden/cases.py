"""What the golden values are values of: one function per item, each of which returns named arrays.

They are computed in one thread on the CPU, from fixed seeds, with the packaged weights and the clip of `tests.golden.clip`.
"""

from __future__ import annotations

import itertools
import json
import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from jobs.evaluate import main as evaluate
from neuface_ray.evaluation.glvd import criteria as glvd_rules
from neuface_ray.evaluation.neuface import criteria as rules
from neuface_ray.evaluation.report import Criterion
from neuface_ray.fitting.objective import Objective
from neuface_ray.fitting.observations import Observations
from neuface_ray.fitting.settings import ObjectiveSettings
from neuface_ray.heads import HeadModel, load_head
from neuface_ray.heads.parameters import HeadParameters
from neuface_ray.heads.sequence_meshes import build_meshes
from neuface_ray.methods.direct_fitting.fit import prior_terms
from neuface_ray.methods.direct_fitting.settings import DirectFittingSettings
from neuface_ray.methods.encoder.augment import augment
from neuface_ray.methods.encoder.losses import FaceTargets, accuracy, losses
from neuface_ray.methods.encoder.settings import EncoderSettings, EncoderTrainingSettings, LossWeights
from neuface_ray.methods.encoder.weights import load_encoder
from neuface_ray.methods.glvd.settings import GlvdTrainingSettings
from neuface_ray.methods.lvd.settings import DescentSettings, LvdTrainingSettings
from neuface_ray.methods.neuface.settings import NeufaceFitSettings, NeufaceSettings
from neuface_ray.methods.recipe import Recipe, StepContext
from neuface_ray.methods.registry import AnnotatorConfig, build_annotator, build_recipe
from neuface_ray.metrics.clip_quality import measure
from neuface_ray.synthesis.faces import FaceOptions, make_face
from neuface_ray.synthesis.renderer import Renderer
from neuface_ray.synthesis.sequences import SequenceOptions, make_sequence
from neuface_ray.training.config import TrainConfig
from neuface_ray.training.loop import Learner, update, validate
from neuface_ray.training.optimisation import Average, Optimiser
from neuface_ray.types import MeshSequence
from tests.evaluation.glvd import test_criteria as test_glvd_rules
from tests.evaluation.neuface import test_criteria as test_rules
from tests.golden.clip import FRAMES, load_clip, load_visible

Arrays = dict[str, np.ndarray]
CPU = torch.device("cpu")
LABELS = ("shape", "expression", "pose", "camera")
SAMPLED = (0, 2, 5)
"""Frames that make a batch of training; in the second of them a view has no face."""


@cache
def head() -> HeadModel:
    return load_head()


@cache
def renderer() -> Renderer:
    return Renderer(head())


def compute(name: str) -> Arrays:
    """The arrays of one item of ``CASES``, whatever ran before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    try:
        return {key: np.asarray(value) for key, value in CASES[name]().items()}
    finally:
        torch.set_num_threads(threads)


def annotation(config: AnnotatorConfig, calibrated: bool = False) -> Arrays:
    """What an annotator says about the clip: its arrays, and its metrics as scalars."""
    config.device = "cpu"
    found = build_annotator(config, head()).annotate(load_clip(head(), calibrated)[0])
    names = (*LABELS, "translation", "vertices", "valid")
    arrays = {name: getattr(found, name) for name in names if getattr(found, name) is not None}
    return arrays | {f"metric {name}": np.float64(value) for name, value in found.metrics.items()}


def neuface(**changes: object) -> Arrays:
    return annotation(AnnotatorConfig("neuface", settings=NeufaceSettings(fit=NeufaceFitSettings(**changes))))


def neuface_fit() -> Arrays:
    """The default settings, ten iterations."""
    return neuface(iterations=10)


def neuface_whole_network() -> Arrays:
    """All stages move, in micro-batches that do not divide the clip."""
    lowest = load_encoder("compact", None, "encoder").stages[0]
    return neuface(iterations=3, trainable_from=lowest, lr=1e-4, micro_batch=5)


def neuface_chunks() -> Arrays:
    """A clip longer than a chunk."""
    return neuface(iterations=3, chunk_frames=4, chunk_overlap=1)


def neuface_official_code() -> Arrays:
    """The paper's weights, with what its official code does differently."""
    weights = ObjectiveSettings(landmark=10.0, temporal=100.0, view=200.0, fidelity="official_code")
    return neuface(iterations=3, objective=weights, shape_prior=0.0, expression_prior=0.0, anneal=False)


def direct_fit() -> Arrays:
    """A short direct fit, and its meshes."""
    return directly(False)


def direct_fit_calibrated() -> Arrays:
    """The same where the cameras are known."""
    return directly(True)


def directly(calibrated: bool) -> Arrays:
    config = AnnotatorConfig("direct_fitting", settings=DirectFittingSettings(pose_steps=8, steps=15))
    found = annotation(config, calibrated)
    sequence = MeshSequence("golden", "", head().id, **{name: found[name] for name in (*LABELS, "valid")})
    return found | {"vertices": build_meshes(sequence, head()).posed}


def objective() -> Arrays:
    """Every term of the objectives, and the gradients of their sums, at a disturbed truth; the priors of direct fitting."""
    found = {}
    configs = {"neuface": NeufaceFitSettings().objective, "direct": DirectFittingSettings().objective}
    configs["official_code"] = ObjectiveSettings(fidelity="official_code")
    for (name, config), calibrated in itertools.product(configs.items(), (False, True)):
        clip, truth = load_clip(head(), calibrated)
        sequence = disturbed(truth)
        given = {n: torch.from_numpy(getattr(sequence, n)) for n in (*LABELS, "translation")[: 5 if calibrated else 4]}
        given["shape"] = given["shape"][:1, :1] if config.fidelity == "paper" else given["shape"]
        given = {n: value.clone().requires_grad_() for n, value in given.items()}
        terms = Objective(head(), Observations.of(clip, head()), config).terms(
            HeadParameters(given["shape"], *(given[n] for n in list(given)[1:])), 3
        )
        sum(terms.values()).backward()
        label = f"{name}{' calibrated' if calibrated else ''}"
        found |= {f"{label} {n}": value.detach().numpy() for n, value in terms.items()}
        found |= {f"{label} gradient of {n}": v.grad.numpy() for n, v in given.items() if v.grad is not None}
    unknown = {n: given[n].detach() for n in ("shape", "expression")} | {"joints": torch.full((FRAMES, 1, 12), 0.1)}
    priors = prior_terms(unknown, 0.9 * unknown["expression"], DirectFittingSettings())
    return found | {f"prior {n}": value.numpy() for n, value in priors.items()}


def encoder_answer() -> Arrays:
    """With one identity for the clip, and the identity of every picture."""
    shared = annotation(AnnotatorConfig("encoder"))
    own = annotation(AnnotatorConfig("encoder", settings=EncoderSettings(share_identity=False)))
    return shared | {"own shape": own["shape"]}


def lvd_steps() -> Arrays:
    return annotation(AnnotatorConfig("lvd", settings=DescentSettings(steps=2)))


def glvd_steps() -> Arrays:
    return annotation(AnnotatorConfig("glvd", settings=DescentSettings(steps=2)))


def glvd_steps_calibrated() -> Arrays:
    """Each view by itself, in small batches."""
    config = DescentSettings(steps=2, fuse_views=False, batch=4)
    return annotation(AnnotatorConfig("glvd", settings=config), True)


def batch_of_clip(columns: Sequence[str]) -> dict[str, Tensor]:
    """Some frames of the clip as the training loop hands them to a recipe."""
    clip, truth = load_clip(head())
    frames = list(SAMPLED)
    given = {name: getattr(truth, name) for name in LABELS} | {"landmarks": clip.landmarks}
    arrays = {name: given[name][frames] for name in columns}
    arrays |= {"image": clip.crops[frames].transpose(0, 1, 3, 4, 2), "view_valid": clip.valid[frames]}
    return {name: torch.from_numpy(np.ascontiguousarray(value)) for name, value in arrays.items()}


def recipe_of(config: TrainConfig) -> Recipe:
    return build_recipe(config.recipe, config.recipe_settings, head())


def terms_of_recipe(recipe: Recipe, batch: dict[str, Tensor], progress: float) -> Arrays:
    """The loss terms of an untrained network."""
    torch.manual_seed(0)
    terms = recipe.losses(recipe.build().train(), batch, StepContext(progress, torch.Generator().manual_seed(1)))
    return {f"{name} at {progress}": value.detach().numpy() for name, value in terms.items()}


def training(config: TrainConfig, columns: Sequence[str]) -> Arrays:
    """Two steps from random weights, and the scores of the packaged ones."""
    recipe = recipe_of(config)
    batch = batch_of_clip(columns)
    torch.manual_seed(config.seed)
    network = recipe.build().train()
    average, optimiser = Average.of(network, config), Optimiser(recipe.groups(network), config)
    learner, found = Learner(recipe, network), {}
    for step in range(config.steps):
        terms = update(learner, optimiser, batch, step, 0, CPU)
        average.update(network, step)
        found |= {f"step {step} {name}": value.detach().numpy().copy() for name, value in terms.items()}
    found["weights"] = torch.cat([p.detach().flatten() for p in network.parameters()]).numpy()
    found["averaged weights"] = torch.cat([p.flatten() for p in average.network.parameters()]).numpy()
    packaged = recipe.build().eval()
    recipe.load(packaged, Path(__file__).parents[2] / "neuface_ray" / "assets" / f"{config.recipe}.safetensors")
    samples = [{name: value[i].numpy() for name, value in batch.items()} for i in range(len(SAMPLED))]
    scores = validate(recipe, packaged, samples, 2, CPU)
    return found | {f"score {name}": np.float64(value) for name, value in scores.items()}


def two_steps(recipe: str, **sections: object) -> TrainConfig:
    return TrainConfig(recipe, "none", steps=2, warmup_steps=1, **sections)


def heatmap_training() -> Arrays:
    return training(two_steps("heatmap"), ("landmarks",))


def lvd_training() -> Arrays:
    config = two_steps("lvd", recipe_settings=LvdTrainingSettings(views=2, one_view=0.0))
    first = LvdTrainingSettings(views=2, sdf=0.5, mask=True, canonical=True)
    begun = terms_of_recipe(build_recipe("lvd", first, head()), batch_of_clip(LABELS), 0.2)
    return training(config, LABELS) | begun


def glvd_training() -> Arrays:
    config = two_steps("glvd", recipe_settings=GlvdTrainingSettings(views=2, one_view=0.5))
    other = replace(
        config,
        recipe_settings=GlvdTrainingSettings(views=2, one_view=0.0, heatmaps="landmarks", relative="distances", keypoints=13),
    )
    ablated = terms_of_recipe(
        build_recipe(other.recipe, other.recipe_settings, head()), batch_of_clip((*LABELS, "landmarks")), 0.9
    )
    return training(config, LABELS) | {f"ablated {name}": value for name, value in ablated.items()}


def faces_of_clip() -> tuple[Tensor, FaceTargets]:
    """The pictures that show a face, but for an odd one, and their truth, as the compact encoder is taught."""
    clip, truth = load_clip(head())
    fields = {name: getattr(truth, name) for name in LABELS} | {"landmarks": clip.landmarks, "visible": load_visible()}
    count = clip.valid.sum() // 2 * 2
    chosen = {name: torch.from_numpy(value[clip.valid][:count]) for name, value in fields.items()}
    return torch.from_numpy(clip.crops[clip.valid][:count]).float() / 255, FaceTargets(**chosen)


def encoder_losses() -> Arrays:
    """The compact encoder's loss terms, their sum, the norm of its gradient by parameter, its accuracy; packaged weights."""
    crops, truth = faces_of_clip()
    network = load_encoder("compact", None, "encoder").eval()
    code = network(crops)
    terms = losses(head(), code, truth, 2)
    total = sum(getattr(LossWeights(), name) * value for name, value in terms.items())
    total.backward()
    gradient = torch.stack([p.grad.norm() for p in network.parameters() if p.grad is not None])
    found = {name: value.detach().numpy() for name, value in terms.items()} | {"total": total.detach().numpy()}
    measured = accuracy(head(), code.map(Tensor.detach), truth)
    found |= {f"accuracy {k}": v.mean(dtype=torch.float64).numpy() for k, v in measured.items()}
    return found | {"gradient": gradient.numpy(), "accuracy nme_median": measured["nme"].median().numpy()}


def encoder_augmentation() -> Arrays:
    """What the compact encoder's training changes in pictures and truth."""
    torch.manual_seed(1)
    crops, truth = augment(head(), *faces_of_clip())
    return {"crops": crops.numpy()} | {name: getattr(truth, name).numpy() for name in (*LABELS, "landmarks", "visible")}


def encoder_script_steps() -> Arrays:
    """Two steps of the compact encoder's recipe, from random weights; recorded from the script that came before it."""
    settings = {"optimiser": "adamw", "betas": [0.9, 0.99], "weight_decay": 0.02, "learning_rate": 1.2e-3}
    schedule = {"schedule": "cosine", "ema_half_life": 400.0, "batch": 10, "recipe_settings": EncoderTrainingSettings(group=2)}
    config = two_steps("encoder", **settings, **schedule)
    recipe = recipe_of(config)
    torch.manual_seed(0)
    network = recipe.build().train()
    average, optimiser = Average.of(network, config), Optimiser(recipe.groups(network), config)
    crops, truth = faces_of_clip()
    batch = {name: getattr(truth, name)[:, None] for name in (*LABELS, "landmarks", "visible")}
    batch["image"] = (255 * crops).round().to(torch.uint8).permute(0, 2, 3, 1)[:, None]
    found = {}
    for step in range(2):
        torch.manual_seed(step)
        optimiser.zero_grad()
        terms = recipe.losses(network, batch, StepContext(step / 2, torch.Generator()))
        sum(terms.values()).backward()
        optimiser.step(step)
        average.update(network, step + 1)  # the script counted from 1
        for name, value in terms.items():
            found[f"step {step} {name}"] = np.float64(value.item() / getattr(recipe.settings.weights, name))
    for name, each in (("weights", network), ("averaged weights", average.network)):
        found[name] = torch.cat([p.detach().flatten() for p in each.parameters()]).numpy()
    return found


def measured_values(criteria: Sequence[Criterion]) -> Arrays:
    """Whether each criterion holds, and the numbers in what was measured."""
    found = {f"{criterion.name} passed": np.int64(criterion.passed) for criterion in criteria}
    numbers = {c.name: [float(n) for n in re.findall(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e-?\d+)?", c.measured)] for c in criteria}
    return found | {f"{name} measured": np.array(values) for name, values in numbers.items()}


def neuface_criteria() -> Arrays:
    """N1 to N7, O1 and O2 on rows that pass and on rows that fail some."""
    good = test_rules.rows()
    bad = test_rules.rows([(rules.FULL, "nme", 5.2), (rules.FULL, "msi_v", 0.15), (rules.FULL, "lids_kept", 0.5)])
    found = {}
    for name, rows in (("good", good), ("bad", bad)):
        criteria = [*rules.paper_criteria(rows), *rules.added_criteria(rows, test_rules.STRENGTHS)]
        found |= {f"{name} {key}": value for key, value in measured_values(criteria).items()}
    return found


def glvd_criteria() -> Arrays:
    """G1 to G4."""
    noisy = test_glvd_rules.noisy
    speed = [{"method": "glvd", "seconds_per_face": 0.4}, {"method": glvd_rules.PAPER_FORM, "seconds_per_face": 10.0}]
    found = {}
    for name, mean in (("good", 4.0), ("bad", 4.7)):
        rows = test_glvd_rules.rows_of(noisy(5.0, 0), noisy(mean, 1), [(3, noisy(3.9, 2)[:, 0]), (6, noisy(4.4, 3)[:, 0])])
        curve = np.array([100, 60, 30, 15, 10, 9, 8, 7.5, mean + 3])
        criteria = glvd_rules.all_criteria(rows, {("glvd", 1): curve}, speed)
        found |= {f"{name} {key}": value for key, value in measured_values(criteria).items()}
    return found


def small_evaluation() -> Arrays:
    """The compact encoder and direct fitting on three drawn faces, through the command: criteria and tables of its report."""
    with tempfile.TemporaryDirectory() as folder:
        settings = (
            "methods=[encoder,direct_fitting]",
            "synthetic=3",
            "size=160",
            "workers=1",
            "direct_fitting.steps=20",
        )
        evaluate(["evaluation=encoder", f"output={folder}", *(f"encoder.{one}" for one in settings)])
        report = json.loads((Path(folder) / "report.json").read_text())
    found = {f"{criterion['name']} passed": np.int64(criterion["passed"]) for criterion in report["criteria"]}
    for number, lines in enumerate(report["tables"].values()):
        for line in lines:
            values = [value for value in line.values() if isinstance(value, int | float)]
            words = [value for value in line.values() if isinstance(value, str)]
            found[f"table {number} {' '.join(words)}"] = np.array(values, np.float64)
    return found


def synthetic_face() -> Arrays:
    """A drawn still of each of two persons."""
    found = {}
    for index in (1, 6):
        face = make_face(renderer(), FaceOptions(size=96), 3, index)
        names = ("image", *LABELS, "landmarks", "visible", "intrinsics", "translation")
        found |= {f"{index} {name}": getattr(face, name) for name in names}
    return found


def synthetic_sequence() -> Arrays:
    """Two drawn frames of a video in three views."""
    made = make_sequence(renderer(), SequenceOptions(2, views=3, face=FaceOptions(size=64)), 11, 4)
    names = (*LABELS, "translation")
    found = {name: getattr(made.truth, name) for name in names} | {"visible": made.visible}
    return found | {name: getattr(made.clip, name) for name in ("crops", "landmarks", "crop_to_image", "face_px")}


def disturbed(truth: MeshSequence) -> MeshSequence:
    """The truth, and a little more or less of everything from frame to frame and view to view."""
    waves = np.sin(1 + np.arange(truth.valid.size) * 2.4).reshape(*truth.valid.shape, 1).astype(np.float32)
    return replace(
        truth,
        shape=truth.shape + 0.3 * waves,
        expression=np.clip(truth.expression + 0.1 * waves, 0, 1),
        pose=truth.pose + 0.02 * waves,
        translation=None if truth.translation is None else truth.translation + 0.002 * waves,
    )


def quality() -> Arrays:
    """NME, MSI, CVD and what else a clip is judged by, of a disturbed truth; of parameters, of vertices and calibrated."""
    wrong = disturbed(load_clip(head())[1])
    measured = measured_of(wrong)
    by_vertices = replace(wrong, vertices=build_meshes(wrong, head()).posed)
    found = {f"parameters {name}": value for name, value in measured.items()}
    found |= {f"vertices {name}": value for name, value in measured_of(by_vertices).items()}
    calibrated = disturbed(load_clip(head(), True)[1])
    return found | {f"calibrated {name}": value for name, value in measured_of(calibrated, True).items()}


def measured_of(sequence: MeshSequence, calibrated: bool = False) -> Arrays:
    clip, _ = load_clip(head(), calibrated)
    return {name: np.asarray(value, np.float64) for name, value in vars(measure(clip, sequence, head())).items()}


CASES: dict[str, Callable[[], Arrays]] = {
    case.__name__: case
    for case in (
        neuface_fit,
        neuface_whole_network,
        neuface_chunks,
        neuface_official_code,
        objective,
        direct_fit,
        direct_fit_calibrated,
        encoder_answer,
        lvd_steps,
        glvd_steps,
        glvd_steps_calibrated,
        heatmap_training,
        lvd_training,
        glvd_training,
        encoder_losses,
        encoder_augmentation,
        encoder_script_steps,
        neuface_criteria,
        glvd_criteria,
        small_evaluation,
        synthetic_face,
        synthetic_sequence,
        quality,
    )
}
