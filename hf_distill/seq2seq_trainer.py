"""Distillation of sequence-to-sequence models whose evaluation writes texts: transformers' Seq2SeqTrainer, taught."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import SequentialSampler
from transformers import Seq2SeqTrainer, Seq2SeqTrainingArguments
from transformers.trainer_utils import EvalLoopOutput

from hf_distill.config import ProgressiveDistillConfig
from hf_distill.reading.signals import TARGET_KEYS
from hf_distill.trainer import ProgressiveDistillTrainer

_DECODER_KEYS = frozenset({"decoder_input_ids", "decoder_attention_mask"})


@dataclass(kw_only=True)
class ProgressiveDistillSeq2SeqConfig(ProgressiveDistillConfig, Seq2SeqTrainingArguments):
    """Arguments of `ProgressiveDistillSeq2SeqTrainer`: those of both its parents.

    `predict_with_generate`, `generation_max_length`, `generation_num_beams` and `generation_config` mean what they
    mean in `transformers.Seq2SeqTrainingArguments`.
    """


class ProgressiveDistillSeq2SeqTrainer(ProgressiveDistillTrainer, Seq2SeqTrainer):
    """A ProgressiveDistillTrainer that can evaluate what its student writes.

    With `predict_with_generate`, metrics get the ids that the student generates, without the teacher, and the loss of
    the labels beside them is the one of every other evaluation here: nothing is compared with a teacher.

    Example:
        >>> trainer = ProgressiveDistillSeq2SeqTrainer(
        ...     model=student,
        ...     teacher="org/marian-teacher@step*",
        ...     args=ProgressiveDistillSeq2SeqConfig("out", curriculum="n_shot", predict_with_generate=True),
        ...     data_collator=DataCollatorForSeq2Seq(tokenizer), processing_class=tokenizer,
        ...     train_dataset=train, eval_dataset=validation, compute_metrics=bleu,
        ... )  # doctest: +SKIP

    Args:
        model: The student: a sequence-to-sequence language model, or a PEFT model around one.
        teacher: As for `ProgressiveDistillTrainer`.
        args: `ProgressiveDistillSeq2SeqConfig`.
        **kwargs: Everything else that `transformers.Seq2SeqTrainer` takes.

    Raises:
        ValueError: The student is no such model, or as for `ProgressiveDistillTrainer`.
    """

    def __init__(
        self,
        model: Any = None,
        teacher: Any = None,
        args: ProgressiveDistillSeq2SeqConfig | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(model=model, teacher=teacher, args=args or ProgressiveDistillSeq2SeqConfig(), **kwargs)
        if self.distillation.head != "seq2seq_lm":
            raise ValueError(
                f"{type(self).__name__} is for sequence-to-sequence models, but the student has a "
                f"{self.distillation.head} head; use ProgressiveDistillTrainer"
            )

    def evaluation_loop(self, *args: Any, **kwargs: Any) -> EvalLoopOutput:
        """Evaluate as `Trainer` does: each example once, where Seq2SeqTrainer repeats some to fill the last batch."""
        self.gather_function = self.accelerator.gather_for_metrics
        return super().evaluation_loop(*args, **kwargs)

    def _get_eval_sampler(self, eval_dataset: Any) -> Any:
        # Metrics know the reference of a text by its place, which group_by_length would change.
        by_length = self.args.train_sampling_strategy == "group_by_length"
        if by_length and eval_dataset is not None and isinstance(eval_dataset, Sized):
            return SequentialSampler(eval_dataset) if self.args.world_size <= 1 else None
        return super()._get_eval_sampler(eval_dataset)

    def prediction_step(
        self,
        model: torch.nn.Module,
        inputs: dict[str, Any],
        prediction_loss_only: bool,
        ignore_keys: list[str] | None = None,
        **gen_kwargs: Any,
    ) -> tuple[Tensor | None, Any, Any]:
        """Return loss, predictions and labels of a batch; generated ids with `predict_with_generate`, else logits.

        Args:
            model: The student in its wrapper.
            inputs: The batch.
            prediction_loss_only: Leave predictions and labels out.
            ignore_keys: As in `Trainer`.
            **gen_kwargs: For `generate`; those of `evaluate` by default.
        """
        if not self.args.predict_with_generate or prediction_loss_only:
            return super().prediction_step(model, inputs, prediction_loss_only, ignore_keys=ignore_keys, **gen_kwargs)
        batch = self._prepare_inputs(inputs)
        # Without labels: Seq2SeqTrainer would compute the model's own loss from them.
        _, written, _ = super().prediction_step(
            model, self._to_write_from(batch), prediction_loss_only, ignore_keys=ignore_keys, **gen_kwargs
        )
        labels, loss = batch.get("labels"), None
        if labels is not None:
            with torch.no_grad(), self.compute_loss_context_manager():
                loss, _ = self.compute_loss(model, batch, return_outputs=True)
        return None if loss is None else loss.detach(), written, labels

    def _to_write_from(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return what the student generates from; beside labels, the decoder's input is a copy of them."""
        dropped = TARGET_KEYS | _DECODER_KEYS if "labels" in batch else TARGET_KEYS
        return {key: value for key, value in batch.items() if key in self._student_arguments and key not in dropped}
