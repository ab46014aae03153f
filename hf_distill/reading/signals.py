"""What student and teacher say about a batch: the one next-token shift, the one mask and the vocabulary policy.

Shape legend: B examples, T positions (of the decoder, where there is one), V vocabulary or classes, R rows (labelled
positions or examples).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from hf_distill.reading.layer_states import AttentionRows, Captured, LayerStates

IGNORE_INDEX = -100

Head = Literal[
    "classification",
    "regression",
    "token_classification",
    "question_answering",
    "masked_lm",
    "causal_lm",
    "seq2seq_lm",
]

TOKEN_HEADS: frozenset[str] = frozenset({"masked_lm", "causal_lm", "seq2seq_lm"})
"""Heads whose classes are the tokens of a vocabulary."""

LABELS_ARE_INPUTS: frozenset[str] = frozenset({"masked_lm", "causal_lm"})
"""Heads whose labels are tokens of the text that is read, each at its own position."""

TARGET_KEYS: frozenset[str] = frozenset({"labels", "start_positions", "end_positions"})
"""What is never handed to a model: it would compute a loss of its own to throw away."""


class Rows(NamedTuple):
    """Which positions of a batch count.

    `mask` has the shape of the (shifted) labels and is None where every example counts; `labels_R` is None where the
    batch carries none. An example of question answering has two rows, start and end, whose classes are its positions.
    """

    mask: Tensor | None
    labels_R: Tensor | None
    shift: bool

    def of(self, logits: Tensor) -> Tensor:
        """Return the rows of `logits` that count.

        Shapes: (B, V), (B, T, V) or, of question answering, (B, 2, T) -> (R, V) or (R, T).
        """
        if self.shift:
            logits = logits[:, :-1]
        return logits if self.mask is None else logits[self.mask]


@dataclass(frozen=True)
class Signals:
    """What the objectives of a stage compare, aligned row by row.

    Shapes: `student_logits` (R, Vs), `teacher_logits` (R, Vt), `labels` (R,) (classes or token ids) or (R,) /
    (R, outputs) for regression. `shared_width` ids are common to both heads. `student_passes`
    (K, R, Vs) the student's logits of all K passes. `student_hidden` and `teacher_hidden` (N, D), one row an attended
    token of an extraction's stage. What a stage does not need is None.

    Objectives on layers read the forward of the logits too: `captured` is all that its terms look at, `layers` and
    `attentions` are what one term compares. `examples` is B where an example counts as one token (images), so that
    its value is the mean over its positions; None where positions are counted.
    """

    student_logits: Tensor | None = None
    labels: Tensor | None = None
    teacher_logits: Tensor | None = None
    shared_width: int | None = None
    student_passes: Tensor | None = None
    student_hidden: Tensor | None = None
    teacher_hidden: Tensor | None = None
    captured: Captured | None = None
    layers: tuple[LayerStates, ...] = ()
    attentions: tuple[AttentionRows, ...] = ()
    examples: int | None = None

    def pair(self) -> tuple[Tensor, Tensor]:
        """Return (student, teacher) logits over the ids that both heads have; no gradient reaches the teacher.

        Raises:
            ValueError: No teacher logits in this stage.
        """
        if self.teacher_logits is None or self.student_logits is None:
            raise ValueError("this objective compares with teacher logits, but the stage has no teacher")
        width = self.shared_width
        return self.student_logits[..., :width], self.teacher_logits.detach()[..., :width]

    def labelled(self) -> tuple[Tensor, Tensor]:
        """Return (student logits, labels).

        Raises:
            ValueError: The batch has no labels.
        """
        if self.labels is None or self.student_logits is None:
            raise ValueError("this objective compares with labels, but the batch has no `labels`")
        return self.student_logits, self.labels

    def all_passes(self) -> Tensor:
        """Return the student's logits of all its passes. Shapes: (K, R, Vs).

        Raises:
            ValueError: The stage has one pass.
        """
        if self.student_passes is None:
            raise ValueError(
                "this objective compares passes of the student, but the stage has one; set `intra.passes`"
            )
        return self.student_passes

    def hidden_pair(self) -> tuple[Tensor, Tensor]:
        """Return (student, teacher) hidden states, aligned and of one width; no gradient reaches the teacher.

        Raises:
            ValueError: The stage reads no hidden states.
        """
        if self.student_hidden is None or self.teacher_hidden is None:
            raise ValueError("this objective compares hidden states, but the stage reads none; use it in `extraction`")
        return self.student_hidden, self.teacher_hidden.detach()

    def hidden_rows(self) -> list[tuple[Tensor, Tensor]]:
        """Return (student, teacher) hidden states of attended tokens for each pair of layers; or as `hidden_pair`."""
        return [pair.rows() for pair in self.layers] or [self.hidden_pair()]

    def layer_states(self) -> tuple[LayerStates, ...]:
        """Return the hidden states of each pair of layers, with their positions.

        Raises:
            ValueError: The stage reads none.
        """
        if not self.layers:
            raise ValueError("this objective compares the layers of a whole forward, but the stage reads none")
        return self.layers

    def attention_rows(self) -> tuple[AttentionRows, ...]:
        """Return the attentions of each pair of layers.

        Raises:
            ValueError: The stage reads none.
        """
        if not self.attentions:
            raise ValueError("this objective compares attentions, but the stage reads none")
        return self.attentions

    def zero(self) -> Tensor:
        """Return 0 that depends on the student's logits.

        Where only layers are compared, DistributedDataParallel would wait for the gradients of what is behind them.

        Raises:
            ValueError: No logits.
        """
        if self.student_logits is None:
            raise ValueError("this stage has no logits")
        return self.student_logits[:0].sum()

    @property
    def device(self) -> torch.device:
        """Where the student's signals are."""
        tensors = (self.student_logits, self.student_hidden, self.student_passes)
        of_layers = (*(states.student_BTS for states in self.layers), *(rows.student_NAT for rows in self.attentions))
        return next((tensor.device for tensor in (*tensors, *of_layers) if tensor is not None), torch.device("cpu"))


