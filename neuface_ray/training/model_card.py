"""The model card that accompanies trained weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from neuface_ray.methods.registry import recipes
from neuface_ray.training.config import TrainConfig
from neuface_ray.training.summary import TrainingSummary


def write_card(path: Path, config: TrainConfig, summary: TrainingSummary, facts: dict[str, Any]) -> None:
    """Writes what the weights are, what they were trained on, how well they do on held-out faces, and how to use them."""
    scores = "\n".join(f"| {name} | {value:.4g} |" for name, value in summary.scores.items()) or "| none | no held-out person |"
    settings = json.dumps(config.result_settings(), indent=1)
    path.write_text(
        f"""# {config.recipe}

A network that {recipes()[config.recipe].purpose}. Head model: `{facts["head_model"]}`.

Trained {summary.steps} steps of {config.batch} samples by `python jobs/train.py`, configuration `{summary.config_hash}`, code
version {facts["code_version"]}, on {summary.train_samples} samples of {", ".join(facts["data"])}.

## Validation

{summary.validation_samples} samples of persons that were held out, at most {config.validation_samples} of them used.

| score | mean |
|---|---|
{scores}

## Limits

The network knows what its data showed. Faces, lights, cameras and occlusions unlike those may come out wrong without a warning:
judge results by the quality gate, and look at them. The licence of the data applies to what is derived from it.

## Configuration

```json
{settings}
```
"""
    )
