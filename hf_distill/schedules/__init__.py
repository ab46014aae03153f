"""Schedules: pure functions of progress (step / max_steps in [0, 1]) for weights and temperatures."""

from __future__ import annotations

from hf_distill.schedules.base import SCHEDULES, Schedule, build_schedule
from hf_distill.schedules.constant import Constant
from hf_distill.schedules.continuation import AnnealingTemperature, ContinuationWeight
from hf_distill.schedules.cosine import Cosine
from hf_distill.schedules.exponential import Exponential
from hf_distill.schedules.geometric import Geometric
from hf_distill.schedules.intra import IntraRamp
from hf_distill.schedules.linear import Linear
from hf_distill.schedules.piecewise import Piecewise

__all__ = [
    "SCHEDULES",
    "AnnealingTemperature",
    "Constant",
    "ContinuationWeight",
    "Geometric",
    "IntraRamp",
    "Cosine",
    "Exponential",
    "Linear",
    "Piecewise",
    "Schedule",
    "build_schedule",
]
