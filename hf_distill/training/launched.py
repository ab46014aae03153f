"""Whether the engine that a run is launched with is the one that will train it, on the same devices."""

from __future__ import annotations

from accelerate.utils import parse_flag_from_env

USE_CPU = "ACCELERATE_USE_CPU"


def check_deepspeed_trains(*, use_cpu: bool) -> None:
    """Refuse to run where DeepSpeed is asked for and would not train, or not where the batches are.

    Models would have been split by then: ZeRO-3 does so wherever one is loaded, whoever trains it.

    Args:
        use_cpu: Of the training arguments.

    Raises:
        ValueError: Something keeps the run on the CPU. DeepSpeed knows nothing of it.
    """
    if parse_flag_from_env(USE_CPU):
        raise ValueError(
            f"this run is launched with DeepSpeed, and with {USE_CPU} in the environment, under which accelerate "
            f"trains without DeepSpeed. Unset {USE_CPU} (without a GPU, DeepSpeed trains on the CPU by itself), or "
            "launch without DeepSpeed (single.yaml, ddp.yaml)"
        )
    if not use_cpu:
        return
    from deepspeed.accelerator import get_accelerator

    device = get_accelerator().device_name()
    if device != "cpu":
        raise ValueError(
            f"use_cpu: true keeps batches on the CPU, but this run is launched with DeepSpeed, which puts the student "
            f"on {device}. Leave use_cpu out, set DS_ACCELERATOR=cpu to train on the CPU, or launch without DeepSpeed "
            "(single.yaml, ddp.yaml)"
        )
