"""Tasks: one file each, registered by the name a recipe uses."""

from __future__ import annotations

from hf_distill.tasks.base import TASKS, HeldOut, Task, TaskData
from hf_distill.tasks.causal_lm import CausalLM
from hf_distill.tasks.glue import Glue
from hf_distill.tasks.image_classification import ImageClassification
from hf_distill.tasks.masked_lm import MaskedLM
from hf_distill.tasks.parity import Parity
from hf_distill.tasks.parity_model import ParityMlpConfig, ParityMlpForSequenceClassification
from hf_distill.tasks.pcfg import Pcfg, PcfgCausal
from hf_distill.tasks.question_answering import QuestionAnswering
from hf_distill.tasks.sinusoid import NoisySinusoid
from hf_distill.tasks.summarization import Summarization
from hf_distill.tasks.text_classification import TextClassification
from hf_distill.tasks.token_classification import TokenClassification
from hf_distill.tasks.translation import Translation

__all__ = [
    "TASKS",
    "CausalLM",
    "Glue",
    "HeldOut",
    "ImageClassification",
    "MaskedLM",
    "NoisySinusoid",
    "Parity",
    "ParityMlpConfig",
    "ParityMlpForSequenceClassification",
    "Pcfg",
    "PcfgCausal",
    "QuestionAnswering",
    "Summarization",
    "Task",
    "TaskData",
    "TextClassification",
    "TokenClassification",
    "Translation",
]
