"""Too little memory: the message says where, what is largest, and what makes it smaller."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from accelerate import DistributedType
from builders import distill_trainer, examples, tiny_model
from torch.distributed.fsdp import CPUOffloadPolicy, OffloadPolicy
from transformers import TrainerCallback

from hf_distill.faults.out_of_memory import OutOfMemory, engine_name, is_out_of_memory, part_of
from hf_distill.planning.engines import ENGINES


def exhaust(*_: Any, **__: Any) -> None:
    """Ask for more memory than any machine has."""
    torch.empty(2**58)


class AtOptimizer(TrainerCallback):
    """Lets the optimizer's step run out of memory."""

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        kwargs["optimizer"].optimizer.register_step_pre_hook(exhaust)


def trainer_of(folder, head="masked_lm", **overrides):
    return distill_trainer(folder, head, teacher=tiny_model(head, seed=7), eval_dataset=examples(head), **overrides)


@pytest.mark.parametrize("head", ["masked_lm", "classification"])
@pytest.mark.parametrize(("who", "part"), [("teacher", "the teacher's forward"), ("student", "the student's forward")])
def test_a_forward_is_told_from_the_other(tmp_path, head, who, part):
    trainer = trainer_of(tmp_path, head)
    model = trainer.model if who == "student" else trainer.teacher.model
    model.register_forward_pre_hook(exhaust)
    with pytest.raises(OutOfMemory, match=f"out of memory in {part}, at step 0: .*can't allocate memory"):
        trainer.train()


def test_the_largest_class_of_tensors_is_named_with_what_makes_it_smaller(tmp_path):
    trainer = trainer_of(tmp_path)
    next(trainer.model.parameters()).register_hook(exhaust)
    with pytest.raises(OutOfMemory, match="out of memory in the backward") as caught:
        trainer.train()
    text = str(caught.value)
    for name in ("student weights and gradients", "activations of the student", "teacher weights", "head: "):
        assert name in text
    assert "To make the largest part smaller: a smaller per_device_train_batch_size" in text


def test_states_of_the_optimizer_are_told_from_the_rest_of_a_step(tmp_path):
    trainer = trainer_of(tmp_path, optim="adamw_torch", callbacks=[AtOptimizer()])
    with pytest.raises(OutOfMemory, match="out of memory in the optimizer's step, whose states"):
        trainer.train()


def test_another_failure_keeps_its_name(tmp_path):
    trainer = trainer_of(tmp_path)

    def fail(*_: Any) -> None:
        raise RuntimeError("shapes differ")

    trainer.model.register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match=r"^shapes differ$"):
        trainer.train()


@pytest.mark.parametrize(
    ("error", "known"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
            True,
        ),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), False),
        (MemoryError(), False),
    ],
)
def test_allocators_are_known_by_their_words(error, known):
    assert is_out_of_memory(error) is known


def test_an_error_without_a_traceback_is_trainings():
    assert part_of(torch.OutOfMemoryError("CUDA out of memory")) == "training"


def run_by(engine: DistributedType, processes: int, zero: dict[str, Any] | None = None, *, lent: bool = False) -> Any:
    """What is read of an accelerator that runs an engine."""
    plugins = {
        "deepspeed_plugin": SimpleNamespace(deepspeed_config={"zero_optimization": zero}),
        "fsdp_plugin": SimpleNamespace(cpu_offload=CPUOffloadPolicy() if lent else OffloadPolicy()),
    }
    return SimpleNamespace(distributed_type=engine, num_processes=processes, state=SimpleNamespace(**plugins))


@pytest.mark.parametrize(
    ("accelerator", "name"),
    [
        (run_by(DistributedType.NO, 1), "single"),
        (run_by(DistributedType.MULTI_GPU, 2), "ddp"),
        (run_by(DistributedType.DEEPSPEED, 2, {"stage": 1}), "zero1"),
        (run_by(DistributedType.DEEPSPEED, 2, {"stage": 3, "offload_optimizer": {"device": "none"}}), "zero3"),
        (run_by(DistributedType.DEEPSPEED, 2, {"stage": 3, "offload_optimizer": {"device": "cpu"}}), "zero3_offload"),
        (run_by(DistributedType.FSDP, 2), "fsdp2"),
        (run_by(DistributedType.FSDP, 2, lent=True), "fsdp2_offload"),
    ],
)
def test_the_estimate_is_of_the_engine_that_ran_out(accelerator, name):
    assert engine_name(accelerator) == name
    assert name in ENGINES
