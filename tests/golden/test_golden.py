"""What is computed stays what it was: every item of `tests.golden.cases` against the numbers recorded beside this file.

A tolerance is a share of an array's root mean square. It leaves room for another processor or number of threads, whose sums
are added up in another order: it is about three times what the numbers move when all vector instructions above SSE4 are
switched off. Whether a move of code changed anything at all, ``python -m tests.golden.record --digest`` tells on one machine.
"""

import json

import pytest

from tests.golden.cases import CASES, compute
from tests.golden.record import FOLDER, formatted
from tests.golden.summary import differences, summarise

FORWARD = 1e-4
"""Float32 through a network or a head, without iteration."""
OPTIMISED = 5e-3
"""A few steps of Adam, which divides small gradients by themselves and so makes rounding larger; gradients of distances."""
DRAWN = 1e-3
"""Pictures of whole numbers 0 to 255, in which a ray near an edge may hit the other triangle."""
FITTED = 2e-3
"""NeuFace, whose gradients reach all weights of a layer and so are seldom small."""
SCRIPT = "encoder_script_steps"
TOLERANCES = dict.fromkeys(CASES, OPTIMISED) | {
    "neuface_fit": FITTED,
    "neuface_whole_network": FITTED,
    "neuface_official_code": FITTED,
    "objective": FORWARD,
    "encoder_answer": FORWARD,
    "encoder_losses": FORWARD,
    "encoder_augmentation": FORWARD,
    "lvd_steps": FORWARD,
    "glvd_steps": FORWARD,
    "glvd_steps_calibrated": FORWARD,
    "quality": FORWARD,
    "neuface_criteria": FORWARD,
    "glvd_criteria": FORWARD,
    "synthetic_face": DRAWN,
    "synthetic_sequence": DRAWN,
}
OF_DIRECT_FITS = {"vertices": OPTIMISED, "camera": OPTIMISED, "translation": OPTIMISED, "metric loss_landmark": 0.03}
"""Direct fitting starts where most gradients are zero but for rounding, whose sign Adam follows; meshes agree, coefficients
that hardly move them do not."""
COEFFICIENTS = 1.0


def tolerance(item: str, array: str) -> float:
    """The share of its root mean square by which an array of an item may differ."""
    if item.startswith("direct_fit"):
        return OF_DIRECT_FITS.get(array, COEFFICIENTS)
    if array.startswith(("step 0 loss", "score")) or " at " in array:
        return FORWARD
    return OPTIMISED if "gradient" in array else TOLERANCES[item]


def check(item: str) -> None:
    """Fails with every number that left its place."""
    expected = json.loads((FOLDER / f"{item}.json").read_text())
    found = {name: summarise(array) for name, array in compute(item).items()}
    told = [f"{name}: {'not recorded' if name in found else 'gone'}" for name in sorted(expected.keys() ^ found.keys())]
    for name in sorted(expected.keys() & found.keys()):
        told += [f"{name}: {line}" for line in differences(expected[name], found[name], tolerance(item, name))]
    assert not told, "\n".join([f"{item} is not what it was:", *told])


@pytest.mark.parametrize("item", [name for name in CASES if name != SCRIPT])
def test_results_are_those_recorded(item):
    check(item)


def test_the_encoder_script_trains_as_recorded():
    check(SCRIPT)


def test_every_record_belongs_to_an_item():
    assert {path.stem for path in FOLDER.glob("*.json")} == set(CASES)


@pytest.mark.parametrize("item", ["objective", "quality"])
def test_a_change_of_a_hundredth_is_found(item):
    arrays = compute(item)
    expected = json.loads(formatted({name: summarise(array) for name, array in arrays.items()}))
    for name, array in arrays.items():
        found = summarise(1.01 * array)
        assert bool(differences(expected[name], found, tolerance(item, name))) == bool(expected[name]["rms"]), name
