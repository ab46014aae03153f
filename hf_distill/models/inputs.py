"""What models are given of a batch: the same for students and teachers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from hf_distill.reading.signals import Head, with_position_ids

_DECODER_INPUTS = ("decoder_input_ids", "decoder_inputs_embeds")


def model_inputs(head: Head, batch: Mapping[str, Any], model: nn.Module | None = None) -> dict[str, Any]:
    """Return a batch with what its labels or its mask still have to say to a model.

    A causal language model gets position ids counted over the text. The decoder of a sequence-to-sequence model gets
    the labels shifted right, as `model` shifts them itself, where the collator has not added `decoder_input_ids`:
    labels are never handed to models.

    Args:
        head: The kind of head.
        batch: Not changed.
        model: The model, as it is or in wrappers; only asked by a sequence-to-sequence head.

    Raises:
        ValueError: Nothing says what the decoder reads.
    """
    if head == "causal_lm":
        return with_position_ids(dict(batch))
    if head != "seq2seq_lm" or any(key in batch for key in _DECODER_INPUTS):
        return dict(batch)
    labels = batch.get("labels")
    if labels is None or model is None:
        raise ValueError(
            "the decoder of a seq2seq_lm model reads `decoder_input_ids`, or `labels` that they are made of, but the "
            f"batch has only {sorted(batch)}; use a collator that adds them (DataCollatorForSeq2Seq)"
        )
    return {**batch, "decoder_input_ids": shifted_right(model, labels)}


def in_weights_format(inputs: Mapping[str, Any], model: nn.Module) -> dict[str, Any]:
    """Return inputs whose numbers (pixels, features) have the number format of a model's weights.

    Without autocast a layer takes nothing else, and a teacher's weights may be stored in another format than the
    student trains in. Ids and masks stay.
    """
    weights = next((one.dtype for one in model.parameters() if one.is_floating_point()), None)
    return {
        key: item.to(weights) if isinstance(item, Tensor) and item.is_floating_point() else item
        for key, item in inputs.items()
    }


def shifted_right(model: nn.Module, labels_BT: Tensor) -> Tensor:
    """Return labels as the input of the model's own decoder, which predicts the token behind each of them.

    Args:
        model: A sequence-to-sequence model, as it is or in wrappers; of several teachers the first.
        labels_BT: With -100 where nothing is to be predicted.

    Shapes: (B, T) -> (B, T).

    Raises:
        ValueError: The model does not know how.
    """
    inner: Any = next((module for module in model.modules() if isinstance(module, PreTrainedModel)), model)
    try:
        shift = inner.prepare_decoder_input_ids_from_labels
    except AttributeError:
        raise ValueError(
            f"{type(inner).__name__} makes no decoder input from labels; use a collator that adds `decoder_input_ids`"
        ) from None
    return shift(labels_BT)


def check_decoder_inputs(student: PreTrainedConfig, teacher: PreTrainedConfig) -> None:
    """Refuse a teacher whose decoder is started or padded with other tokens: both get one `decoder_input_ids`.

    Raises:
        ValueError: The ids differ.
    """
    for key in ("decoder_start_token_id", "pad_token_id"):
        ours, theirs = (config.to_dict().get(key) for config in (student, teacher))
        if ours != theirs:
            raise ValueError(
                f"the student's {key} is {ours} and the teacher's {theirs}, but both decoders read the same labels "
                f"shifted right; make the student with the teacher's {key}"
            )
