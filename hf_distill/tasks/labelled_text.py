"""What tasks on tables of labelled text share: `max_length`, and models whose answers have the data's names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel

from hf_distill.tasks.base import TaskData
from hf_distill.tasks.table_task import TableTask
from hf_distill.tasks.text_models import check_labels, check_reads_text, label_config, text_defaults

FEWEST_POSITIONS = 8


@dataclass(kw_only=True)
class LabelledTextTask(TableTask):
    """A task on tables of labelled text."""

    max_length: int = field(default=128, metadata={"help": "tokens of an example; longer ones are cut, and counted"})

    def __post_init__(self) -> None:
        if self.max_length < FEWEST_POSITIONS:
            raise ValueError(f"max_length: expected at least {FEWEST_POSITIONS} tokens, got {self.max_length}")
        super().__post_init__()

    def limits(self) -> dict[str, int]:
        """Return the tokens of an example."""
        return {"max_length": self.max_length}

    def limits_text(self) -> str:
        """Return the tokens of an example in words."""
        return f"at most {self.max_length} tokens"

    def answer_config(self) -> dict[str, Any]:
        """Return how a config describes the answers."""
        names = self.class_names()
        return label_config(names) if names is not None else {}

    def label_config(self, data: TaskData) -> dict[str, Any]:
        """Return how a config describes the answers."""
        return self.answer_config()

    def config_defaults(
        self, config_class: type[PreTrainedConfig], given: Mapping[str, Any], data: TaskData
    ) -> dict[str, Any]:
        """Take vocabulary and special ids from the tokenizer and the answers from the data."""
        assert data.tokenizer is not None
        return {**text_defaults(data.tokenizer), **({} if "num_labels" in given else self.answer_config())}

    def build_model(self, spec: Mapping[str, Any], data: TaskData, **loading: Any) -> PreTrainedModel:
        """Build a model; one that names no padding token (GPT-2) gets the tokenizer's, or it could read no batch."""
        model = super().build_model(spec, data, **loading)
        assert data.tokenizer is not None
        if model.config.pad_token_id is None:
            model.config.pad_token_id = data.tokenizer.pad_token_id
        return model

    def check_model(self, model: PreTrainedModel, data: TaskData) -> None:
        """Refuse a model with fewer embeddings than tokens, fewer positions than `max_length` or other classes."""
        assert data.tokenizer is not None
        check_reads_text(model, data.tokenizer, max_length=self.max_length)
        names = self.class_names()
        if names is not None:
            check_labels(model.config, names)
