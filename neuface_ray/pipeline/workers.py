"""The annotating workers: how many, and with how much of the cluster."""

from __future__ import annotations

from dataclasses import dataclass

from neuface_ray.ray_session import RayConfig


@dataclass
class AnnotationRayConfig(RayConfig):
    """Where the work runs, and the annotating workers."""

    actors: int | None = None
    """Annotating workers; null: one for each GPU share, or one for each CPU where there is no GPU."""
    num_gpus: float = 1.0
    """GPUs of each annotating worker (0.5: two share one); where the cluster has no GPU they work on the CPU."""
    cpus_per_actor: int = 1
    """CPUs of each annotating worker, and its number of torch threads, on which the last digits of the rows depend."""


@dataclass(frozen=True)
class Workers:
    """Number of annotating actors, and the GPUs and CPUs of each."""

    actors: int
    gpus: float
    cpus: int

    @classmethod
    def of(cls, config: AnnotationRayConfig, tasks: int) -> Workers:
        """As many actors as there are GPU shares, or CPUs where there is no GPU, but no more than ``tasks``. Needs Ray."""
        import ray  # not earlier: its environment is set by the session

        have = ray.cluster_resources()
        cpus, gpus = int(have.get("CPU", 1)), have.get("GPU", 0.0)
        share = config.num_gpus if gpus else 0.0
        room = int(gpus / share) if share else cpus // config.cpus_per_actor
        actors = max(1, min(config.actors or room, tasks))
        return cls(actors, share, config.cpus_per_actor)
