"""What the outputs of models say: one tensor of logits, whatever the head, and back to the names of transformers.

Shape legend: B examples, T positions, V vocabulary or classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

OUT_OF_SIGHT = -3e4
"""The logit of padding as start or end of an answer: probability 0 in every precision, and never 0 · ∞ in a loss."""


def logits_of(output: Any, attention_mask: Tensor | None) -> Tensor:
    """Return the logits of a model's output, one tensor whatever the head.

    Those of start and end of an answer are put together, with padding out of sight: how far a batch is padded then
    changes no probability.

    Args:
        output: What the forward returned.
        attention_mask: (B, T), or None where every position is text.

    Shapes: (B, classes), (B, T, V), or (B, 2, T) for question answering.

    Raises:
        ValueError: The logits have other positions than the mask.
    """
    if "start_logits" not in output:
        return output.logits
    logits_B2T = torch.stack([output["start_logits"], output["end_logits"]], dim=1)
    if attention_mask is None:
        return logits_B2T
    if attention_mask.shape != logits_B2T[:, 0].shape:
        raise ValueError(
            f"start and end have logits of shape {tuple(logits_B2T[:, 0].shape)} and the attention mask is "
            f"{tuple(attention_mask.shape)}; expected one mark a position (no prompt in front)"
        )
    return logits_B2T.masked_fill(attention_mask.unsqueeze(1) == 0, OUT_OF_SIGHT)


def predictions_of(head: str, logits: Tensor | None) -> dict[str, Tensor | None]:
    """Return logits under the names that transformers' models give them, for metrics.

    Shapes: start and end of answers (B, T) each, which the Trainer pads along the second dimension; others stay.
    """
    if logits is None or head != "question_answering":
        return {"logits": logits}
    return {"start_logits": logits[:, 0], "end_logits": logits[:, 1]}
