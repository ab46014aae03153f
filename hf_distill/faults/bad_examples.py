"""Which examples a bad micro-batch holds: their places in the training data, their keys, whose numbers are not finite.

Shape legend: B examples, R rows that count, V vocabulary or classes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset

from hf_distill.cache.key import example_keys
from hf_distill.models.outputs import logits_of
from hf_distill.reading.signal_reader import Student
from hf_distill.reading.signals import Rows, select_rows
from hf_distill.teachers.sharding import SHARDING

if TYPE_CHECKING:
    from hf_distill.faults.guarded_training import GuardedTraining

logger = logging.getLogger(__name__)

MOST_NAMED = 8


def describe(
    trainer: GuardedTraining, student: Student, inputs: Mapping[str, Any], micro_batch: int, loss: float
) -> str:
    """Return what is known of a bad micro-batch, for people.

    Args:
        trainer: In the middle of a step.
        student: Its student.
        inputs: The micro-batch.
        micro_batch: Its number in the accumulation window, from 0.
        loss: What its loss was.
    """
    places = places_of(trainer, micro_batch)
    found = {"the teacher": _teacher(trainer, inputs), "the student": _student(trainer, student, inputs)}
    text = f"micro-batch {micro_batch} on rank {trainer.accelerator.process_index} has the loss {loss}"
    count = len(next(value for value in inputs.values() if isinstance(value, Tensor)))
    keys = _keys(trainer, inputs)
    for who, bad_B in found.items():
        if bad_B is not None and bad_B.any():
            text += f"; {who} gives numbers that are not finite for {_named(bad_B.tolist(), places, keys)}"
    if not any(bad_B is not None and bad_B.any() for bad_B in found.values()):
        text += f"; its examples are {_named([True] * count, places, keys)}"
    if _has_diverged(trainer):
        text += "; the student's own weights are not finite any more: it had diverged before this step"
    return text


def places_of(trainer: GuardedTraining, micro_batch: int) -> list[int] | None:
    """Return the places in the training data of a micro-batch of the current step, on this rank.

    The sampler is asked once more for the epoch's order, which its seed and the epoch decide.

    Args:
        trainer: In the middle of a step.
        micro_batch: Its number in the accumulation window, from 0.

    Returns:
        None for data without places (a stream).
    """
    loader: Any = trainer.callback_handler.train_dataloader
    batches = loader.batch_sampler if isinstance(loader, DataLoader) else None
    if batches is None or isinstance(loader.dataset, IterableDataset):
        return None
    accumulation = trainer.args.gradient_accumulation_steps
    steps_an_epoch = -(-len(loader) // accumulation)
    epoch, step = divmod(trainer.state.global_step, steps_an_epoch)
    with torch.random.fork_rng(devices=[]):
        loader.set_epoch(epoch)
        found = list(islice(iter(batches), step * accumulation + micro_batch, step * accumulation + micro_batch + 1))
    return [int(place) for place in found[0]] if found else None


def _named(bad: list[bool], places: list[int] | None, keys: list[str] | None) -> str:
    chosen = [row for row, wanted in enumerate(bad) if wanted]
    names = []
    for row in chosen[:MOST_NAMED]:
        place = f"{places[row]}" if places is not None and row < len(places) else f"row {row}"
        names.append(f"{place} (key {keys[row]})" if keys is not None else place)
    more = f" and {len(chosen) - MOST_NAMED} more" if len(chosen) > MOST_NAMED else ""
    return f"the training examples {', '.join(names)}{more}"


def _keys(trainer: GuardedTraining, inputs: Mapping[str, Any]) -> list[str] | None:
    """Return the examples' addresses, under which a cache keeps what the teacher says of them."""
    teacher, head = trainer.distillation.teacher, trainer.distillation.head
    if teacher is None:
        return None
    given = trainer.distillation.reader.positioned(inputs)
    try:
        read = {key: given[key] for key in given if key in teacher.forward_arguments and key != "labels"}
        keys = example_keys(read, select_rows(head, inputs).mask)
    except ValueError as error:
        logger.info("The examples have no keys: %s", error)
        return None
    return ["".join(f"{lane & 0xFFFFFFFFFFFFFFFF:016x}" for lane in key) for key in keys.tolist()]


def _splits(trainer: GuardedTraining) -> bool:
    return trainer.accelerator.distributed_type in SHARDING


@torch.no_grad()
def _teacher(trainer: GuardedTraining, inputs: Mapping[str, Any]) -> Tensor | None:
    """Return for which examples the teacher's logits are not finite; None where it cannot be asked. Shapes: (B,)."""
    distillation = trainer.distillation
    # A model that is split over ranks answers only when all of them call it.
    if distillation.teacher is None or _splits(trainer):
        return None
    rows = select_rows(distillation.head, inputs)
    return _bad_examples(distillation.teacher.row_logits(distillation.reader.positioned(inputs), rows), rows)


@torch.no_grad()
def _student(trainer: GuardedTraining, student: Student, inputs: Mapping[str, Any]) -> Tensor | None:
    if _splits(trainer):
        return None
    # Past its wrapper, whose forward waits for the other ranks; without dropout, whose random numbers would be missed.
    alone = student._replace(wrapper=student.inner)
    student.inner.eval()
    try:
        output = alone.forward(trainer.distillation.reader.positioned(inputs))
    finally:
        student.inner.train()
    rows = select_rows(trainer.distillation.head, inputs)
    return _bad_examples(rows.of(logits_of(output, inputs.get("attention_mask"))), rows)


def _bad_examples(logits_RV: Tensor, rows: Rows) -> Tensor:
    """Return which examples have a row without a distribution. Shapes: (R, V) or (R,) -> (B,)."""
    sums_R = logits_RV.float().logsumexp(-1) if logits_RV.dim() > 1 else logits_RV.float()
    bad_R = ~torch.isfinite(sums_R)
    if rows.mask is None:
        return bad_R
    example_R = rows.mask.nonzero()[:, 0]
    bad_B = torch.zeros(len(rows.mask), dtype=torch.bool, device=bad_R.device)
    bad_B[example_R[bad_R]] = True
    return bad_B


def _has_diverged(trainer: GuardedTraining) -> bool:
    if _splits(trainer):
        return False
    return not all(bool(torch.isfinite(parameter).all()) for parameter in trainer.model.parameters())
