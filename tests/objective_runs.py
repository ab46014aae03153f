"""One optimizer step with each registered objective on each head it fits, split over micro-batches and ranks.

Started by torchrun, this file takes the step of every case on two CPU processes.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import Any, NamedTuple

import torch
from builders import distill_trainer, examples, scale_passes, tiny_model
from launching import Found, save_found
from torch import Tensor
from updates import update_of

from hf_distill.objectives import OBJECTIVES, FeatureObjective, Objective
from hf_distill.reading.signals import IGNORE_INDEX

Examples = list[dict[str, Tensor]]

# Fields to run with where the defaults do not fit the models below, or leave out a way to compare.
FIELDS: dict[str, list[dict[str, Any]]] = {
    "hidden_mse": [{"projector": "linear"}],
    "hidden_cosine": [{"projector": "linear"}],
    "relation_kl": [{"relation_heads": 4}],
    "margin_mse": [{"margin": 0.5}],
    "top_k_kl": [{"k": 4}],
    "uncertainty_split": [{}, {"threshold": "median"}],
}
# Where a value is so small that the rounding of weights would be seen in the update.
WEIGHTS = {"similarity_preserving": 100.0}
EAGER = {"attn_implementation": "eager"}
DEEPER = {"num_hidden_layers": 4, "hidden_size": 32}
DEEPER_CAUSAL = {"n_layer": 4, "n_embd": 32}
PASSES = 2


class Case(NamedTuple):
    """An objective on a head."""

    name: str
    fields: dict[str, Any]
    head: str

    @property
    def id(self) -> str:
        return "-".join([self.name, *map(str, self.fields.values()), self.head])

    @property
    def objective(self) -> Objective:
        return OBJECTIVES.build({"name": self.name, **self.fields}, path="objective")

    @property
    def curriculum(self) -> dict[str, Any]:
        if self.objective.needs == {"labels"}:
            return {"name": "labels"}
        term = {"name": self.name, "label": "case", "weight": WEIGHTS.get(self.name, 1.0), **self.fields}
        if isinstance(self.objective, FeatureObjective):
            term["layers"] = "uniform"
        # Of weight 0, so that the case is the only objective.
        passes = {"intra": {"passes": PASSES, "alpha": 0.0}} if self.objective.compares_passes else {}
        return {"name": "one_shot", "objectives": [term], **passes}


CASES = [
    Case(name, fields, head)
    for name in OBJECTIVES
    for fields in FIELDS.get(name, [{}])
    for head in sorted(OBJECTIVES.get(name).heads)
]


def data_of(head: str, count: int) -> Examples:
    """Examples of unequal lengths, whose micro-batches have unequal numbers of labels."""
    data = examples(head, count=count)
    if head == "classification":
        data[3]["labels"] = torch.tensor(IGNORE_INDEX)
    return data


def step_of(case: Case, folder: Path, micro_batch: int, accumulation: int, data: Examples) -> Found:
    """Take one step on the examples, in their order; return the update and the logged loss."""
    student = tiny_model(case.head, seed=1, **EAGER)
    if case.objective.compares_passes:
        scale_passes(student, passes=PASSES)
    teacher = tiny_model(case.head, seed=7, **EAGER, **(DEEPER_CAUSAL if case.head == "causal_lm" else DEEPER))
    trainer = distill_trainer(
        folder,
        case.head,
        model=student,
        teacher=None if case.curriculum["name"] == "labels" else teacher,
        curriculum=case.curriculum,
        train_dataset=data,
        train_sampling_strategy="sequential",
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=accumulation,
        max_steps=1,
        learning_rate=1.0,
    )
    update = update_of(trainer)
    logged = trainer.state.log_history[0]
    (part,) = (value for key, value in logged.items() if key.startswith("objective/"))
    assert part > 0, "the objective has no part in the loss"
    return {"update": update, "loss": torch.tensor(logged["loss"])}


def reference_step(case: Case, folder: Path) -> Found:
    """Take the step of `on_two_ranks` in one process: with one micro-batch, or with the same ones."""
    if case.objective.partition_invariant:
        return step_of(case, folder, 8, 1, data_of(case.head, 8))
    return step_of(case, folder, 4, 4, data_of(case.head, 16))


def on_two_ranks(folder: Path) -> Found:
    """Take a step of each case with two micro-batches on each rank, big enough to compare examples with each other."""
    gc.freeze()  # every training collects, and finds the imports
    found = {}
    for case in CASES:
        size = 2 if case.objective.partition_invariant else 4
        step = step_of(case, folder, size, 2, data_of(case.head, 4 * size))
        found.update({f"{case.id}/{key}": value for key, value in step.items()})
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    target = Path(sys.argv[1])
    save_found(on_two_ranks(target), target)
