"""What a finished training amounts to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingSummary:
    """Result of a training; also written as ``summary.json``."""

    recipe: str
    weights: str
    steps: int
    scores: dict[str, float]
    train_samples: int
    validation_samples: int
    seconds: float
    samples_per_s: float
    config_hash: str

    def table(self) -> str:
        """A line for each number."""
        lines = [("recipe", self.recipe), ("weights", self.weights), ("steps", self.steps)]
        lines += [(f"validation {name}", f"{value:.4g}") for name, value in self.scores.items()]
        lines += [
            ("training samples", self.train_samples),
            ("held out", self.validation_samples),
            ("seconds", f"{self.seconds:.0f}"),
            ("samples/s", f"{self.samples_per_s:.1f}"),
        ]
        return "\n".join(f"{name:<36} {value}" for name, value in lines)
