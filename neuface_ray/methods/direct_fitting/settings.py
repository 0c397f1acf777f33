"""Settings of direct fitting."""

from __future__ import annotations

from dataclasses import dataclass, field

from neuface_ray.fitting.settings import ObjectiveSettings


@dataclass
class DirectFittingSettings:
    """Settings of direct fitting; the priors are weights of mean squared coefficients in standard deviations."""

    objective: ObjectiveSettings = field(default_factory=lambda: ObjectiveSettings(smoothness=2.0))
    """Weights of the data terms."""
    pose_steps: int = 20
    """Adam steps on orientation and camera alone."""
    steps: int = 120
    """Adam steps on all parameters."""
    shape_prior: float = 0.05
    """Weight of the identity prior."""
    expression_prior: float = 0.02
    """Weight of the prior that pulls expressions to the detector's scores, or to zero."""
    jaw_prior: float = 1e-3
    """Weight of the prior on joints that the head articulates by rotation."""
    hidden_weight: float = 0.2
    """Factor on landmarks whose surface faces away from the camera."""
    use_blendshapes: bool = True
    """Start expressions from the detector's blendshape scores, where the head has them."""
    lr_pose: float = 0.02
    """Step size of rotations (radians) and of log camera scale."""
    lr_coefficients: float = 0.06
    """Step size of identity and expression coefficients."""