def select_rows(head: Head, inputs: Mapping[str, Any]) -> Rows:
    """Select the positions of a batch that count, once for student, teacher and labels.

    Causal language models predict the next token: position t is compared with label t + 1.

    Raises:
        ValueError: As in `counted_positions`.
    """
    mask, labels = counted_positions(head, inputs), labels_of(head, inputs)
    shift = head == "causal_lm"
    if mask is None or labels is None:
        return Rows(mask, labels, shift)
    return Rows(mask, (labels[:, 1:] if shift else labels)[mask], shift)


def labels_of(head: Head, inputs: Mapping[str, Any]) -> Tensor | None:
    """Return the labels of a batch, None where it has none: those of question answering are start and end, (B, 2).

    Raises:
        ValueError: Only one of start and end is given.
    """
    if head != "question_answering":
        return inputs.get("labels")
    found = [inputs.get(key) for key in ("start_positions", "end_positions")]
    given = [positions.reshape(-1) for positions in found if positions is not None]
    if len(given) == 1:
        raise ValueError(
            "a question_answering batch needs both `start_positions` and `end_positions`, or neither, got the keys "
            f"{sorted(inputs)}"
        )
    return torch.stack(given, dim=1) if given else None


def counted_positions(head: Head, inputs: Mapping[str, Any]) -> Tensor | None:
    """Return which positions of a batch count, after the next-token shift; None where every example does.

    A position counts where its label is not -100, so that an EOS label is a trained token even where its id is also
    the padding id; without labels every attended position counts (of the decoder, where there is one). A causal
    language model is not asked for the first token of a text: right-padded it has no position to be predicted from,
    left-padded only padding. The start or end of an answer counts where it points into the text: behind it (an answer
    that was cut off), on padding or at -100 it does not.

    Args:
        head: The kind of head.
        inputs: The batch, with its labels and, for heads with positions without labels, `attention_mask`.

    Shapes: (B,) for classes, (B, T) for positions, (B, T - 1) for causal language models, (B, 2) for answers.

    Raises:
        ValueError: The batch of a head with positions has neither labels nor an attention mask, or an example several
            classes.
    """
    if head == "question_answering":
        return _counted_answers(inputs)
    labels = inputs.get("labels")
    attended = inputs.get("decoder_attention_mask" if head == "seq2seq_lm" else "attention_mask")
    if head == "regression" or (head == "classification" and labels is None):
        return None
    if labels is not None:
        if head == "classification" and labels.dim() != 1:
            raise ValueError(
                f"a classification batch has one class an example, but its labels have shape {tuple(labels.shape)}; "
                "problems with several labels an example are not supported"
            )
        counts = labels != IGNORE_INDEX
    elif attended is not None:
        counts = attended.bool()
    else:
        mask = "a `decoder_attention_mask`" if head == "seq2seq_lm" else "an `attention_mask`"
        raise ValueError(
            f"a {head} batch needs `labels` or {mask} to say which positions count, got the keys {sorted(inputs)}; "
            "use a collator that adds labels (DataCollatorForLanguageModeling, DataCollatorForTokenClassification, "
            "DataCollatorForSeq2Seq)"
        )
    if head != "causal_lm":
        return counts
    if attended is None or attended.dim() != 2:
        return counts[:, 1:]
    return counts[:, 1:] & (attended.cumsum(-1)[:, :-1] > 0)


def _counted_answers(inputs: Mapping[str, Any]) -> Tensor:
    """Return which starts and ends point into the text; all of them without labels. Shapes: returns (B, 2)."""
    labels_B2, attended = labels_of("question_answering", inputs), inputs.get("attention_mask")
    text = next((inputs[key] for key in ("attention_mask", "input_ids", "inputs_embeds") if key in inputs), None)
    if text is None:
        raise ValueError(
            "a question_answering batch needs `input_ids` or an `attention_mask` to say how long its texts are, got "
            f"the keys {sorted(inputs)}"
        )
    if labels_B2 is None:
        return torch.ones(text.shape[0], 2, dtype=torch.bool, device=text.device)
    counts = (labels_B2 >= 0) & (labels_B2 < text.shape[1])
    if attended is None:
        return counts
    return counts & attended.bool().gather(1, labels_B2.clamp(0, text.shape[1] - 1))


def with_position_ids(inputs: dict[str, Any]) -> dict[str, Any]:
    """Return `inputs` with position ids counted over attended tokens, so that left and right padding agree.

    Decoders number positions from the first column, padding included; a left-padded prompt would otherwise be read
    at other positions than in right-padded training.

    Shapes: attention_mask (B, T) -> position_ids (B, T).
    """
    if "position_ids" in inputs or "attention_mask" not in inputs:
        return inputs
    position_ids = (inputs["attention_mask"].long().cumsum(-1) - 1).clamp_(min=0)
    return {**inputs, "position_ids": position_ids}


def at_least_float32(values: Tensor) -> Tensor:
    """Return `values` in float32, or unchanged where they are float64 already."""
    return values if values.dtype == torch.float64 else values.float()
