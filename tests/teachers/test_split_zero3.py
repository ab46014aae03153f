"""DeepSpeed's settings of a teacher; the splitting itself needs DeepSpeed and two processes."""

from __future__ import annotations

import pytest
from engines import zero_settings

from hf_distill.teachers.split_zero3 import teacher_settings

AUTO = {"reduce_bucket_size": "auto", "stage3_prefetch_bucket_size": "auto", "overlap_comm": None}
OPTIMIZES = ("offload_optimizer", "reduce_bucket_size", "sub_group_size", "zero_quantized_nontrainable_weights")


def test_a_teacher_gets_no_optimizer_and_no_numbers_that_are_not_set_yet():
    student = {
        **zero_settings(3),
        "optimizer": {"type": "AdamW"},
        "scheduler": {"type": "WarmupLR"},
        "bf16": {"enabled": True},
    }
    offload = {"device": "cpu", "pin_memory": True}
    student["zero_optimization"] |= {**AUTO, **dict.fromkeys(OPTIMIZES, "x"), "offload_param": offload}
    found = teacher_settings(student)
    assert found == {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "zero_optimization": {"stage": 3, "stage3_param_persistence_threshold": 0, "offload_param": offload},
    }
    assert student["zero_optimization"]["stage3_prefetch_bucket_size"] == "auto", "the student's stay"


def test_weights_on_a_disk_are_not_changed_in_place():
    student = zero_settings(3)
    student["zero_optimization"]["offload_param"] = {"device": "nvme", "nvme_path": "anywhere"}
    with pytest.raises(ValueError, match=r"cannot be; use offload_param: cpu, or leave `sharded` out"):
        teacher_settings(student)
