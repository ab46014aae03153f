"""What cannot be cached, and why: said before any work."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from hf_distill.cache.codecs import Codec
from hf_distill.cache.filling import accepted
from hf_distill.cache.key import example_keys
from hf_distill.cache.walk import TargetWalk
from hf_distill.curricula import Plan
from hf_distill.objectives import Objective
from hf_distill.reading.signals import Head, Signals, select_rows

UNCACHEABLE: dict[str, str] = {
    "question_answering": "its targets are as wide as each batch is padded",
    "seq2seq_lm": "its targets depend on the decoder's input too, by which examples are not addressed",
}
"""Heads whose targets are not cached, and why."""

_LIVE = "let the teacher run live (leave `teacher.cached` out)"
_PROBED_EXAMPLES = 32
_PROBED_BATCHES = 8
_CONSTANT = 3.0


def check_head_cacheable(head: Head) -> None:
    """Refuse heads whose targets have no fixed width, or are told apart by more than the text that is read.

    Raises:
        ValueError: The targets of such a head are not cached.
    """
    reason = UNCACHEABLE.get(head)
    if reason is not None:
        raise ValueError(f"the targets of a {head} teacher are not cached: {reason}; {_LIVE}")


def check_plan_cacheable(plan: Plan, *, codec: Codec) -> None:
    """Refuse stages whose targets cannot be known beforehand, or cannot be told from what a codec keeps.

    Args:
        plan: Of one training.
        codec: What is kept of a teacher's rows.

    Raises:
        ValueError: The switches depend on how the student does; a stage compares more than logits, or runs the
            teacher on augmented batches; or an objective compares raw logits and the codec keeps probabilities.
    """
    if plan.rule is not None:
        raise ValueError(
            "an adaptive curriculum moves on when the student is ready, so which revision an example meets is not "
            f"known beforehand and cannot be cached; {_LIVE}, or use n_shot or two_shot with `steps`"
        )
    for stage in plan.stages:
        needs = sorted(need for need in stage.needs if need.startswith("teacher.") and need != "teacher.logits")
        if stage.layers is not None:
            needs = needs or ["teacher.hidden_states"]
        if "teacher.live" in needs:
            raise ValueError(
                f"the stage {stage.name!r} asks the teacher about augmented views, which are drawn anew each time and "
                f"cannot be cached; {_LIVE}"
            )
        if needs:
            raise ValueError(
                f"the stage {stage.name!r} reads {', '.join(needs)}, but only what objectives on logits read is "
                f"cached; {_LIVE}"
            )
        if codec.up_to_a_constant:
            _check_probabilities(stage.name, [term.objective for term in stage.terms])


def _check_probabilities(stage: str, objectives: list[Objective]) -> None:
    for objective in objectives:
        if objective.uses_teacher and not reads_probabilities_only(objective):
            raise ValueError(
                f"the stage {stage!r} compares raw logits ({objective.formula()}), of which `top_k` keeps the "
                "probabilities only; use the codec `logits` or `hidden`"
            )


def reads_probabilities_only(objective: Objective) -> bool:
    """Whether an objective stays the same when a constant is added to all of a row's teacher logits.

    It is asked, with one small batch, instead of being listed.
    """
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.randn(4, 6, generator=generator, dtype=torch.float64) for _ in range(2))
    shift = torch.arange(4, dtype=torch.float64)[:, None] + _CONSTANT
    values = [
        objective.values(
            Signals(student_logits=student, teacher_logits=logits, labels=torch.arange(4), shared_width=6),
            temperature=1.0,
        )
        for logits in (teacher, teacher + shift)
    ]
    return torch.allclose(values[0], values[1], rtol=1e-6, atol=1e-8)


def check_repeatable(walk: TargetWalk) -> None:
    """Refuse data that is drawn anew whenever it is asked for: masks, crops, noise or order from a global generator.

    The first examples are fetched twice, with different seeds; the generators are left as they were.

    Raises:
        ValueError: The two differ.
    """
    first, second = (_first_keys(walk, seed) for seed in (0, 1))
    if not first.equal(second):
        changed = int((first != second).any(1).sum()) if first.shape == second.shape else len(first)
        raise ValueError(
            f"{changed} of the first {len(first)} training examples are others when they are fetched again: masking "
            "or augmentation is drawn from a global random generator, so that a cached target would never be met "
            "again; or their order is, by a sampler of your own. Draw it as a function of the example's number and "
            "the seed (as hf_distill's own tasks do: `mask_copies`, `copies`), switch it off, or "
            f"{_LIVE}"
        )


def _first_keys(walk: TargetWalk, seed: int) -> Tensor:
    teacher = walk.distillation.teacher
    assert teacher is not None
    found: list[Tensor] = []
    # Made before the seed is changed: the order of the examples may come from it.
    batches = walk.get_train_dataloader()
    with _seeded(seed):
        for batch in batches:
            inputs: Mapping[str, Any] = walk.distillation.reader.positioned(batch)
            rows = select_rows(walk.distillation.head, batch)
            found.append(example_keys(accepted(inputs, teacher.forward_arguments), rows.mask))
            if sum(map(len, found)) >= _PROBED_EXAMPLES or len(found) >= _PROBED_BATCHES:
                break
    return torch.cat(found)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the generators that data sets and collators draw from, and put them back afterwards."""
    python, legacy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        with torch.random.fork_rng(devices=[]):
            random.seed(seed)
            np.random.seed(seed)  # noqa: NPY002
            torch.manual_seed(seed)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)  # noqa: NPY002
