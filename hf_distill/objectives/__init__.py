"""Objectives: one term of the loss a file, unreduced and unmasked."""

from __future__ import annotations

from hf_distill.objectives.base import OBJECTIVES, Objective
from hf_distill.objectives.cross_entropy import CrossEntropy
from hf_distill.objectives.forward_kl import ForwardKL
from hf_distill.objectives.mean_squared_error import MeanSquaredError, TeacherMeanSquaredError

__all__ = ["OBJECTIVES", "CrossEntropy", "ForwardKL", "MeanSquaredError", "Objective", "TeacherMeanSquaredError"]
