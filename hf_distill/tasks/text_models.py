"""What every task on text knows of its models: vocabulary, special ids, positions, names of the answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

from hf_distill.models.label_maps import label_names, order_of
from hf_distill.tasks.model_building import config_value


def text_defaults(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Return a config's size of the vocabulary and its special ids."""
    return {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def check_reads_text(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, max_length: int) -> None:
    """Refuse a model with fewer embeddings than tokens, or fewer positions than `max_length`.

    Raises:
        ValueError: It cannot read the task's text.
    """
    rows = len(next(model.get_input_embeddings().parameters()))
    if rows < len(tokenizer):
        raise ValueError(
            f"model: its vocabulary has {rows} entries, the tokenizer {len(tokenizer)}. Leave `vocab_size` out of "
            "the config, or set task.tokenizer to the tokenizer the weights were trained with."
        )
    positions = config_value(model.config, "max_position_embeddings")
    if positions is not None and positions < max_length:
        raise ValueError(
            f"model: reads {positions} positions, but task.max_length is {max_length}. Lower task.max_length or set "
            f"max_position_embeddings: {max_length} in the model's config."
        )


def label_config(names: Sequence[str]) -> dict[str, Any]:
    """Return how a config names classes."""
    return {
        "id2label": dict(enumerate(names)),
        "label2id": {name: number for number, name in enumerate(names)},
    }


def check_labels(config: PreTrainedConfig, names: Sequence[str]) -> None:
    """Refuse a model for other classes than the data's, or with another order of them.

    Raises:
        ValueError: With both lists.
    """
    ours, theirs = list(names), label_names(config)
    try:
        order = order_of(ours, theirs)
    except ValueError as error:
        raise ValueError(
            f"model: its classes are {theirs}, those of the data {ours} ({error}). Leave labels out of the config, or "
            "choose weights that were trained for these classes."
        ) from error
    if order is not None:
        raise ValueError(
            f"model: has the classes of the data in another order, {theirs} instead of {ours}. Leave labels out of "
            "the config, or start from weights without a head; a teacher may have any order."
        )
