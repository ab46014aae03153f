"""Students and teachers to plan for without a recipe: two usual pairs, or any two configurations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from transformers import AutoConfig, BertConfig, PreTrainedConfig, Qwen2Config

from hf_distill.models.compatibility import auto_class_of
from hf_distill.planning.memory import BatchShape
from hf_distill.planning.model_size import ModelSize, model_size
from hf_distill.planning.model_states import StepSettings
from hf_distill.planning.work import Work
from hf_distill.reading.signals import TOKEN_HEADS, Head

MASKED = 0.15
"""Share of the positions that a masked language model predicts."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A student, its teacher, and the step they are planned for.

    Attributes:
        title: For people.
        student, teacher: Make their configurations.
        head: Of both.
        tokens: Positions of an example.
        micro_batch: Examples that a GPU takes at a time.
        examples: Of a step.
        revision_steps: Steps between two revisions of the teacher.
    """

    title: str
    student: Callable[[], PreTrainedConfig]
    teacher: Callable[[], PreTrainedConfig]
    head: Head
    tokens: int
    micro_batch: int
    examples: int
    revision_steps: int = 1000

    def work(self) -> Work:
        """Return the step on one GPU: the student's weights in 32 bits, products in 16."""
        shape = batch_of(self.head, examples=self.micro_batch, tokens=self.tokens)
        accumulation = max(1, self.examples // self.micro_batch)
        return Work(
            student=size_of_config(self.student(), self.head, dtype=torch.float32),
            teacher=size_of_config(self.teacher(), self.head),
            shape=shape,
            settings=StepSettings(accumulation=accumulation),
            causal=self.head == "causal_lm",
            tiled=self.head in TOKEN_HEADS,
            revision_steps=self.revision_steps,
        )


def batch_of(head: Head, *, examples: int, tokens: int) -> BatchShape:
    """Return a micro-batch without padding.

    Args:
        head: Says which rows count.
        examples: B.
        tokens: T.
    """
    positions = examples * tokens
    rows = {
        "masked_lm": round(MASKED * positions),
        "causal_lm": examples * (tokens - 1),
        "seq2seq_lm": positions,
        "token_classification": positions,
        "question_answering": 2 * examples,
    }
    return BatchShape(examples=examples, tokens=positions, positions=positions, rows=rows.get(head, examples))


def size_of_config(config: PreTrainedConfig, head: Head, *, dtype: torch.dtype | None = None) -> ModelSize:
    """Return the size of a model without its weights.

    Args:
        config: Its configuration.
        head: Its head.
        dtype: Of its weights; None: as the configuration says, in 32 bits where it does not.
    """
    wanted = dtype or config.dtype or torch.float32
    with torch.device("meta"):
        model = auto_class_of(head, config).from_config(config, dtype=wanted)
    return model_size(model)


def config_at(place: str) -> Callable[[], PreTrainedConfig]:
    """Return what reads a configuration: of a folder, or of a model on the Hub."""
    return lambda: AutoConfig.from_pretrained(place)


def _bert(**sizes: int) -> Callable[[], PreTrainedConfig]:
    return lambda: BertConfig(vocab_size=30522, max_position_embeddings=512, **sizes)


@dataclass(frozen=True)
class _Qwen:
    """A Qwen2.5: makes its configuration."""

    width: int
    layers: int
    heads: int
    key_heads: int
    neurons: int
    tied: bool
    vocabulary: int

    def __call__(self) -> PreTrainedConfig:
        return Qwen2Config(
            dtype=torch.bfloat16,
            tie_word_embeddings=self.tied,
            vocab_size=self.vocabulary,
            hidden_size=self.width,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.key_heads,
            intermediate_size=self.neurons,
        )


QWEN: Mapping[str, Callable[[], PreTrainedConfig]] = {
    "0.5B": _Qwen(896, 24, 14, 2, 4864, True, 151936),
    "1.5B": _Qwen(1536, 28, 12, 2, 8960, True, 151936),
    "3B": _Qwen(2048, 36, 16, 2, 11008, True, 151936),
    "7.6B": _Qwen(3584, 28, 28, 4, 18944, False, 152064),
    "14B": _Qwen(5120, 48, 40, 8, 13824, False, 152064),
    "32B": _Qwen(5120, 64, 40, 8, 27648, False, 152064),
}
"""Qwen2.5 by its number of parameters, with the published sizes."""


def _qwen_pair(student: str, teacher: str) -> Pair:
    return Pair(
        title=f"{student} ← {teacher} (Qwen2.5), causal language model, 2,048 tokens",
        student=QWEN[student],
        teacher=QWEN[teacher],
        head="causal_lm",
        tokens=2048,
        micro_batch=4,
        examples=1024,
    )


PAIRS: Mapping[str, Pair] = {
    "bert": Pair(
        title="BERT-base ← BERT-large, masked language model, 128 tokens",
        student=_bert(hidden_size=768, num_hidden_layers=12, num_attention_heads=12, intermediate_size=3072),
        teacher=_bert(hidden_size=1024, num_hidden_layers=24, num_attention_heads=16, intermediate_size=4096),
        head="masked_lm",
        tokens=128,
        micro_batch=64,
        examples=1024,
    ),
    "qwen": _qwen_pair("1.5B", "7.6B"),
}
"""The pairs of the tables in recipes/accelerate/README.md, by name."""

CHOSEN: Mapping[str, Pair] = {
    "bert": PAIRS["bert"],
    "0.5B": _qwen_pair("0.5B", "1.5B"),
    "1.5B": PAIRS["qwen"],
    "3B": _qwen_pair("3B", "14B"),
    "7.6B": _qwen_pair("7.6B", "32B"),
}
"""The pairs for which that page says what to choose."""
