"""Bytes of weights, gradients and optimizer states, engine by engine, worked out by hand a parameter."""

from __future__ import annotations

import pytest
import torch
from builders import distill_config
from plans import size_of

from hf_distill.planning.engines import BUCKET, ENGINES
from hf_distill.planning.model_states import StepSettings, state_bytes, state_lines, step_settings

SIZE = size_of(multiplied=8 * 10**9)
KEPT = ("student weights and gradients", "optimizer states")


def per_parameter(engine: str, *, gpus: int, **settings) -> tuple[float, float]:
    """Bytes a parameter of weights with gradients, and of states, on one of the GPUs."""
    lines = state_lines(SIZE, StepSettings(**settings), ENGINES[engine], gpus=gpus)
    found = {line.name.split(" (")[0]: line.size / SIZE.parameters for line in lines}
    return found[KEPT[0]], found[KEPT[1]]


@pytest.mark.parametrize(
    ("engine", "weights_and_gradients", "states"),
    [
        ("ddp", 4 + 4, 8),
        ("zero1", 2 + 2, 12 / 8),
        ("zero2", 2 + 2 / 8, 12 / 8),
        ("zero2_offload", 2, 0),
        ("zero3", (2 + 2) / 8, 12 / 8),
        ("zero3_offload", 0, 0),
        ("fsdp2", (4 + 4) / 8, 8 / 8),
        ("fsdp2_offload", 0, 0),
    ],
)
def test_eight_gpus_share_what_the_engine_splits(engine, weights_and_gradients, states):
    """The 16 bytes a parameter of Rajbhandari et al. 2020 (arXiv 1910.02054), section 3.1, whole or split."""
    assert per_parameter(engine, gpus=8) == pytest.approx((weights_and_gradients, states))


def test_in_full_precision_deepspeed_has_a_copy_of_the_weights_all_the_same():
    assert per_parameter("zero1", gpus=8, half=False) == pytest.approx((4 + 4, 12 / 8))
    assert state_bytes(SIZE, StepSettings(half=False), ENGINES["zero3"]).states == 12 * SIZE.parameters


def test_gradients_that_wait_for_the_last_micro_batch_are_whole():
    assert per_parameter("fsdp2", gpus=8, accumulation=4)[0] == pytest.approx(4 / 8 + 4)
    assert per_parameter("zero3", gpus=8, accumulation=4)[0] == pytest.approx(4 / 8)


def test_copies_and_buffers_are_counted():
    def beside(engine: str, gpus: int = 8, **settings) -> dict[str, int]:
        lines = state_lines(SIZE, StepSettings(**settings), ENGINES[engine], gpus=gpus)
        return {line.name: line.size for line in lines if line.size and not line.name.startswith(KEPT)}

    copies, buffers = "16 bit copies of the student's weights", "buffers for sending gradients"
    assert beside("single", gpus=1) == {copies: 2 * SIZE.multiplied}
    assert beside("single", gpus=1, half=False) == {}
    assert beside("ddp") == {copies: 2 * SIZE.multiplied, buffers: SIZE.weight_bytes}
    assert beside("zero1") == {buffers: 2 * BUCKET}
    assert beside("zero3") == {buffers: 2 * BUCKET, "layers that are whole for a while": 2 * 10**9}
    assert beside("zero3", gpus=1) == {buffers: 2 * BUCKET}
    assert set(beside("fsdp2")) == {"layers that are whole for a while"}


def test_autocast_keeps_16_bit_copies_until_the_backward():
    """What the line of copies stands for, looked up in PyTorch itself."""
    layer, saved = torch.nn.Linear(64, 64, bias=False), []
    pack = torch.autograd.graph.saved_tensors_hooks(lambda one: saved.append(one) or one, lambda one: one)
    with pack, torch.autocast("cpu", dtype=torch.bfloat16):
        layer(torch.randn(2, 64, requires_grad=True))
    assert any(one.dtype == torch.bfloat16 and one.numel() == 64 * 64 for one in saved)


def test_settings_are_those_of_the_training_arguments(tmp_path):
    args = distill_config(tmp_path, optim="adafactor", gradient_accumulation_steps=3, bf16=True)
    assert step_settings(args) == StepSettings(states=0, half=True, checkpointing=False, accumulation=3)
    args = distill_config(tmp_path, optim="sgd", optim_args="momentum=0.9")
    assert step_settings(args) == StepSettings(states=1, half=False)
    args = distill_config(tmp_path, optim="sgd", teacher_window=True, teacher_window_examples=6)
    assert step_settings(args) == StepSettings(states=0, half=False, window=True, window_examples=6)
