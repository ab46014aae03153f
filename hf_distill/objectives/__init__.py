"""Objectives: one term of the loss a file, unreduced and unmasked."""

from __future__ import annotations

from hf_distill.objectives.attention_kl import AttentionKL
from hf_distill.objectives.base import OBJECTIVES, Objective
from hf_distill.objectives.ckd import CKD
from hf_distill.objectives.cross_entropy import CrossEntropy
from hf_distill.objectives.decoupled_kd import DecoupledKD
from hf_distill.objectives.features import FeatureObjective
from hf_distill.objectives.forward_kl import ForwardKL
from hf_distill.objectives.generalized_jsd import GeneralizedJSD
from hf_distill.objectives.hidden_cosine import HiddenCosine
from hf_distill.objectives.hidden_mse import HiddenMSE
from hf_distill.objectives.logit_cosine import LogitCosine
from hf_distill.objectives.logit_mse import LogitMSE
from hf_distill.objectives.margin_mse import MarginMSE
from hf_distill.objectives.mean_squared_error import MeanSquaredError, TeacherMeanSquaredError
from hf_distill.objectives.pkt import PKT
from hf_distill.objectives.relation_kl import RelationKL
from hf_distill.objectives.reverse_kl import ReverseKL
from hf_distill.objectives.rkd import RKD
from hf_distill.objectives.similarity_preserving import SimilarityPreserving
from hf_distill.objectives.skew_kl import SkewKL
from hf_distill.objectives.skew_reverse_kl import SkewReverseKL
from hf_distill.objectives.soft_rank_correlation import SoftRankCorrelation
from hf_distill.objectives.symmetric_kl import SymmetricKL
from hf_distill.objectives.top_k_kl import TopKKL
from hf_distill.objectives.total_variation import TotalVariation
from hf_distill.objectives.uncertainty_split import UncertaintySplit
from hf_distill.objectives.x_divergence import PassVariance, XDivergence, XDivergenceSum

__all__ = [
    "OBJECTIVES",
    "Objective",
    "CrossEntropy",
    "MeanSquaredError",
    "TeacherMeanSquaredError",
    "ForwardKL",
    "ReverseKL",
    "SymmetricKL",
    "GeneralizedJSD",
    "SkewKL",
    "SkewReverseKL",
    "TotalVariation",
    "TopKKL",
    "DecoupledKD",
    "UncertaintySplit",
    "LogitMSE",
    "FeatureObjective",
    "HiddenMSE",
    "HiddenCosine",
    "AttentionKL",
    "RelationKL",
    "SimilarityPreserving",
    "RKD",
    "PKT",
    "CKD",
    "LogitCosine",
    "SoftRankCorrelation",
    "MarginMSE",
    "XDivergence",
    "XDivergenceSum",
    "PassVariance",
]
