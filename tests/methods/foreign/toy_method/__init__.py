"""A method of somebody else's: identity from the mean colour of a crop, which nobody should use."""

from neuface_ray.methods.registry import Method
from neuface_ray.sections import Entry

METHOD = Method(
    annotators={"toy": Entry("toy_method.annotator:Toy", "toy_method.settings:ToySettings", "guesses identity from colour")},
    recipes={
        "toy": Entry(
            "toy_method.recipe:ToyRecipe", "toy_method.settings:ToyTraining", "guesses the identity of a face from its colour"
        )
    },
    networks={"toy": "toy_method.network:ToyNetwork"},
)
