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
)
