"""Settings of the encoder."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass
class EncoderSettings:
    """Which encoder predicts head parameters from crops."""

    kind: str = "compact"
    """The network: compact (packaged, for the open head), deca or emoca (for FLAME)."""
    path: str | None = None
    """Weight file; null takes the packaged compact encoder. DECA's and EMOCA's are obtained from their authors' sites."""
    share_identity: bool = True
    """The bare encoder's identity is one for a clip: the mean over its images, less shrunk where they differ in direction."""
