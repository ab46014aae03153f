"""How well each revision of a teacher does on held-out data, and which one to learn from first."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import reduce
from torch import Tensor
from tqdm.auto import tqdm

from hf_distill.analysis.checkpoint_selection import TransitionInfo, transition_info
from hf_distill.curricula import PlanContext
from hf_distill.curricula.base import label_terms
from hf_distill.models.label_maps import in_order
from hf_distill.reading.signals import Head, Signals, select_rows
from hf_distill.teachers import TeacherSource

logger = logging.getLogger(__name__)


def score_revisions(
    teacher: TeacherSource,
    batches: Iterable[Mapping[str, Any]],
    *,
    head: Head,
    order: Sequence[int] | None = None,
) -> list[dict[str, Any]]:
    """Return each revision's held-out loss with the labels, and its accuracy where the head has classes.

    Args:
        teacher: An attached teacher source.
        batches: Held-out batches with labels, on the teacher's device; iterated once a revision. Of several ranks
            each has its own, and all get the scores over all of them.
        head: The kind of head.
        order: For each class of the labels the number that the teacher gives it, where they differ (`label_order`).

    Returns:
        For each revision {"name", "step", "loss", "accuracy"}: loss in nats an item (regression: squared error) and
        accuracy over labelled positions, both exact over all items.

    Raises:
        ValueError: There is no labelled item.
    """
    scores = []
    quiet = not PartialState().is_main_process
    places = range(len(teacher.revisions))
    for index in tqdm(places, desc="Scoring the teacher's revisions", unit="revision", disable=quiet):
        teacher.enter(index)
        teacher.need(range(index, len(teacher.revisions)))
        if index + 1 < len(teacher.revisions):
            teacher.read_ahead(index + 1)
        revision = teacher.revisions[index]
        scores.append({"name": revision.name, "step": revision.step, **_score(teacher, batches, head, order)})
    return scores


def _score(
    teacher: TeacherSource, batches: Iterable[Mapping[str, Any]], head: Head, order: Sequence[int] | None
) -> dict[str, float]:
    (term,) = label_terms(PlanContext(head=head, max_steps=1))
    totals = torch.zeros(3, dtype=torch.float64)
    for batch in batches:
        rows = select_rows(head, batch)
        logits_RV = in_order(rows.of(teacher.logits(teacher.inputs_of(batch, head=head))), order)
        losses_R = term.objective.values(Signals(logits_RV, rows.labels_R), temperature=1.0)
        correct = _correct(logits_RV, rows.labels_R, head)
        totals += torch.tensor([losses_R.double().sum().item(), correct, losses_R.numel()], dtype=torch.float64)
    loss, correct, items = _over_ranks(totals).tolist()
    if not items:
        raise ValueError("the held-out data has no labelled item to score revisions on; check its labels")
    return {"loss": loss / items} if head == "regression" else {"loss": loss / items, "accuracy": correct / items}


def _over_ranks(totals: Tensor) -> Tensor:
    # Ranks that chose by their own shard alone could choose different revisions.
    state = PartialState()
    return reduce(totals.to(state.device), reduction="sum") if state.num_processes > 1 else totals


def _correct(logits_RV: Tensor, labels_R: Tensor | None, head: Head) -> float:
    if head == "regression" or labels_R is None:
        return 0.0
    return float((logits_RV.argmax(-1) == labels_R).sum())


def transition_of(scores: Sequence[Mapping[str, Any]]) -> TransitionInfo:
    """Return the transition in `score_revisions`' result.

    Revisions without a step in their name are numbered by their place; a last one without (the final model) comes
    after all others.

    Raises:
        ValueError: Fewer than two revisions, or a teacher whose loss does not fall.
    """
    steps = [score["step"] for score in scores]
    if any(step is None for step in steps[:-1]):
        steps = list(range(1, len(scores) + 1))
    elif steps[-1] is None or (len(steps) > 1 and steps[-1] <= steps[-2]):
        steps[-1] = steps[-2] + 1 if len(steps) > 1 else 1
    accuracy = [score["accuracy"] for score in scores] if all("accuracy" in score for score in scores) else None
    return transition_info(steps, [score["loss"] for score in scores], metric=accuracy)


def choose_revision(
    teacher: TeacherSource,
    batches: Iterable[Mapping[str, Any]],
    *,
    head: Head,
    order: Sequence[int] | None = None,
) -> str:
    """Return the name of the revision in the middle of the sharp drop of the teacher's held-out loss.

    Takes what `score_revisions` takes.

    Raises:
        ValueError: The drop cannot be found, or the middle of it is the final revision itself.
    """
    scores = score_revisions(teacher, batches, head=head, order=order)
    info = transition_of(scores)
    name = str(scores[info.chosen]["name"])
    if info.is_final:
        raise ValueError(
            f"the only revision in the teacher's sharp drop is the final one, {name!r}; keep checkpoints more often, "
            "or use one_shot"
        )
    logger.info("Two-shot revision: %s (%s)", name, info.reason)
    return name
