"""The `teacher:` block of a recipe: one model, assistants below it, an ensemble, or the student itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from hf_distill.teachers.router import DifficultyRouter


@dataclass(kw_only=True)
class StopAt:
    """When to end a training early."""

    metric: str = field(metadata={"help": "Held-out metric, without eval_ before it."})
    level: float = field(metadata={"help": "Training ends once the metric is at this level or better."})


@dataclass(kw_only=True)
class TeacherTraining:
    """How to train a teacher before the students."""

    model: dict[str, Any] = field(
        metadata={"help": "{architecture, config} for a fresh model, {pretrained, revision} to fine-tune one."}
    )
    training: dict[str, Any] = field(
        default_factory=dict, metadata={"help": "Training arguments of the teacher; its checkpoints are kept."}
    )
    seed: int = field(default=0, metadata={"help": "Seed of the teacher's weights and data order."})
    stop_at: StopAt | None = field(default=None, metadata={"help": "End the teacher's training early."})


@dataclass(kw_only=True)
class AssistantTraining(TeacherTraining):
    """A teaching assistant: trained from the model before it, for those that come after."""

    curriculum: dict[str, Any] = field(
        default_factory=lambda: {"name": "one_shot"},
        metadata={"help": "What the assistant learns from its own teacher: `name` of a curriculum and its options."},
    )


@dataclass(kw_only=True)
class ModelSpec:
    """Where a teacher's revisions come from."""

    source: str | list[str] | dict[str, Any] | None = field(
        default=None,
        metadata={
            "help": "Revisions on the Hub (org/model@step*, org/model@main~*), a folder of checkpoints, a list of "
            "either, or {revisions, every, first, last, near_transition} to choose among them."
        },
    )
    train: TeacherTraining | None = field(default=None, metadata={"help": "Train the teacher first."})
    tokenizer: str | None = field(default=None, metadata={"help": "The teacher's tokenizer, if not in its source."})
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = field(
        default="auto", metadata={"help": "Number format of the teacher's weights; auto: as stored."}
    )
    allow_pickled_weights: bool = field(
        default=False, metadata={"help": "Read pickled weights, which can run code; safetensors only otherwise."}
    )
    trust_remote_code: bool = field(default=False, metadata={"help": "Run model code from the teacher's repository."})
    on_download_failure: Literal["wait", "stop"] = field(
        default="stop",
        metadata={"help": "When a revision cannot be downloaded: stop with a checkpoint, or wait and try on."},
    )
    max_cached_gb: float | None = field(
        default=None,
        metadata={"help": "Most that the weights a run downloads may take on disk, in 10^9 bytes; null: no limit."},
    )
    quantization: dict[str, Any] | None = field(
        default=None,
        metadata={
            "help": "Quantise the teacher's weights when they are loaded: {load_in_4bit: true} and other fields of "
            "bitsandbytes, {quant_method: quanto, weights: int8}, {quant_method: torchao, quant_type: "
            "Int8WeightOnlyConfig}, or any other method of transformers."
        },
    )
    offload: bool = field(
        default=False,
        metadata={
            "help": "Keep the teacher's weights in CPU memory and bring them to the device for each call; with "
            "training.teacher_window that is once a step."
        },
    )
    sharded: bool = field(
        default=False,
        metadata={
            "help": "Split the teacher over ranks where ZeRO-3 or FSDP2 splits the student; elsewhere every rank has "
            "it whole."
        },
    )
    compile: bool | str = field(
        default=False,
        metadata={"help": "Run the teacher's body through torch.compile: true, or the name of a backend."},
    )


@dataclass(kw_only=True)
class EnsembleSpec:
    """Several teachers that answer as one."""

    members: list[ModelSpec] = field(metadata={"help": "Two teachers or more, each with `source` or `train`."})
    average: Literal["probabilities", "logits"] = field(
        default="probabilities", metadata={"help": "What the mean is taken of."}
    )
    weights: list[float] | None = field(default=None, metadata={"help": "One a member; null: all equal."})


@dataclass(kw_only=True)
class PrunedSpec:
    """The teacher mixed with a pruned copy of itself (R2KD)."""

    rate: float = field(
        default=0.1, metadata={"help": "Share of each layer's weights, the smallest, that are zeroed."}
    )
    weight: float = field(default=0.7, metadata={"help": "Share of the full teacher in the mix."})


@dataclass(kw_only=True)
class SelfTeacherSpec:
    """The student as its own teacher."""

    name: Literal["ema", "adapter_off"] = field(
        metadata={"help": "ema: the student's moving average; adapter_off: the student without its LoRA adapter."}
    )
    decay: float | None = field(default=None, metadata={"help": "Of the moving average; null: 0.999."})
    warmup: bool | None = field(
        default=None, metadata={"help": "Let the average forget the first weights sooner; null: true."}
    )


@dataclass(kw_only=True)
class TeacherSpec(ModelSpec):
    """Who teaches the students: one model by `source` or `train`, an ensemble of them, or the student itself."""

    pruned: PrunedSpec | None = field(
        default=None, metadata={"help": "Mix the teacher with a copy of itself that lacks its smallest weights."}
    )
    ensemble: EnsembleSpec | None = field(
        default=None, metadata={"help": "Several teachers in the place of `source` or `train`."}
    )
    assistants: list[AssistantTraining] = field(
        default_factory=list,
        metadata={
            "help": "Models trained one after the other, each from the one before; the last teaches the students."
        },
    )
    route: DifficultyRouter | None = field(
        default=None,
        metadata={"help": "Let each example choose among the assistants and the teacher by its difficulty (CES-KD)."},
    )
    self_teacher: SelfTeacherSpec | None = field(
        default=None, metadata={"help": "The student itself in the place of `source` or `train`."}
    )
    cached: bool | str | None = field(
        default=None,
        metadata={
            "help": "Read what `hf-distill cache` has written instead of running the teacher: true for the recipe's "
            "own targets, a folder, or a data set org/name. `source` or `train` may stay, for comparison."
        },
    )

    @property
    def is_one_model(self) -> bool:
        """Whether the teacher is one model, by `source` or `train`, and not an ensemble or the student."""
        return self.source is not None or self.train is not None

    @property
    def can_run(self) -> bool:
        """Whether the block names a teacher that can run, and not cached targets alone."""
        return self.is_one_model or self.ensemble is not None or self.self_teacher is not None
