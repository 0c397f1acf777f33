"""The compact encoder: head parameters from one crop."""

from neuface_ray.methods.registry import Method
from neuface_ray.sections import Entry

METHOD = Method(
    annotators={
        "encoder": Entry(
            implementation="neuface_ray.methods.encoder.annotator:EncoderAnnotator",
            settings="neuface_ray.methods.encoder.settings:EncoderSettings",
            purpose="predicts head parameters from each crop by a network",
        )
    },
    recipes={
        "encoder": Entry(
            implementation="neuface_ray.methods.encoder.recipe:EncoderRecipe",
            settings="neuface_ray.methods.encoder.settings:EncoderTrainingSettings",
            purpose="tells identity, expression, orientation and a weak-perspective camera of a head model from a face crop",
        )
    },
    networks={"encoder": "neuface_ray.methods.encoder.network:CompactEncoder"},
)
