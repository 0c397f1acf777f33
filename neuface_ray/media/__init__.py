"""From files to face clips: ``plan`` finds segments, ``prepare`` decodes, detects, tracks and crops one of them."""

from neuface_ray.media.config import Limits, MediaConfig
from neuface_ray.media.detect import check_detector
from neuface_ray.media.plan import Plan, make_plan, plan
from neuface_ray.media.prepare import prepare

__all__ = ["Limits", "MediaConfig", "Plan", "check_detector", "make_plan", "plan", "prepare"]
