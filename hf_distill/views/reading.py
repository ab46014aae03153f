"""Student and teacher on a view of a micro-batch: drawn, picked, read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator, DistributedType
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from hf_distill.curricula.plan import Stage, Term
from hf_distill.loss.reduction import Unit
from hf_distill.reading.model_reading import Wanted
from hf_distill.reading.signal_reader import SignalReader, Student
from hf_distill.reading.signals import Signals, select_rows
from hf_distill.views.base import ViewContext
from hf_distill.views.picking import example_scores, items_ratio, keep_largest, row_scores
from hf_distill.views.stage_view import StageView
from hf_distill.views.token_ids import token_ids

ENGINES = (DistributedType.DEEPSPEED, DistributedType.FSDP, DistributedType.MEGATRON_LM)


class ViewSignals(NamedTuple):
    """What was said about a view; `ratio` is the clean batch's items ÷ the view's, None where they are the same."""

    signals: list[Signals]
    ratio: dict[Unit, Tensor] | None


class ViewReader:
    """Runs student and teacher on views, with one pass of the student.

    Args:
        reader: Runs them on a batch.
        views: Of the curriculum.
    """

    def __init__(self, reader: SignalReader, views: Sequence[StageView]) -> None:
        self.reader = reader
        self.views = tuple(views)
        self.context = ViewContext(reader.head)
        self._checked = True

    def check_models(
        self,
        student: PreTrainedConfig,
        teacher: PreTrainedConfig,
        tokenizer: PreTrainedTokenizerBase | None,
        accelerator: Accelerator,
    ) -> None:
        """Find the token ids that views may write; refuse an engine that does not follow what views do.

        Raises:
            ValueError: Embeddings are looked up outside of a forward that DeepSpeed or FSDP puts its hooks around.
        """
        if not self.views:
            return
        self.context = self.context._replace(ids=token_ids(tokenizer, student, teacher))
        engine = accelerator.distributed_type
        if engine in ENGINES and any(one.view.per_model for one in self.views):
            raise ValueError(
                f"embedding_mixup looks up embeddings outside of the student's forward, which {engine.value} does not "
                "follow; use token_cutmix, or DistributedDataParallel without that engine"
            )

    def begin(self, step: int) -> None:
        """Begin a session at an optimizer step; a resumed run has passed the checks of its first batch."""
        self._checked = step > 0

    def check(self, inputs: Mapping[str, Any]) -> None:
        """Refuse views that change nothing, on the first micro-batch of a run; later ones may be small.

        Raises:
            ValueError: Nothing of the batch can be changed, or it has no inputs of a view's kind.
        """
        # Once only: marks on the device have to be read for it.
        if self._checked:
            return
        self._checked = True
        for one in self.views:
            problem = one.view.problem(inputs, self.context)
            if problem is not None:
                raise ValueError(f"the view {one.name!r} would change nothing: {problem}")

    def read(
        self,
        student: Student,
        inputs: Mapping[str, Any],
        stage_view: StageView,
        *,
        stage: Stage,
        terms: Sequence[Term],
    ) -> ViewSignals:
        """Return the signals on a view of a micro-batch, the teacher run anew on it.

        Raises:
            ValueError: The batch has no inputs that this view changes, or a model cannot read it.
        """
        once = replace(stage, passes=1)
        pools = [stage_view.view.augment(inputs, self.context) for _ in range(stage_view.pick.pools)]
        batch, ratio = pools[0], None
        if len(pools) > 1:
            scores = [self._scores(student, pool, stage_view) for pool in pools]
            batch = keep_largest(pools, scores)
            ratio = items_ratio(inputs, batch, self.context.head)
        signals, _ = self.reader.logits(
            student, batch, stage=once, needs_teacher=True, terms=terms, view=stage_view.view
        )
        return ViewSignals(signals, ratio)

    @torch.no_grad()
    def _scores(self, student: Student, pool: Mapping[str, Any], stage_view: StageView) -> Tensor:
        """Return the score of each example of a pool. Shapes: (B,)."""
        by, view = stage_view.pick.by, stage_view.view
        rows, batch = select_rows(self.context.head, pool), self.reader.positioned(pool)
        student_RV = teacher_RV = None
        if by != "teacher_entropy":
            with answering(student.wrapper):
                student_RV = rows.of(self.reader.student_reading(student, batch, Wanted(), view).logits)
        if by != "student_entropy":
            teacher_RV = rows.of(self.reader.teacher_reading(batch, Wanted(), view).logits)
        signals = Signals(student_RV, teacher_logits=teacher_RV, shared_width=self.reader.shared_width)
        return example_scores(row_scores(signals, by), rows.mask)


def terms_by_view(terms: Iterable[Term]) -> list[tuple[StageView, list[Term]]]:
    """Return the views that terms compare on, each with its terms, in order; terms on the batch are left out."""
    on_views = [term for term in terms if term.view is not None]
    views = {term.view.name: term.view for term in on_views if term.view is not None}
    return [(view, [term for term in on_views if term.view is view]) for view in views.values()]


@contextmanager
def answering(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode, and each of its modules back into the mode it was in.

    So that scoring neither draws dropout nor moves the running statistics of batch norm.
    """
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
