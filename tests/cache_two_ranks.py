"""Started by torchrun: two processes write one cache, and train a student with it and one with the live teacher."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from builders import distill_trainer, examples, flat_weights, save_teacher_run
from cache_cases import FLOAT_HIDDEN, LOGITS, Counted, make_walk, settings
from launching import Found, assert_wrapped, save_found

from hf_distill.cache.targets import cache_targets
from hf_distill.teachers.cached import CachedTeacher

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "classification": ("classification", LOGITS),
    "masked_lm": ("masked_lm", FLOAT_HIDDEN),
}


def found_of(folder: Path, head: str, codec: dict[str, Any]) -> Found:
    """Write, read, train and compare."""
    data = examples(head, count=30)
    # 10 steps of 2 · 2 examples are an epoch and a third; 30 examples are no whole number of steps.
    training = {"per_device_train_batch_size": 2}
    rank = PartialState().process_index
    teacher = Counted(folder.parent / f"teacher-{head}")
    walk = make_walk(folder / f"walk-{head}-{rank}", head, teacher, data, **training)
    cache = folder.parent / f"cache-{head}"
    caching = cache_targets(cache, [walk], codec=codec)
    found = {
        "seen": torch.tensor(sum(teacher.seen.values())),
        "forwarded": torch.tensor(caching.forwarded),
        "visited": torch.tensor(caching.visited),
        "examples": torch.tensor(caching.manifest.examples),
        "shards": torch.tensor(len(caching.manifest.shards)),
    }
    again = Counted(folder.parent / f"teacher-{head}")
    walk = make_walk(folder / f"walk-{head}-{rank}", head, again, data, **training)
    found["again"] = torch.tensor(cache_targets(cache, [walk], codec=codec).forwarded)
    for name, source in (("live", Counted(folder.parent / f"teacher-{head}")), ("cached", CachedTeacher(cache))):
        trainer = distill_trainer(
            folder / f"{name}-{head}-{rank}", head, teacher=source, train_dataset=data, **settings(**training)
        )
        trainer.train()
        assert_wrapped(trainer)
        found[name] = flat_weights(trainer.model)
    return {f"{head}/{key}": value for key, value in found.items()}


if __name__ == "__main__":
    torch.set_num_threads(1)
    target = Path(sys.argv[1])
    results: Found = {}
    state = PartialState(cpu=True)
    for case, (kind, spec) in CASES.items():
        with state.main_process_first():
            if state.is_main_process:
                save_teacher_run(target / f"teacher-{case}", kind)
        results |= found_of(target / "work", kind, spec)
    save_found(results, target)
