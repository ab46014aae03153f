"""Curricula: what the student learns from at every optimizer step."""

from __future__ import annotations

from hf_distill.curricula.adaptive import Adaptive
from hf_distill.curricula.annealing import Annealing, Continuation
from hf_distill.curricula.base import CURRICULA, Curriculum
from hf_distill.curricula.extraction import Extraction
from hf_distill.curricula.one_shot import Labels, OneShot
from hf_distill.curricula.plan import Plan, PlanContext, Stage, Term
from hf_distill.curricula.progressive import NShot, TwoShot

__all__ = [
    "CURRICULA",
    "Adaptive",
    "Annealing",
    "Continuation",
    "Curriculum",
    "Extraction",
    "Labels",
    "NShot",
    "OneShot",
    "Plan",
    "PlanContext",
    "Stage",
    "Term",
    "TwoShot",
]
